"""The backbones of this package by published name, each for one kind of input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from cl_suite.core.errors import UsageError, nearest
from cl_suite.networks.images import BACKBONES, IMAGE_BACKBONES
from cl_suite.networks.origins import ChosenNetwork, Shape, Wanted
from cl_suite.networks.policies import POLICIES
from cl_suite.networks.texts import TEXT_BACKBONES

AUTO = "auto"  # by the kind of input
TOKENS, SEEN_BY_ROBOTS = "tokens of texts", "what robots see"
KINDS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "images or vectors": BACKBONES,
    TOKENS: TEXT_BACKBONES,
    SEEN_BY_ROBOTS: POLICIES,
}
EVERY: dict[str, Callable[..., nn.Module]] = {name: build for table in KINDS.values() for name, build in table.items()}


def built_in(name: str) -> ChosenNetwork:
    """Return a backbone of this package. Raise UsageError, with the nearest names, if there is none."""
    if name != AUTO and name not in EVERY:
        raise UsageError(
            f"model.name={name} is not a backbone. {nearest(name, EVERY)} "
            "Or give your own: path/to/net.py:Net, timm:NAME, torchvision:NAME."
        )
    return ChosenNetwork(name, partial(_make, name), shipped=True)


def _make(name: str, wanted: Wanted) -> nn.Module:
    """Raise UsageError for an option it does not have, or a backbone that cannot read the input."""
    name = _fitting_name(name, wanted.input_shape, wanted.vocabulary)
    build = EVERY[name]
    known = [option for option in inspect.signature(build).parameters if option not in ("input_shape", "vocabulary")]
    check_options(wanted.options, known, name=name)
    arguments = dict(wanted.options)
    if name in TEXT_BACKBONES:
        arguments["vocabulary"] = wanted.vocabulary
    return build(wanted.input_shape, **arguments)


def check_options(options: Mapping[str, object], known: list[str], *, name: str) -> None:
    """Raise UsageError for an option that a network does not take."""
    for key in options:
        if key not in known:
            takes = known or ["no options"]
            raise UsageError(
                f"model.{key} has no meaning for model.name={name}, which takes {', '.join(takes)}. "
                f"Set model.{key}=null, or leave it out of model.options."
            )


def _fitting_name(name: str, shape: Shape, vocabulary: int | None) -> str:
    """Return the backbone that a name means for such samples. Raise UsageError if it cannot read them."""
    kind = kind_of(shape, vocabulary)
    if name == AUTO:
        colour = not isinstance(shape, Mapping) and len(shape) == 3 and shape[0] == 3
        return {TOKENS: "text_cnn", SEEN_BY_ROBOTS: "bc_mlp"}.get(kind, "conv_small" if colour else "mlp")
    if name not in KINDS[kind]:
        reads = next(other for other, backbones in KINDS.items() if name in backbones)
        advice = f"Use {', '.join(KINDS[kind])}"
        if kind == TOKENS:
            advice += ", or vectors of a frozen encoder (features.network=encoder)"
        raise UsageError(f"model.name={name} reads {reads}, not {kind}. {advice}.")
    if name in IMAGE_BACKBONES and len(shape) != 3:
        raise UsageError(f"model.name={name} reads images [C, H, W], not inputs of shape {shape}. Use mlp.")
    return name


def kind_of(shape: Shape, vocabulary: int | None) -> str:
    """Return which of KINDS samples of this shape are. Raise UsageError for what none of them reads."""
    if not isinstance(shape, Mapping):
        return "images or vectors"
    if vocabulary is not None and set(shape) == {"tokens", "mask"}:
        return TOKENS
    if {"states", "instruction"} <= set(shape):
        return SEEN_BY_ROBOTS
    raise UsageError(
        f"no backbone of cl-suite reads dictionaries of {', '.join(shape)}. "
        "Use a stream of images, vectors, texts or robot tasks."
    )
