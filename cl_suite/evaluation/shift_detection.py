"""Were the shifts of a stream found that tells none, and were experts used as tasks are?

Asked of every run whose scenario hides the tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.metrics.matrix import Matrix
from cl_suite.metrics.task_shifts import ShiftLog, expert_use, shift_figures, shift_quality, shifts_summary

TABLES = ("missed_shifts", "false_alarms", "detection_delay", "experts", "reuse")  # of the facts


class ShiftDetection(Evaluation):
    """A strategy's own account (`experience.observe`) against the hidden truth; nothing where it gave none."""

    def __init__(self, settings: None, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        self.facts: dict[str, Any] = {}
        self._log = ShiftLog.none()

    @classmethod
    def applies(cls, strategy: Strategy, scenario_stream: ScenarioStream) -> bool:
        """Where the scenario hides the tasks."""
        return not scenario_stream.has_boundaries

    def finish(self, shift_log: ShiftLog, note: Callable[[str], None]) -> None:
        """Compare, and say in a line what was found."""
        if not shift_log.samples:
            return
        stream, self._log = self.scenario_stream, shift_log
        quality = shift_quality(stream.visits, shift_log, blur=stream.blur)
        self.facts = quality | expert_use(stream.visits, shift_log)
        note(shifts_summary(self.facts))

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return the figures that are there."""
        return {name: float(self.facts[name]) for name in TABLES if self.facts.get(name) is not None}

    def record(self) -> dict[str, Any]:
        """Return all facts."""
        return self.facts

    def figures(self) -> dict[str, Any]:
        """Return the loss with true and detected shifts, and expert and task over time."""
        return shift_figures(self.scenario_stream.visits, self._log) if self.facts else {}
