"""What trade-offs are worth, as pure functions of scores in [0, 1]. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

Point = Sequence[float]


def weighted(scores: Sequence[float], preference: Sequence[float]) -> float:
    """Return sum_l w_l a_l, the preference-weighted score of one model."""
    return math.fsum(w * a for w, a in zip(preference, scores, strict=True))


def per_task(scores: Sequence[Sequence[float]], preferences: Sequence[Sequence[float]]) -> list[float]:
    """Return c [T]: each task's score averaged over preferences, each counted by how much it wants the task.

    c_l = sum_p w_pl a_pl / sum_p w_pl (IBCL's protocol); the plain mean where no preference wants the task.
    """
    columns = []
    for values, weights in zip(zip(*scores, strict=True), zip(*preferences, strict=True), strict=True):
        total = math.fsum(weights)
        columns.append(weighted(values, weights) / total if total > 0 else fmean(values))
    return columns


def backward_transfer(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return BT_i for i >= 1: mean over tasks l < i of c[i][l] - c[i-1][l], what one more task did to the earlier ones.

    rows: c after each task, row i of i + 1 entries
    """
    pairs = zip(rows[1:], rows[:-1], strict=True)
    return [fmean(now - before for now, before in zip(row, last, strict=False)) for row, last in pairs]


def front(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the points that none other dominates (both scores as good, one better), by the first score, rising."""
    best: list[tuple[float, float]] = []
    for x, y in sorted({(float(x), float(y)) for x, y in points}, reverse=True):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best[::-1]


def hypervolume(points: Sequence[Point]) -> float:
    """Return the area of [0, 1]^2 that some point dominates; 1 = a model perfect on both tasks."""
    area, covered = 0.0, 0.0
    for x, y in front(points):  # x rises, y falls
        area += (x - covered) * y
        covered = x
    return area


def distance_to_front(points: Sequence[Point], reference: Sequence[Point]) -> float:
    """Return by how much these points fall short of the reference's front: the modified inverted generational distance.

    Mean over the points of the front of the smallest shortfall, the distance counted only where a point is lower
    (IGD+, Ishibuchi et al. 2015); 0 for the reference itself, or better. A point that wants one task alone is low on
    the other by choice, which does not count against it.
    """

    def shortfall(point: Point, other: Point) -> float:
        return math.hypot(*(max(b - a, 0.0) for a, b in zip(point, other, strict=True)))

    return fmean(min(shortfall(point, other) for point in points) for other in front(reference))
