"""Lines: average accuracy over the stream, single tasks over time, sorted tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cl_suite.report.charts.style import COLOURS, DASHES, canvas, legend, looks, name_axes

Band = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]  # x, mean, low, high; NaN = no band
LEGEND = 2.1  # inches


def average_chart(title: str, series: Mapping[str, Band], strategies: Mapping[str, str], x_label: str) -> Any:
    """Average accuracy (percent) over tasks learned, one line for each label, with a band where there is an interval.

    strategies: {label: strategy}
    """
    import numpy as np

    figure, axes = canvas(title, 7.4, 4.2, right=LEGEND)
    look = looks(strategies)
    for label, (x, mean, low, high) in series.items():
        colour, marker, dash = look[label]
        axes.plot(x, mean, color=colour, marker=marker, linestyle=dash, ms=4, lw=1.5, label=label)
        if not np.isnan(low).all():
            axes.fill_between(x, np.clip(low, 0, 100), np.clip(high, 0, 100), color=colour, alpha=0.13, linewidth=0)
    _whole_numbers(axes)
    axes.set_ylim(bottom=0, top=max(100.0, axes.get_ylim()[1]) if axes.get_ylim()[1] > 85 else None)
    name_axes(axes, x_label, "average accuracy so far (%)")
    legend(figure, axes, width=LEGEND)
    return figure


def tasks_chart(title: str, R: Sequence[Sequence[float | None]], x_label: str) -> Any:
    """Each task's accuracy (a share) over the rows of R; a ring where rows are tasks and it has just been learned."""
    import numpy as np
    from matplotlib import colormaps

    matrix = np.array(R, dtype=float)
    rows, tasks = matrix.shape
    figure, axes = canvas(title, 7.4, 3.8, right=LEGEND if tasks <= 20 else 0.9)
    colours = [COLOURS[task % len(COLOURS)] for task in range(tasks)]
    if tasks > len(COLOURS):
        colours = [colormaps["viridis"](0.92 * task / (tasks - 1)) for task in range(tasks)]
    for task in range(tasks):
        dash = DASHES[0]
        axes.plot(range(1, rows + 1), 100 * matrix[:, task], color=colours[task], lw=1.3, ls=dash, label=f"task {task}")
        if rows == tasks and not np.isnan(matrix[task, task]):
            ring = {"marker": "o", "ms": 5, "mfc": "none", "mew": 1.3}
            axes.plot([task + 1], [100 * matrix[task, task]], color=colours[task], **ring)
    _whole_numbers(axes)
    axes.set_ylim(0, 103)
    name_axes(axes, x_label, "accuracy (%)")
    if tasks <= 20:
        legend(figure, axes, width=LEGEND)
    return figure


def profile_chart(title: str, series: Mapping[str, Sequence[float]], strategies: Mapping[str, str]) -> Any:
    """Final accuracies (percent) of the tasks, sorted, worst first; the dotted line stands at the tenth percentile."""
    import numpy as np

    figure, axes = canvas(title, 7.4, 4.2, right=LEGEND)
    look = looks(strategies)
    for label, values in series.items():
        colour, marker, dash = look[label]
        shares = 100 * (np.arange(len(values)) / max(1, len(values) - 1))
        every = max(1, len(values) // 10)
        axes.plot(
            shares, sorted(values), color=colour, ls=dash, marker=marker, markevery=every, ms=4, lw=1.5, label=label
        )
    axes.axvline(10, color="#808182", ls=":", lw=1)
    axes.set_xlim(-2, 102)
    axes.set_ylim(0, 103)
    name_axes(axes, "percentile of tasks", "final accuracy (%)")
    legend(figure, axes, width=LEGEND)
    return figure


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11))
