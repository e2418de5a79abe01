"""Hydra composition: the chosen classes' `Config` dataclasses are the schema; protocols and presets are layers of YAML.

Order, later wins: defaults of the dataclasses, the protocol, the protocol's settings for this stream, the user's
overrides. `protocol=paper` takes a whole published setting from `configs/reproduce/<strategy>_<stream>.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from importlib.resources import files
from typing import Any

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Scenario
from cl_suite.core.schedule import Schedule
from cl_suite.core.types import TrainSettings
from cl_suite.data.tokenizers import TextOptions
from cl_suite.features.frozen_networks import OFF, FeatureOptions
from cl_suite.runs.evaluations import EVALUATED, settings_of

PROTOCOLS = ("quick", "standard", "paper")


@dataclass
class ModelConfig:
    """The network: `model.<field>=...`. Options a backbone does not have are refused."""

    # mlp, conv_small, resnet18_reduced, resnet18, lenet5, vgg11, alexnet, mlp_gpm, lenet_gpm, resnet18_gpm; on texts
    # text_cnn, text_transformer, text_bag, transformer_encoder; of robots bc_mlp, bc_rnn, bc_transformer; auto: by the
    # kind of input
    name: str = "auto"
    width: int | None = None  # channels of the first stage, filters of text_cnn; None = the backbone's own
    hidden: list[int] | None = None  # units of the hidden layers, one number each; None = the backbone's own
    dimensions: int | None = None  # numbers of a vector: of a token, a picture; None = the backbone's own, 128 or 64
    frozen_embeddings: bool = False  # whether token vectors stay as they are drawn
    # an encoder by its name on the Hugging Face hub, or its folder: of transformer_encoder, or frozen beneath text_cnn
    encoder: str | None = None
    vision: str | None = None  # what a robot's policy looks at pictures with: cnn, vit; None = cnn, if it has cameras
    future: bool = False  # whether outputs of classes still to come compete in training (the Mammoth library)


@dataclass
class SeedConfig:
    """Separate seeds: `seeds.<field>=...`; None = the run's seed."""

    model: int | None = None  # initial weights
    data: int | None = None  # order, augmentation, buffers, dropout, validation split
    classes: int | None = None  # class or task order, where the stream is asked to shuffle


@dataclass
class RunConfig:
    """Everything that decides a run's result, but for the strategy's and the stream's own options.

    The options of each evaluation stand beside these under its name: `run_schema`.
    """

    protocol: str = "quick"
    scenario: str = ""
    seeds: SeedConfig = field(default_factory=SeedConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainSettings = field(default_factory=TrainSettings)
    schedule: Schedule = field(default_factory=Schedule)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    text: TextOptions = field(default_factory=TextOptions)
    strategy: Any = None  # the chosen strategy's Config
    stream: Any = None  # the chosen stream's Config


def run_schema() -> type[RunConfig]:
    """Return RunConfig with the options of every evaluation."""
    groups = [(name, entry.settings, field(default_factory=entry.settings)) for name, entry in EVALUATED.items()]
    return make_dataclass("RunSchema", groups, bases=(RunConfig,))


FLAGS = ("strategy", "stream", "scenario", "seed", "device")  # set with --flag, not as key=value


@dataclass(frozen=True)
class Composed:
    """A complete, checked configuration.

    run:    typed; `run.strategy` and `run.stream` are instances of the chosen classes' Config
    plain:  the same as dictionaries, lists, numbers and strings, for the record and its hash
    target: for protocol=paper the published figure and where it stands; else empty
    """

    run: RunConfig
    plain: dict[str, Any]
    target: dict[str, Any]


def compose_config(
    *,
    strategy: str,
    strategy_config: Callable[[Mapping[str, Any]], type],
    stream: str,
    stream_config: type,
    scenario: str,
    overrides: Sequence[str],
) -> Composed:
    """Compose the configuration of one run.

    strategy_config: the strategy's `config_for`: its options as asked for -> their schema
    overrides: in Hydra's syntax, e.g. ["strategy.lr=0.1", "stream.n_tasks=10", "protocol=standard"]

    Raise UsageError, in one line, for a key or value that does not exist, with the nearest valid ones.
    """
    parsed = _parse(overrides)
    protocol = next((str(o.value()) for o in reversed(parsed) if o.key_or_group == "protocol"), RunConfig.protocol)
    layer, target = _protocol_layer(protocol, strategy, stream)
    own_features = "features" in layer  # then its network reads features already
    if not own_features and any(o.key_or_group == "features.network" and str(o.value()) != OFF for o in parsed):
        layer = {key: value for key, value in layer.items() if key != "model"}  # a network for the stream's images
    schema = strategy_config(_strategy_options(layer, parsed))
    options = {field.name for field in fields(schema)}
    if protocol != "paper" and not set(layer.get("strategy", ())) <= options:
        layer = {**layer, "strategy": {}}  # a rate without its optimiser would be another one
    store = ConfigStore.instance()
    store.store(name="run_schema", node=run_schema())
    store.store(group="strategy", name="chosen", node=schema)
    store.store(group="stream", name="chosen", node=stream_config)
    store.store(group="layer", name="chosen", node=layer, package="_global_")
    defaults = ["run_schema", {"strategy": "chosen"}, {"stream": "chosen"}, {"layer": "chosen"}, "_self_"]
    store.store(name="root", node={"defaults": defaults, "scenario": scenario})
    with initialize(version_base="1.3", config_path=None):
        try:
            base = compose("root")
        except (HydraException, OmegaConfBaseException) as problem:
            raise UsageError(
                f"protocol={protocol} does not fit {strategy} on {stream}: {_reason(problem)}. Use another protocol."
            ) from problem
        for override in parsed:
            _check_key(override, base)
        try:
            final = compose("root", list(overrides))
        except (HydraException, OmegaConfBaseException):
            for override in parsed:
                _check_value(override)  # names the one at fault
            raise
    run: Any = OmegaConf.to_object(final)
    run.train.check()
    run.features.check()
    run.text.check()
    for settings in settings_of(run).values():
        settings.check()
    plain: Any = OmegaConf.to_container(final, resolve=True)
    return Composed(run=run, plain=plain, target=target)


def resolve_scenario(overrides: Sequence[str], wanted: str | None, *, strategy: str, stream: str) -> str | None:
    """Return the scenario asked for by flag, else the one a paper's setting names, else None."""
    protocols = [text.partition("=")[2] for text in overrides if text.startswith("protocol=")]
    if wanted is None and protocols and protocols[-1] == "paper":
        return _protocol_layer("paper", strategy, stream)[0].get("scenario")
    return wanted


def _strategy_options(layer: Mapping[str, Any], parsed: Sequence[Override]) -> dict[str, Any]:
    """Return the strategy's options as the protocol's layer and the overrides give them, nested, unchecked."""
    options: Any = OmegaConf.create(dict(layer.get("strategy") or {}))
    for override in parsed:
        group, _, key = override.key_or_group.partition(".")
        if group == "strategy" and key:
            OmegaConf.update(options, key, override.value())
    plain: Any = OmegaConf.to_container(options)
    return plain


def _parse(overrides: Sequence[str]) -> list[Override]:
    parsed = []
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as problem:
            raise UsageError(f"{text!r} is not key=value. Write for example strategy.lr=0.1.") from problem
        if override.key_or_group in FLAGS:
            raise UsageError(f"{text!r} is set with a flag: --{override.key_or_group} {override.value()!s}.")
        if override.is_add() or override.is_delete() or override.is_force_add():
            raise UsageError(f"{text!r}: keys cannot be added or deleted. Write {text.lstrip('+~')}, without the sign.")
        if override.is_sweep_override():
            raise UsageError(f"{text!r} names several values. Give one, or write a list as key=[a,b].")
        parsed.append(override)
    return parsed


def _check_key(override: Override, base: DictConfig) -> None:
    key = override.key_or_group
    known = _flatten(base)
    if key in known:
        return
    groups = {name.rpartition(".")[0] for name in known} - {""}
    if key in groups:
        inside = sorted(name for name in known if name.startswith(f"{key}."))
        raise UsageError(f"{key} is a group of options. Set one of {', '.join(inside)}.")
    group, _, last = key.rpartition(".")
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    elsewhere.sort(key=lambda name: not name.startswith("strategy."))  # the likeliest first
    if elsewhere:
        raise UsageError(f"there is no option {key}. Did you mean {' or '.join(elsewhere)}?")
    siblings = [name for name in known if group and name.rpartition(".")[0] == group]
    raise UsageError(f"there is no option {key}. {nearest(key, siblings or known)}")


def _check_value(override: Override) -> None:
    """Compose with this override alone, so that a message can name it."""
    text = override.input_line
    assert text is not None
    try:
        compose("root", [text])
    except (HydraException, OmegaConfBaseException) as problem:
        raise UsageError(f"{text!r}: {_reason(problem)}.") from problem


def _reason(problem: BaseException) -> str:
    innermost = problem
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    return str(innermost).partition("\n")[0].rstrip(".")


def _flatten(config: DictConfig, prefix: str = "") -> list[str]:
    names = []
    for key in config:
        value = config[key]
        names += _flatten(value, f"{prefix}{key!s}.") if isinstance(value, DictConfig) else [f"{prefix}{key!s}"]
    return names


def _protocol_layer(protocol: str, strategy: str, stream: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (settings, published target) of a protocol for a strategy on a stream."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol={protocol} is not known. {nearest(protocol, PROTOCOLS)}")
    if protocol == "paper":
        return _published(strategy, stream)
    folder = files("configs") / "protocol"
    layers = [folder / f"{protocol}.yaml", folder / protocol / f"{stream}.yaml"]
    merged = OmegaConf.merge(*[OmegaConf.create(file.read_text(encoding="utf-8")) for file in layers if file.is_file()])
    settings: Any = OmegaConf.to_container(merged)
    return settings, {}


def _published(strategy: str, stream: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = files("configs") / "reproduce"
    file = folder / f"{strategy}_{stream}.yaml"
    if not file.is_file():
        there = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
        raise UsageError(
            f"protocol=paper has no published setting for {strategy} on {stream}. "
            f"There are: {', '.join(there)}. Or use protocol=standard."
        )
    settings: Any = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")))
    target = settings.pop("target", {})
    return settings, target


def strategy_config(chosen: Chosen, overrides: Sequence[str], *, of: str) -> Any:
    """Return a strategy's Config with `overrides`, each `strategy.<field>=...`; `of` says what has no other options.

    Raise UsageError for an override of anything else, an unknown field or a wrong type.
    """
    for text in overrides:
        if not text.startswith("strategy."):
            raise UsageError(f"{text!r} has no effect on {of}. Give options of the strategy, as strategy.<field>=...")
    composed = compose_config(
        strategy=chosen.name,
        strategy_config=chosen.cls.config_for,
        stream="the conformance stream",
        stream_config=_NoOptions,
        scenario=Scenario.TASK_INCREMENTAL.value,
        overrides=overrides,
    )
    return composed.run.strategy


@dataclass
class _NoOptions:
    """The conformance stream has none."""
