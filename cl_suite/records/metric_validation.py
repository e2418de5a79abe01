"""Whether the metrics of a record follow from its R, and its curve. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cl_suite.core.scenario import rows_are_tasks
from cl_suite.metrics.matrix import libero_metrics, summarise
from cl_suite.records.fields import CHECKS
from cl_suite.records.record import RunRecord

TOLERANCE = 1e-9  # between a metric and what R gives; records keep every digit
# Every metric that is a function of R; a record may lack those that came after it.
RULED = frozenset(summarise([], [], [], R_task_aware=[]))


def metric_faults(record: RunRecord) -> Iterator[str]:
    """Yield each metric that does not follow from R within 1e-9. Shapes must have been found in order.

    Judged is what `summarise` returns, and what LIBERO's and the open-set evaluation add; all others are passed over.
    A metric may be absent, as it is in records older than it, but not null where R gives a number. The anytime
    accuracy of a task-agnostic run depends on when its tasks began, which no record tells: R gives bounds for it.
    """
    metrics, by_task = record.metrics, rows_are_tasks(record.scenario)
    if record.status == "failed":
        if metrics:
            yield "metrics are told of a failed run"
        return
    if "acc" not in metrics:
        yield "metrics has no acc"
    right = summarise(
        record.R, record.baseline, record.test_samples, record.curve, record.R_task_aware, rows_are_tasks=by_task
    )
    source = dict.fromkeys(RULED, "R gives")
    if not by_task:  # which tasks had begun at each row is not in the record: between the lowest and the highest
        right.pop("anytime_accuracy")
        yield from _anytime(record)
    for values, where in (
        (_libero(record), "R and diagnostics.learning give"),
        (_open_set(record), "diagnostics.open_set gives"),
    ):
        right |= values
        source |= dict.fromkeys(values, where)
    judged = (RULED | right.keys()) & metrics.keys()
    for name in sorted(judged if by_task else judged - {"anytime_accuracy"}):
        if not _same(metrics[name], right.get(name)):
            yield f"metrics.{name} is {metrics[name]}, but {source[name]} {right.get(name)}"


def _anytime(record: RunRecord) -> Iterator[str]:
    """Hold the anytime accuracy of a run whose rows are times against the lowest and the highest that R allows."""
    if "anytime_accuracy" not in record.metrics:
        return
    value = record.metrics["anytime_accuracy"]
    rows = [[score for score in row if score is not None] for row in record.R]
    if value is None:
        if all(len(row) == len(record.task_names) for row in rows):
            yield "metrics.anytime_accuracy is null, but R has every entry"
    elif not all(rows):
        yield f"metrics.anytime_accuracy is {value}, but R has rows without an answer"
    else:
        lowest, highest = (math.fsum(map(of, rows)) / len(rows) for of in (min, max))
        if not lowest - TOLERANCE <= value <= highest + TOLERANCE:
            yield f"metrics.anytime_accuracy is {value}, but R allows {lowest} to {highest}"


def _libero(record: RunRecord) -> dict[str, float | None]:
    """Return the figures of LIBERO's that the record tells, as R and the points within tasks give them."""
    names = [name for name in ("libero_fwt", "libero_nbt", "libero_auc") if name in record.metrics]
    diagnostic = record.diagnostics.get("learning")
    points = diagnostic.get("points") if isinstance(diagnostic, Mapping) else None
    if not isinstance(points, list) or not all(CHECKS["baseline"](curve) for curve in points):
        return dict.fromkeys(names)
    right = libero_metrics(record.R, points)
    return {name: right[name] for name in names}


def _open_set(record: RunRecord) -> dict[str, Any]:
    """Return the open-set figures that the record tells, as its last experience gives them."""
    names = [name for name in ("open_set_auroc", "open_set_fpr95") if name in record.metrics]
    diagnostic = record.diagnostics.get("open_set")
    entries = diagnostic.get("experiences") if isinstance(diagnostic, Mapping) else None
    last = entries[-1] if isinstance(entries, list) and entries and isinstance(entries[-1], Mapping) else {}
    return {name: last.get(name.removeprefix("open_set_")) for name in names}


def _same(value: float | None, right: Any) -> bool:
    if value is None or right is None:
        return value is right
    return isinstance(right, (int, float)) and abs(value - right) <= TOLERANCE
