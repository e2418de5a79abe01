"""TAME: experts found and called back, limits, routing, oracles, resume."""

import math
import statistics
from functools import partial
from pathlib import Path

import pytest
import torch

from cl_suite import Batch, UnseenTask, UsageError, build_network
from cl_suite.conformance.case import present
from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.scenario import Scenario
from cl_suite.metrics.task_shifts import shifts_summary
from cl_suite.runs.harness import Harness
from strategies.tame.tame import TAME
from tests.helpers.hidden_streams import harness_of, permuted_clusters
from tests.helpers.slow import slow_but
from tests.helpers.tame_runs import COURSE, FAST, ONE, quality


@pytest.fixture(scope="module")
def course():
    """Return a finished run in which a task returns."""
    harness = harness_of(TAME, schedule=COURSE, **FAST)
    harness.run()
    return harness


@pytest.fixture(scope="module")
def plain():
    """Return a finished run over four tasks."""
    harness = harness_of(TAME, **FAST)
    harness.run()
    return harness


@pytest.mark.parametrize("probe", ["on_alarm", pytest.param("all", marks=pytest.mark.slow)])
def test_as_many_experts_as_tasks_and_a_returning_task_gets_its_own_back(probe, course):
    harness = course
    if probe == "all":
        harness = harness_of(TAME, schedule=COURSE, probe=probe, **FAST)
        harness.run()
    results, found = harness.results, quality(harness)
    assert found["experts"] == 4
    assert (found["missed_shifts"], found["false_alarms"]) == (0, 0)
    assert (found["returns"], found["reused"]) == (1, 1)
    assert max(found["delays"]) <= 5 * 16
    assert statistics.fmean(results.R[-1]) > 0.9
    assert harness.evaluations["routing"].scores["acc_global"] <= statistics.fmean(results.R[-1]) + 1e-9


class Watched:
    """What an experience is to `_meet`: it hears what is observed."""

    index, task_id = 0, None

    def __init__(self):
        self.shifts = []

    def observe(self, *, shift=False, **_):
        self.shifts.append(shift)

    def report(self, loss):
        pass


def trained_on_one_task():
    """Return TAME with one expert, and batches (of 16) of its task and of another one."""
    data = permuted_clusters(n_tasks=2)
    harness = harness_of(TAME, data=permuted_clusters(n_tasks=1), **{**FAST, "prune_experts": 0.0})
    harness.run()
    own, other = (
        [Batch(x, y, x) for x, y in zip(task.train.inputs.split(16), task.train.targets.split(16), strict=True)]
        for task in data.tasks
    )
    return harness.strategy, own, other


def test_one_odd_batch_is_no_new_task_and_is_learned_once_that_is_known():
    strategy, (own, *_), (other, *_) = trained_on_one_task()
    watched, steps = Watched(), strategy.experts[0].steps
    strategy._meet(watched, other)
    assert strategy.experts[0].steps == steps  # held back
    strategy._meet(watched, own)
    assert len(strategy.experts) == 1 and strategy.experts[0].steps == steps + 2
    strategy._meet(watched, own)
    assert watched.shifts == [False, False, False]


@pytest.mark.parametrize("kept", [False, True])
def test_an_alarm_is_judged_on_the_next_batch_also_after_a_resume(kept):
    """The first batch of a change may be of two tasks: judged on it, the expert of neither would know it."""
    strategy, own, other = trained_on_one_task()
    inputs = torch.cat([own[0].inputs[:8], other[0].inputs[8:]])
    half = Batch(inputs, torch.cat([own[0].targets[:8], other[0].targets[8:]]), inputs)
    watched = Watched()
    strategy._meet(watched, half)
    if kept:
        state = strategy.state_dict()
        again = harness_of(TAME, data=permuted_clusters(n_tasks=1), **{**FAST, "prune_experts": 0.0})
        strategy = again.strategy
        strategy.setup(again.scenario_stream.info, again._factory)
        strategy.load_state_dict(state)
    for batch in other[1:4]:
        strategy._meet(watched, batch)
    assert watched.shifts == [False, True, False, False]
    assert strategy.active == 1 and strategy.experts[1].steps == 4  # the half one too


@pytest.mark.parametrize("callable_after", [0, 10_000])
def test_an_expert_is_called_back_only_once_it_has_learned_enough(callable_after):
    strategy, own, other = trained_on_one_task()
    strategy.config.callable_after = callable_after
    watched = Watched()
    for batch in [*other * 4, *own[:4]]:
        strategy._meet(watched, batch)
    assert strategy.active == (0 if callable_after == 0 else 2)


@pytest.mark.slow
def test_a_batch_of_two_tasks_does_not_hide_that_one_of_them_came_back():
    """97.5 batches a visit: changes lie within batches. The paper's rule makes a superfluous expert here."""
    uneven = permuted_clusters(count=390)
    harness = harness_of(TAME, data=uneven, schedule={"order": [0, 1, 2, 1, 3, 0]}, **FAST)
    harness.run()
    found = quality(harness)
    assert (found["experts"], found["returns"], found["reused"]) == (4, 2, 2)
    assert (found["missed_shifts"], found["false_alarms"]) == (0, 0)


@pytest.mark.slow
def test_without_reuse_every_change_makes_an_expert():
    harness = harness_of(TAME, schedule=COURSE, allow_reuse=False, **FAST)
    harness.run()
    assert quality(harness)["experts"] == 5


def test_a_stream_without_a_shift_has_one_expert_and_needs_no_selector():
    harness = harness_of(TAME, data=permuted_clusters(n_tasks=1, count=800), **FAST)
    results = harness.run()
    assert len(harness.strategy.experts) == 1 and harness.strategy.selector is None
    assert not any(results.shift_log.shift)
    assert results.R[-1][0] > 0.9 and harness.evaluations["routing"].scores["selector_accuracy"] == 1.0


def test_beyond_max_experts_changes_go_to_the_best_fitting_one_and_it_is_said():
    said = []

    class Listener:
        def __getattr__(self, name):
            return said.append if name == "note" else lambda *arguments: None

    harness = harness_of(TAME, max_experts=2, listener=Listener(), **FAST)
    harness.run()
    assert len(harness.strategy.experts) == 2
    assert harness.strategy.diagnostics()["switches_beyond_max_experts"] >= 1
    assert sum("max_experts=2 reached" in text for text in said) == 1


def test_a_stream_shorter_than_the_window_is_said_to_be():
    said = []

    class Listener:
        def __getattr__(self, name):
            return said.append if name == "note" else lambda *arguments: None

    harness_of(TAME, data=permuted_clusters(count=100), train=ONE, listener=Listener(), **{**FAST, "window": 200}).run()
    assert sum("fewer batches than strategy.window=200" in text for text in said) == 1


@pytest.mark.slow
def test_routing_by_entropy_needs_no_selector():
    harness = harness_of(TAME, route="entropy", **FAST)
    results = harness.run()
    assert harness.strategy.selector is None
    assert statistics.fmean(results.R[-1]) > 1 / 4


@pytest.mark.slow
def test_a_selector_trained_only_at_the_end_leaves_earlier_rows_empty():
    results = harness_of(TAME, selector_every=0, **FAST).run()
    assert None in results.R[2] and None not in results.R[-1]


def test_tame_keeps_what_finetuning_forgets(plain):
    from strategies.bounds.finetune import Finetune

    assert min(plain.results.R[-1]) > 0.9
    assert min(harness_of(Finetune, lr=0.03).run().R[-1]) < 0.6


def test_one_expert_that_is_told_of_boundaries_goes_on():
    shown = present(Scenario.CLASS_INCREMENTAL)
    build = partial(build_network, "mlp", shown.info.input_shape, shown.info.n_outputs, hidden=(32,))
    strategy = TAME(TAME.Config(detect="boundaries", max_experts=1, **FAST))
    Harness(strategy, shown, build).run()
    assert len(strategy.experts) == 1 and strategy.refused == 2


@pytest.mark.slow
def test_a_blurred_stream_has_as_many_experts_as_tasks():
    harness = harness_of(TAME, data=permuted_clusters(n_tasks=2), schedule={"blur": 100}, **FAST)
    harness.run()
    assert quality(harness)["experts"] == 2


def test_shifts_shorter_than_the_window_are_missed_and_the_account_says_so():
    harness = harness_of(TAME, **{**FAST, "window": 400})
    harness.run()
    assert shifts_summary(quality(harness)) == "0 of 3 shifts found, 0 false alarms; experts used: 1, tasks: 4"


def test_an_oracle_switches_where_it_is_told_and_routes_by_the_task():
    config = TAME.Config(detect="boundaries", route="task", allow_reuse=False, **FAST)
    assert TAME.requirements(TAME.Config()) == frozenset()
    assert TAME.requirements(config) <= Scenario.TASK_INCREMENTAL.provides
    assert not TAME.requirements(config) <= Scenario.CLASS_INCREMENTAL.provides
    shown = present(Scenario.TASK_INCREMENTAL)
    strategy = TAME(config)
    build = partial(build_network, "mlp", shown.info.input_shape, shown.info.n_outputs, hidden=(32,))
    results = Harness(strategy, shown, build).run()
    assert len(strategy.experts) == len(shown.tasks) and strategy.selector is None
    assert min(results.R[-1]) > 0.8


def test_the_rate_of_an_expert_rises_and_drops_by_its_own_clock():
    harness = harness_of(TAME, **{**FAST, "lr": 0.1, "lr_warmup": 2, "lr_drop_steps": [3], "lr_drop": 0.5})
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    harness.strategy._create()
    (expert,), rates = harness.strategy.experts, []
    for _ in range(5):
        expert.learn(Batch(torch.randn(8, 24), torch.arange(8) % 4, torch.zeros(8, 1)))
        rates.append(expert.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize("stop", slow_but([2], [2, 4]))
def test_resumed_it_gives_bitwise_the_same_scores(stop, tmp_path, course):
    straight = course.results
    broken = harness_of(TAME, schedule=COURSE, checkpoint=tmp_path / "state", **FAST)
    broken.meter.max_samples = int(broken.scenario_stream.info.planned_samples * stop / 5 * 1.2) + 3000
    with pytest.raises(BudgetExceeded):
        broken.run()
    assert 0 < len(broken.results.R) < 5
    harness = harness_of(TAME, schedule=COURSE, checkpoint=tmp_path / "state", **FAST)
    resumed = harness.run()
    assert resumed.R == straight.R
    assert resumed.shift_log == straight.shift_log
    assert harness.evaluations["routing"].scores == course.evaluations["routing"].scores != {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selector_memory": 10}, "strategy.selector_memory=10 is too small to learn 20 experts apart"),
        ({"buffer": "ring"}, "strategy.buffer=ring is not known. Use global, per_expert, per_class."),
        ({"max_experts": 0}, "strategy.max_experts=0 is too small"),
        ({"prune_experts": 1.0}, "strategy.prune_experts=1.0 is not a share"),
        ({"nesterov": True, "momentum": 0.0}, "strategy.nesterov=true has no meaning without strategy.momentum"),
        ({"lr_warmup": -1}, "strategy.lr_warmup=-1 is not a number of steps"),
        ({"lr": -1.0}, "strategy.lr=-1.0 is not possible"),
        ({"momentum": -1.0}, "strategy.momentum=-1.0 is not possible"),
        ({"weight_decay": -1.0}, "strategy.weight_decay=-1.0 is not possible"),
        ({"selector_lr": 0.0}, "strategy.selector_lr=0.0 is not possible"),
        ({"selector_every": -1}, "strategy.selector_every=-1 is too small"),
        ({"lr_drop": -1.0}, "strategy.lr_drop=-1.0 is not possible"),
        ({"std_floor": math.nan}, "strategy.std_floor must be 0 or more"),
        ({"rollback": -1}, "strategy.rollback=-1 is not a number of batches"),
        ({"callable_after": -1}, "strategy.callable_after=-1 is not a number of batches"),
        ({"detect": "ids"}, "strategy.detect=ids is not known"),
        ({"squash": "relu"}, "strategy.squash=relu is not known"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, message):
    with pytest.raises(UsageError) as problem:
        harness_of(TAME, **options).run()
    assert message in str(problem.value)


def test_nothing_is_answered_before_anything_is_learned():
    harness = harness_of(TAME, **FAST)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    with pytest.raises(UnseenTask):
        harness.strategy.predictor()


def test_squashed_outputs_bound_the_loss():
    harness = harness_of(TAME, train=ONE, **{**FAST, "squash": "sigmoid"})
    harness.run()
    classes = harness.scenario_stream.info.n_outputs
    low, high = math.log(1 + (classes - 1) / math.e), math.log(1 + (classes - 1) * math.e)
    assert all(low - 1e-6 <= loss <= high + 1e-6 for loss in harness.results.shift_log.loss)


def test_its_file_keeps_to_the_size_of_the_house():
    assert len(Path("strategies/tame/tame.py").read_text().splitlines()) <= 320
