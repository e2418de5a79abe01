"""Points with names: accuracy against cost, forgetting against learning accuracy, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cl_suite.report.charts.style import (
    FOREGROUND,
    GRID,
    canvas,
    legend,
    legend_height,
    looks,
    name_axes,
    pareto_front,
    shorten,
)

Point = tuple[float, float]
DECADE = 10.0  # a logarithmic axis that spans less has no labels
MOST_NAMES = 16  # points that are named beside them; with more the legend does
# Where a name may stand, points from the marker: (x, y, alignment)
PLACES = [
    (6, 0, "left"),
    (-6, 0, "right"),
    *(
        (x, y, side)
        for y in (9, -9, 18, -18, 27, -27, 36, -36)
        for x, side in ((6, "left"), (0, "center"), (-6, "right"))
    ),
]


def scatter_chart(
    title: str,
    points: Mapping[str, Point],
    strategies: Mapping[str, str],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    front: bool = False,
) -> Any:
    """One point for each label, named; `front`: the line of those that no other beats in cost and score."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    named = len(points) <= MOST_NAMES
    right = 0.3 if named else 2.1
    figure, axes = canvas(title, 7.4, 4.4 if named else max(4.4, legend_height(points)), right=right)
    look = looks(strategies)
    costs = [x for x, _ in points.values()]
    if log_x and min(costs) > 0 and max(costs) >= DECADE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e6 else f"{value:.0e}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if front:
        best = [list(points.values())[place] for place in pareto_front(list(points.values()))]
        axes.plot(*zip(*best, strict=True), color="#808182", lw=1, ls="--", drawstyle="steps-post", zorder=1)
    for label, (x, y) in points.items():
        colour, marker, _ = look[label]
        axes.plot([x], [y], color=colour, marker=marker, ms=6, ls="", label=label)
    axes.margins(0.12, 0.12)
    axes.autoscale_view()
    name_axes(axes, x_label, y_label)
    if named:
        place_names(figure, axes, points)
    else:
        legend(figure, axes, width=right)
    return figure


def place_names(figure: Any, axes: Any, points: Mapping[str, Point]) -> list[Any]:
    """Write each name beside its point so that no two touch, nor a marker; return their boxes in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    centres = {label: axes.transData.transform(point) for label, point in points.items()}
    markers = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres.values()]
    inside = figure.bbox
    taken: list[Any] = []
    for label in sorted(points, key=lambda name: (-centres[name][1], centres[name][0])):
        text = shorten(label, 30)
        best = None
        for x, y, side in PLACES:
            note = _note(axes, text, points[label], x, y, side)
            box = note.get_window_extent(renderer)
            clash = sum(box.overlaps(other) for other in (*taken, *markers))
            clash += 5 * (box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1)
            note.remove()
            if best is None or clash < best[0]:
                best = (clash, x, y, side, box)
            if not clash:
                break
        assert best is not None
        _, x, y, side, box = best
        _note(axes, text, points[label], x, y, side)
        taken.append(box)
    return taken


def _note(axes: Any, text: str, point: Point, x: float, y: float, side: str) -> Any:
    """Write a name beside a point, with a line to it where it stands off."""
    return axes.annotate(
        text,
        point,
        xytext=(x, y),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=7.5,
        color=FOREGROUND,
        arrowprops={"arrowstyle": "-", "color": GRID, "lw": 0.6} if abs(y) > 9 else None,
    )


def intervals_chart(
    title: str,
    rows: Sequence[tuple[str, float, float | None, float | None]],
    strategies: Mapping[str, str],
    x_label: str,
    *,
    chance: float | None = None,
    ceiling: float | None = None,
) -> Any:
    """One line for each row: (label, mean, low, high), percent, from top to bottom; lines at chance and ceiling."""
    height = max(1.6, 0.24 * len(rows) + 1.0)
    figure, axes = canvas(title, 7.4, height, right=0.3)
    box = axes.get_position()
    left = 2.6 / 7.4
    axes.set_position((left, box.y0, box.x1 - left, box.height))
    look = looks(strategies)
    for value, name in ((chance, "untrained"), (ceiling, "joint")):
        if value is not None:
            axes.axvline(value, color="#808182", lw=1, ls=":" if name == "untrained" else "--")
    for place, (label, mean, low, high) in enumerate(rows):
        colour, marker, _ = look[label]
        if low is not None and high is not None:
            axes.plot([max(low, -100), min(high, 200)], [place, place], color=colour, lw=2, alpha=0.55)
        axes.plot([mean], [place], color=colour, marker=marker, ms=6, ls="")
    means = [mean for _, mean, _, _ in rows]
    bounds = [value for value in (chance, ceiling, *means) if value is not None]
    room = 0.06 * max(max(bounds) - min(bounds), 1.0)
    wide = [value for _, _, low, high in rows for value in (low, high) if value is not None]
    low, high = min([*bounds, *wide]), max([*bounds, *wide])
    axes.set_xlim(max(low, 0.0, min(bounds) - 8 * room) - room, min(high, 100.0, max(bounds) + 8 * room) + room)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [shorten(label, 36) for label, *_ in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    name_axes(axes, x_label, "")
    return figure
