"""The task-agnostic scenario: courses of a stream, nothing told, and a strategy's account against the hidden truth."""

import dataclasses
from collections import Counter

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from cl_suite.conformance.case import present
from cl_suite.core.listener import Hooks
from cl_suite.core.registry import STRATEGY, choose
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import SEGMENTS, ScenarioStream
from cl_suite.core.schedule import HiddenOrder, Schedule, Visit, hidden_order, plan_visits
from cl_suite.metrics.matrix import accuracy_over_time, summarise
from cl_suite.metrics.task_shifts import ShiftLog, changes, expert_use, shift_figures, shift_quality
from cl_suite.records.record import config_hash
from cl_suite.runs.refuse import check_requirements
from strategies.bounds.finetune import Finetune
from strategies.regularisation.ewc import EWC
from tests.helpers.hidden_streams import TRAIN, harness_of, permuted_clusters, presented
from tests.helpers.slow import slow_but

ONE_PASS = TrainSettings(epochs=1, batch_size=16, segments=4)


def owners(scenario_stream, **options):
    order = hidden_order(scenario_stream._training, scenario_stream.visits, seeds=scenario_stream._seeds, **options)
    return order._owner


def test_every_stream_is_cut_into_the_same_number_of_segments():
    for n_tasks in (2, 3, 5):
        scenario_stream = presented(permuted_clusters(n_tasks=n_tasks), train=TrainSettings(epochs=1))
        assert scenario_stream.n_experiences == scenario_stream.info.n_experiences == SEGMENTS


def test_a_task_that_comes_back_is_offered_again_in_a_new_order():
    scenario_stream = presented(schedule={"order": [0, 1, 2, 1, 3]}, train=ONE_PASS)
    assert [visit.task for visit in scenario_stream.visits] == [0, 1, 2, 1, 3]
    assert scenario_stream.info.planned_samples == 5 * 400
    order = hidden_order(scenario_stream._training, scenario_stream.visits, blur=0, seeds=scenario_stream._seeds)
    assert order._owner.tolist() == [task for task in (0, 1, 2, 1, 3) for _ in range(400)]
    first, again = order._position[400:800], order._position[1200:1600]
    assert first.sort().values.equal(again.sort().values) and not first.equal(again)


def test_a_blurred_change_mixes_two_tasks_over_its_width_and_loses_no_sample():
    scenario_stream = presented(train=ONE_PASS)
    abrupt, blurred = owners(scenario_stream, blur=0), owners(scenario_stream, blur=200)
    assert Counter(abrupt.tolist()) == Counter(blurred.tolist())
    assert blurred[:300].unique().tolist() == [0] and blurred[500:700].unique().tolist() == [1]
    left, right = blurred[300:400], blurred[400:500]
    assert 0 < (left == 1).float().mean() < 0.5 < (right == 1).float().mean() < 1


@pytest.mark.parametrize("blur", [0, 200])
def test_batches_come_in_the_hidden_order(blur):
    scenario_stream = presented(schedule={"blur": blur}, train=ONE_PASS)
    given = torch.cat(
        [batch.raw for experience in scenario_stream.experiences(Hooks()) for batch in experience.batches()]
    )
    order = hidden_order(scenario_stream._training, scenario_stream.visits, blur=blur, seeds=scenario_stream._seeds)
    stored = [part.inputs for part in scenario_stream._training]
    expected = torch.stack([stored[o][p] for o, p in zip(order._owner, order._position, strict=True)])
    assert given.equal(expected)


def test_local_labels_give_all_tasks_the_same_outputs():
    data = permuted_clusters(labels="disjoint")
    assert presented(data).info.n_outputs == 16
    local = presented(data, schedule={"labels": "local"})
    assert local.info.n_outputs == 4
    assert {task.classes for task in local.tasks} == {(0, 1, 2, 3)}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"order": [0, 1, 2, 4]}, "schedule.order names task 4, but the stream's tasks are 0 to 3."),
        ({"order": []}, "schedule.order is empty, but the stream's tasks are 0 to 3."),
        ({"order": [0, 1, 2, 1]}, "schedule.order leaves out task 3. Visit every task, or set stream.n_tasks."),
        ({"blur": -1}, "schedule.blur=-1 is not a number of samples. Use 0 (abrupt) or more."),
        ({"blur": 401}, "schedule.blur=401 is wider than the shortest stretch of one task (400 samples)"),
        ({"labels": "own"}, "schedule.labels=own is not known. Use global or local."),
    ],
)
def test_a_course_that_cannot_be_is_refused(schedule, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace(")", r"\)")):
        presented(schedule=schedule, train=ONE_PASS)


def test_a_schedule_is_refused_where_boundaries_are_told():
    with pytest.raises(UsageError, match="Use --scenario task_agnostic"):
        ScenarioStream(
            "permuted clusters",
            permuted_clusters(),
            Scenario.CLASS_INCREMENTAL,
            train=TRAIN,
            seeds=present(Scenario.CLASS_INCREMENTAL)._seeds,
            device=torch.device("cpu"),
            schedule=Schedule(blur=5),
        )


def test_records_of_before_schedules_keep_their_hash():
    old = {"train": {"epochs": 1}}
    assert config_hash(old) == config_hash(old | {"schedule": {"order": None, "blur": 0, "labels": "global"}})
    assert config_hash(old) != config_hash(old | {"schedule": {"order": [1, 0], "blur": 0, "labels": "global"}})


class Scrambled(ScenarioStream):
    """The same samples in the same order; everything that is hidden is renumbered, renamed or wrong."""

    RENUMBERED = (2, 0, 3, 1)

    def _segments(self):
        back = [self.RENUMBERED.index(number) for number in range(4)]
        self.visits, wrong = self.right, self.visits
        segments = super()._segments()
        self.visits = wrong
        renumber = torch.tensor(self.RENUMBERED)
        return [HiddenOrder([s._parts[i] for i in back], renumber[s._owner], s._position) for s in segments]

    def begun(self, experience):
        return [0]


def scrambled(scenario_stream):
    """Return the scenario_stream with other names and numbers of tasks, and wrong visits."""
    p = scenario_stream
    tasks = tuple(dataclasses.replace(task, name=f"x{9 - i}") for i, task in enumerate(p._data.tasks))
    data = dataclasses.replace(p._data, tasks=tasks)
    other = Scrambled("permuted clusters", data, p.scenario, train=TRAIN, seeds=p._seeds, device=p._device)
    other.right = other.visits
    other.visits = [dataclasses.replace(v, task=(v.task * 3 + 1) % 4, start=0) for v in other.visits]
    return other


class Cheat(Finetune):
    """Looks behind the curtain: takes the hidden number of the task for a learning rate."""

    def learn(self, experience):
        for group in self.optimizer.param_groups:
            group["lr"] = 0.01 * (1 + int(experience._source._owner[0]))
        super().learn(experience)


def scores(cls, *, scramble):
    harness = harness_of(cls)
    if scramble:
        harness.scenario_stream = scrambled(harness.scenario_stream)
    return harness.run().R


@pytest.mark.parametrize("name", slow_but({"er", "finetune"}, ["tame", "er", "finetune"]))
def test_scrambled_hidden_metadata_changes_no_score(name):
    cls = choose(STRATEGY, name).cls
    assert scores(cls, scramble=True) == scores(cls, scramble=False)


def test_scrambling_would_give_a_cheat_away():
    assert scores(Cheat, scramble=True) != scores(Cheat, scramble=False)


def test_more_segments_than_samples_are_refused():
    with pytest.raises(UsageError, match=r"train.segments=2000 is too many for a stream of 1600 samples"):
        presented(train=TrainSettings(epochs=1, segments=2000))


def test_nothing_handed_over_names_a_task():
    scenario_stream = presented(permuted_clusters(names="secret"), schedule={"order": [0, 1, 2, 1, 3]})
    told = dataclasses.asdict(dataclasses.replace(scenario_stream.info, prepare=None, objective=None))
    assert "secret" not in repr(told) and told["task_classes"] is None
    for experience in scenario_stream.experiences(Hooks()):
        assert experience.task_id is None and experience.classes is None
        assert all(batch.task_ids is None for batch in experience.batches())


# ---- judging detections: by hand

VISITS = [Visit(0, 0, 100), Visit(1, 100, 200), Visit(0, 200, 300)]


def seen(shifts, experts):
    """Batches of 10 samples; a shift at these batch ends."""
    found = ShiftLog.none()
    for number, expert in enumerate(experts):
        end = 10 * (number + 1)
        found.add(end, 1.0, None, expert, end in shifts)
    return found


def test_true_changes_are_where_the_task_differs():
    assert changes(VISITS) == [100, 200]
    assert changes([Visit(0, 0, 10), Visit(0, 10, 20)]) == []


@pytest.mark.parametrize(
    ("shifts", "missed", "false_alarms", "delays"),
    [
        ([110, 220], 0, 0, [10, 20]),
        ([110], 1, 0, [10, None]),
        ([50, 110, 120, 210], 0, 2, [10, 10]),
        ([], 2, 0, [None, None]),
        ([100], 2, 1, [None, None]),  # ends before anything new was seen
    ],
)
def test_detections_are_counted_by_hand(shifts, missed, false_alarms, delays):
    found = shift_quality(VISITS, seen(shifts, [0] * 30))
    assert (found["missed_shifts"], found["false_alarms"], found["delays"]) == (missed, false_alarms, delays)


def test_a_blurred_shift_may_be_found_before_its_middle():
    found = shift_quality(VISITS, seen([90, 210], [0] * 30), blur=40)
    assert found["delays"] == [-10, 10] and not found["false_alarms"]


def test_reuse_and_the_task_of_an_expert():
    again = expert_use(VISITS, seen([], [0] * 11 + [1] * 9 + [0] * 10))
    assert again["samples_of_task_by_expert"] == [[200, 0], [10, 90]]
    assert again["task_of_expert"] == {"0": 0, "1": 1}
    assert (again["experts"], again["tasks"], again["returns"], again["reused"]) == (2, 2, 1, 1)
    another = expert_use(VISITS, seen([], [0] * 10 + [1] * 10 + [2] * 10))
    assert (another["returns"], another["reused"], another["reuse"]) == (1, 0, 0.0)
    assert expert_use(VISITS[:2], seen([], [0] * 20))["reuse"] is None


def test_anytime_accuracy_counts_tasks_from_when_they_begin():
    assert accuracy_over_time([[0.5, 0.1], [0.7, 0.9]], [[0], [0, 1]]) == pytest.approx((0.5 + 0.8) / 2)
    assert accuracy_over_time([[None, 0.1], [0.7, 0.9]], [[0], [0, 1]]) is None
    R = [[0.5, 0.1], [0.7, 0.9]]
    metrics = summarise(R, [0.1, 0.1], [1, 1], rows_are_tasks=False, begun=[[0], [0, 1]])
    assert metrics["anytime_accuracy"] == pytest.approx(0.65) and metrics["bwt"] is None


def test_figures_of_a_long_run_stay_small_and_keep_every_detection():
    found = ShiftLog.none()
    for number in range(5000):
        found.add(number + 1, 1.0, 2.0, 0, number == 777)
    figures = shift_figures([Visit(0, 0, 5000)], found)
    assert len(figures["loss"]["x"]) < 1000 and 778 in figures["loss"]["x"]
    assert figures["loss"]["marks"] == {"detected": [778]}


def test_visits_of_unequal_tasks():
    assert plan_visits([10, 30], Schedule(order=[1, 0, 1]), epochs=2) == [
        Visit(1, 0, 60),
        Visit(0, 60, 80),
        Visit(1, 80, 140),
    ]


def test_a_strategy_that_needs_boundaries_is_refused_with_the_names_of_those_that_do_not():
    with pytest.raises(UsageError) as problem:
        check_requirements(choose(STRATEGY, "ewc"), EWC.Config(), Scenario.TASK_AGNOSTIC)
    told = str(problem.value).partition("or --strategy ")[2]
    assert {"tame", "er", "k_fpf", "der++", "finetune"} <= set(told.partition(" or ")[0].split(", "))
    assert "ewc" not in told
    assert told.endswith("or supsup strategy.allocation=uncertainty strategy.infer=oneshot.")
