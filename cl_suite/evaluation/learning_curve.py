"""How fast a task is learned: it is scored at points of its own training. `--evaluate learning`.

Liu et al. 2023, "LIBERO: Benchmarking Knowledge Transfer for Lifelong Robot Learning" (arXiv 2306.03310), scores the
present task at 11 points, from before its first epoch to after its last; `libero_metrics` makes its figures of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cl_suite.core.devices import forked_rng
from cl_suite.core.errors import RunError, UnseenTask, UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.core.types import Batch
from cl_suite.evaluation.protocol import PerExperience, Settings
from cl_suite.methods.gradient_strategy import GradientStrategy
from cl_suite.metrics.matrix import Matrix, Row, libero_metrics


@dataclass
class LearningSettings(Settings):
    """At how many points of its own training a task is scored: `learning.<field>=...`."""

    without: ClassVar[str] = "learning.* says when a task is scored, but nothing is. Add --evaluate learning."

    points: int = 11  # evenly spaced, the first before the training and the last after it; LIBERO: 11
    keep_best: bool = False  # go on with the weights of the best point: selection on test data, labelled oracle

    def check_values(self) -> None:
        """Raise UsageError for values that mean nothing."""
        if self.points < 2:
            raise UsageError(f"learning.points={self.points} is too small. Use 2 or more: before and after.")

    def refuse(self, strategy: Chosen, stream: Chosen, scenario: Scenario) -> None:
        """Raise UsageError where no task is learned at a time of its own."""
        if Requirement.BOUNDARIES not in scenario.provides:
            raise UsageError(
                f"--evaluate learning scores a task while it is learned, and {scenario} does not say where one ends. "
                f"Use --scenario {Scenario.DOMAIN_INCREMENTAL}."
            )


def _answers_by_weights(strategy: Strategy) -> bool:
    """Whether its network's weights are all there is to an answer, and one loop over the samples makes them."""
    cls = type(strategy)
    return isinstance(strategy, GradientStrategy) and all(
        getattr(cls, name) is getattr(GradientStrategy, name)
        for name in ("learn", "train", "train_on", "after_epoch", "predictor")
    )


class LearningCurve(PerExperience):
    """An entry for each experience: {"scores": [points]}, in [0, 1], None where the strategy had no answer.

    Point p of P lies where p / (P - 1) of the planned samples of the experience have been drawn, replay not counted;
    the last is R[k][k]. A point that a strategy does not come to (joint trains on its memory alone) is None.
    """

    settings: LearningSettings

    def __init__(self, settings: LearningSettings, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        if settings.keep_best and not _answers_by_weights(strategy):
            raise UsageError(
                f"learning.keep_best=true puts weights back, and {type(strategy).__name__} answers by more than "
                "weights, or trains in a loop of its own. Leave it out."
            )
        if settings.keep_best and scenario_stream.info.train.early_stopping:
            raise UsageError(
                "learning.keep_best=true and train.early_stopping both choose the weights to go on with. "
                "Leave one of them out."
            )
        self._scores: list[float | None] = []
        self._best: dict[str, Tensor] = {}  # weights of the best point so far

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Before an experience: score it untrained, and be told of every batch."""
        self._scores, self._best = [], {}
        last = self.settings.points - 1
        planned = experience.n_samples * experience.epochs
        due = [-(-planned * point // last) for point in range(1, last + 1)]  # of the last R[k][k] is the score

        def batch_used(_: Batch) -> None:
            while due and experience.own_drawn >= due[0]:
                due.pop(0)
                if due or self.settings.keep_best:
                    self._score(experience.index, meter)
                if not due:
                    self._put_back()

        self._score(experience.index, meter)
        experience.watch(batch=batch_used)

    def _score(self, number: int, meter: Meter) -> None:
        stream, task = self.scenario_stream, self.scenario_stream.tasks[number]
        with forked_rng(stream.info.device), meter.timing("eval_seconds"):
            try:
                classes = stream.seen_after(number + 1)
                score: float | None = task.score(task.predictor_of(self.strategy), classes).value
            except UnseenTask:
                score = None
        self._scores.append(score)
        network = self.strategy.trained_network()
        before = max((earlier for earlier in self._scores[:-1] if earlier is not None), default=-1.0)
        if self.settings.keep_best and network is not None and score is not None and score > before:
            self._best = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def _put_back(self) -> None:
        network = self.strategy.trained_network()
        if self._best and network is not None:
            network.load_state_dict(self._best)
            self._best = {}

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """After an experience: keep its points. Raise RunError if the best one was to be gone on with and was not."""
        reached, last = self._scores[: self.settings.points - 1], scores[experience]
        best = max((score for score in self._scores if score is not None), default=None)
        if self.settings.keep_best and best is not None and last != best:
            raise RunError(
                f"learning.keep_best=true: the best point of experience {experience} scored {best}, but {last} is "
                "left, as the strategy went on after the last of its samples. Leave learning.keep_best out."
            )
        missing = self.settings.points - 1 - len(reached)
        self.entries.append({"scores": [*reached, *([None] * missing), last]})

    def model_selection(self) -> str:
        """Return "oracle" if the best point, on test data, is what the strategy goes on with."""
        return "oracle" if self.settings.keep_best else ""

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return LIBERO's three figures."""
        return libero_metrics(R, [entry["scores"] for entry in self.entries])

    def record(self) -> dict[str, Any]:
        """Return all points."""
        return {"points": [entry["scores"] for entry in self.entries]}
