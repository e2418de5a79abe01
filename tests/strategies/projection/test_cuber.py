"""CUBER: where old weights may move, by how much, and that without it CUBER is TRGP."""

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from strategies.projection.cuber import CUBER, penalty_slope, regime
from strategies.projection.regimes import BACKWARD, CORRELATED, UNRELATED
from strategies.projection.trgp import TRGP
from strategies.projection.trust_region import trust_region
from tests.helpers.projection_streams import (
    EachExperience,
    harness_of,
    run_of,
    weights,
)


@pytest.mark.parametrize("options", [{}, {"code_compat": True}, {"scaling": False}, {"trust_region": 1, "eps1": 0.1}])
def test_cuber_without_regime_3_is_trgp_bit_for_bit(options):
    trgp, one = run_of(TRGP, **options)
    cuber, other = run_of(CUBER, eps2=1.5, **options)
    assert cuber.R == trgp.R
    assert states_equal(one.model.state_dict(), other.model.state_dict())
    assert states_equal(one.projection.state_dict()["reuse"], other.projection.state_dict()["reuse"])
    assert states_equal(one.projection.state_dict()["spaces"], other.projection.state_dict()["spaces"])


def test_cuber_moves_old_weights_only_where_its_condition_holds_and_logs_which():
    _, strategy = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty_weight=0.0, lr=0.05, regime3_layers=["backbone.1"])
    diagnostics = strategy.diagnostics()
    in_regime_3 = []
    for number, regimes in enumerate(diagnostics["regimes"]):
        moved = diagnostics["old_weights_moved"][number + 1]
        for layer, values in regimes.items():
            for task, found in enumerate(values):
                if found == BACKWARD:
                    assert layer == "backbone.1"
                    in_regime_3.append(moved[layer][str(task)])
                else:
                    assert moved[layer][str(task)] < 1e-5, (layer, number, task)
    assert max(in_regime_3) > 1e-3
    assert diagnostics["regime_counts"]["backward transfer"] == len(in_regime_3)


@pytest.mark.parametrize("squared", [False, True])
def test_the_penalty_gradient_is_that_of_the_norm(squared):
    generator = torch.Generator().manual_seed(0)
    W0, W = torch.randn(2, 5, 9, generator=generator)
    S = torch.linalg.qr(torch.randn(9, 3, generator=generator)).Q
    W.requires_grad_()
    norm = ((W - W0) @ S @ S.T).norm()
    (2.0 * (norm**2 if squared else norm)).backward()
    moved = (W.detach() - W0) @ S
    slope = penalty_slope(moved.norm(), weight=2.0, squared=squared, steepest=1e6)
    assert torch.allclose(slope * moved @ S.T, W.grad, atol=1e-5)
    at_start = penalty_slope(torch.zeros(()), weight=2.0, squared=squared, steepest=1e6)
    assert torch.isfinite(at_start)  # no NaN at W = W0


@pytest.mark.parametrize("penalty", ["fro", "fro_sq"])
def test_a_strong_penalty_makes_cuber_trgp_instead_of_noise(penalty):
    _, strategy = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty=penalty, penalty_weight=1e4, lr=0.05)
    assert any(
        regime == BACKWARD for each in strategy.projection.log.regimes for values in each.values() for regime in values
    )
    moved = [value for each in strategy.moved[1:] for layer in each.values() for value in layer.values()]
    assert max(moved) < 0.02
    _, plain = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty_weight=10.0, proximal=False, lr=0.05)
    overshot = [value for each in plain.moved[1:] for layer in each.values() for value in layer.values()]
    assert max(overshot) > max(moved)


def test_the_penalty_holds_old_weights_back():
    moved = {}
    for weight in (0.0, 5.0):
        options = {"eps1": 0.2, "eps2": -1.0, "penalty": "fro_sq", "penalty_weight": weight, "lr": 0.05}
        _, strategy = run_of(CUBER, **options)
        moved[weight] = max(max(layer.values(), default=0.0) for layer in strategy.moved[1].values())
    assert moved[5.0] < 0.5 * moved[0.0]


def test_regimes_follow_projection_and_correlation():
    assert regime(0.4, 0.9, eps1=0.5, eps2=0.0) == UNRELATED
    assert regime(0.6, -0.1, eps1=0.5, eps2=0.0) == CORRELATED
    assert regime(0.6, None, eps1=0.5, eps2=0.0) == CORRELATED
    assert regime(0.6, 0.0, eps1=0.5, eps2=0.0) == BACKWARD
    assert trust_region([0.1, 0.9, 0.7, 0.8], eps1=0.5, size=2) == [1, 3]
    assert trust_region([0.1, 0.9], eps1=0.95, size=2) == []


def test_a_recheck_protects_tasks_again_whose_gradient_turned():
    options = {"eps1": 0.2, "eps2": -1.0, "lr": 0.05, "train": TrainSettings(epochs=4, batch_size=10)}
    _, never = run_of(CUBER, **options)
    assert never.left_regime3 == []
    harness = harness_of(CUBER, regime3_recheck_every=1, **options)
    strategy, recheck = harness.strategy, harness.strategy._recheck

    def stricter(experience, epoch):  # in regime 3 by any sign at first; to stay there gradients must agree fully
        strategy.config.eps2 = 1.1
        recheck(experience, epoch)
        strategy.config.eps2 = -1.0

    strategy._recheck = stricter
    after, finish = [], strategy._recheck

    def watch(experience, epoch):
        strategy_before = weights(strategy)
        finish(experience, epoch)
        after.append((experience.index, epoch, strategy_before))

    strategy._recheck = watch
    ends = []
    harness.listener = EachExperience(lambda _: ends.append(weights(strategy)))
    harness.run()
    assert {entry["epoch"] for entry in strategy.left_regime3} == {1}
    assert not any(strategy.free.values())
    # From the first recheck of task 1 on, nothing moves any more along what task 0 uses.
    (then,) = [before for index, epoch, before in after if (index, epoch) == (1, 1)]
    space = strategy.projection.spaces["backbone.1"]
    assert ((ends[1]["backbone.1"] - then["backbone.1"]) @ space.basis_of(0)).abs().max() < 1e-5
    assert ((ends[1]["backbone.1"] - ends[0]["backbone.1"]) @ space.basis_of(0)).abs().max() > 1e-3


def test_regime_3_can_be_limited_to_the_trust_region():
    _, every = run_of(CUBER, eps1=0.0, eps2=-1.0)
    _, near = run_of(CUBER, eps1=0.0, eps2=-1.0, regime3_scope="trust_region", trust_region=1)
    cosines = every.projection.log.cosines[1]["backbone.1"], near.projection.log.cosines[1]["backbone.1"]
    assert None not in cosines[0] and cosines[1].count(None) == 1


def test_correlation_may_use_another_number_of_samples_than_the_bases():
    results = {}
    for count in (0, 7, 20):
        harness = harness_of(CUBER, samples=20, correlation_samples=count)
        harness.run()
        results[count] = harness.meter.samples_drawn
    assert results[20] == results[0]
    assert results[7] == results[0] + 2 * (7 - 20) + 3 * 7  # at the start of two tasks, and beside three bases


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty": "l1"}, "penalty=l1"),
        ({"regime3_scope": "some"}, "regime3_scope=some"),
        ({"regime3_layers": ["fc9"]}, "names fc9, which is not projected. Use some of backbone.1, backbone.3"),
        ({"penalty_weight": -1.0}, "0 or more"),
        ({"penalty_weight": float("nan")}, "0 or more"),
        ({"eps1": 7.0}, "eps1=7.0"),
        ({"trust_region": -1}, "trust_region=-1"),
    ],
)
def test_options_of_cuber_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(CUBER, **options)


def test_the_map_of_regimes_is_a_lower_triangle_per_layer():
    _, strategy = run_of(CUBER)
    figure = strategy.diagnostics()["figures"]["regimes"]
    assert figure["panels"] == ["backbone.1", "backbone.3"]
    for panel in figure["values"]:
        assert [[value is None for value in row] for row in panel] == [[False, True], [False, False]]
