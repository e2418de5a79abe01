"""Whether a strategy is as sure as it is right: probabilities beside outcomes. `--evaluate calibration`.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599): samples are put into bins by their
largest probability, and each bin's accuracy is held against its mean probability. Brier 1950, "Verification of
Forecasts Expressed in Terms of Probability": the squared error of all probabilities, summed over classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cl_suite.core.errors import RunError, UnseenTask, UsageError
from cl_suite.core.metering import Meter
from cl_suite.core.objective import restrict
from cl_suite.core.scenario_stream import EVALUATION_BATCH, ScenarioStream, Task
from cl_suite.core.strategy import Strategy
from cl_suite.evaluation.protocol import PerExperience, Settings, require_classes
from cl_suite.metrics.matrix import Matrix, Row


@dataclass
class CalibrationSettings(Settings):
    """Whether probabilities are held against outcomes after each experience: `calibration.<field>=...`."""

    without: ClassVar[str] = (
        "calibration.* says how probabilities are judged, but none are. Add --evaluate calibration."
    )

    bins: int = 15  # equal intervals of the largest probability; Guo et al.: 15

    def check_values(self) -> None:
        """Raise UsageError for values that mean nothing."""
        if self.bins < 1:
            raise UsageError(f"calibration.bins={self.bins} is too small. Use 1 or more; 15 is usual.")


class CalibrationEvaluation(PerExperience):
    """An entry for each experience, over the test samples of all tasks begun so far, every sample counted alike.

    Probabilities are the softmax over the classes that may be answered: the task's own where it is named at test,
    else those seen so far. An entry has
    ece, brier, accuracy, confidence: the two errors, the share that is right, the mean largest probability
    bins: of each bin `samples`, `accuracy` and `confidence`, from least to most certain; null where there are none
    All are null where the strategy has no answer to one of the tasks.
    """

    def __init__(self, settings: CalibrationSettings, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        require_classes(scenario_stream, "--evaluate calibration needs probabilities of classes")
        if not strategy.answers_logits():
            raise UsageError(
                f"--evaluate calibration needs probabilities of classes, and {type(strategy).__name__} answers by "
                "something else, such as distances. Leave it out, or use another strategy."
            )
        self._bins = settings.bins

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """Hold the probabilities of all test samples of the tasks begun so far against their classes."""
        stream = self.scenario_stream
        tasks = [stream.tasks[number] for number in stream.begun(experience)]
        classes = stream.seen_after(experience + 1)
        try:
            judgements = [self._judgement(task, classes) for task in tasks]
        except UnseenTask:
            nothing = {"samples": [0] * self._bins, "accuracy": None, "confidence": None}
            errors = dict.fromkeys(("ece", "brier", "accuracy", "confidence"))
            self.entries.append({**errors, "bins": nothing})
            return
        confidence, right, squares = (torch.cat(parts) for parts in zip(*judgements, strict=True))
        self.entries.append(
            {
                "ece": expected_calibration_error(confidence, right, self._bins),
                "brier": float(squares.mean()),
                "accuracy": float(right.mean()),
                "confidence": float(confidence.mean()),
                "bins": reliability(confidence, right, self._bins),
            }
        )

    def _judgement(self, task: Task, classes_so_far: frozenset[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return of each test sample, [N] float64 on the CPU: largest probability, 1 where it is right, Brier score."""
        predictor, allowed = task.predictor_of(self.strategy), task.answer_among(classes_so_far)
        parts = []
        with torch.no_grad():
            for raw, targets in task.test.chunks(EVALUATION_BATCH):
                outputs = predictor(task.prepare(raw))
                probabilities = restrict(outputs, allowed).cpu().double().softmax(dim=1)
                if bool(probabilities.isnan().any()):
                    raise RunError(
                        f"the predictor's answers to task {task.name!r} are no probabilities: NaN or infinite. Look "
                        "for a division by zero, or a lower rate."
                    )
                right = task.objective.correct(outputs, targets, allowed).cpu().double()
                parts.append((probabilities.amax(dim=1), right, brier_scores(probabilities, targets.cpu())))
        sure, correct, squares = (torch.cat(column) for column in zip(*parts, strict=True))
        return sure, correct, squares

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return both errors after the last experience."""
        return {name: self.entries[-1][name] for name in ("ece", "brier")} if self.entries else {}

    def record(self) -> dict[str, Any]:
        """Return the entries."""
        return {"experiences": self.entries}


def brier_scores(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return sum_c (p[c] - [c = target])^2 of each sample, [N] in [0, 2], of [N, C] and classes [N] int64."""
    wanted = torch.zeros_like(probabilities).scatter_(1, targets[:, None], 1.0)
    return (probabilities - wanted).square().sum(dim=1)


def reliability(confidence: Tensor, right: Tensor, bins: int) -> dict[str, list[Any]]:
    """Return `samples`, `accuracy`, `confidence` of each bin; bin m of M holds m/M < confidence <= (m+1)/M.

    confidence: [N] largest probability, in (0, 1]; right: [N] 1 where the answer is right, else 0
    """
    # In the precision of the bounds, so that a confidence of exactly m/M lies where it belongs.
    bounds = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.bucketize(confidence.double(), bounds)
    counts = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, weights=values.double(), minlength=bins) for values in (right, confidence)]
    means = [
        [float(total / count) if count else None for total, count in zip(each, counts, strict=True)] for each in sums
    ]
    return {"samples": counts.tolist(), "accuracy": means[0], "confidence": means[1]}


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    """Return sum_m |B_m|/N |accuracy(B_m) - confidence(B_m)| over the bins of `reliability`, in [0, 1]."""
    table = reliability(confidence, right, bins)
    rows = zip(table["samples"], table["accuracy"], table["confidence"], strict=True)
    return sum(count * abs(accuracy - sure) for count, accuracy, sure in rows if count) / len(confidence)
