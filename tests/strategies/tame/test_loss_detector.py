"""TAME's detector of changed tasks, by hand and by simulation."""

import random
import statistics

import pytest

from cl_suite import UsageError
from strategies.tame.loss_detector import DetectorOptions, LossDetector
from strategies.tame.tame import TAME
from tests.helpers.hidden_streams import harness_of


def test_threshold_is_mean_and_three_deviations_of_the_window_before_the_loss():
    detector = LossDetector(DetectorOptions(window=3, stat_lag=0), uniform=0.7, warmup=0)
    assert detector.threshold == pytest.approx(0.7 + 3 * 0.005)
    for loss in (0.5, 0.4, 0.45):
        assert not detector.alarms(loss)
        detector.learned(loss)
    window = [0.5, 0.4, 0.45]
    assert detector.threshold == pytest.approx(statistics.fmean(window) + 3 * statistics.pstdev(window))
    smoothed = 0.2 * 0.45 + 0.8 * (0.2 * 0.4 + 0.8 * 0.5)
    assert detector.smoothed == detector.smoothed_all == pytest.approx(smoothed)
    before = detector.threshold
    assert detector.alarms(2.0)
    assert detector.threshold == before  # the jump is not in the window yet


def test_a_lag_leaves_the_newest_losses_out():
    detector = LossDetector(DetectorOptions(window=2, stat_lag=2), uniform=0.7, warmup=0)
    for loss in (0.5, 0.4, 9.0, 9.0):
        detector.learned(loss)
    assert detector.threshold == pytest.approx(0.45 + 3 * 0.05)


def test_a_converged_expert_does_not_alarm_on_noise_below_the_floor():
    detector = LossDetector(DetectorOptions(window=30, stat_lag=0), uniform=0.3, warmup=0)
    for number in range(200):
        loss = 0.3 + 0.004 * (number % 2)
        assert not detector.alarms(loss)
        detector.learned(loss)


def alarms(alpha, *, jump=0.0, lag=0, seed=0, batches=500):
    """Return the batches, from the thirtieth on, at which a detector alarms on Gaussian losses of deviation 1."""
    generator = random.Random(seed)
    detector = LossDetector(DetectorOptions(alpha=alpha, stat_lag=lag), uniform=10.0, warmup=0)
    found = []
    for number in range(batches):
        loss = 10.0 + generator.gauss(0, 1) + (jump if number >= 400 else 0.0)
        if detector.alarms(loss) and number > 30:
            found.append(number)
        detector.learned(loss)
    return found


def test_smoothing_prevents_false_alarms():
    assert not any(alarms(0.2, seed=seed, batches=400) for seed in range(20))
    assert sum(bool(alarms(1.0, seed=seed, batches=400)) for seed in range(20)) >= 5


def test_a_jump_of_twenty_deviations_is_found_at_once_and_one_of_eight_only_with_a_lag():
    assert all(400 <= alarms(0.2, jump=20, seed=seed)[0] <= 405 for seed in range(10))
    assert all(400 <= alarms(0.2, jump=8, lag=10, seed=seed)[0] <= 405 for seed in range(10))
    assert sum(not alarms(0.2, jump=8, seed=seed) for seed in range(10)) >= 5


def test_a_single_loss_weighs_little_in_the_smoothed_one_that_calls_an_expert_back():
    detector = LossDetector(DetectorOptions(stat_lag=0), uniform=0.5, warmup=0)
    for number in range(50):
        detector.learned(0.3 if number % 2 else 0.5)
    assert detector.threshold < 0.8
    assert detector.margin(1.0) > 0 > detector.margin(1.0, smoothed=False)
    assert detector.margin(0.45, smoothed=False) > 0


@pytest.mark.parametrize(
    "options", [{"alpha": 0.0}, {"alpha": 1.5}, {"window": 1}, {"deviations": 0}, {"stat_lag": -1}, {"warmup": -2}]
)
def test_detector_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match=f"strategy.{next(iter(options))}"):
        harness_of(TAME, **options).run()


def test_the_largest_margin_is_in_deviations():
    steady, noisy = (LossDetector(DetectorOptions(stat_lag=0), uniform=0.3, warmup=0) for _ in range(2))
    for number in range(50):
        steady.learned(0.30)
        noisy.learned(0.1 if number % 2 else 0.7)
    assert noisy.threshold - 0.3 > steady.threshold - 0.3  # in units of loss the noisy one is further
    assert steady.margin(0.1, smoothed=False) > noisy.margin(0.1, smoothed=False)
