"""From records to one summary per table: mean and sample standard deviation over seeds. No layout here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cl_suite.record import NOT_HASHED, RunRecord, with_added, without_added
from cl_suite.report.preferences import front_distances, preference_figures

# What must be equal for two records to share a table.
TABLE_KEY = ["stream", "stream_version", "stream_options", "scenario", "protocol"]
ROLES = {"finetune": "floor", "joint": "ceiling"}  # rows every table shows: the lower and the upper bound
METRICS = [
    "acc",
    "acc_micro",
    "bwt",
    "fwt",
    "forgetting",
    "learning_accuracy",
    "average_incremental_accuracy",
    "anytime_accuracy",
    "min_acc",
    "worst_case_accuracy",
    "acc_task_aware",
    "bwt_task_aware",
    "forgetting_task_aware",
    "acc_global",
    "selector_accuracy",
    "experts",
    "reuse",
    "missed_shifts",
    "false_alarms",
    "detection_delay",
    "open_set_auroc",
    "open_set_fpr95",
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
LABEL_OPTIONS = 4  # a row that differs in more options than this is told by its hash


@dataclass(frozen=True)
class LeaderboardTable:
    """One table: everything in it is comparable.

    rows:   one per strategy and configuration, best ACC first. Columns: strategy, role ("floor", "ceiling" or ""),
            configuration (the options that set it apart), config_hash, n_seeds, seeds, model_selection, device, and
            for every measure m: m_mean, m_std (over seeds, n-1), m_count (seeds that have it); NaN where missing
    failed: one line per failed run
    figures: {name: figure of the whole table, as in docs/records.md}
    """

    key: dict[str, str]  # of TABLE_KEY
    n_tasks: int
    rows: pd.DataFrame
    failed: list[str]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)


def build_tables(records: Sequence[RunRecord]) -> list[LeaderboardTable]:
    """Return the tables, sorted by stream, version, stream options, scenario and protocol."""
    measures = _measures(records)
    keys = [_table_key(record) for record in records]
    derived: list[dict[str, float]] = [{} for _ in records]  # from other records of the same table
    for each in set(keys):
        together = [number for number, key in enumerate(keys) if key == each]
        for number, more in zip(together, front_distances([records[n] for n in together]), strict=True):
            derived[number] = more
    frame = pd.DataFrame([_row(record, number, measures, derived[number]) for number, record in enumerate(records)])
    tables = []
    for values, group in frame.groupby(TABLE_KEY, sort=True):
        members = [records[number] for number in group["number"]]
        complete = group[group["status"] == "complete"]
        labels = _labels(members)
        rows = _summarise(complete, measures, labels)
        failed = [_failure(record) for record in members if record.status == "failed"]
        n_tasks = max(len(record.test_samples) for record in members)
        named = dict(zip(TABLE_KEY, map(str, values), strict=True))
        tables.append(LeaderboardTable(named, n_tasks, rows, failed, preference_figures(members, labels)))
    return tables


def to_csv(tables: Sequence[LeaderboardTable]) -> str:
    """Return all tables as one CSV: raw numbers, an empty cell where there is none."""
    columns = [*TABLE_KEY, *tables[0].rows.columns]
    together = pd.concat([table.rows.assign(**table.key) for table in tables])
    return together[columns].to_csv(index=False, lineterminator="\n")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return {"strategy.lr": "0.1", ...}: options as one writes them on the command line."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return flat


def _measures(records: Sequence[RunRecord]) -> list[str]:
    """Return the known measures, then what plugins add."""
    found = dict.fromkeys(name for record in records for name in (*record.metrics, *record.costs))
    return list(dict.fromkeys([*METRICS, *COSTS, *sorted(found)]))


def _table_key(record: RunRecord) -> tuple[str, ...]:
    """Return the values of TABLE_KEY."""
    options = _words(_stream_options(record))
    return (record.stream, record.stream_version, options, record.scenario, record.protocol)


def _row(record: RunRecord, number: int, measures: Sequence[str], derived: Mapping[str, float]) -> dict[str, Any]:
    values: dict[str, Any] = {**record.metrics, **record.costs, **derived}
    return {
        "number": number,
        **dict(zip(TABLE_KEY, _table_key(record), strict=True)),
        "strategy": record.strategy,
        "config_hash": record.config_hash,
        "seed": record.seed,
        "status": record.status,
        "model_selection": record.model_selection,
        "device": str(record.provenance.get("device", "-")),
        **{name: float("nan") if values.get(name) is None else float(values[name]) for name in measures},
    }


def _summarise(complete: pd.DataFrame, measures: Sequence[str], labels: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    rows = []
    for (strategy, config), group in complete.groupby(["strategy", "config_hash"], sort=True):
        row: dict[str, Any] = {
            "strategy": strategy,
            "role": ROLES.get(str(strategy), ""),
            "configuration": labels[str(strategy), str(config)],
            "config_hash": config,
            "n_seeds": len(group),
            "seeds": " ".join(map(str, sorted(group["seed"]))),
            "model_selection": ", ".join(sorted(set(group["model_selection"]))),
            "device": ", ".join(sorted(set(group["device"]))),
        }
        for name in measures:
            row[f"{name}_mean"] = group[name].mean()
            row[f"{name}_std"] = group[name].std()  # n-1; NaN for one seed
            row[f"{name}_count"] = int(group[name].count())
        rows.append(row)
    rows += [
        {"strategy": name, "role": role, "configuration": "", "config_hash": "", "seeds": ""}
        for name, role in ROLES.items()
        if name not in set(complete["strategy"])
    ]
    columns = ["strategy", "role", "configuration", "config_hash", "n_seeds", "seeds", "model_selection", "device"]
    columns += [f"{name}_{what}" for name in measures for what in ("mean", "std", "count")]
    summary = pd.DataFrame(rows, columns=columns)
    whole = ["n_seeds", *(f"{name}_count" for name in measures)]
    summary = summary.astype(dict.fromkeys(whole, "Int64"))
    order = ["acc_mean", "strategy", "config_hash"]
    return summary.sort_values(order, ascending=[False, True, True], na_position="last", ignore_index=True)


def _labels(records: Sequence[RunRecord]) -> dict[tuple[str, str], str]:
    """Return {(strategy, config hash): the options that set a row apart}, for complete records of one table.

    A strategy's own options are shown where its configurations in this table differ in them; options that all
    strategies share (train, model, seeds) also where a row departs from what most rows of the table have.
    """
    options = {(r.strategy, r.config_hash): _comparable(r) for r in records if r.status == "complete"}
    shared = {key for flat in options.values() for key in flat if not key.startswith("strategy.")}
    usual = {key: Counter(flat.get(key, "") for flat in options.values()).most_common(1)[0][0] for key in shared}
    labels = {}
    for (strategy, config), flat in options.items():
        siblings = [other for (name, _), other in options.items() if name == strategy]
        shown = {
            key: value
            for key, value in flat.items()
            if any(other.get(key, value) != value for other in siblings) or usual.get(key, value) != value
        }
        ambiguous = len(siblings) > 1 and not shown
        labels[strategy, config] = f"config {config}" if ambiguous or len(shown) > LABEL_OPTIONS else _words(shown)
    return labels


def _comparable(record: RunRecord) -> dict[str, str]:
    """Return the options that rows of one table may differ in; a plugin's file counts as `strategy.source`."""
    source = f"{record.strategy}_source"
    ignored = {*NOT_HASHED, "stream", "scenario", "protocol", source, f"{record.stream}_source"}
    flat = flatten({key: value for key, value in with_added(record.config).items() if key not in ignored})
    return flat | ({"strategy.source": str(record.config[source])} if source in record.config else {})


def _stream_options(record: RunRecord) -> dict[str, str]:
    """Return what makes the tasks; the digest of a plugin's file too: an edited stream is another stream."""
    source = f"{record.stream}_source"
    config = without_added(record.config)
    flat = flatten(config.get("stream") or {})
    flat |= flatten({group: config.get(group) or {} for group in ("schedule", "features")})
    return flat | ({"source": str(record.config[source])} if source in record.config else {})


def _words(options: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(options.items()))


def _failure(record: RunRecord) -> str:
    reason = " ".join((record.error or "no reason given").split())
    return f"{record.strategy}, seed {record.seed}, config {record.config_hash}: {reason}"
