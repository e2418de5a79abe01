"""The accuracy matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cl_suite.report.charts.style import FOREGROUND, canvas, name_axes

MOST_NUMBERS = 12  # rows or columns up to which scores are written into the cells


def matrix_chart(title: str, R: Sequence[Sequence[float | None]], *, rows_are_tasks: bool = True) -> Any:
    """R as a heat map: shares, percent in the cells where they are few; unanswered left blank."""
    import numpy as np

    values = 100 * np.array(R, dtype=float)
    rows, columns = values.shape
    side = 0.46 if max(rows, columns) <= MOST_NUMBERS else max(0.12, 5.5 / max(rows, columns))
    width = max(4.2, columns * side + 1.9)
    figure, axes = canvas(title, width, max(2.4, rows * side + 1.1), right=1.0)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=100, rasterized=values.size > 2500
    )
    axes.invert_yaxis()
    axes.grid(visible=False)
    for each in (axes.spines["left"], axes.spines["bottom"]):
        each.set_visible(False)
    for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
        ticks = range(0, count, -(-count // 15))
        first = 0 if axis is axes.xaxis else 1
        axis.set_ticks([place + 0.5 for place in ticks], [str(place + first) for place in ticks])
        axis.set_tick_params(length=0)
    if max(rows, columns) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "#ffffff" if value < 62 else "#101112"
                at = {"ha": "center", "va": "center", "fontsize": 7.5, "color": colour}
                axes.text(column + 0.5, row + 0.5, f"{value:.0f}", **at)
    name_axes(axes, "task", "tasks learned" if rows_are_tasks else "evaluation")
    bar = figure.add_axes((1 - 0.8 / width, axes.get_position().y0, 0.14 / width, axes.get_position().height))
    scale = figure.colorbar(mesh, cax=bar)
    scale.outline.set_visible(False)
    scale.ax.tick_params(colors=FOREGROUND, labelsize=8, length=2)
    scale.ax.set_ylabel("accuracy (%)", fontsize=8, color=FOREGROUND)
    return figure
