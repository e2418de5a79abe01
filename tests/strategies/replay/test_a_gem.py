"""A-GEM: the projection by hand, on real gradients, and what the memory holds."""

import math

import pytest
import torch

from cl_suite import Requirement, TrainSettings, UsageError
from cl_suite.conformance.case import conformance_stream, states_equal
from cl_suite.methods.gradient_vectors import project
from strategies.bounds.finetune import Finetune
from strategies.replay.a_gem import AGEM
from tests.helpers.projection_streams import harness_of

TRAIN = TrainSettings(epochs=2, batch_size=10)  # 8 steps per pass over one of the three tasks


def harness_for(cls=AGEM, *, scenario="class_incremental", train=TRAIN, **options):
    return harness_of(cls, scenario=scenario, data=conformance_stream(), train=train, hidden=(32,), **options)


def test_a_violated_constraint_is_met_exactly_with_the_nearest_vector():
    g, g_ref = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    assert project(g, g_ref).tolist() == [0.5, 0.5]  # <g, g_ref> = -1, <g_ref, g_ref> = 2
    generator = torch.Generator().manual_seed(0)
    g_ref = torch.randn(1000, generator=generator)
    g = torch.randn(1000, generator=generator) - 0.1 * g_ref
    projected = project(g, g_ref)
    assert g @ g_ref < 0
    assert abs(projected @ g_ref) < 1e-3 * abs(g @ g_ref)
    # What was removed lies along g_ref alone.
    assert torch.cosine_similarity(projected - g, g_ref, dim=0) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("g_ref", [[1.0, 3.0], [0.0, 0.0], [2.0, -0.5]])
def test_a_gradient_that_violates_nothing_is_untouched(g_ref):
    g = torch.tensor([0.1, 0.3])  # the products are 1, 0, 0.05
    assert torch.equal(project(g, torch.tensor(g_ref)), g)


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental"])
def test_the_gradient_of_a_step_never_goes_against_that_of_memory(scenario):
    harness = harness_for(scenario=scenario, lr=0.05)
    strategy, found = harness.strategy, []
    adjust, loss = strategy.adjust_gradients, strategy.loss
    references = []

    def watched_loss(batch):
        value = loss(batch)
        references.append((batch, value))
        return value

    def gradients():
        return torch.cat([p.grad.flatten() for p in strategy.model.parameters()])

    def watched(batch):
        before, held = gradients(), len(strategy.buffer)
        adjust(batch)
        after = gradients()
        if not held:
            assert torch.equal(after, before)  # the first task is free
            return
        replay = references[-1][0]
        reference = torch.autograd.grad(loss(replay), list(strategy.model.parameters()))
        reference = torch.cat([g.flatten() for g in reference])
        found.append((float(before @ reference), float(after @ reference), torch.equal(after, before)))

    strategy.loss, strategy.adjust_gradients = watched_loss, watched
    harness.run()
    violated = [each for each in found if each[0] < -1e-6]
    fine = [each for each in found if each[0] > 1e-6]
    assert violated and bool(fine) == (scenario == "task_incremental")
    assert all(abs(after) < 1e-4 * abs(before) + 1e-6 and not same for before, after, same in violated)
    assert all(same for _, _, same in fine)
    share = strategy.diagnostics()["projected_share_of_steps"]
    assert share[0] == 0.0
    assert sum(share) * 16 == pytest.approx(len(violated), abs=1)  # two passes of 8 steps in each task
    (cosine,) = strategy.constraints().values()
    assert -1 < cosine < 1 and cosine != 0


def test_where_nothing_is_violated_it_is_finetuning_bit_for_bit(monkeypatch):
    finetune = harness_for(Finetune, lr=0.1, momentum=0.0)
    finetune.run()
    monkeypatch.setattr("cl_suite.methods.gradient_vectors.project", lambda g, g_ref: project(g, g))
    harness = harness_for()
    harness.run()
    assert states_equal(harness.strategy.model.state_dict(), finetune.strategy.model.state_dict())


@pytest.mark.parametrize(
    ("options", "per_task"), [({}, 30 // 3), ({"agem_fill": "one_batch"}, 10), ({"buffer_size": 1000}, 80)]
)
def test_the_memory_holds_an_equal_share_of_each_task_or_one_batch(options, per_task):
    harness = harness_for(**{"buffer_size": 30, **options})
    harness.run()
    buffer = harness.strategy.buffer
    held = buffer.task_ids[: len(buffer)].bincount().tolist()
    assert held == [per_task] * 3
    assert len(buffer.targets[: len(buffer)].unique()) == 6  # drawn at random, so both classes of each task
    assert harness.strategy.diagnostics()["buffer_bytes"] == len(buffer) * (12 * 4 + 8 + 8)


def test_one_batch_per_task_may_be_less_than_the_quota():
    harness = harness_for(buffer_size=90, agem_fill="one_batch")
    harness.run()
    assert len(harness.strategy.buffer) == 30


def test_costs_are_foreseen():
    harness = harness_for(buffer_size=30, replay_batch=5)
    harness.run()
    info = harness.scenario_stream.info
    assert harness.meter.samples_drawn == harness.strategy.expected_samples(info) == 480 + 32 * 5 + 30
    assert harness.meter.samples_replayed == 32 * 5


def test_it_forgets_less_than_finetuning():
    train = TrainSettings(epochs=4, batch_size=10)
    means = []
    for harness in (harness_for(Finetune, train=train, lr=0.1, momentum=0.0), harness_for(train=train)):
        means.append(sum(harness.run().R[-1]) / 3)
    assert means[1] > 0.6 > 0.5 > means[0], means


def test_there_is_no_momentum_and_boundaries_are_needed():
    with pytest.raises(TypeError):
        AGEM.Config(momentum=0.9)
    assert AGEM.requires == {Requirement.BOUNDARIES}
    assert math.isclose(AGEM.Config().lr, 0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"agem_fill": "qouta"}, "strategy.agem_fill=qouta is not known. Did you mean quota"),
        ({"buffer_size": 2}, "strategy.buffer_size=2 leaves nothing for each of 3 tasks. Use 3 or more"),
        ({"replay_batch": -2}, "strategy.replay_batch=-2"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        harness_for(**options).run()
