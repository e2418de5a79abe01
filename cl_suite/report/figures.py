"""Figures that strategies leave in their records, `diagnostics["figures"]`, drawn as PNG. Never imports torch.

docs/records.md describes the kinds, "map" (heat maps side by side), "lines" and "curves" (each line with its own x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_suite.record import RunRecord, slug, write_atomic

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
    """A figure that was drawn: of which record, under which name, into which file below the output folder."""

    record: RunRecord
    name: str
    file: str


def draw_figures(records: Sequence[RunRecord], output: Path) -> tuple[list[Figure], list[str]]:
    """Draw the figures of each configuration's lowest seed that has some; return them, and a note for each left out.

    Files: `<output>/figures/<stream>_<scenario>_<strategy>_<config hash>_<name>.png`, the same bytes for the same
    records. Only complete records count. Raise UsageError if a file cannot be written.
    """
    drawn: dict[str, Figure] = {}
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
                _require(file not in drawn, "another figure has the same file name")
                image = draw_figure(figure, where)
            except Exception as problem:  # whatever a stranger's figure does, it is reported in one line
                reason = str(problem) if isinstance(problem, _Malformed) else f"{type(problem).__name__}: {problem}"
                notes.append(f"figure {name!r} of {where}: {' '.join(reason.split())}")
                continue
            write_atomic(output / file, image, flag="--output")
            drawn[file] = Figure(record, name, file)
    return list(drawn.values()), notes


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
    """Return a figure as PNG; matplotlib is imported only here and below. Raise ValueError if it is malformed."""
    _require(isinstance(figure, dict), "not a dictionary")
    kind = figure.get("kind")
    _require(isinstance(kind, str) and kind in KEYS, f"kind is {kind!r:.40}, not {' or '.join(KEYS)}")
    for key in KEYS[kind]:
        _require(key in figure, f"{key} is missing")
        if key.endswith(("title", "label")):
            _require(isinstance(figure[key], str), f"{key} is not text")
    check, draw = {
        "map": (_check_map, _draw_map),
        "lines": (_check_lines, _draw_lines),
        "curves": (_check_curves, _draw_curves),
    }[kind]
    check(figure)
    return _png(lambda: draw(figure, f"{figure['title']}\n{where}"))


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


# ---- drawing: matplotlib's object-oriented interface, no global state

DPI = 150
# Of Okabe & Ito 2008, told apart by colour-blind readers too; a line is grey where they have a pale yellow.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#888888")
CATEGORY_COLOURS = ("#BBBBBB", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
MARKERS = "os^Dv<>P"
DASHES = ("-", "--", ":", "-.")
PANEL_INCHES = 1.9
SMALL = 7  # points, of tick labels and panel titles
MOST_TICKS = 10  # labels along one side of a panel
LONGEST = 16  # characters of a tick label


def _png(draw: Callable[[], Any]) -> bytes:
    import io
    import warnings

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. a letter the font does not have
        matplotlib.rcdefaults()  # not this user's matplotlibrc: the same bytes everywhere
        matplotlib.rcParams.update({"text.parse_math": False, "font.size": 9, "savefig.dpi": DPI})
        canvas = FigureCanvasAgg(draw())
        canvas.print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _new_figure(title: str, width: float, height: float) -> Any:
    import textwrap

    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=DPI, layout="constrained")
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, int(13 * width))]
    canvas.suptitle("\n".join(lines), fontsize=10)
    return canvas


def _draw_map(figure: Mapping[str, Any], title: str) -> Any:
    import numpy as np
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    panels, rows, columns = figure["panels"], figure["rows"], figure["columns"]
    categories = figure.get("categories")
    values = np.array(figure["values"], dtype=float)  # [panel, row, column], NaN where null
    if categories:
        places = {value: place for place, value in enumerate(categories)}
        values = np.vectorize(lambda v: np.nan if np.isnan(v) else places[f"{v:g}"], otypes=[float])(values)
        colours = [CATEGORY_COLOURS[place % len(CATEGORY_COLOURS)] for place in range(len(places))]
        scale = {"cmap": ListedColormap(colours), "vmin": -0.5, "vmax": len(places) - 0.5}
    else:
        known = values[~np.isnan(values)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
        scale = {"cmap": "viridis", "vmin": low, "vmax": high if high > low else low + 1.0}
    down, across = _layout(len(panels))
    inches = PANEL_INCHES if len(panels) > 1 else 1.6 * PANEL_INCHES
    labels = 1.8 if max(map(len, columns)) > 6 else 1.0  # inches below the panels
    canvas = _new_figure(title, max(4.8, inches * across + 1.6), inches * down + labels)
    grid = canvas.subplots(down, across, squeeze=False).flat
    ratio = len(rows) / len(columns)
    cells = max(len(rows), len(columns))
    edges = {"edgecolors": "white", "linewidth": 0.8 if cells <= 12 else 0.3} if cells <= 30 else {}
    for place, axes in enumerate(grid):
        if place >= len(panels):
            axes.set_axis_off()
            continue
        mesh = axes.pcolormesh(np.ma.masked_invalid(values[place]), **scale, **edges)
        axes.set_aspect("equal" if 0.7 <= ratio <= 1.4 else "auto")
        axes.invert_yaxis()
        axes.set_title(_shorten(panels[place], 28), fontsize=SMALL + 1)
        axes.tick_params(length=2, labelsize=SMALL)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        _ticks(axes.yaxis, rows, shown=place % across == 0)
        _ticks(axes.xaxis, columns, shown=place + across >= len(panels), upright=True)
    canvas.supxlabel(figure["column_label"], fontsize=9)
    canvas.supylabel(figure["row_label"], fontsize=9)
    if categories:
        patches = [Patch(color=colour, label=label) for colour, label in zip(colours, categories.values(), strict=True)]
        canvas.legend(handles=patches, loc="outside right center", fontsize=8, frameon=False)
    else:
        canvas.colorbar(mesh, ax=canvas.axes, shrink=0.8, aspect=30).ax.tick_params(labelsize=SMALL)
    return canvas


def _layout(panels: int) -> tuple[int, int]:
    """Return (down, across), wider than high, with as few empty places as can be."""
    shapes = [(-(-panels // across), across) for across in range(1, panels + 1)]
    fair = [(down, across) for down, across in shapes if down <= across <= max(3, 2 * down)]
    return min(fair, key=lambda shape: (shape[0] * shape[1] - panels, shape[1]))


def _ticks(axis: Any, names: Sequence[str], *, shown: bool, upright: bool = False) -> None:
    """Put at most MOST_TICKS names at the middle of their cells; upright where they would run into each other."""
    kept = range(0, len(names), -(-len(names) // MOST_TICKS))
    labels = [_shorten(names[place], LONGEST) for place in kept]
    long = sum(map(len, labels)) + len(labels) > 24
    axis.set_ticks([place + 0.5 for place in kept], labels if shown else [""] * len(labels))
    if upright and long:
        axis.set_tick_params(labelrotation=90)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _draw_lines(figure: Mapping[str, Any], title: str) -> Any:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    canvas = _new_figure(title, 7.5, 4.2)
    axes = canvas.subplots()
    for place, (name, values) in enumerate(figure["series"].items()):
        looks: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)] if len(figure["x"]) <= 60 else None,
            "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        }
        width = 1.4
        if figure.get("steps"):  # whole numbers that may lie on one another: the first line is drawn broad and pale
            looks |= {"drawstyle": "steps-post", "marker": None, "alpha": 0.35 if place == 0 else 1.0}
            width = 6.0 if place == 0 else 1.4
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.plot(figure["x"], np.array(values, dtype=float), label=_shorten(name, 32), ms=4, lw=width, **looks)
    for place, (name, marks) in enumerate(figure.get("marks", {}).items()):
        # True ones reach over the whole height, the next kind only over its lower part, so that both can be seen.
        top = 1.0 if place == 0 else 0.25
        colour, dash = ("#888888", DASHES[1]) if place == 0 else (COLOURS[5], DASHES[0])
        for number, mark in enumerate(marks):
            label = _shorten(name, 28) if number == 0 else None
            axes.axvline(mark, ymax=top, color=colour, ls=dash, lw=1.2, label=label)
    _finish_lines(canvas, axes, figure)
    if all(isinstance(value, int) for value in figure["x"]):
        long = max(figure["x"], default=0) >= 10_000  # labels of which the usual number would touch
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6 if long else "auto", integer=True))
    return canvas


def _draw_curves(figure: Mapping[str, Any], title: str) -> Any:
    import textwrap

    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    canvas = _new_figure(title, 7.5, 4.6)
    axes = canvas.subplots()
    for place, (name, points) in enumerate(figure["series"].items()):
        x, y = zip(*points, strict=True)
        look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        dash = DASHES[place // len(COLOURS) % len(DASHES)]
        label = "\n".join(textwrap.wrap(_shorten(name, 90), 30))
        axes.plot(x, y, label=label, ms=4, lw=1.2, alpha=0.85, linestyle=dash, **look)
    for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if figure.get(f"log_{side}"):
            getattr(axes, f"set_{side}scale")("log")
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    if all(isinstance(x, int) for points in figure["series"].values() for x, _ in points) and not figure.get("log_x"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish_lines(canvas, axes, figure)
    return canvas


def _finish_lines(canvas: Any, axes: Any, figure: Mapping[str, Any]) -> None:
    """Labels, a pale grid, no box, and the legend outside."""
    axes.set_xlabel(figure["x_label"])
    axes.set_ylabel(figure["y_label"])
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
