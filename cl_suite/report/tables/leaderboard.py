"""From records to one summary per table: mean, interval over seeds, and who is told apart. No layout here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from cl_suite.records.record import RunRecord
from cl_suite.report.tables.labels import Identity, Row, identities, labels
from cl_suite.report.tables.measures import (
    ALWAYS,
    CEILING,
    COSTS,
    JUDGED,
    METRICS,
    ROLES,
    ceiling,
    chance,
    contests,
    relative_measures,
    representative,
)
from cl_suite.report.tables.preferences import front_distances, preference_figures
from cl_suite.report.tables.statistics import detectable_of, half_width, standing

# What must be equal for two records to share a table.
TABLE_KEY = ["stream", "stream_version", "stream_options", "scenario", "protocol"]
FACTS = ["strategy", "role", "configuration", "config_hash", "n_seeds", "seeds", "model_selection", "device", "origin"]


class Member(NamedTuple):
    """A record, where it stands, and whose it is."""

    record: RunRecord
    identity: Identity
    origin: str


@dataclass(frozen=True)
class LeaderboardTable:
    """One table: everything in it is comparable.

    rows:   one per strategy and configuration, best ACC first. Columns: strategy, role ("floor", "ceiling" or ""),
            configuration (the options that set it apart), config_hash, n_seeds, seeds, model_selection, device, origin
            (whose runs they are, where records of several folders stand beside each other; "" where they do not), and
            for every measure m: m_mean, m_std (over seeds, n-1), m_count (seeds that have it); for scores m_low and
            m_high (95 % t-interval), and where rows are compared m_standing ("best", "tied" or ""); NaN where missing
    runs:   {(strategy, config hash, origin): its complete records, by seed}
    failed: one line per failed run
    chance: average accuracy of the untrained networks; ceiling: joint's final score on each task; None = not measured
    detectable: smallest difference in ACC that can be told, and at how many seeds; (NaN, 0) where nothing can
    figures: {name: figure of the whole table, as in docs/reference/records.md}
    origins: whose runs are in it, failed ones too
    """

    key: dict[str, str]  # of TABLE_KEY
    n_tasks: int
    rows: pd.DataFrame
    runs: dict[Row, list[RunRecord]]
    failed: list[str]
    chance: float | None = None
    ceiling: list[float] | None = None
    detectable: tuple[float, int] = (float("nan"), 0)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: frozenset[str] = frozenset()

    @cached_property
    def lines(self) -> list[dict[Any, Any]]:
        """The rows as dictionaries, best ACC first."""
        return self.rows.to_dict("records")

    def of_strategies(self) -> set[Row]:
        """Return the row that stands for each strategy: its configuration with most seeds, then begun first."""
        by_strategy: dict[str, dict[Row, list[RunRecord]]] = {}
        for row, records in self.runs.items():
            by_strategy.setdefault(row[0], {})[row] = records
        return {representative(runs) for runs in by_strategy.values()}


def row_key(row: Mapping[Any, Any]) -> Row:
    """Return the key in `runs` of one of `lines`."""
    return row["strategy"], row["config_hash"], row["origin"]


def build_tables(records: Sequence[RunRecord], origins: Sequence[str] | None = None) -> list[LeaderboardTable]:
    """Return the tables, sorted by stream, version, stream options, scenario and protocol.

    origins: whose each record is: runs of several are never pooled into one row; None = all are of one
    """
    measures = _measures(records)
    members: dict[tuple[str, ...], list[Member]] = {}
    for record, identity, origin in zip(records, identities(records), origins or [""] * len(records), strict=True):
        members.setdefault(identity.table, []).append(Member(record, identity, origin))
    return [_table(key, members[key], measures) for key in sorted(members)]


def to_csv(tables: Sequence[LeaderboardTable]) -> str:
    """Return all tables as one CSV: numbers with 10 significant digits, an empty cell where there is none."""
    together = pd.concat([table.rows.assign(**table.key) for table in tables])
    columns = [*TABLE_KEY, *(name for name in tables[0].rows.columns if name != "origin" or together[name].any())]
    return together[columns].to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _measures(records: Sequence[RunRecord]) -> list[str]:
    """Return the known measures, then what plugins add."""
    names = {name for record in records for name in (*record.metrics, *record.costs)}
    return list(dict.fromkeys([*METRICS, *COSTS, *sorted(names)]))


def _table(key: tuple[str, ...], members: Sequence[Member], measures: Sequence[str]) -> LeaderboardTable:
    runs: dict[Row, list[RunRecord]] = {}
    options: dict[Row, Mapping[str, str]] = {}
    for member in sorted(members, key=lambda member: member.record.seed):
        if member.record.status == "complete":
            row = member.record.strategy, member.identity.config_hash, member.origin
            runs.setdefault(row, []).append(member.record)
            options[row] = member.identity.options
    runs = {row: runs[row] for row in sorted(runs)}
    row_labels = labels(options)
    complete = [record for several in runs.values() for record in several]
    untrained = chance(complete)
    upper = ceiling(_ceiling_runs(runs))
    rows = _summarise(runs, row_labels, measures, untrained, upper)
    failed = [_failure(member) for member in members if member.record.status == "failed"]
    contestants = [row for row in runs if contests(row[0], runs[row])]
    return LeaderboardTable(
        key=dict(zip(TABLE_KEY, key, strict=True)),
        n_tasks=max(len(member.record.test_samples) for member in members),
        rows=rows,
        runs=runs,
        failed=failed,
        chance=untrained,
        ceiling=upper,
        detectable=detectable_of(_by_seed({row: runs[row] for row in contestants}, "acc")),
        figures=preference_figures(runs, row_labels),
        origins=frozenset(member.origin for member in members),
    )


def _ceiling_runs(runs: Mapping[Row, list[RunRecord]]) -> list[RunRecord]:
    """Return the records of the upper bound that stand for it."""
    configurations = {row: records for row, records in runs.items() if ROLES.get(row[0]) == CEILING}
    return configurations[representative(configurations)] if configurations else []


def _summarise(
    runs: Mapping[Row, list[RunRecord]],
    row_labels: Mapping[Row, str],
    measures: Sequence[str],
    untrained: float | None,
    upper: Sequence[float] | None,
) -> pd.DataFrame:
    columns = [*FACTS, *(f"{name}_{what}" for name in measures for what in _columns_of(name))]
    facts = [
        {
            "strategy": strategy,
            "role": ROLES.get(strategy, ""),
            "configuration": row_labels[strategy, config, origin],
            "config_hash": config,
            "n_seeds": len(records),
            "seeds": " ".join(str(record.seed) for record in records),
            "model_selection": ", ".join(sorted({record.model_selection for record in records})),
            "device": ", ".join(sorted({str(record.provenance.get("device", "-")) for record in records})),
            "origin": origin,
        }
        for (strategy, config, origin), records in runs.items()
    ]
    summary = pd.DataFrame(facts, columns=FACTS)
    if runs:
        numbers = _numbers(runs, measures, untrained, upper)
        summary = pd.concat([summary, numbers], axis=1)
    present = {strategy for strategy, *_ in runs}
    absent = [
        {"strategy": name, "role": role} for name, role in ROLES.items() if role in ALWAYS and name not in present
    ]
    summary = pd.concat([summary, pd.DataFrame(absent)], ignore_index=True).reindex(columns=columns)
    texts = [*(name for name in FACTS if name != "n_seeds"), *(c for c in columns if c.endswith("_standing"))]
    summary[texts] = summary[texts].astype(object).where(summary[texts].notna(), "")
    whole = ["n_seeds", *(f"{name}_count" for name in measures)]
    summary = summary.astype(dict.fromkeys(whole, "Int64"))
    decimal = [c for c in columns if c not in texts and c not in whole]
    summary = summary.astype(dict.fromkeys(decimal, float))
    order = ["acc_mean", "strategy", "config_hash", "origin"]
    return summary.sort_values(order, ascending=[False, True, True, True], na_position="last", ignore_index=True).copy()


def _columns_of(measure: str) -> list[str]:
    interval = ["low", "high"] if measure in METRICS else []
    return ["mean", "std", "count", *interval, *(["standing"] if measure in JUDGED else [])]


def _numbers(
    runs: Mapping[Row, list[RunRecord]],
    measures: Sequence[str],
    untrained: float | None,
    upper: Sequence[float] | None,
) -> pd.DataFrame:
    """Return one row per row of the table, in order, with the columns of each measure."""
    records = [record for several in runs.values() for record in several]
    distances = front_distances(records)
    values: list[dict[str, Any]] = [
        {**record.costs, **record.metrics, **relative_measures(record, untrained, upper), **distance}
        for record, distance in zip(records, distances, strict=True)
    ]
    frame = pd.DataFrame(values).reindex(columns=list(measures)).astype(float)
    place = [number for number, several in enumerate(runs.values()) for _ in several]
    grouped = frame.groupby(place)
    mean, deviation, count = grouped.mean(), grouped.std(), grouped.count()
    seeds = [record.seed for record in records]
    contestants = [contests(strategy, several) for (strategy, *_), several in runs.items()]
    table: dict[str, Any] = {}
    for name in measures:
        table[f"{name}_mean"], table[f"{name}_std"], table[f"{name}_count"] = mean[name], deviation[name], count[name]
        if name in METRICS:
            width = half_width(deviation[name], count[name])
            table[f"{name}_low"], table[f"{name}_high"] = mean[name] - width, mean[name] + width
        if name in JUDGED:
            by_seed = frame[name].groupby([place, seeds]).mean().unstack()
            table[f"{name}_standing"] = standing(by_seed, higher=JUDGED[name], contestants=contestants)
    return pd.DataFrame(table, index=mean.index)


def _by_seed(runs: Mapping[Row, list[RunRecord]], measure: str) -> Any:
    """Return [rows, seeds], NaN where a row lacks a seed."""
    by_row = {row: {record.seed: record.metrics.get(measure) for record in records} for row, records in runs.items()}
    return pd.DataFrame.from_dict(by_row, orient="index").astype(float).to_numpy()


def _failure(member: Member) -> str:
    record, whose = member.record, f" ({member.origin})" if member.origin else ""
    reason = " ".join((record.error or "no reason given").split())
    return f"{record.strategy}{whose}, seed {record.seed}, config {member.identity.config_hash}: {reason}"
