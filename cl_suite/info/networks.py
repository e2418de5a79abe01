"""Backbones: what each reads and can be told, how large it is. Names without torch, sizes with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cl_suite.core.registry import STREAM, installed
from cl_suite.info.answer import Answer, Option, paragraphs
from cl_suite.info.options import group
from cl_suite.info.read_facts import NotConstant, read_facts
from cl_suite.info.source import module_named
from cl_suite.info.streams import shape_text

if TYPE_CHECKING:
    from cl_suite.networks.origins import ChosenNetwork

# Where backbones are listed, {name: class}, by what they read.
TABLES = {
    "images or vectors": ("cl_suite.networks.images", "BACKBONES"),
    "tokens of texts": ("cl_suite.networks.texts", "TEXT_BACKBONES"),
    "what robots see": ("cl_suite.networks.policies", "POLICIES"),
}
AUTO = "auto"
TEXTS = {"tokens": (64,), "mask": (64,)}  # a shape of texts, at the default text.max_length
Shape = Any


def network_names() -> list[str]:
    """Return every backbone, by reading the tables that list them."""
    return [name for module, table in TABLES.values() for name in _keys(module, table)]


def describe_network(name: str) -> Answer:
    """Return what is known of a backbone. Imports torch, to count what it has for the inputs of installed streams."""
    from cl_suite.core.errors import UsageError

    reads, build = next((what, table[name]) for what, table in _tables().items() if name in table)
    takes = [each for each in inspect.signature(build).parameters if each not in ("input_shape", "vocabulary")]
    described = build if inspect.isclass(build) else inspect.signature(build).return_annotation
    if isinstance(described, str):
        described = vars(inspect.getmodule(build)).get(described, build)
    what, _, about = (inspect.getdoc(described) or "").partition("\n")
    sizes: dict[str, str] = {}
    reason = ""
    for label, shape, vocabulary in _examples(reads):
        try:
            sizes[label] = _size(name, shape, vocabulary)
        except UsageError as problem:  # it reads something else, or needs an option
            reason = reason or str(problem)
        except Exception:  # too small an image for its layers: there is nothing to count
            continue
    _, every = group("model")
    own = {each: inspect.signature(build).parameters[each].default for each in takes}
    return Answer(
        kind="network",
        name=name,
        what=what,
        facts={
            "about": paragraphs(about),
            "reads": reads,
            "sizes": sizes or f"not known: {reason}",
            "head": "of these features: features x outputs parameters on top, and one each where it has biases",
            "use": f"model.name={name}",
        },
        options=[
            Option(option.name, option.type, own[option.name.partition(".")[2]], option.meaning)
            for option in every
            if option.name.partition(".")[2] in own
        ],
    )


def describe_other_network(name: str) -> Answer:
    """Return what is known of a network that is none of this package: path/to/net.py:Net, module:Net, timm:NAME.

    Imports it, and makes it for the images and vectors of installed streams. Raise UsageError or PluginError if it
    cannot be used with any.
    """
    from cl_suite.core.errors import CLSuiteError
    from cl_suite.networks.choice import choose_network

    chosen = choose_network(name)
    sizes: dict[str, str] = {}
    problems = []
    for label, shape, _ in _examples("images or vectors"):
        try:
            sizes[label] = _size(chosen, shape, None)
        except CLSuiteError as problem:  # it reads others
            problems.append(problem)
    if not sizes and problems:
        raise problems[0]
    return Answer(
        kind="network",
        name=chosen.name,
        what="A network from elsewhere, as a backbone: without its classifier.",
        facts={
            "sizes": sizes,
            "head": "of these features: features x outputs parameters on top, and one each",
            "use": f"model.name={name}",
        },
        options=[],
    )


def _size(name: str | ChosenNetwork, shape: Shape, vocabulary: int | None) -> str:
    import torch

    from cl_suite.networks.network import build_network

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        network = build_network(name, shape, 1, vocabulary=vocabulary)
        features = network.backbone.eval()(_inputs(shape, vocabulary))
    count = sum(parameter.numel() for parameter in network.backbone.parameters())
    return f"{count:,} parameters, {features.shape[1]:,} features"


def _inputs(shape: Shape, vocabulary: int | None) -> Any:
    """Return two samples of zeros."""
    import torch

    if not isinstance(shape, Mapping):
        return torch.zeros(2, *shape)
    kinds = {"tokens": torch.long, "mask": torch.bool} if vocabulary else {}
    return {each: torch.zeros(2, *size, dtype=kinds.get(each, torch.float32)) for each, size in shape.items()}


def _examples(reads: str) -> Iterator[tuple[str, Shape, int | None]]:
    """Yield (label, shape, vocabulary) of inputs such a network may read: those of installed streams, each once."""
    if reads == "tokens of texts":
        ids = next(option.default for option in group("text")[1] if option.name == "text.vocabulary")
        yield f"{TEXTS['tokens'][0]} tokens of {ids:,}", TEXTS, int(ids)
        return
    met: list[Shape] = []
    for point in installed(STREAM).values():
        try:
            shape = read_facts(point).sizes.input_shape
        except NotConstant:
            continue
        if shape is None or shape in met or isinstance(shape, Mapping) != (reads == "what robots see"):
            continue
        met.append(shape)
        yield shape_text(shape), shape, None


def _tables() -> dict[str, Mapping[str, Any]]:
    from importlib import import_module

    return {what: getattr(import_module(module), table) for what, (module, table) in TABLES.items()}


def _keys(module: str, table: str) -> list[str]:
    """Return the keys of a dictionary that a module writes out."""
    source = module_named(module)
    return [source.value(key) for key in getattr(source.names[table], "keys", []) if key is not None]
