"""From a request to a plan: choose the plugins, compose the configuration, refuse what cannot run.

No data is read, but of a user's own what tells it from other data: its digest is part of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cl_suite.core.data_root import DataRoot
from cl_suite.core.devices import choose_device
from cl_suite.core.registry import STRATEGY, STREAM, Chosen, Kind, choose
from cl_suite.core.scenario import Scenario
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import Stream
from cl_suite.data.tokenizers import pinned_tokenizer
from cl_suite.features.frozen_networks import pinned
from cl_suite.networks.choice import choose_network
from cl_suite.networks.origins import ChosenNetwork
from cl_suite.networks.weights import StartingWeights
from cl_suite.records.record import config_hash, record_path
from cl_suite.runs.beginning import Beginning
from cl_suite.runs.config import Composed, SeedConfig, compose_config, resolve_scenario
from cl_suite.runs.refuse import (
    check_continuation,
    check_evaluations,
    check_requirements,
    check_starting_weights,
    check_writable,
    choose_scenario,
)
from cl_suite.runs.validation import check_early_stopping, unused_validation


@dataclass(frozen=True)
class Request:
    """One run as asked for on the command line, or in Python; see `cl-bench --help`.

    strategy, stream:  as on the command line, or chosen already
    command:           arguments of cl-bench that repeat it, for the record
    call:              where no command asks for the same, the call in Python
    from_command_line: how it was asked for, for messages
    beginning:         what it goes on from
    """

    strategy: str | Chosen
    stream: str | Chosen
    results: Path
    data_root: DataRoot
    scenario: str | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    overrides: tuple[str, ...] = ()
    resume: bool = True
    overwrite: bool = False
    diagnostics: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    call: str = ""
    from_command_line: bool = True
    log: tuple[str, ...] = ()
    log_dir: Path = Path("logs")
    dry_run: bool = False  # only looked at: no folder is made
    beginning: Beginning | None = None


@dataclass(frozen=True)
class Plan:
    """A checked request: everything that can be refused without reading data has been."""

    request: Request
    strategy: Chosen
    stream: Chosen
    scenario: Scenario
    composed: Composed
    config: dict[str, Any]  # for the record: the composed configuration, and what identifies a plugin's file
    device: torch.device
    record_path: Path
    network: ChosenNetwork
    weights: StartingWeights | None  # that every network starts from; None = as initialised

    @property
    def checkpoint(self) -> Path:
        """Where the state between experiences is kept while the run is unfinished."""
        return self.record_path.with_suffix(".partial.safetensors")

    @property
    def model_path(self) -> Path:
        """Where the run's model is saved, if it is."""
        return self.record_path.with_suffix(".model.safetensors")

    @property
    def target(self) -> dict[str, Any]:
        """The published figure, for protocol=paper."""
        return self.composed.target

    @property
    def unused_validation(self) -> str:
        """What a user should know of held-out samples that nothing looks at; "" = nothing."""
        run = self.composed.run
        if not any(text.startswith("train.validation=") for text in self.request.overrides):
            return ""  # a protocol holds samples out of every strategy alike, so that rows can be compared
        return unused_validation(self.strategy, run.strategy, run.train, self.scenario)

    @property
    def seeds(self) -> Seeds:
        """The run's three seeds."""
        return seeds_of(self.composed.run.seeds, self.request.seed)


def plan(request: Request) -> Plan:
    """Check a request and say what would run. Raise UsageError or PluginError, in one line, if it cannot."""
    device = choose_device(request.device)
    strategy, stream = chosen(STRATEGY, request.strategy), chosen(STREAM, request.stream)
    wanted = resolve_scenario(request.overrides, request.scenario, strategy=strategy.name, stream=stream.name)
    scenario = choose_scenario(stream, wanted)
    composed = compose_config(
        strategy=strategy.name,
        strategy_config=strategy.cls.config_for,
        stream=stream.name,
        stream_config=stream.cls.Config,
        scenario=scenario.value,
        overrides=request.overrides,
    )
    check_requirements(strategy, composed.run.strategy, scenario)
    check_early_stopping(strategy, composed.run.strategy, composed.run.train, scenario)
    check_evaluations(composed.run, strategy, stream, scenario)
    model = composed.run.model
    network = choose_network(model.name)
    weights = None if model.weights is None else StartingWeights.of(model.weights)
    check_starting_weights(strategy, composed.run)
    root = replace(request.data_root, offline=True) if request.dry_run else request.data_root
    plain = configuration(composed, strategy, stream, root=root, network=network, weights=weights)
    if request.beginning is not None:
        check_continuation(composed.run, request.diagnostics, scenario)
        plain |= request.beginning.configuration
    path = record_path(
        request.results,
        stream=stream.name,
        scenario=scenario.value,
        strategy=strategy.name,
        config_hash=config_hash(plain, stream_version=stream.cls.version),
        seed=request.seed,
    )
    check_writable(path.parent, request.results, make=not request.dry_run)
    return Plan(request, strategy, stream, scenario, composed, plain, device, path, network, weights)


def chosen(kind: Kind, plugin: str | Chosen) -> Chosen:
    """Return a plugin, which may be chosen already. Raise UsageError or PluginError, as `choose` does."""
    return choose(kind, plugin) if isinstance(plugin, str) else plugin


def seeds_of(options: SeedConfig, default: int) -> Seeds:
    """Return the three seeds: those that are set, the others `default`."""
    return Seeds(
        model=default if options.model is None else options.model,
        data=default if options.data is None else options.data,
        classes=default if options.classes is None else options.classes,
    )


def configuration(
    composed: Composed,
    *plugins: Chosen,
    root: DataRoot,
    network: ChosenNetwork | None = None,
    weights: StartingWeights | None = None,
) -> dict[str, Any]:
    """Return the configuration as a record has it, with a digest of each plugin, network or weights given as a file.

    An edited file is another configuration, a moved one is not; so it is with own data. The stream is the last of the
    `plugins`. Raise DataError where own data cannot be read.
    """
    sources = {f"{each.name}_source": each.digest for each in plugins if each.from_file}
    own: Stream = plugins[-1].cls(composed.run.stream)
    if content := own.content_digest(root):
        key = f"{plugins[-1].name}_source"
        sources[key] = "-".join(filter(None, [sources.get(key), content]))
    plain = {**composed.plain, "stream": own.recorded_options(composed.plain["stream"])}
    named = {"name": network, "weights": weights}
    model = {key: each.identity for key, each in named.items() if each is not None}
    return pinned_tokenizer(pinned({**plain, "model": {**plain["model"], **model}})) | sources
