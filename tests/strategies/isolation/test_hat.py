"""HAT: the formulas by hand, what the gates protect, and what is refused."""

import pytest
import torch
from torch import nn

from cl_suite import (
    HeadBank,
    Network,
    PrepareImages,
    PrepareVectors,
    Samples,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
)
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from strategies.isolation.hat import HAT, annealed, capacity_penalty, chain_of, compensation, free_share
from tests.helpers.projection_streams import EachExperience


def vectors(*, n_tasks=3, single_head=False):
    """Two clusters per task; with one head for all tasks the second task has the labels of the first exchanged."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(2 if single_head else 2 * n_tasks, 10, generator=generator)

    def draw(task, count):
        targets = torch.arange(count) % 2
        places = (targets + task) % 2 if single_head else targets + 2 * task
        return Samples(centres[places] + torch.randn(count, 10, generator=generator), targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, 80), draw(t, 40), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors(), single_head=single_head)


def images():
    """Three tasks of two classes of images 3x32x32, one bright and one dark, in a colour of the task."""
    generator = torch.Generator().manual_seed(0)

    def draw(task, count):
        targets = torch.arange(count) % 2
        pixels = torch.randint(0, 100, (count, 3, 32, 32), generator=generator)
        pixels[:, task] += 150 * targets.view(-1, 1, 1)
        return Samples(pixels.to(torch.uint8), targets)

    tasks = tuple(TaskData(str(t), draw(t, 48), draw(t, 16), ("a", "b")) for t in range(3))
    return StreamData(tasks, PrepareImages(mean=(0.3,) * 3, std=(0.3,) * 3))


def across_channels(n_outputs):
    """A chain whose normalisation lets each channel feel its neighbours, as in lenet_gpm."""
    layers = [nn.Conv2d(3, 12, 5, stride=4), nn.ReLU(), nn.LocalResponseNorm(4, alpha=1.0), nn.MaxPool2d(2)]
    backbone = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(12 * 9, 10), nn.ReLU())
    return Network(backbone, HeadBank(10, n_outputs))


def harness_of(data=None, *, model="mlp", epochs=6, listener=None, network=None, **options):
    data = data or vectors()
    scenario_stream = ScenarioStream(
        "toy",
        data,
        Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=epochs, batch_size=16),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info
    network = network or ({"hidden": (24, 16)} if model == "mlp" else {"width": 8})

    def build():
        if model == "across channels":
            return across_channels(info.n_outputs)
        return build_network(model, info.input_shape, info.n_outputs, **network)

    return Harness(HAT(HAT.Config(**options)), scenario_stream, build, listener=listener)


def watched(take, *args, **options):
    """Run, and return what `take(strategy)` gives after each experience, the results, and the strategy."""
    found = []
    harness = harness_of(*args, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    return found, harness.run(), harness.strategy


def drift(data, **options):
    """Return how far the logits of finished tasks moved until the end, at most, and the results."""
    answers = []

    def take(strategy):
        fixed = {t: data.prepare(data.tasks[t].test.inputs) for t in strategy.tasks_learned}
        classes = strategy.info.task_classes
        answers.append({t: strategy.predictor(t)(inputs)[:, list(classes[t])] for t, inputs in fixed.items()})

    _, results, strategy = watched(take, data, **options)
    last = answers[-1]
    return max(float((last[t] - answers[t][t]).abs().max()) for t in range(len(last) - 1)), results, strategy


def test_s_grows_from_the_first_to_the_last_batch_of_an_epoch():
    assert [annealed(step, 5, 400.0) for step in (0, 2, 4)] == pytest.approx([1 / 400, (400 + 1 / 400) / 2, 400.0])
    assert annealed(0, 1, 400.0) == 400.0


@pytest.mark.parametrize("s", [1 / 20, 0.7, 3.0, 20.0])
def test_the_compensated_gradient_is_that_of_the_sigmoid_times_s_max_whatever_s_is(s):
    values = torch.tensor([-2.4, -1.0, -0.1, 0.0, 0.3, 0.6], dtype=torch.float64)

    def slope(scale):
        e = values.clone().requires_grad_()
        torch.sigmoid(scale * e).sum().backward()
        return e.grad

    assert torch.allclose(slope(s) * compensation(values, s, 20.0), 20.0 * slope(1.0), rtol=1e-7)


def test_compensation_is_finite_where_cosh_would_overflow():
    factor = compensation(torch.tensor([6.0, -6.0]), 400.0, 400.0)
    assert torch.isfinite(factor).all()
    assert factor[0] == pytest.approx(float(torch.cosh(torch.tensor(50.0)) / (torch.cosh(torch.tensor(6.0)) + 1)))


def test_a_weight_may_learn_what_neither_of_its_units_is_used_for():
    after, before = torch.tensor([1.0, 0.25]), torch.tensor([0.5, 0.0, 1.0])
    expected = torch.tensor([[0.5, 1.0, 0.0], [0.75, 1.0, 0.75]])  # 1 - min(a_i, a_j)
    assert torch.equal(free_share(after, before, (2, 3)), expected)
    assert torch.equal(free_share(after, before, (2, 3, 5, 5)), expected[:, :, None, None])
    # From a convolution's 3 channels of 2 positions each: the channel comes first in what is flattened.
    assert torch.equal(free_share(after, before, (2, 6)), expected.repeat_interleave(2, dim=1))
    assert torch.equal(free_share(after, None, (2, 3)), torch.tensor([[0.0], [0.75]]))


def test_gradients_of_a_2_3_2_network_are_masked_as_by_hand():
    harness = harness_of(network={"hidden": (3, 2)}, clip=1e9)
    harness.run()
    strategy = harness.strategy
    (first, gate1, _), (second, gate2, before) = strategy.layers
    assert before is gate1
    gate1.used.copy_(torch.tensor([1.0, 0.5, 0.0]))
    gate2.used.copy_(torch.tensor([1.0, 0.25]))

    class Third:
        task_id, classes = 2, (4, 5)

        @staticmethod
        def planned_steps(*, epochs):
            return 4

    strategy.start(Third)
    for parameter in strategy.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    strategy.logits(torch.zeros(1, 10), None)
    strategy.adjust_gradients(None)
    assert torch.equal(first.weight.grad, torch.tensor([[0.0], [0.5], [1.0]]).expand(3, 10))
    assert torch.equal(first.bias.grad, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(second.weight.grad, torch.tensor([[0.0, 0.5, 1.0], [0.75, 0.75, 1.0]]))
    assert torch.equal(second.bias.grad, torch.tensor([0.0, 0.75]))
    assert (strategy.model.heads.linear.weight.grad == 1).all()
    expected = compensation(gate1.embeddings[2], 1 / 400, 400.0)  # with the s of that forward pass
    assert torch.allclose(gate1.embeddings.grad, torch.stack([torch.ones(3), torch.ones(3), expected]))
    # What was masked, of squared norm: by hand, 10 (1 + 1/4), (1 + 1/4), 1 + 1/4 + 2/16, 1 + 1/16.
    removed = 10 * 1.25 + 1.25 + 1.375 + 1.0625
    assert strategy.constraints()["share of the gradient masked"] == pytest.approx((removed / (30 + 3 + 6 + 2)) ** 0.5)


def test_the_regulariser_counts_only_units_that_are_free():
    gates = [torch.tensor([1.0, 0.5]), torch.tensor([0.2])]
    assert capacity_penalty(gates, [torch.zeros(2), torch.zeros(1)]) == pytest.approx(1.7 / 3)  # the mean of the gates
    used = [torch.tensor([1.0, 0.0]), torch.tensor([0.5])]
    assert capacity_penalty(gates, used) == pytest.approx((0.5 * 1.0 + 0.2 * 0.5) / 1.5)
    full = [torch.ones(2), torch.ones(1)]
    assert capacity_penalty(gates, full) == 0.0  # and not NaN


def test_finished_tasks_keep_their_logits():
    change, results, strategy = drift(vectors(), epochs=25)
    assert change < 1e-3
    assert min(results.R[-1]) > 0.9 and strategy.constraints()["share of the gradient masked"] > 0.1


def test_without_steep_gates_finished_tasks_do_not_keep_their_logits():
    change, _, _ = drift(vectors(), s_max=2.0)
    assert change > 0.05


@pytest.mark.parametrize(
    ("model", "norm"),
    [("conv_small", "per_task"), ("conv_small", "none"), ("alexnet", "per_task"), ("across channels", "none")],
)
def test_finished_tasks_keep_their_logits_in_convolutional_chains(model, norm):
    change, results, strategy = drift(images(), model=model, norm=norm, epochs=2)
    assert change < 1e-3
    moved = {name for name, value in strategy.model.state_dict().items() if "running_mean" in name and value[1].any()}
    assert bool(moved) == (norm == "per_task" and "channels" not in model)
    assert None not in results.R[-1]


def test_later_tasks_do_learn_in_units_that_are_free():
    def weights(strategy):
        return [layer.weight.detach().clone() for layer, _, _ in strategy.layers]

    found, _, strategy = watched(weights)
    for (_, gate, _), before, after in zip(strategy.layers, found[1], found[2], strict=True):
        opened = (gate.embeddings[:2] > 0.05).any(dim=0)
        assert (after - before)[~opened].abs().max() > 1e-3
    _, gate, _ = strategy.layers[0]
    opened = (gate.embeddings[:2] > 0.05).any(dim=0)
    assert (found[2][0] - found[1][0])[opened].abs().max() < 1e-6


def test_tasks_that_share_their_outputs_have_heads_of_their_own():
    """The second task has the labels of the first exchanged: with one head it would destroy it."""
    change, results, strategy = drift(vectors(n_tasks=2, single_head=True), epochs=25)
    assert strategy.info.n_outputs == 2 and len(strategy.model.heads.opened) == 4
    assert change < 1e-3
    assert min(results.R[-1]) > 0.9


def test_embeddings_stay_within_their_bounds_and_only_the_current_task_moves():
    def embeddings(strategy):
        return [gate.embeddings.detach().clone() for gate in strategy.gates]

    found, _, _ = watched(embeddings, lr=50.0, c=0.1)
    for before, after in zip(found[0], found[1], strict=True):
        assert after.abs().max() == 6.0
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        assert not torch.equal(after[1], before[1])


def test_a_stronger_regulariser_opens_fewer_units():
    shares = {}
    for c in (0.0, 2.5):
        harness = harness_of(c=c, lr=0.3)
        harness.run()
        shares[c] = harness.strategy.diagnostics()["units_in_use"]
    for free, held in zip(shares[0.0], shares[2.5], strict=True):
        assert held[-1] < free[-1] and held == sorted(held)


def test_annealing_and_compensation_can_be_left_out():
    def movement(**options):
        found, _, _ = watched(lambda strategy: strategy.gates[0].embeddings[0].detach().clone(), epochs=1, **options)
        start = watched(lambda s: s.gates[0].embeddings[0].detach().clone(), epochs=1, lr=1e-9)[0]
        return float((found[0] - start[0]).norm())

    with_both = movement()
    assert movement(compensate=False) < 0.5 * with_both
    assert movement(anneal=False) != pytest.approx(with_both, rel=0.01)


def test_networks_that_are_no_chain_are_refused_by_name():
    with pytest.raises(UsageError, match=r"plain chain.*BasicBlock.*model.name=mlp, conv_small"):
        harness_of(images(), model="resnet18_reduced").run()
    with pytest.raises(UsageError, match="plain chain"):
        chain_of(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
    with pytest.raises(UsageError, match="no unit to gate"):
        harness_of(network={"hidden": ()}).run()


def test_plain_sgd_is_the_only_optimiser():
    import dataclasses

    assert not {f.name for f in dataclasses.fields(HAT.Config)} & {"momentum", "weight_decay", "optimizer"}
    harness = harness_of(epochs=1)
    harness.run()
    (group,) = harness.strategy.optimizer.param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"s_max": 0.5}, "s_max=0.5 is out of range. Use 1 or more"),
        ({"c": -1.0}, "c=-1.0 is out of range. Use 0 or more"),
        ({"lr": 0.0}, "lr=0.0 is out of range"),
        ({"clip": float("nan")}, "clip=nan is out of range"),
        ({"norm": "per_tsk"}, "Did you mean per_task"),
        ({"embedding_init": "normall"}, "Did you mean normal"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        harness_of(**options).run()
