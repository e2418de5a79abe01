"""Strategies over several streams: average ranks, win rates, and how the tenth percentile of their tasks fares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum, inf
from typing import Any

import numpy as np

from cl_suite.report.tables.leaderboard import LeaderboardTable, row_key
from cl_suite.report.tables.measures import contests
from cl_suite.report.tables.statistics import Ranks, complete_block, ranks, win_rates


@dataclass(frozen=True)
class Across:
    """All tables of one scenario and protocol. The upper bound does not take part.

    names:       strategies with an ACC in at least two tables
    tables:      how many each of them is in
    wins:        [strategies, strategies]: share of tables in which the row has the higher ACC
    percentile:  mean over its tables of the tenth percentile over tasks
    ranks:       of those that can be ranked, on `ranked_on` tables that all of them are in; None with `why`
    """

    scenario: str
    protocol: str
    names: tuple[str, ...]
    tables: tuple[int, ...]
    wins: Any
    percentile: tuple[float | None, ...]
    ranks: Ranks | None
    ranked_on: tuple[str, ...]
    why: str = ""

    @cached_property
    def average_rank(self) -> dict[str, float]:
        """Of those that are ranked."""
        return dict(zip(self.ranks.names, self.ranks.average, strict=True)) if self.ranks else {}

    @cached_property
    def order(self) -> list[int]:
        """Places of the names as a table shows them: by average rank, those without one last, by name."""
        return sorted(
            range(len(self.names)), key=lambda place: (self.average_rank.get(self.names[place], inf), self.names[place])
        )


def across_streams(tables: Sequence[LeaderboardTable]) -> list[Across]:
    """Return one comparison for each scenario and protocol in which two strategies share two tables."""
    groups: dict[tuple[str, str], list[LeaderboardTable]] = {}
    for table in tables:
        groups.setdefault((table.key["scenario"], table.key["protocol"]), []).append(table)
    comparisons = [_across(*group, members) for group, members in sorted(groups.items())]
    return [each for each in comparisons if len(each.names) > 1]


def _across(scenario: str, protocol: str, tables: Sequence[LeaderboardTable]) -> Across:
    scores: dict[str, dict[int, tuple[float, float]]] = {}
    for number, table in enumerate(tables):
        stand_for = {row for row in table.of_strategies() if contests(row[0], table.runs[row])}
        for row in table.lines:
            known = row_key(row) in stand_for and not np.isnan(row["acc_mean"])
            if known:
                place = scores.setdefault(row["strategy"], {})
                place[number] = (row["acc_mean"], row["task_percentile_10_mean"])
    names = sorted(name for name, where in scores.items() if len(where) > 1)
    matrix = np.full((len(tables), len(names)), np.nan)
    for column, name in enumerate(names):
        for number, (accuracy, _) in scores[name].items():
            matrix[number, column] = accuracy
    rows_kept, columns_kept = complete_block(~np.isnan(matrix))
    block = matrix[np.ix_(rows_kept, columns_kept)]
    enough = len(columns_kept) > 2 and len(rows_kept) > 1
    why = "" if enough else f"no three strategies share two tables ({len(tables)} tables, {len(names)} strategies)"
    return Across(
        scenario=scenario,
        protocol=protocol,
        names=tuple(names),
        tables=tuple(len(scores[name]) for name in names),
        wins=win_rates(matrix),
        percentile=tuple(_mean([low for _, low in scores[name].values()]) for name in names),
        ranks=ranks([names[column] for column in columns_kept], block) if enough else None,
        ranked_on=tuple(table_name(tables[number]) for number in rows_kept) if enough else (),
        why=why,
    )


def table_name(table: LeaderboardTable) -> str:
    """Return the stream, and its options where it has some."""
    options = table.key["stream_options"]
    return f"{table.key['stream']} [{options}]" if options else table.key["stream"]


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return fsum(known) / len(known) if known else None
