"""What GPM, TRGP and CUBER share: scaled layers, trust region, plateau schedule, bases that are full, wrong options."""

import dataclasses

import pytest
import torch
from torch import nn

from cl_suite import RunError, TrainSettings
from cl_suite.conformance.case import states_equal
from strategies.projection.cuber import CUBER
from strategies.projection.gpm import GPM
from strategies.projection.plateau_schedule import PlateauSchedule
from strategies.projection.projected_network import ScaledConv2d, ScaledLinear
from strategies.projection.trgp import TRGP
from strategies.projection.trust_region import cosine, projection_shares
from tests.helpers.projection_streams import (
    ALL,
    EVERYTHING,
    Notes,
    harness_of,
    image_harness,
    low_rank_stream,
    run_of,
    snapshots,
    weights,
)


@pytest.mark.parametrize("cls", [GPM, TRGP])
def test_weights_do_not_move_along_directions_of_earlier_tasks(cls):
    (before, after, _), strategy = snapshots(cls, weights)
    moved = 0.0
    for name, space in strategy.projection.spaces.items():
        M = space.protected({0})
        assert M.shape[1] > 0
        assert ((after[name] - before[name]) @ M).abs().max() < 1e-5
        moved += float((after[name] - before[name]).norm())
    assert moved > 0.01  # it did learn


@pytest.mark.parametrize("cls", [GPM, TRGP])
def test_layer_outputs_and_logits_of_old_inputs_stay_where_the_basis_holds_them_all(cls):
    inputs = low_rank_stream().tasks[0].test.inputs

    def answers(strategy):
        return weights(strategy)["backbone.1"] @ inputs.T, strategy.predictor(0)(inputs)[:, :2]

    (first, *_, last), strategy = snapshots(cls, answers, **EVERYTHING)
    assert strategy.projection.spaces["backbone.1"].rank == 8  # three tasks of 4 directions, two shared each time
    for before, after in zip(first, last, strict=True):
        assert torch.allclose(after, before, atol=1e-5)
    (first, *_, last), _ = snapshots(cls, answers, threshold=1e-9, threshold_last=1e-9)  # nothing is protected
    for before, after in zip(first, last, strict=True):
        assert (after - before).abs().max() > 1e-3


def test_with_identity_scaling_the_layers_answer_as_they_are():
    generator = torch.Generator().manual_seed(0)
    S = torch.linalg.qr(torch.randn(18, 5, generator=generator)).Q
    maps = torch.randn(3, 2, 8, 8, generator=generator)
    conv, linear = ScaledConv2d(2, 4, 3, bias=False), ScaledLinear(18, 4, bias=False)
    vectors = torch.randn(6, 18, generator=generator)
    plain = conv(maps), linear(vectors)
    conv.scalings = linear.scalings = [(S, torch.eye(5))]
    assert torch.allclose(conv(maps), plain[0], atol=1e-6)
    assert torch.allclose(linear(vectors), plain[1], atol=1e-6)


def test_scaled_layers_compute_the_effective_weight_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    bases = [torch.linalg.qr(torch.randn(18, r, generator=generator)).Q for r in (5, 3)]
    scalings = [(S, torch.randn(S.shape[1], S.shape[1], generator=generator)) for S in bases]
    maps, vectors = torch.randn(3, 2, 8, 8, generator=generator), torch.randn(6, 18, generator=generator)
    for layer, plain, inputs in (
        (ScaledConv2d(2, 4, 3, bias=False), nn.functional.conv2d, maps),
        (ScaledLinear(18, 4, bias=False), nn.functional.linear, vectors),
    ):
        W = layer.weight.detach().flatten(1)
        effective = W + sum(W @ S @ (Q - torch.eye(len(Q))) @ S.T for S, Q in scalings)
        layer.scalings = scalings
        assert torch.allclose(layer(inputs), plain(inputs, effective.view(layer.weight.shape)), atol=1e-5)


def test_projection_shares_are_norms_of_the_projected_gradient_and_cosines_survive_zero():
    _, strategy = run_of(GPM)
    space = strategy.projection.spaces["backbone.1"]
    gradient = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))
    S = space.basis_of(0)
    expected = float((gradient @ S @ S.T).norm() / gradient.norm())
    assert projection_shares(gradient, space)[0] == pytest.approx(expected, abs=1e-6)
    assert projection_shares(torch.zeros(16, 20), space) == [0.0, 0.0, 0.0]
    assert cosine(gradient, -2 * gradient) == pytest.approx(-1.0)
    assert cosine(torch.zeros(16, 20), gradient) == float("-inf")


@pytest.mark.parametrize("cls", [TRGP, CUBER])
def test_the_best_state_is_restored_with_its_scaling(cls):
    """With validation losses 3, 1, 2, 2 what is kept are the weights and Qs of the second epoch."""
    harness = harness_of(cls, train=TrainSettings(epochs=4, batch_size=10, validation=0.3), eps1=0.0, lr=0.1)
    strategy, losses, states = harness.strategy, iter([3.0, 1.0, 2.0, 2.0] * 3), []

    def start(experience):
        cls.start(strategy, experience)
        states.clear()
        strategy.projection._validation_loss = measure

    def measure(experience):
        reuse = strategy.projection.reuse
        states.append((weights(strategy), [Q.detach().clone() for Q in reuse.parameters()]))
        return next(losses)

    strategy.start = start
    harness.run()
    best_weights, best_Qs = states[1]
    assert states_equal(best_weights, weights(strategy))
    Qs = [entry["Q"] for entries in strategy.projection.reuse.state_dict()["2"].values() for entry in entries]
    assert best_Qs and states_equal(best_Qs, Qs)
    assert not states_equal(best_Qs, states[3][1])  # a later state was another


@pytest.mark.parametrize("cls", ALL)
def test_a_full_layer_is_named_once_and_the_run_goes_on(cls):
    notes, found = Notes(), []
    without_regime_3 = {"eps2": 2.0} if cls is CUBER else {}
    harness = harness_of(cls, listener=notes, hidden=(6, 5), **EVERYTHING, **without_regime_3)
    notes.row = lambda experience, scores: found.append(weights(harness.strategy)["backbone.3"])
    results = harness.run()
    assert [text for text in notes.texts if "backbone.3" in text] == [
        "backbone.3: all 6 input directions are in use, none is free"
    ]
    assert "backbone.3" in harness.strategy.diagnostics()["full_layers"]
    assert torch.allclose(found[2], found[0], atol=1e-6)
    assert len(results.R) == 3 and None not in results.R[-1]


@pytest.mark.parametrize("cls", ALL)
def test_a_task_with_fewer_samples_than_asked_for_uses_them_all(cls):
    _, strategy = run_of(cls, data=low_rank_stream(count=30), samples=500)
    assert strategy.diagnostics()["samples_behind_bases"] == [30, 30, 30]


@pytest.mark.parametrize("cls", ALL)
def test_nan_in_a_layers_inputs_fails_with_its_name(cls):
    harness = harness_of(cls)

    def spoil(experience):
        with torch.no_grad():
            harness.strategy.model.backbone[1].weight.fill_(float("nan"))

    finish = harness.strategy.finish
    harness.strategy.finish = lambda experience: (spoil(experience), finish(experience))
    with pytest.raises(RunError, match=r"backbone\.3: a layer's inputs hold NaN"):
        harness.run()


@pytest.mark.parametrize("cls", [TRGP, CUBER])
def test_convolutions_are_projected_and_reused(cls):
    harness = image_harness(cls, [], eps1=0.0, eps2=1.5) if cls is CUBER else image_harness(cls, [], eps1=0.0)
    harness.run()
    Qs = harness.strategy.projection.reuse.state_dict()
    convolutions = [name for name, layer in harness.strategy.projection.layers.items() if isinstance(layer, nn.Conv2d)]
    assert convolutions and all(Qs["1"][name] for name in convolutions)


def test_the_plateau_schedule_divides_the_rate_ends_and_restores_the_best_state():
    value, rates = torch.zeros(()), []
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = PlateauSchedule([value], patience=2, factor=10.0, lr_min=1e-3)
    for loss in (5.0, 4.0, 4.5, 4.5, 4.2, 4.1, 9.0):
        rates.append(optimizer.param_groups[0]["lr"])
        value.add_(1)
        assert not schedule.after_epoch(loss, optimizer)
    schedule.restore()
    # 5, 4 are better; 4.5, 4.5 use the patience up; so do 4.2, 4.1: the third rate would be 0.001.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert value == 2
    assert schedule.after_epoch(9.0, optimizer)  # the patience is used up again, and 0.0001 is below the least rate


def test_without_momentum_or_weight_decay():
    for cls in ALL:
        names = {field.name for field in dataclasses.fields(cls.Config)}
        assert not names & {"momentum", "weight_decay", "optimizer"}


@pytest.mark.parametrize("cls", ALL)
def test_diagnostics_say_what_is_kept_and_draw_it(cls):
    _, strategy = run_of(cls)
    found = strategy.diagnostics()
    for layer in found["bases"].values():
        assert layer["directions_after_task"] == sorted(layer["directions_after_task"])
        assert layer["share_of_input_space"] == layer["directions_after_task"][-1] / layer["input_size"] <= 1
        assert layer["bytes"] >= 4 * layer["input_size"] * layer["directions_after_task"][-1]
    assert found["figures"]["capacity"]["x"] == [1, 2, 3]
    assert ("regimes" in found["figures"]) == (cls is not GPM)
