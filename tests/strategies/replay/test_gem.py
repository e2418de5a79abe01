"""GEM: the dual problem by hand and by its conditions, real gradients, and what the memory holds."""

import numpy as np
import pytest
import torch

from cl_suite import Requirement, TrainSettings, UsageError
from cl_suite.conformance.case import conformance_stream, states_equal
from strategies.bounds.finetune import Finetune
from strategies.replay.gem import GEM, RIDGE, correction, smallest_cosine, solve_dual
from tests.helpers.projection_streams import EachExperience, harness_of

TRAIN = TrainSettings(epochs=2, batch_size=10)  # 8 steps per pass over one of the three tasks


def harness_for(cls=GEM, *, scenario="class_incremental", train=TRAIN, **options):
    return harness_of(cls, scenario=scenario, data=conformance_stream(), train=train, hidden=(32,), **options)


def gram_of(g, *memories):
    vectors = np.array([g, *memories], dtype=np.float64)
    return vectors @ vectors.T


@pytest.mark.parametrize(
    ("margin", "v"),
    [
        (0.0, 1 / (2 + 1e-3)),  # -<g, g_1> / (<g_1, g_1> + ridge)
        (0.25, 1 / (2 + 1e-3)),  # already above the margin
        (0.75, 0.75),
    ],
)
def test_one_constraint_by_hand(margin, v):
    assert correction(gram_of([1, 0], [-1, 1]), margin) == pytest.approx([v])


def test_two_constraints_of_which_one_binds_by_hand():
    g, first, second = np.array([1.0, 0.0, 0.0]), np.array([-1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])
    v = correction(gram_of(g, first, second), 0.0)
    # v_1 = 1 / 2.001; the second product is then 1 - v_1 > 0, so that v_2 = 0.
    assert v == pytest.approx([1 / 2.001, 0.0], abs=1e-9)
    # With v_2 = 0.5 from the margin, the first must make up for its product -1 with the second too: 1.5 / 2.001.
    assert correction(gram_of(g, first, second), 0.5) == pytest.approx([1.5 / 2.001, 0.5], abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.5, 10.0])
def test_nothing_changes_where_nothing_is_violated_whatever_the_margin(margin):
    assert correction(gram_of([1, 2], [3, 1], [0, 1], [2, -1], [0, 0]), margin) is None


def test_the_smallest_cosine_is_that_of_the_worst_memory():
    assert smallest_cosine(gram_of([2, 0], [0, 3], [-1, 1], [1, 1])) == pytest.approx(-(0.5**0.5))
    assert smallest_cosine(gram_of([0, 0], [0, 3])) == 0.0


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize(("count", "rank", "size"), [(2, 5, 1.0), (20, 30, 1.0), (100, 400, 1.0), (100, 7, 30.0)])
def test_the_solution_meets_the_conditions_of_optimality_and_all_constraints(count, rank, size, margin):
    """Also with 100 gradients of which only 7 are independent, rounded to float32."""
    random = np.random.default_rng(0)
    G = (size * random.standard_normal((count, rank))).astype(np.float32)
    g = (random.standard_normal(rank) - 0.3 * G.sum(0)).astype(np.float32)
    v = solve_dual(G @ G.T, G @ g, margin)
    slope = (G @ G.T).astype(np.float64) @ v + RIDGE * v + G @ g  # of the dual, its multipliers
    tolerance = 1e-5 * np.abs(G @ g).max()
    assert (v >= margin).all()
    assert (slope >= -tolerance).all()
    assert (np.abs(slope[v > margin + 1e-6]) <= tolerance).all()
    # Each constraint holds, but for what the ridge takes.
    assert (G.astype(np.float64) @ (g + G.T.astype(np.float64) @ v) >= -RIDGE * v - tolerance).all()


def memory_gradients(strategy):
    """Return G [K, P] from the samples of each task in memory, one task at a time."""
    found = []
    size = len(strategy.buffer)
    for task in strategy.buffer.task_ids[:size].unique():
        batch = strategy.buffer.batch_at(torch.nonzero(strategy.buffer.task_ids[:size] == task)[:, 0])
        gradients = torch.autograd.grad(strategy.loss(batch), list(strategy.model.parameters()))
        found.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(found)


@pytest.mark.parametrize("margin", [0.0, 2.0])
@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental"])
def test_a_step_goes_against_no_memory_and_is_untouched_where_it_does_not(scenario, margin):
    harness = harness_for(scenario=scenario, margin=margin, lr=0.05)
    strategy, corrected, untouched, numbers = harness.strategy, [], [], []
    adjust = strategy.adjust_gradients

    def gradients():
        return torch.cat([p.grad.flatten() for p in strategy.model.parameters()])

    def watched(batch):
        before = gradients()
        adjust(batch)
        change = gradients() - before
        if not len(strategy.buffer):
            assert not change.any()  # the first task is free
            return
        G = memory_gradients(strategy)
        numbers.append(len(G))
        if (G @ before).min() > 1e-5:
            untouched.append(change)
        elif (G @ before).min() < -1e-5:
            corrected.append((G, before, change))

    strategy.adjust_gradients = watched
    harness.run()
    assert numbers == [1] * 16 + [2] * 16
    assert corrected and bool(untouched) == (scenario == "task_incremental")
    assert not any(change.any() for change in untouched)
    for G, before, change in corrected:
        v = torch.linalg.lstsq(G.T, change[:, None]).solution[:, 0]
        assert torch.allclose(v @ G, change, atol=1e-5)  # by gradients of the memories, and nothing else
        assert (v > margin - 1e-3).all()
        assert (G @ (before + change) > -1.1 * RIDGE * v.abs() - 1e-5).all()
    share = strategy.diagnostics()["projected_share_of_steps"]
    assert share[0] == 0.0
    assert sum(share) * 16 == pytest.approx(len(corrected), abs=1)
    (cosine,) = strategy.constraints().values()
    assert -1 < cosine < 1 and cosine != 0


def test_where_nothing_is_violated_it_is_finetuning_bit_for_bit(monkeypatch):
    finetune = harness_for(Finetune, lr=0.1, momentum=0.0)
    finetune.run()
    monkeypatch.setattr("strategies.replay.gem.correction", lambda gram, margin: correction(np.abs(gram), margin))
    harness = harness_for()
    harness.run()
    assert states_equal(harness.strategy.model.state_dict(), finetune.strategy.model.state_dict())


def test_tasks_have_equal_shares_of_the_memory_which_shrink():
    held, first = [], []

    def look(_):
        buffer = harness.strategy.buffer
        held.append(buffer.task_ids[: len(buffer)].bincount().tolist())
        raw, _targets = buffer.take(torch.arange(held[-1][0]))
        first.append(raw)

    harness = harness_for(scenario="domain_incremental", buffer_size=50, listener=EachExperience(look))
    harness.run()
    assert held == [[50], [25, 25], [16, 16, 16]]
    assert torch.equal(first[1], first[0][:25]) and torch.equal(first[2], first[0][:16])
    strategy = harness.strategy
    assert len(strategy.buffer.targets[:48].unique()) == 2
    assert strategy.diagnostics()["samples_per_task"] == [16, 16, 16]
    assert strategy.diagnostics()["buffer_bytes"] == 48 * (12 * 4 + 8 + 8 + 8)


def test_a_memory_larger_than_the_stream_holds_it_all_once():
    harness = harness_for(buffer_size=1000)
    harness.run()
    buffer = harness.strategy.buffer
    raw, _ = buffer.take(torch.arange(len(buffer)))
    assert len(buffer) == len(raw.unique(dim=0)) == 240


def test_each_step_reads_the_whole_memory_and_costs_are_foreseen():
    harness = harness_for(buffer_size=60)
    harness.run()
    info = harness.scenario_stream.info
    assert harness.meter.samples_replayed == 2 * 16 * 60
    assert harness.meter.samples_drawn == 480 + 2 * 16 * 60 + (60 + 30 + 20)
    assert harness.strategy.expected_samples(info) == harness.meter.samples_drawn


def test_it_forgets_less_than_finetuning():
    train = TrainSettings(epochs=4, batch_size=10)
    means = []
    for harness in (harness_for(Finetune, train=train, lr=0.1, momentum=0.0), harness_for(train=train)):
        means.append(sum(harness.run().R[-1]) / 3)
    assert means[1] > 0.85 > 0.5 > means[0], means


def test_there_is_no_momentum_and_boundaries_are_needed():
    with pytest.raises(TypeError):
        GEM.Config(momentum=0.9)
    assert GEM.requires == {Requirement.BOUNDARIES}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"margin": -0.5}, "strategy.margin=-0.5 is the least weight of a gradient. Use 0 or more"),
        ({"margin": float("nan")}, "strategy.margin=nan"),
        ({"buffer_size": 2}, "strategy.buffer_size=2 leaves nothing for each of 3 tasks. Use 3 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        harness_for(**options).run()
