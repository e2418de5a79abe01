"""Trade-offs between tasks in the leaderboard: distance to the separately trained models, and three figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cl_suite.metrics.trade_offs import distance_to_front
from cl_suite.records.record import RunRecord
from cl_suite.report.tables.labels import Row

REFERENCE = "preference_joint"  # one model for each preference, trained on the samples of all tasks
DISTANCE = "preference_front_distance"
MOST = 12  # curves in a figure


def front_distances(records: Sequence[RunRecord]) -> list[dict[str, float]]:
    """Return for each record of one table {DISTANCE: how far it is from REFERENCE's front of the same seed}, or {}."""
    fronts: dict[int, list[list[float]]] = {}  # of several configurations of it together
    for record in records:
        if record.strategy == REFERENCE and record.status == "complete" and _front(record):
            fronts.setdefault(record.seed, []).extend(_front(record))
    return [
        {DISTANCE: distance_to_front(_front(record), fronts[record.seed])}
        if _front(record) and record.seed in fronts
        else {}
        for record in records
    ]


def preference_figures(runs: Mapping[Row, Sequence[RunRecord]], labels: Mapping[Row, str]) -> dict[str, dict[str, Any]]:
    """Return the figures of one table: {name: figure of kind "curves"}; {} where nobody was asked for trade-offs.

    runs, labels: {row: complete records}, {row: the options that set it apart}. Of each configuration its
    lowest seed is drawn, in the first two figures only where as many preferences were asked for as in most.
    """
    chosen: dict[Row, RunRecord] = {}
    several = [(row, record) for row, records in runs.items() for record in records]
    for row, record in sorted(several, key=lambda pair: pair[1].seed):
        if _entries(record):
            chosen.setdefault(row, record)
    if not chosen:
        return {}
    usual = Counter(_count(each) for each in chosen.values()).most_common(1)[0][0]
    alike = {key: each for key, each in chosen.items() if _count(each) == usual}
    names = {key: " ".join(filter(None, (key[0], labels.get(key, ""), key[2]))) for key in chosen}
    first = next(iter(alike.values()))
    x, y = (f"accuracy on task {name} (%)" for name in [*first.task_names, "", ""][:2])
    fronts = {names[key]: [[100 * x, 100 * y] for x, y in _front(each)] for key, each in alike.items() if _front(each)}
    storage = {
        names[key]: [[task + 1, entry["state_bytes"] / 2**20] for task, entry in enumerate(_entries(each))]
        for key, each in alike.items()
    }
    figures = {
        "tradeoff": _curves("Two tasks, one model for each preference", x, y, fronts),
        "storage": _curves("What is kept as tasks arrive", "tasks learned", "MiB", storage),
        "cost": _curves(
            "Cost of the last task, training and making the models",
            "preferences asked for",
            "seconds",
            _cost_curves(chosen),
            log_x=True,
            log_y=True,
        ),
    }
    return {name: figure for name, figure in figures.items() if figure["series"]}


def _cost_curves(chosen: Mapping[Row, RunRecord]) -> dict[str, list[list[float]]]:
    """Return {strategy: [[preferences asked for, seconds], ...]} of configurations that differ in nothing else."""
    curves: dict[tuple[str, str], list[list[float]]] = {}
    for (strategy, *_), record in chosen.items():
        preferences = {**record.config.get("preferences", {}), "count": None, "grid": None}
        others = json.dumps({**record.config, "preferences": preferences}, sort_keys=True, default=str)
        last = _entries(record)[-1]
        point = [last["asked"], last["train_seconds"] + last["answer_seconds"]]
        curves.setdefault((strategy, others), []).append(point)
    several = {key: sorted(points) for key, points in curves.items() if len({count for count, _ in points}) > 1}
    return {f"{name} ({place})" if place else name: points for place, name, points in _numbered(several)}


def _numbered(curves: Mapping[tuple[str, str], Any]) -> list[tuple[int, str, Any]]:
    """Return (0 for the first curve of a strategy, 1 for the next, ...; strategy; points)."""
    met: Counter[str] = Counter()
    numbered = []
    for (name, _), points in curves.items():
        numbered.append((met[name], name, points))
        met[name] += 1
    return numbered


def _curves(title: str, x: str, y: str, series: dict[str, list[list[float]]], **more: Any) -> dict[str, Any]:
    lines = dict(list(series.items())[:MOST])
    return {"kind": "curves", "title": title, "x_label": x, "y_label": y, "series": lines, **more}


def _count(record: RunRecord) -> int:
    return int(_entries(record)[-1]["asked"])


def _entries(record: RunRecord) -> list[dict[str, Any]]:
    """Return what the evaluation left in the record; [] where it was not asked for, or is not as it should be."""
    diagnostic = record.diagnostics.get("preferences")
    entries = diagnostic.get("experiences") if isinstance(diagnostic, Mapping) else None
    numbers = ("asked", "train_seconds", "answer_seconds", "state_bytes")
    fine = isinstance(entries, list) and all(
        isinstance(entry, Mapping) and all(isinstance(entry.get(name), int | float) for name in numbers)
        for entry in entries
    )
    return entries if fine and entries else []


def _front(record: RunRecord) -> list[list[float]]:
    diagnostic = record.diagnostics.get("preferences")
    points = diagnostic.get("front") if isinstance(diagnostic, Mapping) else None
    fine = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(isinstance(value, int | float) for value in point)
        for point in points
    )
    return points if fine and points else []
