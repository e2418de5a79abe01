"""Which charts a table, a comparison across streams and a run get, from records. Never imports torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from cl_suite.core.scenario import rows_are_tasks
from cl_suite.records.record import RunRecord
from cl_suite.report.charts.lines import average_chart, profile_chart, tasks_chart
from cl_suite.report.charts.matrix import matrix_chart
from cl_suite.report.charts.points import intervals_chart, scatter_chart
from cl_suite.report.charts.ranks import ranks_chart
from cl_suite.report.pages.sentences import heading
from cl_suite.report.tables.across import Across
from cl_suite.report.tables.labels import Row
from cl_suite.report.tables.leaderboard import LeaderboardTable, row_key
from cl_suite.report.tables.measures import CEILING, FLOOR, ROLES, complete_last_row
from cl_suite.report.tables.statistics import half_width

MOST_LINES = 12  # rows of a table in charts with a line each: the best, and the bounds
MOST_POINTS = 30
COSTS = {  # what accuracy is set against: file name -> (measure, unit, axis)
    "time": ("train_seconds", 1.0, "training time (s)"),
    "memory": ("state_bytes", 2.0**20, "state kept between tasks (MiB)"),
    "samples": ("samples_drawn", 1.0, "samples drawn, replay included"),
    "operations": ("training_flops", 1.0, "training FLOPs"),
}


@dataclass(frozen=True)
class Chart:
    """A name for the file, what it shows, and how it is drawn."""

    name: str
    title: str
    draw: Callable[[], Any]


def table_charts(table: LeaderboardTable) -> Iterator[Chart]:
    """Yield the charts that a table has data for."""
    rows = [row for row in table.lines if row["seeds"] and not np.isnan(row["acc_mean"])]
    if not rows:
        return
    names = _names(rows)
    where = heading(table)
    best = _chosen(rows, MOST_LINES)
    strategies = {names[row_key(row)]: row["strategy"] for row in rows}

    intervals = [
        (names[row_key(row)], 100 * row["acc_mean"], _percent(row["acc_low"]), _percent(row["acc_high"]))
        for row in rows[:40]
    ]
    upper = None if table.ceiling is None else 100 * float(np.mean(table.ceiling))
    lower = None if table.chance is None else 100 * table.chance
    yield Chart(
        "intervals",
        f"ACC with 95 % intervals: {where}",
        lambda: intervals_chart(
            f"ACC with 95 % intervals, {where}", intervals, strategies, "ACC (%)", chance=lower, ceiling=upper
        ),
    )
    curves = {names[row_key(row)]: band for row in best if (band := _band(table.runs[row_key(row)])) is not None}
    if curves:
        yield Chart(
            "average_accuracy",
            f"Average accuracy over the stream: {where}",
            lambda: average_chart(f"Average accuracy, {where}", curves, strategies, "tasks learned"),
        )
    for name, (measure, unit, axis) in COSTS.items():
        points = _points(_chosen(rows, MOST_POINTS), names, measure, "acc", 1 / unit, 100)
        costs = [x for x, _ in points.values()]
        if len(points) > 2 and max(costs) > 1.02 * min(costs):
            yield _scatter(name, f"Accuracy against {axis}, {where}", points, strategies, axis)
    gaps = _points(_chosen(rows, MOST_POINTS), names, "learning_accuracy", "forgetting", 100, 100)
    if len(gaps) > 2:
        yield Chart(
            "forgetting",
            f"Forgetting against learning accuracy: {where}",
            lambda: scatter_chart(
                f"Forgetting against learning accuracy, {where}",
                gaps,
                strategies,
                "learning accuracy (%)",
                "forgetting (points)",
            ),
        )
    profile = {name: scores for name, scores in _profiles(table, best, names).items() if len(scores) > 3}
    if profile:
        yield Chart(
            "profile",
            f"Final accuracy of the tasks, sorted: {where}",
            lambda: profile_chart(f"No task left behind? {where}", profile, strategies),
        )


def across_charts(across: Across) -> Iterator[Chart]:
    """Yield the critical-difference diagram, if there is a ranking."""
    ranks = across.ranks
    if ranks is not None:
        title = f"Average ranks by ACC on {ranks.tables} tables, {across.scenario}, protocol {across.protocol}"
        yield Chart("ranks", title, lambda: ranks_chart(title, ranks))


def run_charts(record: RunRecord) -> Iterator[Chart]:
    """Yield the charts of one run."""
    if not record.R or not record.R[0]:
        return
    where = f"{record.strategy} on {record.stream}, seed {record.seed}"
    tasks = rows_are_tasks(record.scenario) and len(record.R) == len(record.R[0])
    matrix = record.R
    yield Chart(
        "matrix",
        f"Accuracy matrix of {where}",
        lambda: matrix_chart(f"Accuracy, {where}", matrix, rows_are_tasks=tasks),
    )
    if len(matrix) > 1:
        label = "tasks learned" if tasks else "evaluation"
        yield Chart("tasks", f"Each task over time, {where}", lambda: tasks_chart(f"Each task, {where}", matrix, label))
    points = [p for p in record.curve if all(isinstance(p.get(k), int) for k in ("samples", "experience"))]
    if len(points) > 1:
        curve = {record.strategy: _curve_band(points)}
        yield Chart(
            "curve",
            f"Within experiences, {where}",
            lambda: average_chart(
                f"Average accuracy within experiences, {where}",
                curve,
                {record.strategy: record.strategy},
                "samples drawn",
            ),
        )


def _scatter(name: str, title: str, points: Mapping[str, Any], strategies: Mapping[str, str], axis: str) -> Chart:
    return Chart(
        name,
        title,
        lambda: scatter_chart(title, points, strategies, axis, "ACC (%)", log_x=True, front=True),
    )


def _names(rows: Sequence[Mapping[Any, Any]]) -> dict[Row, str]:
    """Return a name for each row: the strategy, with its options where there are several of it, and whose it is."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["strategy"]] = counts.get(row["strategy"], 0) + 1
    names: dict[Row, str] = {}
    for row in rows:
        options = re.sub(r"\b\w+\.(?=\w+=)", "", row["configuration"])  # epochs=20, not train.epochs=20
        name = f"{row['strategy']} {options}" if counts[row["strategy"]] > 1 and options else str(row["strategy"])
        name += f" ({row['origin']})" if row["origin"] else ""
        names[row_key(row)] = name if name not in names.values() else f"{name} {row['config_hash']}"
    return names


def _chosen(rows: Sequence[dict[Any, Any]], most: int) -> list[dict[Any, Any]]:
    """Return the bounds and the best others, at most so many; rows come best first."""
    bounds = [row for row in rows if ROLES.get(row["strategy"]) in (FLOOR, CEILING)]
    others = [row for row in rows if row not in bounds][: max(0, most - len(bounds))]
    return [row for row in rows if row in bounds or row in others]


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else 100 * value


def _points(
    rows: Sequence[Mapping[Any, Any]],
    names: Mapping[Row, str],
    x: str,
    y: str,
    x_unit: float,
    y_unit: float,
) -> dict[str, tuple[float, float]]:
    pairs = {names[row_key(row)]: (x_unit * row[f"{x}_mean"], y_unit * row[f"{y}_mean"]) for row in rows}
    return {name: pair for name, pair in pairs.items() if not np.isnan(pair).any()}


def _band(records: Sequence[RunRecord]) -> Any:
    """Return (tasks learned, mean, low, high) of the average accuracy on the tasks so far; None where undefined."""
    curves = []
    for record in records:
        R = record.R
        if not rows_are_tasks(record.scenario) or len(R) < 2 or len(R) != len(R[0]):
            continue
        so_far = [[nan if score is None else score for score in row[: number + 1]] for number, row in enumerate(R)]
        curve = [float(np.mean(row)) for row in so_far]
        if not np.isnan(curve).any():
            curves.append(curve)
    if not curves or len({len(curve) for curve in curves}) > 1:
        return None
    return _with_interval(np.arange(1, len(curves[0]) + 1), 100 * np.array(curves))


def _with_interval(x: Any, values: Any) -> Any:
    """values [seeds, points], percent."""
    mean = values.mean(axis=0)
    if len(values) < 2:
        missing = np.full(len(mean), nan)
        return x, mean, missing, missing
    width = half_width(values.std(axis=0, ddof=1), len(values))
    return x, mean, mean - width, mean + width


def _curve_band(points: Sequence[Mapping[str, Any]]) -> Any:
    met = [[s for s in point["scores"][: point["experience"] + 1] if s is not None] for point in points]
    mean = [100 * float(np.mean(scores)) if scores else nan for scores in met]
    missing = [nan] * len(mean)
    return [point["samples"] for point in points], mean, missing, missing


def _profiles(
    table: LeaderboardTable, rows: Sequence[Mapping[Any, Any]], names: Mapping[Row, str]
) -> dict[str, list[float]]:
    """Return the final accuracies of the tasks, percent, mean over seeds of the sorted ones."""
    profiles = {}
    for row in rows:
        last = [sorted(scores) for r in table.runs[row_key(row)] if (scores := complete_last_row(r)) is not None]
        if last and len({len(scores) for scores in last}) == 1:
            profiles[names[row_key(row)]] = [100 * float(np.mean(column)) for column in zip(*last, strict=True)]
    return profiles
