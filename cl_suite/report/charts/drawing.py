"""Checked figures as PNG: matplotlib's object-oriented interface, no global state. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

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
ABSENT = "#DDDDDD"  # cells without a value, where low ones are nearly white
MOST_NUMBERS = 12  # rows or columns of a map whose values are written into its cells


def as_png(draw: Callable[[], Any]) -> bytes:
    """Return what `draw` returns, a figure, as PNG: the same bytes everywhere."""
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


def draw_map(figure: Mapping[str, Any], title: str) -> Any:
    """Return a figure of kind "map": heat maps side by side."""
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
        low, high = figure.get("range") or ((known.min(), known.max()) if known.size else (0.0, 1.0))
        shades = "Blues" if figure.get("pale") else "viridis"
        scale = {"cmap": shades, "vmin": low, "vmax": high if high > low else low + 1.0}
    down, across = _layout(len(panels))
    many = len(panels) == 1 and max(len(rows), len(columns)) > MOST_TICKS
    inches = PANEL_INCHES if len(panels) > 1 else (2.2 if many else 1.6) * PANEL_INCHES
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
        if figure.get("numbers") and not categories and cells <= MOST_NUMBERS:
            _write_numbers(axes, mesh, values[place], zeros=not figure.get("pale"))
        if figure.get("pale"):
            axes.set_facecolor(ABSENT)  # else it could not be told from a low value
        axes.set_aspect("equal" if 0.7 <= ratio <= 1.4 else "auto")
        axes.invert_yaxis()
        axes.set_title(_shorten(panels[place], 28), fontsize=SMALL + 1)
        axes.tick_params(length=2, labelsize=SMALL)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        most = 2 * MOST_TICKS if many else MOST_TICKS
        _ticks(axes.yaxis, rows, visible=place % across == 0, most=most)
        _ticks(axes.xaxis, columns, visible=place + across >= len(panels), room=13 * inches, most=most)
    canvas.supxlabel(figure["column_label"], fontsize=9)
    canvas.supylabel(figure["row_label"], fontsize=9)
    if categories:
        patches = [Patch(color=colour, label=label) for colour, label in zip(colours, categories.values(), strict=True)]
        canvas.legend(handles=patches, loc="outside right center", fontsize=8, frameon=False)
    else:
        canvas.colorbar(mesh, ax=canvas.axes, shrink=0.8, aspect=30).ax.tick_params(labelsize=SMALL)
    return canvas


def _write_numbers(axes: Any, mesh: Any, values: Any, *, zeros: bool) -> None:
    """Write each value [row, column] into its cell, dark on pale colours and pale on dark ones; `zeros`: also these."""
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value == value and (round(value) or zeros):
                red, green, blue, _ = mesh.cmap(mesh.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                colour = "white" if dark else "black"
                axes.text(
                    column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=SMALL, color=colour
                )


def _layout(panels: int) -> tuple[int, int]:
    """Return (down, across), wider than high, with as few empty places as can be."""
    shapes = [(-(-panels // across), across) for across in range(1, panels + 1)]
    fair = [(down, across) for down, across in shapes if down <= across <= max(3, 2 * down)]
    return min(fair, key=lambda shape: (shape[0] * shape[1] - panels, shape[1]))


def _ticks(axis: Any, names: Sequence[str], *, visible: bool, room: float = inf, most: int = MOST_TICKS) -> None:
    """Put at most `most` names at the middle of their cells; upright where there is no `room` for their characters."""
    places = range(0, len(names), -(-len(names) // most))
    labels = [_shorten(names[place], LONGEST) for place in places]
    axis.set_ticks([place + 0.5 for place in places], labels if visible else [""] * len(labels))
    if sum(map(len, labels)) + len(labels) > room:
        axis.set_tick_params(labelrotation=90)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def draw_lines(figure: Mapping[str, Any], title: str) -> Any:
    """Return a figure of kind "lines": they share their x."""
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


def draw_curves(figure: Mapping[str, Any], title: str) -> Any:
    """Return a figure of kind "curves": each has its own x."""
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
