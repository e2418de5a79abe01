"""The upper bound of a stream's tasks, read from saved records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_suite.cards.stream_card import Ceiling
from cl_suite.core.files import slug
from cl_suite.records.compatibility import with_values_before
from cl_suite.records.record import NOT_HASHED, RunRecord
from cl_suite.report.tables.labels import flatten
from cl_suite.report.tables.load import load_results
from cl_suite.report.tables.measures import CEILING, ROLES

OF_TASKS = ("stream", "schedule", "features")  # groups of options that decide what the tasks are
IGNORED = {*NOT_HASHED, *OF_TASKS, "strategy", "scenario", "protocol"}


def read_ceilings(
    results: Path, *, stream: str, version: str, config: Mapping[str, Any], task_names: Sequence[str]
) -> tuple[dict[str, tuple[Ceiling, ...]], dict[str, tuple[Ceiling, ...]]]:
    """Return {scenario: ceilings, the highest first} of records that were run on these very tasks, and on others.

    Those on other tasks of the stream are under the options that make them, "scenario, key=value, ...".

    results:    the folder of records; files that cannot be read are passed over, `cl-bench report` names them
    config:     the configuration whose tasks are meant: records must agree in `stream`, `schedule`, `features`
    task_names: as the data has them now; empty = not known. Scores of single tasks are only taken from records with
                the same names, since a class order may change with the seed
    """
    wanted = _tasks(config, stream)
    here: dict[str, list[RunRecord]] = {}
    elsewhere: dict[str, list[RunRecord]] = {}
    for record in load_results(results / slug(stream)).records:
        counts = record.status == "complete" and record.metrics.get("acc") is not None
        if not counts or ROLES.get(record.strategy) != CEILING:
            continue
        if (record.stream, record.stream_version) != (stream, version):
            continue
        options = _tasks(record.config, stream)
        if options == wanted:
            here.setdefault(record.scenario, []).append(record)
        else:
            differing = [f"{key}={options[key]}" for key in options if options[key] != wanted.get(key)]
            elsewhere.setdefault(", ".join([record.scenario, *differing]), []).append(record)
    return (
        {scenario: _ranked(records, task_names) for scenario, records in here.items()},
        {scenario: _ranked(records, ()) for scenario, records in sorted(elsewhere.items())},
    )


def _tasks(config: Mapping[str, Any], stream: str) -> dict[str, str]:
    """Return what makes the tasks: options, and the digest of a plugin's file."""
    filled = with_values_before(config)
    return flatten({group: filled.get(group) for group in OF_TASKS} | {"source": filled.get(f"{stream}_source")})


def _ranked(records: Sequence[RunRecord], task_names: Sequence[str]) -> tuple[Ceiling, ...]:
    by_configuration: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        by_configuration.setdefault((record.strategy, record.config_hash), []).append(record)
    groups = list(by_configuration.values())
    options = [flatten({k: v for k, v in with_values_before(g[0].config).items() if k not in IGNORED}) for g in groups]
    differing = [key for key in options[0] if len({flat.get(key) for flat in options}) > 1]
    ceilings = []
    for group, flat in zip(groups, options, strict=True):
        group.sort(key=lambda record: record.seed)
        scores = [float(record.metrics["acc"] or 0.0) for record in group]
        ceilings.append(
            Ceiling(
                strategy=group[0].strategy,
                protocol=group[0].protocol,
                configuration=", ".join(f"{key}={flat[key]}" for key in differing if key in flat),
                seeds=tuple(record.seed for record in group),
                acc=statistics.fmean(scores),
                spread=statistics.stdev(scores) if len(scores) > 1 else None,
                per_task=_per_task(group, task_names),
            )
        )
    return tuple(sorted(ceilings, key=lambda each: (-each.acc, each.configuration)))


def _per_task(group: Sequence[RunRecord], task_names: Sequence[str]) -> tuple[float | None, ...]:
    rows = [record.R[-1] for record in group if record.R and record.task_names == list(task_names)]
    if len(rows) < len(group):
        return ()
    columns = [[score for score in column if score is not None] for column in zip(*rows, strict=True)]
    return tuple(statistics.fmean(column) if len(column) == len(rows) else None for column in columns)
