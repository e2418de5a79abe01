"""Names of measures, which way is better, and those that need other records of the same table. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, TypeVar

from cl_suite.core.scenario import rows_are_tasks
from cl_suite.records.record import RunRecord

Key = TypeVar("Key")
FLOOR, CEILING, REFERENCE = "floor", "ceiling", "reference"
# The lower and the upper bound, which every table shows, and what is no continual learner but shown beside them.
ROLES = {"finetune": FLOOR, "joint": CEILING, "preference_joint": REFERENCE, "single_task": REFERENCE}
ALWAYS = (FLOOR, CEILING)
# Measures that rows are compared in: is higher better?
JUDGED = {
    "acc": True,
    "acc_normalised": True,
    "acc_micro": True,
    "bwt": True,
    "fwt": True,
    "forgetting": False,
    "learning_accuracy": True,
    "intransigence": False,
    "average_incremental_accuracy": True,
    "anytime_accuracy": True,
    "min_acc": True,
    "worst_case_accuracy": True,
    "task_percentile_10": True,
    "acc_task_aware": True,
    "bwt_task_aware": True,
    "forgetting_task_aware": False,
}
METRICS = [
    *JUDGED,
    "acc_global",
    "selector_accuracy",
    "experts",
    "reuse",
    "missed_shifts",
    "false_alarms",
    "detection_delay",
    "open_set_auroc",
    "open_set_fpr95",
    "ece",
    "brier",
    "libero_fwt",
    "libero_nbt",
    "libero_auc",
    "preference_best",
    "preference_mean",
    "preference_average",
    "preference_peak",
    "preference_bwt",
    "preference_hypervolume",
    "preference_front_distance",
    "preference_passes",
    "preference_passes_each",
    "preferences_asked",
    "preference_seconds",
]
COSTS = [
    "wall_seconds",
    "train_seconds",
    "eval_seconds",
    "samples_drawn",
    "samples_replayed",
    "optimizer_steps",
    "training_flops",
    "peak_memory_bytes",
    "model_parameters",
    "state_bytes",
    "memory_bytes",
]
SMALLEST_SPAN = 0.01  # between chance and joint: below it the normalised score says nothing


def chance(records: Sequence[RunRecord]) -> float | None:
    """Return the average accuracy of the untrained networks, over tasks and runs; None where none was scored."""
    known = [score for record in records for score in record.baseline if score is not None]
    return fsum(known) / len(known) if known else None


def ceiling(joint: Sequence[RunRecord]) -> list[float] | None:
    """Return joint's final score on each task, mean over its seeds; None without a complete last row."""
    rows = [last for record in joint if (last := complete_last_row(record)) is not None]
    rows = [row for row in rows if len(row) == len(rows[0])]
    return [fsum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else None


def relative_measures(
    record: RunRecord, untrained: float | None, upper: Sequence[float] | None
) -> dict[str, float | None]:
    """Return what depends on the table's bounds and what is a matter of single tasks.

    acc_normalised = (ACC - chance) / (ACC of joint - chance), `untrained` being chance as measured;
    intransigence = mean over j of joint's final score on task j - R[j][j] (after Chaudhry et al. 2018, whose reference
    is trained on the tasks so far); task_percentile_10 = tenth percentile of the last row (linear interpolation).
    """
    last = complete_last_row(record)
    tasks = rows_are_tasks(record.scenario) and len(record.R) == len(record.R[0]) if record.R else False
    diagonal = [record.R[j][j] for j in range(len(record.R))] if tasks else []
    fitting = upper is not None and len(upper) == len(diagonal)
    gaps = [a - b for a, b in zip(upper or [], diagonal, strict=False) if b is not None] if fitting else []
    span = fsum(upper) / len(upper) - untrained if upper and untrained is not None else 0.0
    normal = (
        (fsum(last) / len(last) - untrained) / span if last and untrained is not None and span > SMALLEST_SPAN else None
    )
    return {
        "acc_normalised": normal,
        "intransigence": fsum(gaps) / len(gaps) if gaps and len(gaps) == len(diagonal) else None,
        "task_percentile_10": percentile(last, 0.1) if last else None,
    }


def complete_last_row(record: RunRecord) -> list[float] | None:
    """Return the final scores, or None if one is missing."""
    last = record.R[-1] if record.R else []
    known = [score for score in last if score is not None]
    return known if known and len(known) == len(last) else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation between order statistics, as NumPy's default."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def contests(strategy: str, records: Sequence[RunRecord]) -> bool:
    """Say whether a row can be the best: no upper bound or reference, and not chosen by a look at test data."""
    bound = ROLES.get(strategy) in (CEILING, REFERENCE)
    return not bound and all(record.model_selection != "oracle" for record in records)


def representative(runs: Mapping[Key, Sequence[RunRecord]]) -> Key:
    """Return the configuration that stands for a strategy where one is needed: most seeds, then the one begun first.

    runs: {config hash, or what else tells them apart: complete records}. No score has a say, so nothing is
    selected on the test set.
    """

    def order(config: Any) -> tuple[int, str, Any]:
        begun = min((str(record.provenance.get("started", "~")) for record in runs[config]), default="~")
        return -len(runs[config]), begun, config

    return min(runs, key=order)
