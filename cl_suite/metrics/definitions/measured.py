"""What a run measured, as definitions read it, and what each of them needs of it. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cl_suite.metrics.definitions.formulas import diagonal
from cl_suite.metrics.matrix import Curve, Matrix, Row


@dataclass(frozen=True)
class Measured:
    """What one run measured. Scores in [0, 1], None where unanswered; T tasks.

    R:              row i = after experience i, column j = task j
    baseline:       [T] score of the untrained network; [] = not measured
    counts:         [T] test samples; [] = not known
    curve:          evaluation points inside experiences: {experience, scores [T]}
    R_task_aware:   R with the answer chosen within the task; None where R already is that
    points:         [T][P] scores of each task at points of its own training; [] = not measured
    rows_are_tasks: False where rows are times
    metrics:        figures that the run made itself and that do not follow from the above
    reference:      another run on the same tasks; None = none was given
    """

    R: Matrix
    baseline: Row = ()
    counts: Sequence[float] = ()
    curve: Curve = ()
    R_task_aware: Matrix | None = None
    points: Matrix = ()
    rows_are_tasks: bool = True
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    reference: Measured | None = None

    @property
    def tasks(self) -> Matrix:
        """R where its rows are the tasks in order, else []."""
        return self.R if self.rows_are_tasks and self.R and len(self.R) == len(self.R[0]) else []

    @property
    def tasks_aware(self) -> Matrix:
        """The same of R_task_aware."""
        return self.R_task_aware if self.R_task_aware is not None and self.tasks else []


@dataclass(frozen=True)
class Need:
    """Something a definition needs: whether a run has it, and the reason to give where it does not."""

    held: Callable[[Measured], bool]
    reason: str


def _answered(row: Row) -> bool:
    return bool(row) and None not in row


def _lower(R: Matrix) -> bool:
    return all(_answered(row[: i + 1]) for i, row in enumerate(R))


def _before_learned(run: Measured) -> Row:
    return [run.tasks[j - 1][j] for j in range(1, len(run.tasks))]


def _of_reference(held: Callable[[Measured], bool]) -> Callable[[Measured], bool]:
    return lambda run: run.reference is not None and held(run.reference)


LAST_ROW = Need(lambda run: bool(run.R) and _answered(run.R[-1]), "a task has no answer after the last experience")
ROWS = Need(lambda run: bool(run.tasks), "rows of R are times, not the tasks in order")
TWO = Need(lambda run: len(run.tasks) >= 2, "there is one task")
DIAGONAL = Need(lambda run: _answered(diagonal(run.tasks)), "a task has no answer right after it was learned")
LOWER = Need(lambda run: _lower(run.tasks), "a task that was learned has no answer after some experience")
ONCE_BEFORE = Need(
    lambda run: all(any(row[j] is not None for row in run.tasks[:-1]) for j in range(len(run.tasks) - 1)),
    "a task has no answer before the last experience",
)
AHEAD = Need(
    lambda run: any(score is not None for score in _before_learned(run)),
    "no task could be answered before it was learned",
)
ALL_AHEAD = Need(lambda run: _answered(_before_learned(run)), "not every task could be answered before it was learned")
UPPER = Need(
    lambda run: all(_answered(row[i + 1 :]) for i, row in enumerate(run.tasks[:-1])),
    "a task has no answer in some row before it was learned",
)
BASELINE = Need(lambda run: _answered(run.baseline), "there is no score of the untrained network for every task")
COUNTS = Need(lambda run: bool(run.counts), "the number of test samples of each task is not known")
CURVE = Need(
    lambda run: {point["experience"] for point in run.curve}.issuperset(range(1, len(run.tasks))),
    "no evaluation points inside the experiences: run with train.evaluate_every=N",
)
AWARE = Need(
    lambda run: run.R_task_aware is not None,
    "there is no second rule: R already is the answer within the task's own classes",
)
POINTS = Need(
    lambda run: bool(run.points), "tasks were not scored while they were learned: run with --evaluate learning"
)
CALIBRATED = Need(
    lambda run: run.metrics.get("ece") is not None and run.metrics.get("brier") is not None,
    "probabilities were not kept: run with --evaluate calibration",
)
REFERENCE = Need(lambda run: run.reference is not None, "it is held against another run: name one with --reference")
ALONE = Need(
    _of_reference(lambda run: _answered(diagonal(run.tasks))),
    "the reference has no answer to each task right after it learned it: name a run of single_task",
)
CEILING = Need(
    _of_reference(lambda run: bool(run.R) and _answered(run.R[-1])),
    "the reference has no answer to every task at its end: name a run of joint",
)
ALONE_POINTS = Need(
    _of_reference(lambda run: bool(run.points)), "the reference was not scored while it learned: --evaluate learning"
)
AS_MANY_POINTS = Need(
    lambda run: run.reference is not None and len(run.points[0]) == len(run.reference.points[0]),
    "the reference was scored at another number of points: run both with one learning.points",
)
HEADROOM = Need(
    _of_reference(lambda run: all(sum(score or 0.0 for score in curve) < len(curve) for curve in run.points)),
    "the reference is perfect on a task from its first point on: nothing could be gained",
)
