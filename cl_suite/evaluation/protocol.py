"""What may be asked of a strategy beside its scores: an evaluation, and the options it is asked with.

A new one is a file of this folder with a class derived from `Evaluation` (and one from `Settings`, if it has options),
and an entry in registry.py. Flags, options, refusals, checkpoints and records follow from that entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from cl_suite.core.errors import UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.core.objective import Classification
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.metrics.matrix import Matrix, Row
from cl_suite.metrics.task_shifts import ShiftLog


@dataclass
class Settings:
    """Options of an evaluation: `<name>.<field>=...`. They are part of a run's configuration and of its hash."""

    without: ClassVar[str] = ""  # what is said of options that are set while the evaluation is not asked for

    evaluate: bool = False  # set by --evaluate <name>

    def check(self) -> None:
        """Raise UsageError for values that mean nothing, and for options of what is not asked for."""
        self.check_values()
        if not self.evaluate and self != type(self)():
            raise UsageError(self.without)

    def check_values(self) -> None:
        """Raise UsageError for a value outside its range."""

    def refuse(self, strategy: Chosen, stream: Chosen, scenario: Scenario) -> None:
        """Before any data is read: raise UsageError where the question has no answer. Called only if it is asked."""


class Evaluation:
    """Looks beside a run and keeps what it found. Override what the question needs; the rest does nothing.

    settings: an instance of its Settings; for one asked with --diagnostics the path that the record will have
    Raise UsageError in the constructor where the strategy or the stream has no answer: nothing has been trained then.
    """

    def __init__(self, settings: Any, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        self.settings, self.strategy, self.scenario_stream = settings, strategy, scenario_stream

    @classmethod
    def applies(cls, strategy: Strategy, scenario_stream: ScenarioStream) -> bool:
        """Whether one that nobody has to ask for is asked in this run."""
        return True

    def start(self) -> None:
        """Before the first experience, or after a checkpoint has been restored."""

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Before an experience: tell the strategy what it must know by then, or watch its batches."""

    def epoch_passed(self, experience: int) -> None:
        """After a pass over an experience's samples."""

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """After an experience, whose row of R is `scores`: ask. Random numbers drawn here are given back."""

    def finish(self, shift_log: ShiftLog, note: Callable[[str], None]) -> None:
        """After the last experience. shift_log: what the strategy reported of its batches; note: says a line."""

    def model_selection(self) -> str:
        """Return "oracle" if test scores chose among the states met in training; "" = it chose nothing."""
        return ""

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return the figures of the finished run, whose matrix is R, for tables."""
        return {}

    def record(self) -> dict[str, Any]:
        """Return everything measured, for the record's diagnostics, where it stands under the evaluation's name."""
        return {}

    def figures(self) -> dict[str, Any]:
        """Return {name: figure} for the record's diagnostics; docs/reference/records.md describes them."""
        return {}

    def state_dict(self) -> Any:
        """Return what a checkpoint must keep."""
        return []

    def load_state_dict(self, state: Any) -> None:
        """Restore what `state_dict` returned."""


def require_classes(scenario_stream: ScenarioStream, asked: str) -> None:
    """Raise UsageError where samples have no one class each. asked: what needs them, e.g. "--evaluate x needs them"."""
    info = scenario_stream.info
    measured = any(task.scorer is not None for task in scenario_stream.tasks)
    if measured or not isinstance(info.objective, Classification):
        what = "acts in a simulator" if measured else f"has no one class per sample ({info.objective.name})"
        raise UsageError(f"{asked}, and {info.stream} {what}. Leave it out.")


class PerExperience(Evaluation):
    """One that keeps an entry, a dictionary of plain values, for each experience."""

    def __init__(self, settings: Any, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        self.entries: list[dict[str, Any]] = []

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the entries so far."""
        return list(self.entries)

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        self.entries = list(state)
