"""Figures that strategies leave in their records, `diagnostics["figures"]`, drawn as PNG. Never imports torch.

docs/reference/records.md describes the kinds: "map" (heat maps side by side), "lines", and "curves" (each line with
its own x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_suite.core.files import slug, write_atomic
from cl_suite.records.record import RunRecord
from cl_suite.report.charts.drawing import as_png, draw_curves, draw_lines, draw_map

FOLDER = "figures"  # below the output folder
KEYS = {
    "map": ("title", "row_label", "column_label", "panels", "rows", "columns", "values"),
    "lines": ("title", "x_label", "y_label", "x", "series"),
    "curves": ("title", "x_label", "y_label", "series"),
}
LIMIT = 1e300  # of a number: matplotlib's own limits are not far above
MOST_PANELS = 100


@dataclass(frozen=True)
class Figure:
    """A figure that was drawn: of which record, under which name, into which file below the output folder; as PNG."""

    record: RunRecord
    name: str
    file: str
    image: bytes


def draw_figures(records: Sequence[RunRecord], output: Path) -> tuple[list[Figure], list[str]]:
    """Draw the figures of each configuration's lowest seed that has some; return them, and a note for each left out.

    Files: `<output>/figures/<stream>_<scenario>_<strategy>_<config hash>_<name>.png`, the same bytes for the same
    records. Only complete records count. Raise UsageError if a file cannot be written.
    """
    figures, notes = render_figures(records)
    for figure in figures:
        write_atomic(output / figure.file, figure.image, flag="--output")
    return figures, notes


def render_figures(records: Sequence[RunRecord]) -> tuple[list[Figure], list[str]]:
    """As `draw_figures`, but write nothing."""
    by_file: dict[str, Figure] = {}
    notes = []
    for record in _lowest_seeds(records):
        where = f"{record.strategy} on {record.stream}, seed {record.seed}"
        figures = record.diagnostics["figures"]
        if not isinstance(figures, dict):
            notes.append(f"figures of {where}: not a dictionary of figures")
            continue
        for name, figure in figures.items():
            parts = (record.stream, record.scenario, record.strategy, record.config_hash, name)
            file = f"{FOLDER}/{'_'.join(map(slug, parts))}.png"
            try:
                _require(file not in by_file, "another figure has the same file name")
                image = draw_figure(figure, where)
            except Exception as problem:  # whatever a stranger's figure does, it is reported in one line
                reason = str(problem) if isinstance(problem, _Malformed) else f"{type(problem).__name__}: {problem}"
                notes.append(f"figure {name!r} of {where}: {' '.join(reason.split())}")
                continue
            by_file[file] = Figure(record, name, file, image)
    return list(by_file.values()), notes


def _lowest_seeds(records: Sequence[RunRecord]) -> list[RunRecord]:
    chosen: dict[tuple[str, str, str, str], RunRecord] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.status == "complete" and record.diagnostics.get("figures"):
            chosen.setdefault((record.stream, record.scenario, record.strategy, record.config_hash), record)
    return [chosen[identity] for identity in sorted(chosen)]


class _Malformed(ValueError):
    """A figure that does not keep to its kind; the message says why."""


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise _Malformed(reason)


def draw_figure(figure: Any, where: str) -> bytes:
    """Return a figure as PNG; matplotlib is imported only then. Raise ValueError if it is malformed."""
    _require(isinstance(figure, dict), "not a dictionary")
    kind = figure.get("kind")
    _require(isinstance(kind, str) and kind in KEYS, f"kind is {kind!r:.40}, not {' or '.join(KEYS)}")
    for key in KEYS[kind]:
        _require(key in figure, f"{key} is missing")
        if key.endswith(("title", "label")):
            _require(isinstance(figure[key], str), f"{key} is not text")
    check, draw = {
        "map": (_check_map, draw_map),
        "lines": (_check_lines, draw_lines),
        "curves": (_check_curves, draw_curves),
    }[kind]
    check(figure)
    return as_png(lambda: draw(figure, f"{figure['title']}\n{where}"))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LIMIT


def _is_row(values: Any, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(v is None or _is_number(v) for v in values)


def _check_map(figure: Mapping[str, Any]) -> None:
    for key in ("panels", "rows", "columns"):
        names = figure[key]
        named = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
        _require(bool(named), f"{key} is not a list of names")
    panels, rows, columns = (len(figure[key]) for key in ("panels", "rows", "columns"))
    _require(panels <= MOST_PANELS, f"more than {MOST_PANELS} panels")
    values = figure["values"]
    fine = isinstance(values, list) and len(values) == panels
    fine = fine and all(isinstance(panel, list) and len(panel) == rows for panel in values)
    fine = fine and all(_is_row(row, columns) for panel in values for row in panel)
    _require(fine, f"values are not numbers or null for {panels} panels, {rows} rows, {columns} columns")
    span = figure.get("range")
    fine = span is None or (_is_row(span, 2) and None not in span and span[0] < span[1])
    _require(fine, "range is not the lowest and the highest value of the colours, such as [0, 100]")
    categories = figure.get("categories")
    if categories is None:
        return
    fine = isinstance(categories, dict) and len(categories) > 0
    fine = fine and all(isinstance(name, str) for name in categories.values())
    _require(fine, 'categories are not names by value, such as {"1": "unrelated"}')
    unknown = {f"{v:g}" for panel in values for row in panel for v in row if v is not None} - set(categories)
    _require(not unknown, f"values without a category: {', '.join(sorted(unknown)):.40}")


def _check_lines(figure: Mapping[str, Any]) -> None:
    x, series = figure["x"], figure["series"]
    _require(isinstance(x, list) and bool(x) and all(map(_is_number, x)), "x is not a list of numbers")
    _require(isinstance(series, dict) and bool(series), "series is not a dictionary of lines")
    for name, values in series.items():
        _require(_is_row(values, len(x)), f"series {name!r:.40} is not {len(x)} numbers or null")
    marks = figure.get("marks", {})
    fine = isinstance(marks, dict) and all(isinstance(v, list) and all(map(_is_number, v)) for v in marks.values())
    _require(fine, 'marks are not places by name, such as {"shift": [100, 200]}')


def _check_curves(figure: Mapping[str, Any]) -> None:
    series = figure["series"]
    _require(isinstance(series, dict) and bool(series), "series is not a dictionary of curves")
    for name, points in series.items():
        fine = isinstance(points, list) and bool(points)
        fine = fine and all(_is_row(point, 2) and None not in point for point in points)
        _require(fine, f"series {name!r:.40} is not a list of [x, y]")
