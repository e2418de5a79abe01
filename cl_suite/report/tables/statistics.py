"""What a few seeds allow to be said: intervals, paired comparisons, ranks over streams. Numbers only, no layout.

Every test is two-sided at the 5 % level. SciPy does the distributions and is imported only when something is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.05  # of every test; intervals hold with 1 - LEVEL
POWER = 0.8  # with which a difference of the size `detectable` returns would be found
NOTHING = 1e-12  # differences below this are rounding
BEST, TIED = "best", "tied"
EXACT = 16  # tables or strategies of which all choices are looked at
Array = Any  # of NumPy, floats


def half_width(deviation: Array, count: Array) -> Array:
    """Return half the width of the 95 % t-interval of a mean; NaN for fewer than two values.

    deviation: sample standard deviation (n-1), count: values behind it; numbers or arrays of one shape
    """
    from scipy.stats import t

    count = np.asarray(count, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        several = np.where(count > 1, count, np.nan)
        return t.ppf(1 - LEVEL / 2, several - 1) * np.asarray(deviation, dtype=float) / np.sqrt(several)


@dataclass(frozen=True)
class Paired:
    """The difference of two rows over the seeds both have, with its 95 % t-interval and the p of the paired t-test."""

    seeds: int
    mean: float
    low: float
    high: float
    deviation: float  # of the differences, n-1
    p: float


def paired(differences: Array) -> Paired | None:
    """Compare by the differences seed by seed (NaN = not in both); None for fewer than two."""
    count, mean, deviation, p = (float(each[0]) for each in _paired_rows(np.asarray(differences, dtype=float)[None]))
    if count < 2:
        return None
    width = float(half_width(deviation, count))
    return Paired(int(count), mean, mean - width, mean + width, deviation, p)


def _paired_rows(differences: Array) -> tuple[Array, Array, Array, Array]:
    """Return for each row of differences [rows, seeds]: count, mean, deviation (n-1), p; NaN for fewer than two."""
    from scipy.stats import t

    known = ~np.isnan(differences)
    count = known.sum(axis=1)
    several = np.where(count > 1, count, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, differences, 0.0).sum(axis=1) / several
        deviation = np.sqrt(np.where(known, (differences - mean[:, None]) ** 2, 0.0).sum(axis=1) / (several - 1))
        p = 2 * t.sf(np.abs(mean) / (deviation / np.sqrt(several)), several - 1)
        # The same difference in every seed leaves no spread to hold it against: the sign test, which needs six seeds.
        p = np.where(deviation < NOTHING, np.where(np.abs(mean) < NOTHING, 1.0, 2.0 ** (1 - several)), p)
    return count, mean, deviation, np.where(count > 1, p, np.nan)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several (Holm 1979): the largest family-wise level at which each holds."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected.tolist()


def standing(values: Array, *, higher: bool = True, contestants: Sequence[bool] | None = None) -> list[str]:
    """Say of each row whether it is the best: BEST where it is told apart from every other, TIED where it is not.

    values [rows, seeds], NaN where a row lacks a seed. The row with the best mean is compared with each other one by a
    paired t-test over common seeds, Holm-corrected over the rows. It is BEST if all are below it there and differ from
    it; else it and those that do not are TIED. The level is nominal, since the best row is chosen by the same scores.
    Rows with fewer than two seeds in common with it are not compared; if one of them has the better mean nobody is
    called best. `contestants`: rows that can be the best (not the upper bound); default all.
    """
    values = np.asarray(values, dtype=float) * (1.0 if higher else -1.0)
    verdict = [""] * len(values)
    known = ~np.isnan(values)
    eligible = known.any(axis=1) & np.asarray(contestants if contestants is not None else [True] * len(values))
    if eligible.sum() < 2:
        return verdict
    means = np.where(eligible, np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), -np.inf)
    best = int(np.argmax(means))
    count, mean, _, p = _paired_rows(values[best] - values)
    compared = [row for row in np.flatnonzero(eligible & (count > 1)) if row != best]
    if not compared:
        return verdict
    corrected = holm(p[compared].tolist())
    tied = [row for row, level in zip(compared, corrected, strict=True) if level > LEVEL or mean[row] <= 0]
    for row in tied:
        verdict[row] = TIED
    verdict[best] = TIED if tied else BEST
    return verdict


def detectable(deviation: float, seeds: int) -> float:
    """Return the smallest difference that a paired t-test over so many seeds finds with POWER.

    deviation: standard deviation of the differences seed by seed. NaN for fewer than two seeds.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    if seeds < 2 or not np.isfinite(deviation):
        return float("nan")
    critical = t.ppf(1 - LEVEL / 2, seeds - 1)

    def lacking(effect: float) -> float:  # the far tail is left out: it adds nothing at this power
        return float(nct.sf(critical, seeds - 1, effect) - POWER)

    top = 10.0
    while lacking(top) < 0:
        top *= 2
    return float(brentq(lacking, 0.0, top)) * deviation / float(np.sqrt(seeds))


def detectable_of(values: Array) -> tuple[float, int]:
    """Return (`detectable` for rows like these, at how many seeds): the spread of differences to the best row, pooled.

    values [rows, seeds]. (NaN, 0) where no two rows have two seeds in common.
    """
    values = np.asarray(values, dtype=float)
    counts = (~np.isnan(values)).sum(axis=1)
    if not (counts > 1).any():
        return float("nan"), 0
    means = np.where(counts > 1, np.nan_to_num(values).sum(axis=1) / np.maximum(counts, 1), -np.inf)
    best = int(np.argmax(means))
    count, _, deviation, _ = _paired_rows(values[best] - values)
    compared = (count > 1) & (np.arange(len(values)) != best)
    if not compared.any():
        return float("nan"), 0
    sizes, often = np.unique(count[compared], return_counts=True)
    usual = int(sizes[often == often.max()].max())
    freedom = count[compared] - 1
    pooled = float(np.sqrt((freedom * deviation[compared] ** 2).sum() / freedom.sum()))
    return detectable(pooled, usual), usual


@dataclass(frozen=True)
class Ranks:
    """Average ranks over tables (1 = best), the Friedman test's p, and Nemenyi's critical difference (Demsar 2006)."""

    names: tuple[str, ...]  # best average rank first
    average: tuple[float, ...]
    tables: int
    p: float
    critical_difference: float

    def groups(self) -> list[tuple[int, int]]:
        """Return the longest runs of neighbours, (first, last), that differ by less than the critical difference."""
        groups: list[tuple[int, int]] = []
        for first in range(len(self.names)):
            last = max(
                place
                for place in range(first, len(self.names))
                if self.average[place] - self.average[first] < self.critical_difference
            )
            if last > first and not any(last <= end for _, end in groups):
                groups.append((first, last))
        return groups


def ranks(names: Sequence[str], scores: Array) -> Ranks:
    """Rank strategies on several tables. scores [tables, strategies], complete, higher is better; ties share a rank.

    Raise ValueError for fewer than three strategies or two tables: the test says nothing then.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    scores = np.asarray(scores, dtype=float)
    tables, strategies = scores.shape
    if strategies < 3 or tables < 2:
        raise ValueError(f"ranks need three strategies and two tables; there are {strategies} and {tables}")
    each = np.apply_along_axis(rankdata, 1, -scores)
    average = each.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = float(friedmanchisquare(*scores.T).pvalue)
    critical = float(studentized_range.ppf(1 - LEVEL, strategies, np.inf)) / 2**0.5
    critical *= (strategies * (strategies + 1) / (6 * tables)) ** 0.5
    order = sorted(range(strategies), key=lambda place: (average[place], names[place]))
    return Ranks(
        tuple(names[place] for place in order),
        tuple(float(average[place]) for place in order),
        tables,
        1.0 if np.isnan(p) else p,
        critical,
    )


def complete_block(known: Array) -> tuple[list[int], list[int]]:
    """Return rows and columns of the largest part of a table without holes that can be ranked, or two empty lists.

    known [tables, strategies] booleans. Of the parts with two tables and three strategies at least, that with the most
    cells, then the most tables. Searched exactly over the smaller side up to EXACT, else only over its first EXACT.
    """
    known = np.asarray(known, dtype=bool)
    turned = known.shape[0] > known.shape[1]
    side = (known.T if turned else known)[:EXACT]
    masks = [sum(1 << place for place, there in enumerate(row) if there) for row in side.tolist()]
    least_here, least_there = (3, 2) if turned else (2, 3)
    best: tuple[tuple[int, int], int, int] | None = None
    common = {0: (1 << side.shape[1]) - 1}
    for chosen in range(1, 1 << len(masks)):
        lowest = (chosen & -chosen).bit_length() - 1
        common[chosen] = shared = common[chosen & (chosen - 1)] & masks[lowest]
        here, there = chosen.bit_count(), shared.bit_count()
        if here >= least_here and there >= least_there:
            size = (here * there, there if turned else here)
            if best is None or size > best[0]:
                best = (size, chosen, shared)
    if best is None:
        return [], []
    ours, theirs = ([place for place in range(mask.bit_length()) if mask >> place & 1] for mask in best[1:])
    return (theirs, ours) if turned else (ours, theirs)


def win_rates(scores: Array) -> Array:
    """Return [strategies, strategies]: the share of tables where the row beats the column, a tie counting half.

    scores [tables, strategies], NaN where a strategy has not run; only tables with both count; NaN where there is none.
    """
    scores = np.asarray(scores, dtype=float)
    difference = scores[:, :, None] - scores[:, None, :]
    both = ~np.isnan(difference)
    won = np.where(both, (difference > NOTHING) + 0.5 * (np.abs(difference) <= NOTHING), 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        rates = won / np.where(both.any(axis=0), both.sum(axis=0), np.nan)
    np.fill_diagonal(rates, np.nan)
    return rates
