"""Records as frames of pandas: all runs of a folder, two strategies beside each other, the leaderboard."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cl_suite.core.errors import UsageError, nearest
from cl_suite.records.compatibility import with_values_before
from cl_suite.records.record import NOT_HASHED, RunRecord
from cl_suite.report.build import build_report, read_records, tables_of
from cl_suite.report.compare import paired
from cl_suite.report.tables.leaderboard import TABLE_KEY
from cl_suite.report.tables.load import YOURS, Loaded

if TYPE_CHECKING:
    from cl_suite.api.result import Result

IDENTITY = ("strategy", "stream", "scenario", "protocol", "seed", "config_hash", "status")
WHAT = ("runs", "R")


def load_results(folder: str | Path = "results", *, what: str = "runs", beside: str | None = None) -> pd.DataFrame:
    """Return all records below a folder as one tidy frame, complete and failed, in the order of their files.

    what="runs": a row for each run. Columns: strategy, stream, scenario, protocol, seed, config_hash, status; options
        in which runs differ (`strategy.lr`); metrics (`acc`, shares in [0, 1]); costs (`train_seconds`); error, path
    what="R": a row for each score. Columns: the same identity, then experience, task (both from 0), task_name, score;
        NaN where the strategy had no answer
    beside: "reference", the records that come with cl-suite, or another folder; a column `origin` then says whose each
        run is

    Files that are no records are left out with a warning each. Raise UsageError if no record can be read.
    """
    if what not in WHAT:
        raise UsageError(f"what={what!r} is not known. {nearest(str(what), WHAT)}")
    loaded = read_records(Path(folder), beside)
    for note in loaded.notes:
        warnings.warn(f"{folder}: {note}", stacklevel=2)
    whose = [{"origin": origin} if beside else {} for origin in loaded.origins]
    if what == "R":
        pairs = zip(loaded.records, whose, strict=True)
        return pd.DataFrame([own | row for record, own in pairs for row in _scores(record)])
    options = _differing(loaded.records)
    metrics, costs = ([getattr(record, name) for record in loaded.records] for name in ("metrics", "costs"))
    paths = [
        {"error": record.error, "path": path}
        for record, path in zip(loaded.records, _paths(loaded, folder), strict=True)
    ]
    parts = [whose, [_identity(record) for record in loaded.records], options, metrics, costs, paths]
    rows = [{name: value for part in row for name, value in part.items()} for row in zip(*parts, strict=True)]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(name for part in parts for name in _names(part))))
    return frame.astype(dict.fromkeys([*_names(metrics), *_names(costs)], float))


def compare(
    a: str | Result,
    b: str | Result,
    *,
    metric: str = "acc",
    results: str | Path = "results",
    stream: str | None = None,
    scenario: str | None = None,
    beside: str | None = None,
) -> pd.DataFrame:
    """Return the paired difference of two strategies, a row for each stream, scenario and protocol both have run on.

    a, b: what `run` returned, or strategies by name (`er`, or `er@3f2a`, one configuration of it) among the records
        below `results`
    beside: "reference", or another folder, whose records also stand by
    metric: what to compare them in; differences are in its unit (a share, not percent)

    Columns: table, scenario, protocol, a, b, seeds (those both have), a_mean, b_mean, mean (a minus b), low and high
    (its 95 % t-interval), p, detectable (the smallest difference that so many seeds find with 80 % power), verdict.
    Raise UsageError for what is not there.
    """
    given = [record for each in (a, b) if not isinstance(each, str) for record in each.records]
    known = {_key(record) for record in given}
    loaded = Loaded(given, [], [YOURS if beside else ""] * len(given), [""] * len(given))
    if beside or isinstance(a, str) or isinstance(b, str):
        loaded += read_records(Path(results), beside).only(lambda record: _key(record) not in known)
    chosen = loaded.only(lambda record: stream in (None, record.stream) and scenario in (None, record.scenario))
    if not chosen.records:
        raise UsageError("no record of this stream and scenario is there. Check the names.")
    names = [each if isinstance(each, str) else _spec(each) for each in (a, b)]
    pairs = paired.compare(tables_of(chosen), *names, measure=metric)
    return pd.DataFrame([each.to_dict() for each in pairs])


def leaderboard(
    folder: str | Path = "results",
    output: str | Path | None = None,
    *,
    beside: str | None = None,
    charts: bool | None = None,
) -> pd.DataFrame:
    """Return the leaderboard of all records below a folder: a row for each strategy and configuration.

    output: a folder to write the report to, as `cl-bench report` does: leaderboard.md, .csv, .json, .tex, .html and
        figures; None = write nothing
    beside: "reference", the records that come with cl-suite, or another folder: its rows stand in the tables in which
        the folder has one, and `origin` says whose each row is
    charts: draw charts of the tables too; None = up to 2,000 records

    Columns: stream, stream_version, stream_options, scenario, protocol, which must be equal for rows to be compared;
    strategy, role, configuration, config_hash, n_seeds, seeds, model_selection, device; for every measure its _mean,
    _std and _count over seeds, for scores _low and _high (95 % t-interval) and _standing ("best", "tied" or "").
    Measures that no row has are left out. Best ACC first within a table. Raise UsageError if there is no record.
    """
    tables = tables_of(read_records(Path(folder), beside))
    if output is not None:
        build_report(Path(folder), Path(output), charts=charts, beside=beside)
    together = pd.concat([table.rows.assign(**table.key) for table in tables], ignore_index=True)
    together = together[[*TABLE_KEY, *tables[0].rows.columns]]
    empty = {
        f"{name}_{end}"
        for name in (column[: -len("_mean")] for column in map(str, together) if column.endswith("_mean"))
        for end in ENDS
        if together[f"{name}_mean"].isna().all()
    }
    return together[[column for column in together if column not in empty]]


ENDS = ("mean", "std", "count", "low", "high", "standing")


def _identity(record: RunRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in IDENTITY}


def _key(record: RunRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in IDENTITY)


def _paths(loaded: Loaded, folder: str | Path) -> list[str]:
    """Return the file of each record; of a reference, which may lie in the package, where it is below it."""
    whose = ("", YOURS)
    return [
        str(Path(folder, file)) if origin in whose else file
        for file, origin in zip(loaded.files, loaded.origins, strict=True)
    ]


def _scores(record: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            **_identity(record),
            "experience": experience,
            "task": task,
            "task_name": record.task_names[task] if task < len(record.task_names) else "",
            "score": float("nan") if score is None else score,
        }
        for experience, row in enumerate(record.R)
        for task, score in enumerate(row)
    ]


def _differing(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return for each record its options, by their full names, that do not have one value in all records."""
    flat = [dict(_flat(record)) for record in records]
    names = list(dict.fromkeys(name for each in flat for name in each))
    kept = [name for name in names if len({repr(each[name]) if name in each else "" for each in flat}) > 1]
    return [{name: each.get(name) for name in kept} for each in flat]


def _flat(record: RunRecord) -> dict[str, Any]:
    ignored = {*NOT_HASHED, "scenario", "protocol"}
    found: dict[str, Any] = {}
    levels = [("", {key: value for key, value in with_values_before(record.config).items() if key not in ignored})]
    while levels:
        prefix, level = levels.pop()
        for key, value in level.items():
            if isinstance(value, Mapping):
                levels.append((f"{prefix}{key}.", dict(value)))
            else:
                found[f"{prefix}{key}"] = value
    return dict(sorted(found.items()))


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _spec(result: Result) -> str:
    first = result.records[0]
    return f"{first.strategy}@{first.config_hash}"
