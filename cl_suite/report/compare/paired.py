"""Two strategies beside each other on every stream both have run on: paired by seed. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cl_suite.core.errors import UsageError, nearest
from cl_suite.report.pages.sentences import distinct_headings
from cl_suite.report.tables.across import table_name
from cl_suite.report.tables.labels import Row
from cl_suite.report.tables.leaderboard import LeaderboardTable, row_key
from cl_suite.report.tables.load import YOURS
from cl_suite.report.tables.measures import JUDGED, relative_measures, representative
from cl_suite.report.tables.statistics import LEVEL, detectable, paired


@dataclass(frozen=True)
class Comparison:
    """A minus B in one table, over the seeds both have; differences in the measure's unit (a share, not percent).

    mean, low, high: difference and its 95 % t-interval; None for fewer than two common seeds, p too
    detectable:      smallest difference that so many seeds find with 80 % power
    """

    table: str
    scenario: str
    protocol: str
    a: str
    b: str
    seeds: tuple[int, ...]
    a_mean: float | None
    b_mean: float | None
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def compare(tables: Sequence[LeaderboardTable], a: str, b: str, *, measure: str = "acc") -> list[Comparison]:
    """Return one comparison for each table that both are in.

    a, b: a strategy, or strategy@config with the first digits of a configuration's hash; a strategy alone stands for
    its configuration with most seeds, among equals the one begun first; where runs of others stand beside one's own,
    one's own are meant, if there are any. Raise UsageError for what is not there.
    """
    if measure not in JUDGED:
        raise UsageError(f"--metric {measure} is not known. {nearest(measure, JUDGED)}")
    comparisons = []
    names = {id(table): title for table, title in zip(tables, distinct_headings(tables), strict=True)}
    for table in tables:
        first, second = _rows(table, a), _rows(table, b)
        if first and second and first != second:
            comparisons.append(_comparison(table, names[id(table)], first, second, measure))
    if not comparisons:
        raise UsageError(_nothing(tables, a, b))
    return comparisons


def _rows(table: LeaderboardTable, spec: str) -> Row | None:
    strategy, _, config = spec.partition("@")
    runs = {row: records for row, records in table.runs.items() if row[0] == strategy and row[1].startswith(config)}
    runs = {row: records for row, records in runs.items() if row[2] == YOURS} or runs  # own runs first
    if config and len({each for _, each, _ in runs}) > 1:
        raise UsageError(f"{spec} stands for {len(runs)} configurations of {table_name(table)}. Write more digits.")
    return representative(runs) if runs else None


def _comparison(table: LeaderboardTable, name: str, first: Row, second: Row, measure: str) -> Comparison:
    labels = {row_key(row): row["configuration"] for row in table.lines}
    values_a, values_b = (_by_seed(table, row, measure) for row in (first, second))
    common = sorted(values_a.keys() & values_b.keys())
    differences = [values_a[seed] - values_b[seed] for seed in common]
    tested = paired(differences) if common else None
    least = detectable(tested.deviation, tested.seeds) if tested else None
    return Comparison(
        table=name,
        scenario=table.key["scenario"],
        protocol=table.key["protocol"],
        a=_named(first, labels[first]),
        b=_named(second, labels[second]),
        seeds=tuple(common),
        a_mean=_mean([values_a[seed] for seed in common]),
        b_mean=_mean([values_b[seed] for seed in common]),
        mean=_mean(differences),
        low=tested.low if tested else None,
        high=tested.high if tested else None,
        p=tested.p if tested else None,
        detectable=least,
        verdict=_verdict(first[0], second[0], tested, higher=JUDGED[measure]),
    )


def _verdict(a: str, b: str, tested: Any, *, higher: bool) -> str:
    if tested is None:
        return "cannot be told: fewer than two common seeds"
    if tested.p > LEVEL:
        return "cannot be told"
    if a == b:
        return "the first is better" if (tested.mean > 0) == higher else "the second is better"
    return f"{a if (tested.mean > 0) == higher else b} is better"


def _by_seed(table: LeaderboardTable, row: Row, measure: str) -> dict[int, float]:
    values = {
        record.seed: {**record.metrics, **relative_measures(record, table.chance, table.ceiling)}.get(measure)
        for record in table.runs[row]
    }
    return {seed: value for seed, value in values.items() if value is not None}


def _named(row: Row, options: str) -> str:
    whose = f" ({row[2]})" if row[2] else ""
    return f"{row[0]}@{row[1]}{whose}" + (f" [{options}]" if options else "")


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _nothing(tables: Sequence[LeaderboardTable], a: str, b: str) -> str:
    known = {name for table in tables for name, *_ in table.runs}
    for spec in (a, b):
        name, _, config = spec.partition("@")
        if name not in known:
            return f"there is no record of {name}. {nearest(name, known)}"
        if config and not any(_rows(table, spec) for table in tables):
            return f"{name} has no configuration {config}. See config_hash in leaderboard.csv."
    return f"{a} and {b} have no table in common. Run both on one stream, in one scenario and protocol."
