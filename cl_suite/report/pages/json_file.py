"""The leaderboard as JSON, for other programs: what `leaderboard.csv` has, nested, and what does not fit in it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from cl_suite.report.tables.across import Across
from cl_suite.report.tables.leaderboard import FACTS, LeaderboardTable
from cl_suite.report.tables.measures import JUDGED, METRICS
from cl_suite.report.tables.statistics import LEVEL, POWER

VERSION = 1  # of this file's layout


def to_json(tables: Sequence[LeaderboardTable], across: Sequence[Across], notes: Sequence[str]) -> str:
    """Return strict JSON; numbers with 10 significant digits, null where there is none."""
    content = {
        "version": VERSION,
        "intervals": f"t, {100 * (1 - LEVEL):.0f} %",
        "tests": f"paired t over common seeds, Holm, level {LEVEL}",
        "tables": [_table(table) for table in tables],
        "across": [_across(each) for each in across],
        "left_out": list(notes),
    }
    return json.dumps(_plain(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _table(table: LeaderboardTable) -> dict[str, Any]:
    measures = [column.removesuffix("_mean") for column in table.rows.columns if column.endswith("_mean")]
    difference, seeds = table.detectable
    return {
        **table.key,
        "tasks": table.n_tasks,
        "chance": table.chance,
        "ceiling": table.ceiling,
        "detectable": {"difference": difference, "seeds": seeds, "power": POWER, "level": LEVEL},
        "rows": [_row(row, measures) for row in table.lines if row["seeds"]],
        "failed": table.failed,
    }


def _row(row: dict[Any, Any], measures: Sequence[str]) -> dict[str, Any]:
    entry = {name: row[name] for name in FACTS if name != "n_seeds" and (name != "origin" or row[name])}
    entry["seeds"] = [int(seed) for seed in row["seeds"].split()]
    known = [name for name in measures if not math.isnan(row[f"{name}_mean"])]
    return entry | {"measures": {name: _measure(row, name) for name in known}}


def _measure(row: dict[Any, Any], name: str) -> dict[str, Any]:
    parts = ["mean", "std", "count", *(["low", "high"] if name in METRICS else [])]
    return {part: row[f"{name}_{part}"] for part in parts} | (
        {"standing": row[f"{name}_standing"]} if name in JUDGED else {}
    )


def _across(across: Across) -> dict[str, Any]:
    ranked = across.ranks
    return {
        "scenario": across.scenario,
        "protocol": across.protocol,
        "strategies": list(across.names),
        "tables": list(across.tables),
        "win_rates": [[float(rate) for rate in row] for row in across.wins],
        "task_percentile_10": list(across.percentile),
        "ranked_on": list(across.ranked_on),
        "ranks": ranked
        and {
            "average": dict(zip(ranked.names, ranked.average, strict=True)),
            "friedman_p": ranked.p,
            "critical_difference": ranked.critical_difference,
            "groups": [list(ranked.names[first : last + 1]) for first, last in ranked.groups()],
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, bool)) else int(value)
