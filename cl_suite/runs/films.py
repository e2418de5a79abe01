"""Films of robots after the last experience, as an evaluation: `--diagnostics video`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.metrics.task_shifts import ShiftLog
from cl_suite.robots.film import check_films, film_tasks


class Films(Evaluation):
    """A GIF of the first episode of each task, beside the record."""

    def __init__(self, settings: Path, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        check_films(scenario_stream.tasks, scenario_stream.info.stream)
        self._films: dict[str, Any] = {}

    def finish(self, shift_log: ShiftLog, note: Callable[[str], None]) -> None:
        """Film every task."""
        tasks, strategy = self.scenario_stream.tasks, self.strategy
        self._films = film_tasks(tasks, lambda task: task.predictor_of(strategy), self.settings)

    def record(self) -> dict[str, Any]:
        """Return {task: file, or why there is none}."""
        return self._films
