"""Metrics against numbers worked out by hand."""

import copy

import pytest

from cl_suite.metrics.matrix import (
    acc,
    acc_micro,
    anytime_accuracy,
    average_incremental_accuracy,
    bwt,
    forgetting,
    fwt,
    learning_accuracy,
    learning_accuracy_gain,
    min_acc,
    summarise,
    worst_case_accuracy,
)

R = [[0.90, 0.30, 0.25, 0.22], [0.70, 0.92, 0.40, 0.28], [0.80, 0.60, 0.94, 0.35], [0.85, 0.50, 0.75, 0.96]]
UNTRAINED = [0.10, 0.12, 0.09, 0.11]
# Class-incremental: a class that has not come yet cannot be answered.
GROWING = [[0.9, None, None], [0.6, 0.8, None], [0.5, 0.7, 0.9]]
# Joint answers only at the end.
LAST_ONLY = [[None, None, None], [None, None, None], [0.9, 0.8, 0.7]]
CURVE = [
    {"experience": 0, "step": 5, "samples": 50, "scores": [0.05, None, None]},
    {"experience": 1, "step": 5, "samples": 150, "scores": [0.2, 0.6, None]},
    {"experience": 2, "step": 5, "samples": 250, "scores": [0.7, 0.3, 0.5]},
]


def test_golden_numbers() -> None:
    assert acc(R) == pytest.approx(0.7650)
    assert bwt(R) == pytest.approx(-0.2200)
    assert forgetting(R) == pytest.approx(0.2200)
    assert fwt(R, UNTRAINED) == pytest.approx(0.73 / 3)  # .2433
    assert average_incremental_accuracy(R) == pytest.approx(0.81375)
    assert learning_accuracy(R) == pytest.approx(0.93)


def test_micro_weighs_by_test_samples() -> None:
    assert acc_micro(R, [10, 10, 10, 10]) == pytest.approx(acc(R))
    assert acc_micro(R, [1, 0, 0, 3]) == pytest.approx((0.85 + 3 * 0.96) / 4)
    assert acc_micro(R, [0, 0, 0, 0]) is None


def test_forgetting_is_not_clipped_and_looks_at_the_best_ever() -> None:
    assert forgetting([[0.5, 0.1], [0.8, 0.9]]) == pytest.approx(-0.3)
    # Task 0 was best after experience 1, not when it was learned.
    assert forgetting([[0.5, 0.0, 0.0], [0.9, 0.6, 0.0], [0.4, 0.6, 0.7]]) == pytest.approx(0.25)
    assert bwt([[0.5, 0.0, 0.0], [0.9, 0.6, 0.0], [0.4, 0.6, 0.7]]) == pytest.approx(-0.05)


def test_nothing_forgotten_is_exactly_zero() -> None:
    kept = [[0.7, 0.1, 0.1], [0.7, 0.3, 0.1], [0.7, 0.3, 0.9]]
    assert bwt(kept) == 0.0
    assert forgetting(kept) == 0.0


def test_growing_head() -> None:
    found = summarise(GROWING, [0.1, 0.1, 0.1], [1, 1, 2])
    assert found["acc"] == pytest.approx(0.7)
    assert found["acc_micro"] == pytest.approx(0.75)
    assert found["bwt"] == pytest.approx((-0.4 - 0.1) / 2)
    assert found["forgetting"] == pytest.approx((0.4 + 0.1) / 2)
    assert found["average_incremental_accuracy"] == pytest.approx((0.9 + 0.7 + 0.7) / 3)
    assert found["fwt"] is None  # no class could be answered before it came


def test_fwt_averages_over_the_tasks_that_could_be_answered() -> None:
    partly = [[0.9, None, 0.2], [0.9, 0.8, 0.4], [0.9, 0.8, 0.7]]
    assert fwt(partly, [0.1, 0.1, 0.1]) == pytest.approx(0.3)
    assert fwt(partly, [0.1, 0.1, None]) is None
    assert fwt(partly, []) is None


def test_joint_has_an_accuracy_and_nothing_else() -> None:
    found = summarise(LAST_ONLY, [0.1, 0.1, 0.1], [5, 5, 5], CURVE)
    assert found.pop("acc") == pytest.approx(0.8)
    assert found.pop("acc_micro") == pytest.approx(0.8)
    assert found.pop("anytime_accuracy") is not None  # this curve is not joint's own
    assert set(found.values()) == {None}


def test_a_needed_entry_that_is_missing_gives_none_not_zero() -> None:
    no_end = [*R[:3], [None, 0.50, 0.75, 0.96]]
    assert acc(no_end) is bwt(no_end) is forgetting(no_end) is None
    assert acc_micro(no_end, [1, 1, 1, 1]) is None
    no_start = [[None, 0.30, 0.25, 0.22], *R[1:]]
    assert bwt(no_start) is learning_accuracy(no_start) is average_incremental_accuracy(no_start) is None
    assert acc(no_start) == pytest.approx(0.765)
    assert forgetting(no_start) == pytest.approx((0.80 - 0.85 + 0.42 + 0.19) / 3)  # the best of what is known


def test_rows_that_are_times_have_no_diagonal() -> None:
    times = [[0.5, 0.1], [0.6, 0.2], [0.6, 0.4], [0.5, 0.7], [0.5, 0.8]]
    found = summarise(times, [0.1, 0.1], [1, 1], [{"experience": 0, "step": 1, "samples": 1, "scores": [0.1, 0.2]}])
    assert found.pop("acc") == pytest.approx(0.65)
    assert found.pop("acc_micro") == pytest.approx(0.65)
    assert set(found.values()) == {None}
    for function in (bwt, forgetting, learning_accuracy, average_incremental_accuracy):
        assert function(times) is None
    assert fwt(times, [0.1, 0.1]) is None


def test_as_many_times_as_tasks_still_have_no_diagonal() -> None:
    assert summarise(R, UNTRAINED, [1, 1, 1, 1])["bwt"] is not None
    found = summarise(R, UNTRAINED, [1, 1, 1, 1], R_task_aware=R, rows_are_tasks=False)
    assert found["acc"] == pytest.approx(0.765)
    assert found["acc_task_aware"] == pytest.approx(0.765)
    assert [found[name] for name in ("bwt", "fwt", "forgetting", "bwt_task_aware", "forgetting_task_aware")] == [
        None
    ] * 5


def test_one_task_and_no_task() -> None:
    one = summarise([[0.7]], [0.1], [9])
    assert (one["acc"], one["learning_accuracy"], one["average_incremental_accuracy"]) == (0.7, 0.7, 0.7)
    assert one["bwt"] is one["fwt"] is one["forgetting"] is None
    assert set(summarise([], [], []).values()) == {None}


def test_stability_gap_by_hand() -> None:
    # Task 0: lowest of .2 (inside 1), .6, .7 (inside 2), .5 = .2; the .05 was before it was learned.
    # Task 1: lowest of .3 (inside 2), .7 = .3
    assert min_acc(GROWING, CURVE) == pytest.approx(0.25)
    assert worst_case_accuracy(GROWING, CURVE) == pytest.approx(0.9 / 3 + 2 / 3 * 0.25)
    assert anytime_accuracy(CURVE) == pytest.approx((0.05 + 0.4 + 0.5) / 3)


def test_rows_count_for_the_lowest_accuracy() -> None:
    ends_lower = [[0.9, None, None], [0.1, 0.8, None], [0.5, 0.7, 0.9]]
    assert min_acc(ends_lower, CURVE) == pytest.approx((0.1 + 0.3) / 2)


def test_stability_gap_needs_points_inside_every_later_experience() -> None:
    assert min_acc(GROWING, []) is None
    assert min_acc(GROWING, CURVE[:2]) is None
    assert worst_case_accuracy(GROWING, CURVE[:2]) is None
    assert min_acc(GROWING, CURVE[1:]) is not None
    unanswered = [*CURVE[:2], {"experience": 2, "step": 5, "samples": 250, "scores": [None, 0.3, 0.5]}]
    assert min_acc(GROWING, unanswered) is None
    assert anytime_accuracy(unanswered) is None
    assert anytime_accuracy([]) is None


def test_task_aware_numbers_are_named_so() -> None:
    found = summarise(
        GROWING, [0.1] * 3, [1, 1, 1], R_task_aware=[[0.95, None, None], [0.9, 0.9, None], [0.9, 0.9, 0.9]]
    )
    assert found["acc"] == pytest.approx(0.7)
    assert found["acc_task_aware"] == pytest.approx(0.9)
    assert found["bwt_task_aware"] == pytest.approx(-0.025)
    assert found["forgetting_task_aware"] == pytest.approx(0.025)
    assert "acc_task_aware" not in summarise(GROWING, [0.1] * 3, [1, 1, 1])


def test_input_is_not_changed() -> None:
    arguments = [copy.deepcopy(each) for each in (GROWING, [0.1, None, 0.2], [1, 2, 3], CURVE, R[:3])]
    arguments[4] = [row[:3] for row in arguments[4]]
    before = copy.deepcopy(arguments)
    summarise(*arguments)
    assert arguments == before


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one entry per task; they have \[3, 4\]"):
        summarise(R, UNTRAINED, [1, 1, 1])


def test_learning_accuracy_gain_compares_diagonals() -> None:
    reference = [[0.80, None, 0.1, 0.1], [0.1, 0.90, 0.1, 0.1], [0.1, 0.1, 0.98, 0.1], [0.1, 0.1, 0.1, 0.90]]
    assert learning_accuracy_gain(R, reference) == pytest.approx(0.035)  # (.10 + .02 - .04 + .06) / 4
    assert learning_accuracy_gain(GROWING, LAST_ONLY) is None  # never learned in turn
    assert learning_accuracy_gain([], []) is None
    with pytest.raises(ValueError, match="same tasks"):
        learning_accuracy_gain(R, GROWING)
