"""Numbers of a run, as pure functions of what was measured. Never imports torch, never changes its input.

R[i][j] is the score on task j after experience i, in [0, 1], None where unanswered; T is the number of tasks.
Every function returns None where its number is not defined, never 0: an entry it needs is None, or rows of R are not
the T tasks in order (a task-agnostic run: its rows are times).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

Row = Sequence[float | None]
Matrix = Sequence[Row]
Curve = Sequence[Mapping[str, Any]]


def acc(R: Matrix) -> float | None:
    """Average accuracy, macro: every task counts the same.

    ACC = 1/T sum_j R[T-1][j] (Lopez-Paz & Ranzato 2017). Needs a complete last row; rows may be times.
    """
    return mean(R[-1]) if R else None


def acc_micro(R: Matrix, counts: Sequence[int]) -> float | None:
    """Average accuracy, micro: every test sample counts the same.

    ACC_micro = sum_j n_j R[T-1][j] / sum_j n_j, with n_j = counts[j] test samples of task j. Needs a complete last row.
    """
    total = sum(counts)
    last = complete(R[-1]) if R else None
    if last is None or not total:
        return None
    return fsum(n * score for n, score in zip(counts, last, strict=True)) / total


def bwt(R: Matrix) -> float | None:
    """Backward transfer: what later learning did to earlier tasks; negative = forgotten.

    BWT = 1/(T-1) sum_{j<T-1} R[T-1][j] - R[j][j] (Lopez-Paz & Ranzato 2017).
    Needs T >= 2 rows for T tasks, the last row and the diagonal.
    """
    if not as_many_rows_as_tasks(R):
        return None
    return mean(difference(R[-1][j], R[j][j]) for j in range(len(R) - 1))


def fwt(R: Matrix, baseline: Row) -> float | None:
    """Forward transfer: how much better a task is before it is learned than with the untrained network.

    FWT = mean over j>0 of R[j-1][j] - b[j] (Lopez-Paz & Ranzato 2017), over the tasks that could be answered
    before they were learned; None if there is none (class-incremental: the classes did not exist yet).
    Needs T >= 2 rows for T tasks and b[j], the untrained score, with the final layout of the heads.
    """
    if not as_many_rows_as_tasks(R) or len(baseline) != len(R):
        return None
    gains = [difference(R[j - 1][j], baseline[j]) for j in range(1, len(R))]
    return mean(gain for gain in gains if gain is not None)


def forgetting(R: Matrix) -> float | None:
    """Forgetting: how far each task is below the best it ever was; negative = it became still better.

    F = 1/(T-1) sum_{j<T-1} (max_{l<T-1} R[l][j] - R[T-1][j]) (Chaudhry et al. 2018), not clipped at 0.
    Needs T >= 2 rows for T tasks, the last row, and for each earlier task one score before it.
    """
    if not as_many_rows_as_tasks(R):
        return None
    columns = [[score for row in R[:-1] if (score := row[j]) is not None] for j in range(len(R) - 1)]
    return mean(difference(max(column, default=None), R[-1][j]) for j, column in enumerate(columns))


def learning_accuracy(R: Matrix) -> float | None:
    """Learning accuracy: how well each task is learned when it is its turn.

    LA = 1/T sum_j R[j][j] (Riemer et al. 2019). Needs T rows for T tasks and the diagonal.
    """
    if not R or len(R) != len(R[0]):
        return None
    return mean(R[j][j] for j in range(len(R)))


def learning_accuracy_gain(R: Matrix, reference: Matrix) -> float | None:
    """Learning accuracy beside a reference: the forward transfer CUBER reports (Lin et al. 2022).

    1/T sum_j R[j][j] - reference[j][j]. `reference` is the matrix of another method, or of a network trained on each
    task alone. Needs T rows for T tasks and both diagonals. Raise ValueError if the two differ in T.
    """
    widths = {len(row) for row in (*R, *reference)}
    if len(widths) > 1:
        raise ValueError(f"R and the reference must have the same tasks; they have {sorted(widths)}")
    if not R or not len(R) == len(reference) == len(R[0]):
        return None
    return mean(difference(R[j][j], reference[j][j]) for j in range(len(R)))


def average_incremental_accuracy(R: Matrix) -> float | None:
    """Average incremental accuracy: the accuracy on the tasks so far, averaged over the stream.

    AIA = 1/T sum_i 1/(i+1) sum_{j<=i} R[i][j] (Rebuffi et al. 2017, iCaRL; here the mean over tasks, first included).
    Needs T rows for T tasks and everything on and below the diagonal.
    """
    if not R or len(R) != len(R[0]):
        return None
    return mean(mean(row[: i + 1]) for i, row in enumerate(R))


def anytime_accuracy(curve: Curve) -> float | None:
    """Average anytime accuracy: the accuracy on the tasks met so far, averaged over the points inside experiences.

    AAA = mean over points p of mean_{j<=e(p)} scores_p[j], e(p) = the experience point p lies in (Caccia et al. 2022).
    Needs evaluation points (`train.evaluate_every`) at which all tasks met so far, the present one included, are
    answered, and experiences that are tasks.
    """
    return mean(mean(point["scores"][: point["experience"] + 1]) for point in curve)


def accuracy_over_time(R: Matrix, begun: Sequence[Sequence[int]]) -> float | None:
    """Anytime accuracy where rows are times: mean over rows i of mean_{j in begun[i]} R[i,j].

    begun: per row the tasks of which the stream had shown something. None if one of them is unanswered.
    """
    return mean(mean(row[task] for task in tasks) for row, tasks in zip(R, begun, strict=True))


def min_acc(R: Matrix, curve: Curve) -> float | None:
    """Average minimum accuracy, the depth of the stability gap.

    min-ACC = 1/(T-1) sum_{j<T-1} of the lowest score of task j at any evaluation after it was learned: the points of
    the curve inside later experiences, and the rows of R after them (De Lange et al. 2023).
    Needs T >= 2 rows for T tasks and a curve with at least one point inside each experience after the first.
    """
    if not as_many_rows_as_tasks(R):
        return None
    later = range(1, len(R))
    if not {point["experience"] for point in curve}.issuperset(later):
        return None
    return mean(_lowest(R, curve, task) for task in range(len(R) - 1))


def worst_case_accuracy(R: Matrix, curve: Curve) -> float | None:
    """Worst-case accuracy: the last task as it is learned, the earlier ones at their lowest.

    WC-ACC = 1/T R[T-1][T-1] + (1 - 1/T) min-ACC (De Lange et al. 2023). Needs what `min_acc` needs.
    """
    lowest = min_acc(R, curve)
    if lowest is None or R[-1][-1] is None:
        return None
    return R[-1][-1] / len(R) + (1 - 1 / len(R)) * lowest


def libero_metrics(R: Matrix, points: Matrix) -> dict[str, float | None]:
    """LIBERO's forward transfer, negative backward transfer and area under the success curve (Liu et al. 2023).

    points[k]: scores of task k at P points of its own training, from before to after it; an unanswered one counts 0.
    c(k, e): points[k], held flat after its best, because the paper goes on with the best weights met so far.
    FWT_k = 1/P sum_e c(k, e); NBT_k = 1/(T-k) sum_{t>k} c(k, k) - R[t][k], with NBT_T = 0;
    AUC_k = 1/(T-k+1) (FWT_k + sum_{t>k} R[t][k]), k = 1..T. c(k, k) is R[k][k], what was gone on with.
    Each figure is its sum over k divided by T, NBT too. These are not GEM's forward and backward transfer.
    """
    names = ("libero_fwt", "libero_nbt", "libero_auc")
    tasks = len(R)
    if not tasks or len(R[0]) != tasks or len(points) != tasks or not all(points):
        return dict.fromkeys(names)
    sums = dict.fromkeys(names, 0.0)
    for k, curve in enumerate(points):
        later = complete(R[t][k] for t in range(k, tasks))
        if later is None:
            return dict.fromkeys(names)
        learned, *after = later
        scores = [0.0 if score is None else score for score in curve]
        best = scores.index(max(scores))
        transfer = fsum([*scores[:best], *[scores[best]] * (len(scores) - best)]) / len(scores)
        sums["libero_fwt"] += transfer
        sums["libero_nbt"] += fsum(learned - score for score in after) / len(after) if after else 0.0
        sums["libero_auc"] += (transfer + fsum(after)) / (1 + len(after))
    return {name: total / tasks for name, total in sums.items()}


def summarise(
    R: Matrix,
    baseline: Row,
    counts: Sequence[int],
    curve: Curve = (),
    R_task_aware: Matrix | None = None,
    *,
    rows_are_tasks: bool = True,
    begun: Sequence[Sequence[int]] | None = None,
) -> dict[str, float | None]:
    """Return the metrics of a record: {name: value, or None where it is not defined}.

    baseline:       [T] score of the untrained network per task
    counts:         [T] test samples per task
    curve:          evaluation points inside experiences: {experience, step, samples, scores [T]}
    R_task_aware:   R with the argmax within the task, from the same logits; adds `*_task_aware`
    rows_are_tasks: False for a task-agnostic run, whose rows are times even where they happen to be T
    begun:          of such a run, per row the tasks of which something had been shown: rows are points of the
                    anytime accuracy there
    """
    _check_width(R, baseline, counts)
    tasks: Matrix = R if rows_are_tasks and R and len(R) == len(R[0]) else []
    within: Curve = curve if tasks else ()
    metrics = {
        "acc": acc(R),
        "acc_micro": acc_micro(R, counts),
        "bwt": bwt(tasks),
        "fwt": fwt(tasks, baseline),
        "forgetting": forgetting(tasks),
        "learning_accuracy": learning_accuracy(tasks),
        "average_incremental_accuracy": average_incremental_accuracy(tasks),
        "anytime_accuracy": anytime_accuracy(within) if begun is None else accuracy_over_time(R, begun),
        "min_acc": min_acc(tasks, within),
        "worst_case_accuracy": worst_case_accuracy(tasks, within),
    }
    if R_task_aware is not None:
        aware: Matrix = R_task_aware if tasks else []
        metrics["acc_task_aware"] = acc(R_task_aware)
        metrics["bwt_task_aware"] = bwt(aware)
        metrics["forgetting_task_aware"] = forgetting(aware)
    return metrics


def _lowest(R: Matrix, curve: Curve, task: int) -> float | None:
    """Return the lowest score of a task after its own experience; None if it was ever unanswered there."""
    scores = [point["scores"][task] for point in curve if point["experience"] > task]
    answered = complete([*scores, *(row[task] for row in R[task + 1 :])])
    return min(answered) if answered else None


def as_many_rows_as_tasks(R: Matrix) -> bool:
    """Whether rows may be the tasks in order, and there are two or more: what most definitions need."""
    return len(R) >= 2 and len(R) == len(R[0])


def difference(a: float | None, b: float | None) -> float | None:
    """Return a - b, or None if one of them is."""
    return None if a is None or b is None else a - b


def complete(values: Iterable[float | None]) -> list[float] | None:
    """Return the values, or None if one of them is."""
    listed = []
    for value in values:
        if value is None:
            return None
        listed.append(value)
    return listed


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean, or None if there is nothing to average or a value is None."""
    listed = complete(values)
    return fsum(listed) / len(listed) if listed else None


def _check_width(R: Matrix, baseline: Row, counts: Sequence[int]) -> None:
    widths = {len(row) for row in R} | {len(counts)} | ({len(baseline)} if baseline else set())
    if len(widths) > 1:
        raise ValueError(f"R, baseline and counts must have one entry per task; they have {sorted(widths)}")
