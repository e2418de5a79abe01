"""SI: the path integral and the importance are those computed by hand, and finetuning is its limit."""

import pytest
import torch
from torch import nn

from cl_suite import Batch, TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from cl_suite.core.checkpoint import load_state, save_state
from strategies.bounds.finetune import Finetune
from strategies.regularisation.si import SI, consolidated, flatten
from tests.helpers.conflicting_streams import Reports, conflicting_stream
from tests.helpers.projection_streams import EachExperience, harness_of, run_of


class Quadratic(SI):
    """The loss is 1/2 (theta_0^2 + 4 theta_1^2), whatever the samples are."""

    curvature = torch.tensor([1.0, 4.0])

    def loss(self, batch):
        return 0.5 * (self.curvature * self.weights[0].square()).sum()

    @property
    def weights(self):
        return [self.model.heads.linear.weight]


class TwoWeights(nn.Module):
    """Stands for a network: one weight matrix of two entries, both 1."""

    def __init__(self):
        super().__init__()
        self.heads = nn.Module()
        self.heads.linear = nn.Linear(2, 1, bias=False)
        nn.init.ones_(self.heads.linear.weight)
        self.heads.open = lambda classes: None


def quadratic(**options):
    """Return the strategy at theta = (1, 1), learning rate 0.1, ready for steps by hand."""
    harness = harness_of(Quadratic, **{"lr": 0.1, "momentum": 0.0, "clip": 0.0, "xi": 0.1} | options)
    harness.strategy.setup(harness.scenario_stream.info, TwoWeights)
    return harness.strategy


def steps(strategy, count):
    empty = torch.zeros(1, 2)
    strategy.train_on(Reports(), [Batch(empty, torch.zeros(1, dtype=torch.long), empty)] * count)


@pytest.mark.parametrize(
    ("options", "path", "theta"),
    [
        # gradients (1, 4), (0.9, 2.4); steps (0.1, 0.4), (0.09, 0.24)
        ({}, (0.1 + 0.081, 1.6 + 0.576), (0.81, 0.36)),
        # momentum 0.5: the second step is 0.1 ((0.9, 2.4) + 0.5 (1, 4)) = (0.14, 0.44)
        ({"momentum": 0.5}, (0.1 + 0.126, 1.6 + 1.056), (0.76, 0.16)),
        # clipped at 1: steps (0.1, 0.1), (0.09, 0.1), but the gradients are (1, 4), (0.9, 3.6)
        ({"clip": 1.0}, (0.1 + 0.081, 0.4 + 0.36), (0.81, 0.8)),
    ],
)
def test_two_steps_on_a_parabola_give_the_path_computed_by_hand(options, path, theta):
    strategy = quadratic(**options)
    steps(strategy, 2)
    assert torch.allclose(strategy.path, torch.tensor(path), atol=1e-6)
    assert torch.allclose(flatten(strategy.weights), torch.tensor(theta), atol=1e-6)
    strategy.finish(None)
    expected = [omega / ((1 - end) ** 2 + 0.1) for omega, end in zip(path, theta, strict=True)]
    assert torch.allclose(strategy.importance, torch.tensor(expected), atol=1e-5)
    assert torch.equal(strategy.anchor, flatten(strategy.weights))
    assert not strategy.path.any()  # the next task's begins at 0


def test_later_the_penalty_pulls_back_and_the_path_leaves_it_out():
    """theta* = (1, 1), Omega = (10, 0), c = 0.3: the second step has 2 c Omega (theta - theta*) added, once."""
    strategy = quadratic(c=0.3)
    strategy.importance, strategy.experiences_learned = torch.tensor([10.0, 0.0]), 1
    steps(strategy, 2)
    # Step 1: no distance, to (0.9, 0.6). Step 2: gradient (0.9, 2.4), pull (2 * 0.3 * 10 * -0.1, 0) = (-0.6, 0).
    assert torch.allclose(flatten(strategy.weights), torch.tensor([0.9 - 0.03, 0.6 - 0.24]), atol=1e-6)
    assert torch.allclose(strategy.path, torch.tensor([0.1 + 0.9 * 0.03, 1.6 + 2.4 * 0.24]), atol=1e-6)
    assert strategy.constraints()["SI penalty"] == pytest.approx((0 + 0.3 * 10 * 0.1**2) / 2, rel=1e-5)


def test_clipping_also_bounds_the_penalty():
    strategy = quadratic(c=1e6, clip=1.0)
    strategy.importance, strategy.experiences_learned = torch.tensor([1.0, 1.0]), 1
    steps(strategy, 5)
    assert (flatten(strategy.weights) - 1).abs().max() <= 0.1 + 1e-6


def test_importance_adds_up_over_tasks_and_is_never_negative():
    before, path, way = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.5, -0.2, -3.0]), torch.tensor([0.5, 0.0, 1.0])
    assert consolidated(before, path, way, xi=0.25).tolist() == pytest.approx([1.0 + 1.0, 1.0 - 0.8, 0.0])


@pytest.mark.parametrize("clip", [0.0, 1e6])
@pytest.mark.parametrize("scenario", ["task_incremental", "class_incremental", "domain_incremental"])
def test_with_c_0_and_nothing_clipped_it_is_finetuning_bit_for_bit(scenario, clip):
    results, strategy = run_of(SI, c=0.0, clip=clip, scenario=scenario)
    finetuned, plain = run_of(Finetune, scenario=scenario)
    assert results.R == finetuned.R
    assert states_equal(strategy.model.state_dict(), plain.model.state_dict())


def test_the_path_of_one_task_sums_to_about_the_fall_of_its_loss():
    """That is what the path integral means (eq. 3), for steps that are small."""
    strategy = quadratic(lr=0.001)
    start = strategy.loss(None).item()
    steps(strategy, 200)
    assert float(strategy.path.sum()) == pytest.approx(start - strategy.loss(None).item(), rel=0.01)


def test_the_penalty_acts_from_the_second_experience_on():
    found = []
    harness = harness_of(SI, listener=EachExperience(lambda _: found.append(harness.strategy.constraints())))
    harness.run()
    assert found[0] == {"SI penalty": 0.0}
    assert all(0 < each["SI penalty"] < float("inf") for each in found[1:])


def test_it_forgets_less_than_finetuning():
    train = TrainSettings(epochs=5, batch_size=10)
    options = {"data": conflicting_stream(count=200), "scenario": "domain_incremental", "train": train}
    finetuned, _ = run_of(Finetune, **options)
    held, _ = run_of(SI, **options)
    assert held.R[1][0] > finetuned.R[1][0] + 0.1
    assert sum(held.R[1]) > sum(finetuned.R[1]) + 0.1


def test_the_state_is_three_vectors_and_comes_back(tmp_path):
    _, strategy = run_of(SI)
    state = strategy.state_dict()
    assert [state[name].numel() for name in ("importance", "anchor", "path")] == [strategy.model_parameters()] * 3
    save_state(tmp_path / "state", state)
    other = harness_of(SI)
    other.strategy.setup(other.scenario_stream.info, other._factory)
    other.strategy.load_state_dict(load_state(tmp_path / "state"))
    assert states_equal(other.strategy.state_dict(), state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"c": -0.1}, "c=-0.1 is out of range. Use 0 or more"),
        ({"xi": 0.0}, "xi=0.0 is out of range. Use more than 0"),
        ({"xi": float("nan")}, "xi=nan"),
        ({"clip": -1.0}, "clip=-1.0 is out of range"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(SI, **options)
