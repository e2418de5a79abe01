"""How fast a task is learned: it is scored at points of its own training. `--evaluate learning`.

Liu et al. 2023, "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning" (arXiv 2306.03310), scores the
present task at 11 points, from before its first epoch to after its last; `libero_metrics` makes its figures of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.errors import UnseenTask, UsageError
from cl_suite.experience import Experience
from cl_suite.metering import Meter
from cl_suite.metrics import Matrix, libero_metrics
from cl_suite.presentation import Presentation
from cl_suite.strategy import Strategy
from cl_suite.types import Batch


@dataclass
class LearningSettings:
    """At how many points of its own training a task is scored: `learning.<field>=...`."""

    evaluate: bool = False  # set by --evaluate learning
    points: int = 11  # evenly spaced, the first before the training and the last after it; LIBERO: 11
    keep_best: bool = False  # go on with the weights of the best point: selection on test data, labelled oracle

    def check(self) -> None:
        """Raise UsageError for values that mean nothing."""
        if self.points < 2:
            raise UsageError(f"learning.points={self.points} is too small. Use 2 or more: before and after.")
        if not self.evaluate and self != LearningSettings():
            raise UsageError("learning.* says when a task is scored, but nothing is. Add --evaluate learning.")


class LearningPoints:
    """An entry for each experience: {"scores": [points]}, in [0, 1], None where the strategy had no answer.

    Point p of P lies where p / (P - 1) of the planned samples of the experience have been drawn, replay not counted. A
    strategy that trains on its own samples in other ways (GDumb's memory) is scored at the same points all the same.
    """

    def __init__(self, settings: LearningSettings, strategy: Strategy, presentation: Presentation) -> None:
        self._settings, self._strategy, self._shown = settings, strategy, presentation
        self._gpus = [torch.device(d) for d in [presentation.info.device] if d.type == "cuda"]
        self.entries: list[dict[str, Any]] = []
        self._scores: list[float | None] = []
        self._best: dict[str, Tensor] = {}  # weights of the best point so far

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Before an experience: score it untrained, and be told of every batch."""
        self._scores, self._best = [], {}
        last = self._settings.points - 1
        planned = experience.n_samples * experience.epochs
        due = [-(-planned * point // last) for point in range(1, last + 1)]

        def batch_used(_: Batch) -> None:
            while due and experience.own_drawn >= due[0]:
                due.pop(0)
                self._score(experience.index, meter)
                if not due:
                    self._put_back()

        self._score(experience.index, meter)
        experience.watch(batch=batch_used)

    def _score(self, number: int, meter: Meter) -> None:
        shown, task = self._shown, self._shown.tasks[number]
        with torch.random.fork_rng(devices=self._gpus), meter.timing("eval_seconds"):
            try:
                predictor = self._strategy.predictor(task.index if task.answer_within_task else None)
                score: float | None = task.score(predictor, shown.seen_after(number + 1)).value
            except UnseenTask:
                score = None
        self._scores.append(score)
        network = self._strategy.trained_network()
        before = max((earlier for earlier in self._scores[:-1] if earlier is not None), default=-1.0)
        if self._settings.keep_best and network is not None and score is not None and score > before:
            self._best = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def _put_back(self) -> None:
        network = self._strategy.trained_network()
        if self._best and network is not None:
            network.load_state_dict(self._best)
            self._best = {}

    def observe(self, experience: int, meter: Meter) -> None:
        """After an experience: keep its scores. Points that were not reached have the score of the latest."""
        missing = self._settings.points - len(self._scores)
        self.entries.append({"scores": [*self._scores, *([self._scores[-1]] * missing)]})

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return LIBERO's three figures."""
        return libero_metrics(R, [entry["scores"] for entry in self.entries])

    def record(self) -> dict[str, Any]:
        """Return all points."""
        return {"points": [entry["scores"] for entry in self.entries]}

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the entries so far."""
        return list(self.entries)

    def load_state_dict(self, entries: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        self.entries = list(entries)
