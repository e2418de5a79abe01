"""From a request to a plan: choose the plugins, compose the configuration, refuse what cannot run. Reads no data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cl_suite.core.data_root import DataRoot
from cl_suite.core.devices import choose_device
from cl_suite.core.errors import CLSuiteError, PluginError, UsageError, nearest
from cl_suite.core.registry import STRATEGY, STREAM, Chosen, choose, installed
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import check_scenario
from cl_suite.core.seeding import Seeds
from cl_suite.data.tokenizers import pinned_tokenizer
from cl_suite.evaluation.learning_curve import LearningSettings
from cl_suite.evaluation.preferences.protocols import PreferenceConditioned
from cl_suite.evaluation.preferences.settings import PreferenceSettings
from cl_suite.evaluation.protocol import OpenSetSettings
from cl_suite.features.frozen_networks import pinned
from cl_suite.records.record import config_hash, record_path
from cl_suite.run.config import Composed, SeedConfig, compose_config, resolve_scenario


@dataclass(frozen=True)
class Request:
    """One run as asked for on the command line; see `cl-bench --help`."""

    strategy: str
    stream: str
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
    log: tuple[str, ...] = ()
    log_dir: Path = Path("logs")


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

    @property
    def checkpoint(self) -> Path:
        """Where the state between experiences is kept while the run is unfinished."""
        return self.record_path.with_suffix(".partial.safetensors")

    @property
    def target(self) -> dict[str, Any]:
        """The published figure, for protocol=paper."""
        return self.composed.target

    @property
    def seeds(self) -> Seeds:
        """The run's three seeds."""
        return seeds_of(self.composed.run.seeds, self.request.seed)


def plan(request: Request) -> Plan:
    """Check a request and say what would run. Raise UsageError or PluginError, in one line, if it cannot."""
    device = choose_device(request.device)
    strategy = choose(STRATEGY, request.strategy)
    stream = choose(STREAM, request.stream)
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
    check_preferences(strategy, composed.run.preferences, scenario)
    check_open_set(stream, composed.run.open_set, scenario)
    check_learning(composed.run.learning, scenario)
    plain = configuration(composed, strategy, stream)
    path = record_path(
        request.results,
        stream=stream.name,
        scenario=scenario.value,
        strategy=strategy.name,
        config_hash=config_hash(plain, stream_version=stream.cls.version),
        seed=request.seed,
    )
    _check_writable(path.parent, request.results)
    return Plan(request, strategy, stream, scenario, composed, plain, device, path)


def check_requirements(strategy: Chosen, config: Any, scenario: Scenario) -> None:
    """Refuse a scenario that withholds what the strategy needs, naming what would work instead."""
    needed = strategy.cls.requirements(config)
    if not isinstance(needed, frozenset) or not all(isinstance(each, Requirement) for each in needed):
        raise PluginError(f"{strategy.name}: requires is not a frozenset of Requirement. Write frozenset({{...}}).")
    missing = needed - scenario.provides
    if not missing:
        return
    what = " and ".join(sorted(requirement.value for requirement in missing))
    fitting = [s.value for s in Scenario if needed <= s.provides]
    others = " or ".join(_strategies_for(scenario, without=strategy.name))
    raise UsageError(
        f"{strategy.name} needs {what}, but {scenario} withholds it. "
        f"Use --scenario {' or '.join(fitting)}{f', or --strategy {others}' if others else ''}."
    )


def check_preferences(strategy: Chosen, settings: PreferenceSettings, scenario: Scenario) -> None:
    """Refuse to ask for trade-offs where the strategy cannot answer or no tasks are told apart."""
    settings.check()
    if not settings.evaluate:
        if settings != PreferenceSettings():
            raise UsageError("preferences.* says what to ask for, but nothing is asked. Add --evaluate preferences.")
        return
    if Requirement.BOUNDARIES not in scenario.provides:
        raise UsageError(
            f"--evaluate preferences asks for trade-offs between tasks, and {scenario} does not say where one ends. "
            f"Use --scenario {Scenario.DOMAIN_INCREMENTAL}."
        )
    if not issubclass(strategy.cls, PreferenceConditioned):
        can = [name for name in installed(STRATEGY) if _answers_preferences(name)]
        raise UsageError(
            f"--evaluate preferences asks for predictor_for(preference), which {strategy.name} does not have. "
            f"Use --strategy {', '.join(can)}."
        )


def check_open_set(stream: Chosen, settings: OpenSetSettings, scenario: Scenario) -> None:
    """Raise UsageError where the stream has no such samples, or the scenario tells a task that they do not have."""
    if not settings.evaluate:
        return
    if not stream.cls.out_of_distribution:
        raise UsageError(
            f"--evaluate open_set shows samples of no task, and {stream.name} has none. "
            "Use a stream that has, e.g. clinc150."
        )
    if Requirement.TASK_ID_AT_TEST in scenario.provides:
        raise UsageError(
            f"--evaluate open_set shows samples of no task, and {scenario} tells the task of each. "
            f"Use --scenario {Scenario.CLASS_INCREMENTAL}."
        )


def check_learning(settings: LearningSettings, scenario: Scenario) -> None:
    """Raise UsageError where no task is learned at a time of its own."""
    if settings.evaluate and Requirement.BOUNDARIES not in scenario.provides:
        raise UsageError(
            f"--evaluate learning scores a task while it is learned, and {scenario} does not say where one ends. "
            f"Use --scenario {Scenario.DOMAIN_INCREMENTAL}."
        )


def _answers_preferences(name: str) -> bool:
    try:
        return issubclass(choose(STRATEGY, name).cls, PreferenceConditioned)
    except CLSuiteError:
        return False


def _strategies_for(scenario: Scenario, *, without: str) -> list[str]:
    """Return what runs in `scenario`: strategies as they are, in one entry, then each that does under some options.

    Ones that cannot be loaded are passed over.
    """
    names, modes = [], []
    for name in installed(STRATEGY):
        try:
            cls = choose(STRATEGY, name).cls
        except CLSuiteError:
            continue
        if cls.requirements(cls.Config()) <= scenario.provides:
            names += [name] if name != without else []
            continue
        for mode in cls.modes:
            if cls.requirements(cls.Config(**mode)) <= scenario.provides:
                modes.append(" ".join([name, *(f"strategy.{key}={value}" for key, value in mode.items())]))
    return [*([", ".join(names)] if names else []), *modes]


def choose_scenario(stream: Chosen, wanted: str | None) -> Scenario:
    """Return the scenario asked for, else the stream's default. Raise UsageError for one it does not have."""
    allowed = stream.cls.scenarios
    if wanted is None:
        return allowed[0]
    if wanted not in list(Scenario):
        raise UsageError(f"--scenario {wanted} is not known. {nearest(wanted, [s.value for s in Scenario])}")
    check_scenario(stream.name, Scenario(wanted), allowed)
    return Scenario(wanted)


def seeds_of(chosen: SeedConfig, default: int) -> Seeds:
    """Return the three seeds: those that are set, the others `default`."""
    return Seeds(
        model=default if chosen.model is None else chosen.model,
        data=default if chosen.data is None else chosen.data,
        classes=default if chosen.classes is None else chosen.classes,
    )


def configuration(composed: Composed, *plugins: Chosen) -> dict[str, Any]:
    """Return the configuration as a record has it, with a digest of each plugin given as a file.

    An edited file is another configuration.
    """
    sources = {f"{each.name}_source": each.digest for each in plugins if each.from_file}
    return pinned_tokenizer(pinned(composed.plain)) | sources


def _check_writable(folder: Path, results: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
        reason = "no permission"
    except OSError as problem:
        writable, reason = False, f"{problem.strerror}: {problem.filename}"
    if not writable:
        raise UsageError(f"--results {results} cannot be written ({reason}). Name another folder.")
