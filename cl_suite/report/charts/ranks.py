"""The critical-difference diagram (Demsar 2006, JMLR 7)."""

from __future__ import annotations

from typing import Any

from cl_suite.report.charts.style import FOREGROUND, canvas, looks, shorten
from cl_suite.report.tables.statistics import Ranks


def ranks_chart(title: str, ranks: Ranks) -> Any:
    """Average ranks on a line, best left; a bar joins strategies that are not told apart."""
    count = len(ranks.names)
    half = (count + 1) // 2
    groups = ranks.groups()
    height = 1.5 + 0.22 * (half + len(groups))
    figure, axes = canvas(title, 7.4, height, right=0.3)
    axes.set_position((0.02, 0.02, 0.96, 1 - 0.5 / height))
    axes.set_axis_off()
    low, high = 1.0, float(max(count, 2))
    margin = 0.55 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    bottom = 2.2 + half + len(groups)
    axes.set_ylim(bottom, -2.4)
    line = {"color": FOREGROUND, "lw": 1.1, "solid_capstyle": "butt"}
    axes.plot([low, high], [0, 0], **line)
    for whole in range(1, count + 1):
        axes.plot([whole, whole], [-0.25, 0], **line)
        axes.text(whole, -0.45, str(whole), ha="center", va="bottom", fontsize=8, color=FOREGROUND)
    length = min(ranks.critical_difference, high - low + margin)
    axes.plot([low, low + length], [-1.7, -1.7], color=FOREGROUND, lw=2)
    caption = f"critical difference {ranks.critical_difference:.2f}"
    axes.text(low + length + 0.02 * (high - low), -1.7, caption, ha="left", va="center", fontsize=8, color=FOREGROUND)
    look = looks({name: name for name in ranks.names})
    for place, (name, rank) in enumerate(zip(ranks.names, ranks.average, strict=True)):
        left = place < half
        depth = 1.2 + len(groups) + (place if left else count - 1 - place)
        edge = low - 0.06 * (high - low) if left else high + 0.06 * (high - low)
        axes.plot([rank, rank, edge], [0, depth, depth], color=look[name][0], lw=1.1)
        text = f"{shorten(name, 30)}  {rank:.2f}" if left else f"{rank:.2f}  {shorten(name, 30)}"
        at = {"ha": "right" if left else "left", "va": "center", "fontsize": 8.5, "color": FOREGROUND}
        axes.text(edge + (-0.01 if left else 0.01) * (high - low), depth, text, **at)
    for number, (first, last) in enumerate(groups):
        level = 0.7 + number
        ends = [ranks.average[first] - 0.02 * (high - low), ranks.average[last] + 0.02 * (high - low)]
        axes.plot(ends, [level, level], color=FOREGROUND, lw=3.2, solid_capstyle="round")
    return figure
