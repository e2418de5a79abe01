"""TAME: the detector by hand and by simulation, experts found and called back, pruning that is real, resume."""

import math
import random
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cl_suite import Batch, TrainSettings, UnseenTask, UsageError, build_network
from cl_suite.conformance.case import present
from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.scenario import Scenario
from cl_suite.metrics.task_shifts import expert_use, shift_quality, shifts_summary
from cl_suite.run.harness import Harness
from strategies.tame.expert_memory import ExpertMemory
from strategies.tame.loss_detector import DetectorOptions, LossDetector
from strategies.tame.rollback import Rollback
from strategies.tame.sparse import Pruning, expand, is_compact, load_network, stored_parameters
from strategies.tame.tame import TAME
from tests.helpers.hidden_streams import harness_of, permuted_clusters, presented

FAST = {
    "window": 30,
    "lr": 0.03,
    "squash": "tanh_scale",
    "prune_experts": 0.5,
    "prune_lr": 0.03,
    "prune_epochs": 3,
    "prune_batch": 16,
}
FAST |= {"selector_memory": 200, "selector_epochs": 6, "selector_batch": 16, "selector_lr": 0.05}
ONE = TrainSettings(epochs=1, batch_size=16, segments=2)


COURSE = {"order": [0, 1, 2, 1, 3]}


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


def quality(harness):
    visits, seen = harness.scenario_stream.visits, harness.results.shift_log
    return shift_quality(visits, seen) | expert_use(visits, seen)


# ---- the detector


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


# ---- experts


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


def test_a_selector_trained_only_at_the_end_leaves_earlier_rows_empty():
    results = harness_of(TAME, selector_every=0, **FAST).run()
    assert None in results.R[2] and None not in results.R[-1]


def test_tame_keeps_what_finetuning_forgets(plain):
    from strategies.bounds.finetune import Finetune

    assert min(plain.results.R[-1]) > 0.9
    assert min(harness_of(Finetune, lr=0.03).run().R[-1]) < 0.6


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


@pytest.mark.parametrize("when", ["on_switch", "end"])
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


def test_one_expert_that_is_told_of_boundaries_goes_on():
    shown = present(Scenario.CLASS_INCREMENTAL)
    build = partial(build_network, "mlp", shown.info.input_shape, shown.info.n_outputs, hidden=(32,))
    strategy = TAME(TAME.Config(detect="boundaries", max_experts=1, **FAST))
    Harness(strategy, shown, build).run()
    assert len(strategy.experts) == 1 and strategy.refused == 2


def test_the_largest_margin_is_in_deviations():
    steady, noisy = (LossDetector(DetectorOptions(stat_lag=0), uniform=0.3, warmup=0) for _ in range(2))
    for number in range(50):
        steady.learned(0.30)
        noisy.learned(0.1 if number % 2 else 0.7)
    assert noisy.threshold - 0.3 > steady.threshold - 0.3  # in units of loss the noisy one is further
    assert steady.margin(0.1, smoothed=False) > noisy.margin(0.1, smoothed=False)


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


def test_a_pruned_expert_is_judged_by_its_own_losses():
    frozen = harness_of(TAME, remeasure=False, data=permuted_clusters(n_tasks=2), **FAST)
    anew = harness_of(TAME, data=permuted_clusters(n_tasks=2), **FAST)
    frozen.run(), anew.run()
    old, new = (harness.strategy.experts[0].detector for harness in (frozen, anew))
    assert old.losses != new.losses
    assert new.smoothed == pytest.approx(statistics.fmean(new.losses))


def test_the_rate_of_an_expert_rises_and_drops_by_its_own_clock():
    harness = harness_of(TAME, **{**FAST, "lr": 0.1, "lr_warmup": 2, "lr_drop_steps": [3], "lr_drop": 0.5})
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    harness.strategy._create()
    (expert,), rates = harness.strategy.experts, []
    for _ in range(5):
        expert.learn(Batch(torch.randn(8, 24), torch.arange(8) % 4, torch.zeros(8, 1)))
        rates.append(expert.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize("stop", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_resumed_it_gives_bitwise_the_same_scores(stop, tmp_path, course):
    straight = course.results
    broken = harness_of(TAME, schedule=COURSE, checkpoint=tmp_path / "state", **FAST)
    broken.meter.max_samples = int(broken.scenario_stream.info.planned_samples * stop / 5 * 1.2) + 3000
    with pytest.raises(BudgetExceeded):
        broken.run()
    assert 0 < len(broken.results.R) < 5
    resumed = harness_of(TAME, schedule=COURSE, checkpoint=tmp_path / "state", **FAST).run()
    assert resumed.R == straight.R
    assert resumed.seen == straight.seen
    assert resumed.routing == straight.routing


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


# ---- memory


@pytest.mark.parametrize("kind", ["global", "per_expert", "per_class"])
def test_the_memory_keeps_inputs_experts_and_labels_together(kind):
    info = presented().info
    memory = ExpertMemory(40, info, kind=kind, max_experts=4)
    for number in range(30):
        values = torch.arange(8) + 8 * number
        batch = Batch(values[:, None].float(), values % 4, values[:, None].float())
        memory.add(batch, expert=int(number // 10))
    assert len(memory) <= 40
    everything = torch.randperm(len(memory))
    raw, experts = memory.take(everything)
    assert (raw[:, 0].long() // 80).equal(experts)
    own = memory.of_expert(1)
    raw, labels = own.take(torch.arange(len(own)))
    assert (raw[:, 0].long() // 80 == 1).all() and (raw[:, 0].long() % 4).equal(labels)


def test_every_sample_is_kept_with_the_same_probability():
    from scipy.stats import chisquare

    counts = np.zeros(100)
    for seed in range(200):
        memory = ExpertMemory(20, presented(seed=seed).info, kind="global", max_experts=2)
        for start in range(0, 100, 10):
            values = torch.arange(start, start + 10)
            memory.add(Batch(values[:, None], values % 4, values[:, None]), expert=0)
        counts[memory.take(torch.arange(len(memory)))[0][:, 0].numpy()] += 1
    assert chisquare(counts).pvalue > 0.001


# ---- pruning


def conv_net(seed=0):
    torch.manual_seed(seed)
    network = build_network("conv_small", (3, 12, 10), 4, width=4)
    network.heads.open()
    return network.eval()


def test_the_smallest_weights_of_the_whole_network_go():
    network = conv_net()
    weights = torch.cat(
        [m.weight.detach().flatten() for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    )
    pruning = Pruning.by_magnitude(network, 0.9)
    kept = torch.cat([mask.flatten() for mask in pruning.masks.values()])
    assert int((~kept).sum()) == round(0.9 * len(weights))
    assert weights[kept].abs().min() >= weights[~kept].abs().max()


def test_a_compact_network_answers_the_same_and_stores_only_what_is_kept():
    network, inputs = conv_net(), torch.randn(5, 3, 12, 10)
    pruning = Pruning.by_magnitude(network, 0.9)
    pruning.apply(network)
    others = stored_parameters(network) - sum(mask.numel() for mask in pruning.masks.values())
    with torch.no_grad():
        before = network(inputs)
        pruning.compact(network)
        torch.testing.assert_close(network(inputs), before)
    kept = sum(int(mask.sum()) for mask in pruning.masks.values())
    assert stored_parameters(network) == others + kept
    assert not any("weight" in name and value.dim() > 1 for name, value in network.state_dict().items())
    again = conv_net(seed=1)
    load_network(again, network.state_dict(), compact=True)
    assert is_compact(again)
    with torch.no_grad():
        assert again(inputs).equal(network(inputs))


def test_an_expert_called_back_keeps_what_was_pruned_at_zero():
    network = conv_net()
    pruning = Pruning.by_magnitude(network, 0.9)
    pruning.apply(network)
    dense = {name: value.clone() for name, value in network.state_dict().items()}
    pruning.compact(network)
    back, kept = expand(network, conv_net(seed=1))
    assert all(value.equal(dense[name]) for name, value in back.state_dict().items())
    assert all(mask.equal(pruning.masks[name]) for name, mask in kept.masks.items())


def test_pruning_shows_in_the_record_of_sizes_and_in_the_state():
    harness = harness_of(TAME, **{**FAST, "prune_experts": 0.9, "prune_selector": 0.5})
    harness.run()
    facts, strategy = harness.strategy.diagnostics(), harness.strategy
    layers = 24 * 32 + 32 * 16
    expert = layers + 16 * 4
    selector = layers + 16 * 4
    biases = 5 * (32 + 16) + 4 * 4 + 4
    assert facts["parameters_before_pruning"] == 4 * expert + selector + biases
    kept = 4 * (expert - round(0.9 * expert)) + selector - round(0.5 * selector)
    assert facts["parameters_after_pruning"] == strategy.model_parameters() == kept + biases
    assert all(is_compact(each.network) for each in strategy.experts)


def test_an_unpruned_expert_stays_dense():
    harness = harness_of(TAME, **{**FAST, "prune_experts": 0.0, "prune_selector": 0.0})
    harness.run()
    assert not any(is_compact(each.network) for each in harness.strategy.experts)


def test_pruning_at_the_end_uses_the_samples_of_the_selector():
    harness = harness_of(TAME, prune_when="end", **FAST)
    results = harness.run()
    assert all(is_compact(each.network) for each in harness.strategy.experts)
    assert statistics.fmean(results.R[-1]) > 0.85


def test_squashed_outputs_bound_the_loss():
    harness = harness_of(TAME, train=ONE, **{**FAST, "squash": "sigmoid"})
    harness.run()
    classes = harness.scenario_stream.info.n_outputs
    low, high = math.log(1 + (classes - 1) / math.e), math.log(1 + (classes - 1) * math.e)
    assert all(low - 1e-6 <= loss <= high + 1e-6 for loss in harness.results.shift_log.loss)


def test_its_file_keeps_to_the_size_of_the_house():
    assert len(Path("strategies/tame/tame.py").read_text().splitlines()) <= 320
