"""What cannot run is refused before any data is read: one line with what, where, and what would work instead."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl_suite.core.errors import CLSuiteError, PluginError, UsageError, nearest
from cl_suite.core.registry import STRATEGY, Chosen, choose, installed
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import check_scenario
from cl_suite.runs.config import RunConfig
from cl_suite.runs.evaluations import settings_of


def choose_scenario(stream: Chosen, wanted: str | None) -> Scenario:
    """Return the scenario asked for, else the stream's default. Raise UsageError for one it does not have."""
    allowed = stream.cls.scenarios
    if wanted is None:
        return allowed[0]
    if wanted not in list(Scenario):
        raise UsageError(f"--scenario {wanted} is not known. {nearest(wanted, [s.value for s in Scenario])}")
    check_scenario(stream.name, Scenario(wanted), allowed)
    return Scenario(wanted)


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
    others = " or ".join(strategies_for(scenario, without=strategy.name))
    raise UsageError(
        f"{strategy.name} needs {what}, but {scenario} withholds it. "
        f"Use --scenario {' or '.join(fitting)}{f', or --strategy {others}' if others else ''}."
    )


def check_starting_weights(strategy: Chosen, run: RunConfig) -> None:
    """Refuse `model.weights` where the strategy draws weights of its own, so that a file's would have no effect."""
    if run.model.weights is not None and not strategy.cls.starts_from_weights(run.strategy):
        raise UsageError(
            f"model.weights={run.model.weights} has no effect: {strategy.name}, with these options, draws the weights "
            "it learns from. Leave model.weights out, or take another strategy, e.g. finetune, er or packnet."
        )


def check_evaluations(run: RunConfig, strategy: Chosen, stream: Chosen, scenario: Scenario) -> None:
    """Refuse evaluations that were asked for where the strategy, the stream or the scenario has no answer."""
    for settings in settings_of(run).values():
        if settings.evaluate:
            settings.refuse(strategy, stream, scenario)


def check_continuation(run: RunConfig, diagnostics: Sequence[str], scenario: Scenario) -> None:
    """Refuse to go on from an earlier run where no tasks are told, or with questions it was not asked."""
    if Requirement.BOUNDARIES not in scenario.provides:
        raise UsageError(
            f"--continue-from goes on after the last task, and {scenario} tells none. Use a scenario with tasks."
        )
    asked = [f"--evaluate {name}" for name, settings in settings_of(run).items() if settings.evaluate]
    asked += [f"--diagnostics {name}" for name in diagnostics]
    if asked:
        raise UsageError(
            f"{asked[0]} asks after each experience, and those before --continue-from are over. Leave it out."
        )


def strategies_for(scenario: Scenario, *, without: str) -> list[str]:
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
        fitting = [mode for mode in cls.modes if cls.requirements(cls.Config(**mode)) <= scenario.provides]
        for mode in fitting[:1]:
            modes.append(" ".join([name, *(f"strategy.{key}={value}" for key, value in mode.items())]))
    return [*([", ".join(names)] if names else []), *modes]


def check_writable(folder: Path, results: Path, *, make: bool = True) -> None:
    """Make the folder of a record, or only look whether it can be. Raise UsageError if nothing can be written there."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = next(each for each in (folder, *folder.absolute().parents) if each.exists())
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        writable = os.access(folder, os.W_OK)
        reason = "no permission"
    except OSError as problem:
        writable, reason = False, f"{problem.strerror}: {problem.filename}"
    if not writable:
        raise UsageError(f"--results {results} cannot be written ({reason}). Name another folder.")
