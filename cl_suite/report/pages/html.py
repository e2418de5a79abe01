"""The leaderboard as one HTML file that needs nothing else: no network, no folder beside it. Never imports torch.

Jinja2 escapes whatever comes from records; what scripts read is JSON in which no `<` is left.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from cl_suite.core.version import __version__
from cl_suite.records.record import RunRecord
from cl_suite.report.pages import sentences
from cl_suite.report.pages.columns import COSTS, PREFERENCES, SCORES, Column, has, with_values
from cl_suite.report.pages.markdown import preference_rows
from cl_suite.report.pages.repeat_command import repeat_command
from cl_suite.report.tables.across import Across
from cl_suite.report.tables.labels import Row, flatten
from cl_suite.report.tables.leaderboard import LeaderboardTable, row_key
from cl_suite.report.tables.load import YOURS

MOST_RUNS = 2000  # of which the page keeps matrix, options and command
COLOURS = 96  # of pictures in the page
DIGITS = 4  # of scores in matrices
LONGEST = 1000  # characters of a diagnostic in the page of a run


@dataclass(frozen=True)
class Drawing:
    """A picture for the page: what it shows, and an element of ours, an SVG or an image, to be put in as it is."""

    title: str
    svg: str


@dataclass(frozen=True)
class Drawings:
    """Pictures of one table, or of one comparison across streams.

    charts: shown at once; diagnostics: what records left, shown on demand
    """

    charts: Sequence[Drawing] = field(default_factory=list)
    diagnostics: Sequence[Drawing] = field(default_factory=list)


def page(
    tables: Sequence[LeaderboardTable],
    across: Sequence[Across],
    notes: Sequence[str],
    drawings: Sequence[Drawings] = (),
    slugs: Sequence[str] = (),
) -> str:
    """Return the page.

    notes: record files and figures that do not count; drawings: of each table, then of each comparison across streams;
    slugs: names of the tables, unique, for addresses within the page
    """
    count = sum(len(records) for table in tables for records in table.runs.values())
    named = slugs or [f"table-{number}" for number in range(len(tables))]
    pictures = [*drawings, *[Drawings()] * (len(tables) + len(across) - len(drawings))]
    keep = count <= MOST_RUNS
    runs: dict[str, Any] = {}
    sections = []
    for table, slug, figures in zip(tables, named, pictures, strict=False):
        names = {row_key(row): f"{slug}-{n}" for n, row in enumerate(table.lines)}
        if keep:
            runs |= {names[row]: _run(table, row, records) for row, records in table.runs.items()}
        sections.append(_section(table, slug, figures, names if keep else {}))
    for section, title in zip(sections, sentences.distinct_headings(tables), strict=True):
        section["title"] = title
    return (
        _environment()
        .get_template("leaderboard.html")
        .render(
            version=__version__,
            introduction=sentences.INTRODUCTION,
            count=count,
            streams=sorted({table.key["stream"] for table in tables}),
            scenarios=sorted({table.key["scenario"] for table in tables}),
            protocols=sorted({table.key["protocol"] for table in tables}),
            sections=sections,
            across=[_across(each, figures) for each, figures in zip(across, pictures[len(tables) :], strict=True)],
            across_text=sentences.ACROSS,
            notes=notes,
            runs=as_script(runs),
            keep=keep,
            most=MOST_RUNS,
        )
    )


def run_page(record: RunRecord, drawings: Drawings) -> str:
    """Return a page of one run: its matrix, curves, options, provenance, and the command that repeats it."""
    diagnostics = flatten({name: value for name, value in record.diagnostics.items() if name != "figures"})
    return (
        _environment()
        .get_template("run.html")
        .render(
            version=__version__,
            record=record,
            command=repeat_command(record),
            metrics=[(name, value) for name, value in record.metrics.items()],
            costs=list(record.costs.items()),
            options=sorted(flatten(record.config).items()),
            provenance=sorted(flatten({k: v for k, v in record.provenance.items() if k != "command"}).items()),
            diagnostics=[(name, _cut(text)) for name, text in sorted(diagnostics.items())],
            tasks=record.task_names or [f"task {number}" for number in range(len(record.test_samples))],
            drawings=drawings,
        )
    )


def _cut(text: str) -> str:
    """Return a text, cut where it is too long to be read."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}... ({len(text):,} characters; the rest is in the record)"


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FunctionLoader(_resource),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["style"] = jinja2_safe(_resource("page.css"))
    environment.globals["script"] = jinja2_safe(_resource("page.js"))
    environment.filters["svg"] = jinja2_safe
    return environment


def embedded(image: bytes, text: str) -> str:
    """Return a PNG as an image element that needs no file. text: what it shows, from a record."""
    import io

    from markupsafe import Markup
    from PIL import Image

    smaller = io.BytesIO()  # a third of the size; figures have few colours
    Image.open(io.BytesIO(image)).convert("RGB").quantize(COLOURS).save(smaller, "PNG", optimize=True)
    data = base64.b64encode(smaller.getvalue()).decode()
    return str(Markup('<img loading="lazy" alt="{}" src="data:image/png;base64,{}">').format(text, data))


def jinja2_safe(text: str) -> Any:
    """Mark text of ours as HTML."""
    from markupsafe import Markup

    return Markup(text)  # never given what comes from a record


def _resource(name: str) -> str:
    return (files("cl_suite.report.pages") / "page" / name).read_text(encoding="utf-8")


def as_script(value: Any) -> Any:
    """Return JSON for a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return jinja2_safe(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _section(table: LeaderboardTable, slug: str, drawings: Drawings, names: Mapping[Row, str]) -> dict[str, Any]:
    filled = [row for row in table.lines if row["seeds"]]
    costs = with_values(COSTS, table)
    grids = [{"title": "Scores", "open": True, **_grid(with_values(SCORES, table), table.lines, names)}]
    if len(costs) > 2:
        grids.append({"title": "Costs", "open": False, **_grid(costs, filled, names)})
    if has(table, "preference_mean"):
        rows = preference_rows(table)
        grids.append({"title": "Trade-offs between tasks", "open": False, **_grid(PREFERENCES, rows, names)})
    return {
        "slug": slug,
        "heading": sentences.heading(table),
        "key": table.key,
        "facts": sentences.facts(table),
        "sentences": [text for text in (sentences.claim(table), *sentences.notes(table)) if text],
        "grids": grids,
        "drawings": drawings,
        "failed": table.failed,
    }


def _grid(columns: Sequence[Column], rows: Sequence[dict[Any, Any]], names: Mapping[Row, str]) -> dict[str, Any]:
    return {
        "columns": columns,
        "rows": [
            {
                "run": names.get(row_key(row)) if row["seeds"] else None,
                "memory": _budget(row, "memory_bytes", 2**20),
                "samples": _budget(row, "samples_drawn", 1),
                "own": row["origin"] == YOURS,
                "cells": [column.cell(row) for column in columns],
            }
            for row in rows
        ],
    }


def _budget(row: Mapping[Any, Any], measure: str, unit: float) -> float | None:
    value = row[f"{measure}_mean"]
    return None if value != value else round(value / unit, 3)


def _run(table: LeaderboardTable, row: Row, records: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what is shown of one row when a reader follows it."""
    first = records[0]
    return {
        "title": f"{row[0]} on {table.key['stream']}, {table.key['scenario']}",
        "hash": row[1],
        "tasks": first.task_names,
        "options": sorted(flatten(first.config).items()),
        "runs": [
            {
                "seed": record.seed,
                "R": [[None if score is None else round(score, DIGITS) for score in line] for line in record.R],
                "metrics": {name: value for name, value in record.metrics.items() if value is not None},
                "command": repeat_command(record),
                "facts": [
                    [name, str(record.provenance[name])]
                    for name in ("cl_suite", "torch", "python", "device", "git_commit", "started", "finished")
                    if name in record.provenance
                ],
            }
            for record in records
        ],
    }


def _across(across: Across, drawings: Drawings) -> dict[str, Any]:
    average, order = across.average_rank, across.order
    return {
        "heading": f"{across.scenario}, protocol {across.protocol}",
        "sentence": sentences.ranking(across),
        "ranked_on": across.ranked_on,
        "names": [across.names[place] for place in order],
        "rows": [
            {
                "name": across.names[place],
                "rank": average.get(across.names[place]),
                "tables": across.tables[place],
                "percentile": across.percentile[place],
                "wins": [None if (rate := float(across.wins[place][o])) != rate else rate for o in order],
            }
            for place in order
        ],
        "drawings": drawings,
    }
