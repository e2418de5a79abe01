"""EWC: the Fisher is that of the paper, the penalty pulls as its formula says, and finetuning is its limit."""

import pytest
import torch

from cl_suite import (
    Batch,
    Classification,
    PrepareVectors,
    Requirement,
    RunError,
    Samples,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
    build_network,
    flatten,
)
from cl_suite.conformance.case import states_equal
from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.methods.fisher import quadratic_penalty, squared_gradients, stable_shares
from cl_suite.robots import BehaviourCloning
from strategies.bounds.finetune import Finetune
from strategies.regularisation.ewc import EWC
from tests.helpers.conflicting_streams import conflicting_stream, copy_of, image_harness
from tests.helpers.projection_streams import EachExperience, harness_of, low_rank_stream, run_of


def linear_network(n_outputs, size, opened):
    network = build_network("mlp", (size,), n_outputs, hidden=())
    network.heads.open(opened)
    return network.eval()


def a_batch(strategy, count=8):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 20, generator=generator)
    return Batch(inputs, torch.arange(count) % 2, inputs)


@pytest.mark.parametrize("by_probability", [False, True])
def test_the_fisher_of_a_linear_softmax_network_is_the_one_derived_by_hand(by_probability):
    """d log p(y|x) / dW_ij = (1[i = y] - p_i) x_j; here the logits are (ln 3, 0), so p = (3/4, 1/4)."""
    network = linear_network(3, 2, [0, 1])  # output 2 is not opened: its logit is -inf
    with torch.no_grad():
        network.heads.linear.weight.zero_()
        network.heads.linear.bias.copy_(torch.tensor([3.0, 1.0, 5.0]).log())
    inputs, targets = torch.tensor([[1.0, 2.0], [0.0, -3.0]]), torch.tensor([0, 1])
    everything = torch.ones(2, 3, dtype=torch.bool)
    found = squared_gradients(network, Classification(), inputs, targets, everything, by_probability=by_probability)
    # Sample 0, label 0: errors (1/4, -1/4), squared 1/16. Sample 1, label 1: errors (-3/4, 3/4), squared 9/16.
    first, second = (1 / 16 * 3 / 4, 9 / 16 * 1 / 4) if by_probability else (1 / 16, 9 / 16)
    row = [first * 1.0, first * 4.0 + second * 9.0]
    expected = torch.tensor([row, row, [0.0, 0.0]])
    assert torch.allclose(found[:6].view(3, 2), expected, atol=1e-6)
    assert torch.allclose(found[6:], torch.tensor([first + second, first + second, 0.0]), atol=1e-6)


def test_outputs_of_other_tasks_do_not_compete():
    network = linear_network(4, 2, None)
    visible = torch.tensor([[True, True, False, False]]).expand(5, 4)
    inputs, targets = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    found = squared_gradients(network, Classification(), inputs, targets, visible)
    assert torch.isfinite(found).all()
    assert not found[:8].view(4, 2)[2:].any() and found[:8].view(4, 2)[:2].all()


def test_with_batch_norm_it_is_the_sum_over_samples_in_evaluation_mode():
    network = build_network("conv_small", (3, 8, 8), 4, width=3)
    network.heads.open([0, 1, 2])
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3
    network.train()(images)  # so that running statistics are not those of a fresh network
    network.eval()
    before = copy_of(network)
    found = squared_gradients(network, Classification(), images, targets, torch.ones(6, 4, dtype=torch.bool))
    expected = torch.zeros_like(found)
    for image, target in zip(images, targets, strict=True):
        loss = torch.nn.functional.cross_entropy(network(image[None]), target[None])
        expected += flatten(torch.autograd.grad(loss, list(network.parameters()))).square()
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert states_equal(before, network.state_dict())


def test_measuring_the_fisher_leaves_the_network_as_it_is_running_statistics_too():
    strategy, found = EWC(EWC.Config()), []

    def finish(experience):
        assert strategy.model.training  # as training leaves it
        found.append(copy_of(strategy.model))
        EWC.finish(strategy, experience)
        found.append(copy_of(strategy.model))

    strategy.finish = finish
    image_harness(strategy).run()
    assert states_equal(found[0], found[1]) and states_equal(found[2], found[3])
    assert not states_equal(found[1], found[2])


def test_a_tasks_fisher_is_the_mean_over_its_samples_with_their_true_labels():
    data = low_rank_stream(n_tasks=1, count=70)  # more than one piece
    _, strategy = run_of(EWC, data=data, hidden=(), fisher_samples=0, scenario="class_incremental")
    samples = data.tasks[0].train
    with torch.no_grad():
        p = strategy.model(samples.inputs).softmax(1)
    errors = torch.nn.functional.one_hot(samples.targets, 2) - p
    expected = (errors[:, :, None] * samples.inputs[:, None, :]).square().mean(0)
    assert torch.allclose(strategy.penalty.importances[0].view(2, 20), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("mode", ["online", "separate"])
def test_the_penalty_gradient_is_2_lambda_F_times_the_distance(mode):
    _, strategy = run_of(EWC, mode=mode, ewc_lambda=7.0, scenario="domain_incremental")
    with torch.no_grad():
        for parameter in strategy.model.parameters():
            parameter.add_(0.1)
    batch, parameters = a_batch(strategy), list(strategy.model.parameters())
    with_penalty = flatten(torch.autograd.grad(strategy.loss(batch), parameters))
    without = flatten(torch.autograd.grad(super(EWC, strategy).loss(batch), parameters))
    pairs = list(zip(strategy.penalty.importances, strategy.penalty.anchors, strict=True))
    assert len(pairs) == (1 if mode == "online" else 3)
    expected = sum(2 * 7.0 * F * (flatten(parameters).detach() - anchor) for F, anchor in pairs)
    assert expected.abs().max() > 0.01
    assert torch.allclose(with_penalty - without, expected, atol=1e-5)


def test_the_penalty_has_no_factor_one_half():
    theta, anchors = torch.tensor([1.0, 2.0]), [torch.tensor([0.0, 0.0]), torch.tensor([2.0, 1.0])]
    importances = [torch.tensor([0.5, 0.25]), torch.tensor([3.0, 0.0])]
    assert quadratic_penalty(theta, importances, anchors).tolist() == [0.5 + 3.0, 1.0]


def test_online_decays_the_old_fisher_and_separate_keeps_one_for_each_task():
    options = {"ewc_lambda": 0.0, "scenario": "domain_incremental"}  # without a penalty both train alike
    _, separate = run_of(EWC, mode="separate", **options)
    _, online = run_of(EWC, mode="online", gamma=0.5, **options)
    F1, F2, F3 = separate.penalty.importances
    assert torch.allclose(online.penalty.importances[0], 0.25 * F1 + 0.5 * F2 + F3, atol=1e-8)
    assert len(online.penalty.importances) == len(online.penalty.anchors) == 1
    assert torch.equal(online.penalty.anchors[0], separate.penalty.anchors[2])
    assert not torch.equal(separate.penalty.anchors[0], separate.penalty.anchors[1])
    assert torch.equal(online.penalty.anchors[0], flatten(list(online.model.parameters())))


@pytest.mark.parametrize("mode", ["online", "separate"])
@pytest.mark.parametrize("scenario", ["task_incremental", "class_incremental", "domain_incremental"])
def test_with_lambda_0_it_is_finetuning_bit_for_bit(mode, scenario):
    results, strategy = run_of(EWC, mode=mode, ewc_lambda=0.0, scenario=scenario)
    finetuned, plain = run_of(Finetune, scenario=scenario)
    assert results.R == finetuned.R
    assert states_equal(strategy.model.state_dict(), plain.model.state_dict())


def test_the_penalty_acts_from_the_second_experience_on():
    found = []
    harness = harness_of(EWC, listener=EachExperience(lambda _: found.append(harness.strategy.constraints())))
    harness.run()
    assert found[0] == {"EWC penalty": 0.0}
    assert all(0 < each["EWC penalty"] < float("inf") for each in found[1:])


def test_it_forgets_less_than_finetuning():
    train = TrainSettings(epochs=5, batch_size=10)
    options = {"data": conflicting_stream(count=200), "scenario": "domain_incremental", "train": train}
    finetuned, _ = run_of(Finetune, **options)
    held, _ = run_of(EWC, **options)
    assert held.R[0] == finetuned.R[0]
    assert held.R[1][0] > finetuned.R[1][0] + 0.1
    assert sum(held.R[1]) > sum(finetuned.R[1]) + 0.1


@pytest.mark.parametrize(("samples", "used"), [(0, 60), (7, 7), (500, 60)])
def test_the_fisher_draws_as_many_samples_as_asked_for(samples, used):
    harness = harness_of(EWC, fisher_samples=samples)
    harness.run()
    training = 3 * 60 * 3  # tasks, samples, passes
    expected = harness.strategy.expected_samples(harness.scenario_stream.info)
    assert harness.meter.samples_drawn == expected == training + 3 * used


def test_fewer_samples_are_really_fewer(monkeypatch):
    import cl_suite.methods.fisher as module

    counts, measure = [], module.squared_gradients
    monkeypatch.setattr(
        module,
        "squared_gradients",
        lambda *arguments, **options: (counts.append(len(arguments[3])), measure(*arguments, **options))[1],
    )
    run_of(EWC, data=low_rank_stream(n_tasks=1), fisher_samples=40)
    assert sum(counts) == 40


def test_no_weight_is_held_tighter_than_one_step_can():
    """2 lr lambda F is 0.5, 1 and 4 for these; F of two tasks counts together."""
    importances = [torch.tensor([0.25, 0.5, 1.0]), torch.tensor([0.0, 0.0, 1.0])]
    assert stable_shares(importances, weight=10.0, lr=0.1).tolist() == [1.0, 1.0, 0.25]
    options = {"ewc_lambda": 1e5, "scenario": "domain_incremental", "data": conflicting_stream(), "hidden": ()}
    _, strategy = run_of(EWC, mode="separate", **options)
    moved = (strategy.penalty.anchors[1] - strategy.penalty.anchors[0]).abs()
    capped = strategy.penalty.shares < 1
    assert strategy.diagnostics()["weights_capped"] == int(capped.sum()) > 0
    assert 0 < moved[capped].max() < 0.05 < 0.3 < moved[~capped].max()
    with pytest.raises(RunError, match="loss became"):
        run_of(EWC, cap=False, **options)
    _, gentle = run_of(EWC, **options | {"ewc_lambda": 1.0})
    assert gentle.diagnostics()["weights_capped"] == 0


def test_the_state_is_two_vectors_or_two_for_each_task_and_comes_back(tmp_path):
    for mode, count in (("online", 1), ("separate", 3)):
        _, strategy = run_of(EWC, mode=mode)
        state = strategy.state_dict()
        assert [value.numel() for value in state["importance"] + state["anchor"]] == (
            [strategy.model_parameters()] * 2 * count
        )
        save_state(tmp_path / mode, state)
        other = harness_of(EWC, mode=mode)
        other.strategy.setup(other.scenario_stream.info, other._factory)
        other.strategy.load_state_dict(load_state(tmp_path / mode))
        assert states_equal(other.strategy.state_dict(), state)
        assert torch.equal(other.strategy.loss(a_batch(other.strategy)), strategy.loss(a_batch(strategy)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "onlin"}, "mode=onlin is not known. Did you mean online"),
        ({"fisher_weighting": "propb"}, "Did you mean prob"),
        ({"ewc_lambda": -1.0}, "ewc_lambda=-1.0 is not a weight. Use 0 or more"),
        ({"ewc_lambda": float("nan")}, "ewc_lambda=nan"),
        ({"gamma": 1.5}, "gamma=1.5 is not a share"),
        ({"fisher_samples": -1}, "fisher_samples=-1"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(EWC, **options)


def test_networks_and_streams_without_what_the_fisher_needs_are_refused():
    harness = harness_of(EWC)
    with pytest.raises(UsageError, match=r"backbone\.1 normalises a batch by itself"):
        harness.strategy.setup(harness.scenario_stream.info, lambda: build_network("resnet18_gpm", (3, 32, 32), 6))
    actions = Samples(torch.randn(20, 20), torch.rand(20, 2))
    tasks = tuple(TaskData(str(t), actions, actions, ("a", "b")) for t in range(2))
    data = StreamData(tasks, PrepareVectors(), objective=BehaviourCloning(), labels="shared")
    options = {"data": data, "scenario": "domain_incremental"}
    with pytest.raises(UsageError, match="prob needs one class per sample"):
        run_of(EWC, fisher_weighting="prob", **options)
    assert Requirement.BOUNDARIES in EWC.requires
    _, strategy = run_of(EWC, **options)  # and without the weighting any loss will do
    assert strategy.constraints()["EWC penalty"] > 0
