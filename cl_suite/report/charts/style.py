"""Looks that all charts share: one colour and marker for each strategy everywhere, light and dark, the same bytes."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from cl_suite.report.tables.measures import ROLES

# After Okabe & Ito 2008 and Tol 2021, told apart by colour-blind readers, on white and on dark grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#9A8F00", "#7B6BD6")
MARKERS = "os^Dv<>P"
DASHES = ("-", "--", ":", "-.")
FOREGROUND, GRID = "#1a1b1c", "#b5b6b7"  # texts and axes become the page's own colour in an SVG
BOUNDS = {"floor": "#808182", "ceiling": FOREGROUND}
LONGEST = 44  # characters of a label
LINE = 24  # characters of a line of a legend
SALT = 1169  # of the hash that gives colours: with it our own methods that are compared often differ in colour
Look = tuple[str, str, str]  # colour, marker, dash


def looks(labels: Mapping[str, str]) -> dict[str, Look]:
    """Return the look of each label, by its strategy: {label: strategy} -> {label: look}.

    A strategy has its colour and marker in every figure; where two would look alike, and for further configurations of
    one strategy, marker and dash move on.
    """
    taken: set[Look] = set()
    result = {}
    for label, strategy in labels.items():
        digest = hashlib.sha256(f"{SALT} {strategy}".encode()).digest()
        colour = BOUNDS.get(ROLES.get(strategy, ""), COLOURS[digest[0] % len(COLOURS)])
        for step in range(len(MARKERS) * len(DASHES)):
            place = digest[1] + step
            look = (colour, MARKERS[place % len(MARKERS)], DASHES[step % len(DASHES)])
            if look not in taken:
                break
        taken.add(look)
        result[label] = look
    return result


def shorten(text: str, length: int = LONGEST) -> str:
    """Return the text, cut where it is too long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def canvas(title: str, width: float, height: float, *, right: float = 0.25) -> tuple[Any, Any]:
    """Return (figure, axes); sizes in inches, `right` kept free for a legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    top = 0.42 + 0.16 * (len(textwrap.wrap(title, int(12 * width))) - 1)
    axes = figure.add_axes(
        (0.72 / width, 0.55 / height, (width - 0.72 - right) / width, (height - 0.55 - top) / height)
    )
    figure.text(
        0.12 / width,
        1 - 0.1 / height,
        "\n".join(textwrap.wrap(title, int(12 * width))),
        ha="left",
        va="top",
        fontsize=10,
        fontweight="bold",
        color=FOREGROUND,
    )
    bare(axes)
    return figure, axes


def bare(axes: Any) -> None:
    """Pale grid, no box, texts in the foreground's colour."""
    axes.grid(color=GRID, linewidth=0.6, alpha=0.5)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FOREGROUND)
    axes.tick_params(colors=FOREGROUND, labelsize=8)


def name_axes(axes: Any, x: str, y: str) -> None:
    """Set the labels of both axes."""
    axes.set_xlabel(x, fontsize=9, color=FOREGROUND)
    axes.set_ylabel(y, fontsize=9, color=FOREGROUND)


def legend_height(labels: Iterable[str]) -> float:
    """Return how high a figure must be for a legend with these labels, in inches."""
    return 0.8 + sum(0.07 + 0.13 * len(textwrap.wrap(shorten(label), LINE)) for label in labels)


def legend(figure: Any, axes: Any, *, width: float) -> None:
    """Put the legend right of the axes, in `width` inches."""
    handles, labels = axes.get_legend_handles_labels()
    wrapped = ["\n".join(textwrap.wrap(shorten(label), LINE)) for label in labels]
    total = figure.get_size_inches()[0]
    lines = sum(label.count("\n") + 1 for label in wrapped)
    height = figure.get_size_inches()[1]
    size = min(8.0, 68 * (height - 0.6) / max(lines, 1))
    figure.legend(
        handles,
        wrapped,
        loc="upper left",
        bbox_to_anchor=(1 - width / total, 1 - 0.4 / height),
        fontsize=size,
        frameon=False,
        labelcolor=FOREGROUND,
        borderaxespad=0.3,
    )


def as_svg(draw: Callable[[], Any], salt: str) -> str:
    """Return a figure as an SVG element to put into a page: transparent, texts in the page's colour, no clashing ids.

    salt: unique on the page
    """
    import io

    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with _settings({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure = draw()
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure).print_svg(
            stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match.group(0) if match.group(1) in referred else "", text)
    text = text.replace(FOREGROUND, "currentColor").replace("'DejaVu Sans'", "'DejaVu Sans', Verdana")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )


def to_png(draw: Callable[[], Any]) -> bytes:
    """Return a figure as PNG on white."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    with _settings({"savefig.dpi": 130}):
        FigureCanvasAgg(draw()).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def _settings(more: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Matplotlib's own defaults, not this user's: the same bytes everywhere; no warnings about letters."""
    import warnings

    import matplotlib

    stack = ExitStack()
    stack.enter_context(matplotlib.rc_context())
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    matplotlib.rcdefaults()
    settings: Any = {"text.parse_math": False, "font.size": 9, **more}
    matplotlib.rcParams.update(settings)
    return stack


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of points (cost, score) that no other beats in both, by cost; of equals the first."""
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1], place))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front
