"""What a few seeds allow to be said, against numbers worked by hand or printed in textbooks."""

import itertools
import math

import numpy as np
import pytest

from cl_suite.report.tables.statistics import (
    complete_block,
    detectable,
    detectable_of,
    half_width,
    holm,
    paired,
    ranks,
    standing,
    win_rates,
)

NAN = float("nan")


def test_an_interval_is_student_s():
    assert half_width(1.0, 3) == pytest.approx(4.302653 / math.sqrt(3), abs=1e-5)  # t(0.975, 2) of any table
    assert half_width(2.0, 10) == pytest.approx(2 * 2.262157 / math.sqrt(10), abs=1e-5)
    assert math.isnan(half_width(NAN, 1))


def test_a_paired_test_by_hand():
    found = paired([0.1, 0.2, 0.3, NAN])
    assert (found.seeds, found.mean, found.deviation) == (3, pytest.approx(0.2), pytest.approx(0.1))
    assert found.p == pytest.approx(0.0741799, abs=1e-6)  # t = 3.4641, 2 degrees of freedom
    assert found.low == pytest.approx(0.2 - 4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert paired([0.1, NAN]) is None
    assert paired([0.1, 0.1, 0.1]).p == 0.25  # no spread: the sign test
    assert paired([0.0, 0.0]).p == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def spread(*means, seeds=5, noise=0.01):
    generator = np.random.default_rng(0)
    return np.array(means)[:, None] + noise * generator.standard_normal((len(means), seeds))


def test_best_only_where_all_others_are_told_apart_and_ties_are_ties():
    assert standing(spread(0.9, 0.5, 0.3)) == ["best", "", ""]
    assert standing(spread(0.9, 0.899, 0.3)) == ["tied", "tied", ""]
    assert standing(spread(0.9, 0.5, 0.3), higher=False) == ["", "", "best"]


def test_pairing_finds_what_seeds_have_in_common():
    seeds = np.array([0.0, 0.1, 0.2, 0.3, 0.4])  # harder and easier ones
    both = np.stack([0.5 + seeds, 0.48 + seeds + np.array([0.001, -0.001, 0.0, 0.001, 0.0])])
    assert standing(both) == ["best", ""]


def test_single_seeds_are_not_compared_and_block_only_from_above():
    assert standing(np.array([[0.9, 0.91, 0.9], [0.5, 0.52, 0.5], [0.4, NAN, NAN]])) == ["best", "", ""]
    assert standing(np.array([[0.9, 0.91, 0.9], [0.5, 0.51, 0.5], [0.95, NAN, NAN]])) == ["", "", ""]
    assert standing(np.array([[0.9, NAN], [0.5, NAN]])) == ["", ""]
    assert standing(np.array([[0.9, 0.9]])) == [""]


def test_who_is_beaten_on_the_common_seeds_is_not_the_best():
    easy = [0.5, 0.51, 0.5, 1.0, 1.0]  # the last two seeds are easy, and the other row lacks them
    assert standing(np.array([easy, [0.6, 0.61, 0.605, NAN, NAN]])) == ["tied", "tied"]


def test_the_upper_bound_is_no_contestant():
    assert standing(spread(0.99, 0.9, 0.3), contestants=[False, True, True]) == ["", "best", ""]


def test_what_can_be_detected_is_found_with_the_power_it_says():
    size = detectable(1.0, 5)
    generator = np.random.default_rng(1)
    samples = size + generator.standard_normal((4000, 5))
    found = np.mean([abs(s.mean()) / (s.std(ddof=1) / math.sqrt(5)) > 2.776445 for s in samples])
    assert found == pytest.approx(0.8, abs=0.03)
    assert detectable(1.0, 3) > size > detectable(1.0, 10)
    assert math.isnan(detectable(1.0, 1))


def test_what_a_table_can_detect_pools_the_differences_to_its_best():
    values = np.array([[0.9, 0.9, 0.9], [0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [0.3, NAN, NAN]])
    size, seeds = detectable_of(values)
    assert (size, seeds) == (pytest.approx(detectable(0.1, 3)), 3)
    assert detectable_of(np.array([[0.9, NAN], [0.8, NAN]]))[1] == 0
    assert detectable_of(np.empty((0, 0)))[1] == 0


def test_ranks_have_demsar_s_critical_difference():
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]] * 14)
    found = ranks(list("abcde"), scores)
    assert found.average == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert found.critical_difference == pytest.approx(2.728 * math.sqrt(5 * 6 / (6 * 14)), abs=1e-3)  # q of Demsar 2006
    assert found.p < 1e-9
    assert found.groups() == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_ties_share_a_rank_and_nothing_told_apart_is_one_group():
    found = ranks(["b", "a", "c"], np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]))
    assert (found.names, found.average, found.p, found.groups()) == (("a", "b", "c"), (2.0, 2.0, 2.0), 1.0, [(0, 2)])
    with pytest.raises(ValueError, match="three strategies and two tables"):
        ranks(["a", "b"], np.zeros((5, 2)))


def test_a_block_without_holes():
    known = [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    rows, columns = complete_block(known)
    assert np.array(known)[np.ix_(rows, columns)].all()
    assert (rows, columns) == ([0, 1], [0, 1, 3])  # six cells that three strategies share
    assert complete_block(np.zeros((2, 2)))[1] == []
    assert complete_block([[0, 1, 1], [1, 1, 1], [1, 1, 1]]) == ([1, 2], [0, 1, 2])
    generator = np.random.default_rng(0)
    for _ in range(200):
        known = generator.random((4, 5)) < 0.7
        rows, columns = complete_block(known)
        sizes = [
            len(chosen) * int(known[list(chosen)].all(axis=0).sum())
            for count in (2, 3, 4)
            for chosen in itertools.combinations(range(4), count)
            if known[list(chosen)].all(axis=0).sum() > 2
        ]
        assert len(rows) * len(columns) == max(sizes, default=0)
        assert known[np.ix_(rows, columns)].all()


def test_win_rates_count_a_tie_half_and_only_tables_with_both():
    rates = win_rates(np.array([[0.9, 0.5, NAN], [0.5, 0.5, NAN], [0.4, 0.6, 0.1]]))
    assert rates[0, 1] == pytest.approx(0.5)
    assert rates[0, 2] == 1.0 and rates[2, 1] == 0.0
    assert math.isnan(rates[1, 1])
