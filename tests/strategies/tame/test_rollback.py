"""TAME goes back to where a change that was found late began."""

import statistics
from functools import partial

import pytest
import torch

from cl_suite import Batch, build_network
from cl_suite.conformance.case import present
from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.scenario import Scenario
from cl_suite.runs.harness import Harness
from strategies.tame.rollback import Rollback
from strategies.tame.sparse import is_compact
from strategies.tame.tame import TAME
from tests.helpers.hidden_streams import harness_of, permuted_clusters
from tests.helpers.slow import slow_but
from tests.helpers.tame_runs import FAST, quality


def test_a_late_change_is_undone():
    """Until a batch is `length` old it is in no memory; going back restores weights and losses bit for bit."""
    harness = harness_of(TAME, **FAST)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    harness.strategy._create()
    (expert,), trail = harness.strategy.experts, Rollback(2)
    batches = [Batch(torch.randn(8, 24), torch.arange(8) % 4, torch.full((8, 1), number)) for number in range(5)]
    kept, weights = [], []
    for batch in batches:
        weights.append({name: value.clone() for name, value in expert.network.state_dict().items()})
        kept += [int(old.raw[0]) for old in trail.follow(expert, batch)]
        expert.learn(batch)
    assert kept == [0, 1, 2]
    again = Rollback(2)
    again.load_state_dict(trail.state_dict(), torch.device("cpu"))
    for each in (trail, again):
        assert [int(batch.raw[0]) for batch in each.undo(expert, torch.device("cpu"))] == [3, 4]
        assert all(value.equal(weights[3][name]) for name, value in expert.network.state_dict().items())
        assert expert.steps == 3
        assert not each.flush()


def test_rollback_gives_late_batches_to_the_new_expert():
    harness = harness_of(TAME, rollback=4, data=permuted_clusters(n_tasks=2), **FAST)
    harness.run()
    found, memory = quality(harness), harness.strategy.memory
    assert (found["experts"], found["missed_shifts"], found["false_alarms"]) == (2, 0, 0)
    raw, experts = memory.take(torch.arange(len(memory)))
    second = {tuple(row.tolist()) for row in harness.scenario_stream._training[1].inputs}
    owners = torch.tensor([int(tuple(row.tolist()) in second) for row in raw])
    late = (owners == 1) & (experts == 0)  # samples of the second task under the first one's expert
    early = (owners == 0) & (experts == 1)
    assert not late.any() and early.sum() < 0.05 * len(memory)


@pytest.mark.parametrize("when", slow_but({"on_switch"}, ["on_switch", "end"]))
def test_going_back_further_than_a_change_is_late_does_no_harm_where_labels_are_new(when):
    data = permuted_clusters(n_tasks=2, labels="disjoint")
    harness = harness_of(TAME, rollback=12, data=data, prune_when=when, **FAST)
    results = harness.run()
    assert quality(harness)["experts"] == 2
    assert statistics.fmean(results.R[-1]) > 0.8


def test_experts_left_before_any_batch_is_their_own_do_no_harm():
    nervous = {"rollback": 40, "warmup": 0, "deviations": 0.1, "std_floor": 0.0, "alpha": 1.0}
    harness = harness_of(TAME, data=permuted_clusters(n_tasks=2), **nervous, **FAST)
    harness.run()
    empty = [expert for expert in harness.strategy.experts if not expert.steps]
    assert not any(is_compact(expert.network) for expert in empty)


def test_going_back_resumes_bitwise_where_tasks_are_told(tmp_path):
    def made(**options):
        shown = present(Scenario.TASK_INCREMENTAL)
        build = partial(build_network, "mlp", shown.info.input_shape, shown.info.n_outputs, hidden=(32,))
        config = TAME.Config(detect="boundaries", route="task", allow_reuse=False, rollback=6, **FAST)
        return Harness(TAME(config), shown, build, **options)

    straight = made().run()
    broken = made(checkpoint=tmp_path / "state")
    broken.meter.max_samples = 900
    with pytest.raises(BudgetExceeded):
        broken.run()
    assert 0 < len(broken.results.R) < 3
    assert made(checkpoint=tmp_path / "state").run().R == straight.R
