"""Formulas of other papers and libraries beside those of `metrics.matrix`; same conventions. Never imports torch.

Where a library's code does not compute what its paper says, the function says so and follows the code: these are the
numbers its users report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import fsum

from cl_suite.metrics.matrix import Matrix, Row, as_many_rows_as_tasks, complete, difference, mean


def lower_triangle_mean(R: Matrix) -> float | None:
    """Mean over the T(T+1)/2 entries on and below the diagonal (Diaz-Rodriguez et al. 2018, A).

    Needs T rows for T tasks.
    """
    if not R or len(R) != len(R[0]):
        return None
    return mean(score for i, row in enumerate(R) for score in row[: i + 1])


def upper_triangle_mean(R: Matrix) -> float | None:
    """Mean over the T(T-1)/2 entries above the diagonal (Diaz-Rodriguez et al. 2018, FWT). Needs T >= 2 rows."""
    if not as_many_rows_as_tasks(R):
        return None
    return mean(score for i, row in enumerate(R) for score in row[i + 1 :])


def below_diagonal_mean(R: Matrix) -> float | None:
    """Mean over the T(T-1)/2 entries below the diagonal: `forward_transfer` in Continuum 1.2.7.

    The paper it cites sums above the diagonal. Needs T >= 2 rows for T tasks.
    """
    if not as_many_rows_as_tasks(R):
        return None
    return mean(score for i, row in enumerate(R) for score in row[:i])


def bwt_all_rows(R: Matrix) -> float | None:
    """Backward transfer after every experience: mean over i > j of R[i][j] - R[j][j] (Diaz-Rodriguez et al. 2018)."""
    if not as_many_rows_as_tasks(R):
        return None
    return mean(difference(R[i][j], R[j][j]) for i in range(1, len(R)) for j in range(i))


def bwt_continuum(R: Matrix) -> float | None:
    """`backward_transfer` in Continuum 1.2.7: as `bwt_all_rows`, but the task learned just before is left out.

    Its loop runs over j < i - 1, yet the sum is divided by all T(T-1)/2 pairs.
    """
    if not as_many_rows_as_tasks(R):
        return None
    return _total((difference(R[i][j], R[j][j]) for i in range(1, len(R)) for j in range(i - 1)), _pairs(R))


def positive_part(bwt: float | None) -> float | None:
    """BWT+ = max(BWT, 0) (Diaz-Rodriguez et al. 2018)."""
    return None if bwt is None else max(bwt, 0.0)


def remembering(bwt: float | None) -> float | None:
    """REM = 1 - |min(BWT, 0)| (Diaz-Rodriguez et al. 2018)."""
    return None if bwt is None else 1.0 - abs(min(bwt, 0.0))


def bwt_over_all_tasks(R: Matrix) -> float | None:
    """Backward transfer divided by T: the last task counts, with 0 (the code of Lopez-Paz & Ranzato 2017)."""
    return mean(difference(R[-1][j], R[j][j]) for j in range(len(R))) if as_many_rows_as_tasks(R) else None


def forgetting_first_last(R: Matrix) -> float | None:
    """Mean over j < T-1 of R[j][j] - R[T-1][j], the score when a task was learned less its last one: minus BWT."""
    if not as_many_rows_as_tasks(R):
        return None
    return mean(difference(R[j][j], R[-1][j]) for j in range(len(R) - 1))


def forgetting_over_all_tasks(R: Matrix) -> float | None:
    """Mean over all T tasks of R[j][j] - R[T-1][j]; the last counts, with 0 (Wolczyk et al. 2021)."""
    return mean(difference(R[j][j], R[-1][j]) for j in range(len(R))) if as_many_rows_as_tasks(R) else None


def forgetting_from(R: Matrix, *, first: Callable[[int], int], last: int) -> float | None:
    """Mean over j < T-1 of the best of R[first(j)..last][j] less R[T-1][j]; unanswered rows do not count.

    first: task -> first row that counts; last: the last one, -1 = row T-1 itself, -2 = the one before
    """
    if not as_many_rows_as_tasks(R):
        return None
    end = len(R) + last + 1
    return mean(difference(_best(R, range(max(first(j), 0), end), j), R[-1][j]) for j in range(len(R) - 1))


def forgetting_continuum(R: Matrix) -> float | None:
    """`forgetting` in Continuum 1.2.7: the tasks j < T-2, the best of rows j..T-3, divided by T-1.

    Chaudhry et al. (2018), whom it cites, take the tasks j < T-1 and the rows before the last, T-1.
    """
    if not as_many_rows_as_tasks(R):
        return None
    end = len(R) - 2
    return _total((difference(_best(R, range(j, end), j), R[-1][j]) for j in range(end)), len(R) - 1)


def fwt_over_all_tasks(R: Matrix, baseline: Row) -> float | None:
    """Forward transfer divided by T: the first task counts, with 0 (the code of Lopez-Paz & Ranzato 2017)."""
    if not as_many_rows_as_tasks(R) or len(baseline) != len(R):
        return None
    return _total((difference(R[j - 1][j], baseline[j]) for j in range(1, len(R))), len(R))


def fwt_without_baseline(R: Matrix) -> float | None:
    """Mean over j > 0 of R[j-1][j], over the tasks that could be answered before they were learned."""
    if not as_many_rows_as_tasks(R):
        return None
    return mean(score for j in range(1, len(R)) if (score := R[j - 1][j]) is not None)


def fwt_against_reference(points: Matrix, reference: Matrix) -> float | None:
    """Mean over tasks of (A_k - B_k) / (1 - B_k), the areas under two curves of learning (Wolczyk et al. 2021, FT).

    points[k], reference[k]: scores of task k at the same points of its own training, in the stream and alone; an
    unanswered one counts 0. Areas are means over the points. None if a task has B_k = 1: nothing could be gained.
    """
    if not points or len(points) != len(reference):
        return None
    areas = [[fsum(score or 0.0 for score in curve) / len(curve) for curve in each] for each in (points, reference)]
    if max(areas[1]) >= 1.0:
        return None
    return mean((gain - alone) / (1.0 - alone) for gain, alone in zip(*areas, strict=True))


def incremental_accuracy(R: Matrix, counts: Sequence[float], *, first: int = 0) -> float | None:
    """Average incremental accuracy, micro: mean over rows i >= first of the accuracy on all samples of tasks 0..i.

    Rebuffi et al. 2017 (iCaRL) average over every step; others leave the first out, which is no increment. counts: [T]
    test samples. Needs T rows for T tasks and everything on and below the diagonal.
    """
    if not R or len(R) != len(R[0]) or not counts or not all(counts):
        return None
    return mean(_weighted(R[i][: i + 1], counts[: i + 1]) for i in range(first, len(R)))


def intransigence(R: Matrix, ceiling: Row) -> float | None:
    """Mean over tasks of ceiling[k] - R[k][k]: what was not learned though it could be; negative = learned better.

    ceiling: [T] score of each task by a network with all it needs (Chaudhry et al. 2018, I_k for one k).
    """
    if not R or not len(R) == len(R[0]) == len(ceiling):
        return None
    return mean(difference(ceiling[k], R[k][k]) for k in range(len(R)))


def diagonal(R: Matrix) -> Row:
    """Return R[k][k] of each task; [] where rows are not the tasks."""
    return [R[k][k] for k in range(len(R))] if R and len(R) == len(R[0]) else []


def _weighted(scores: Row, counts: Sequence[float]) -> float | None:
    answered = complete(scores)
    if answered is None:
        return None
    return fsum(n * score for n, score in zip(counts, answered, strict=True)) / fsum(counts)


def _best(R: Matrix, rows: Iterable[int], task: int) -> float | None:
    """Return the best score of a task in some rows; None if it is unanswered in all of them."""
    return max((score for row in rows if (score := R[row][task]) is not None), default=None)


def _total(values: Iterable[float | None], divisor: int) -> float | None:
    """Return the sum over a fixed divisor, or None if a value is None; nothing to sum is 0."""
    listed = complete(values)
    return None if listed is None else fsum(listed) / divisor


def _pairs(R: Matrix) -> int:
    return len(R) * (len(R) - 1) // 2
