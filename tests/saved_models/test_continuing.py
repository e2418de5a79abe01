"""More tasks after a finished run: bit for bit as if it had never ended, where nothing else changes."""

import shutil

import pytest
import torch

from cl_suite.conformance.case import states_equal
from cl_suite.core.errors import UsageError
from cl_suite.records.record import load_record
from cl_suite.records.validation import validate
from cl_suite.runs.execute import Run
from cl_suite.runs.plan import plan
from cl_suite.saved_models.continuing import beginning_of
from cl_suite.saved_models.growth import Growth, grown
from cl_suite.saved_models.save import ModelKeeper
from tests.helpers.saved_runs import request
from tests.helpers.slow import slow_but

FIVE = ("stream.n_tasks=5", "stream.n_train=20", "stream.n_test=30", "train.epochs=2", "model.hidden=[12]")
DOMAIN = {"scenario": "domain_incremental"}


def run_of(asked):
    """Carry a request out, with its model and record; return the run, which can be asked still."""
    run, keeper = Run(plan(asked)), ModelKeeper()
    run.prepare()
    keeper.check(run)
    run.train()
    keeper.keep(run)
    run.outcome = run.record()
    assert run.error is None, run.error
    return run


def first_three(folder, name, *overrides, **options):
    """Return the record's path of a run on the first three of the five tasks."""
    options = DOMAIN | options
    asked = request(folder, name, "toy_gaussians", *FIVE, "schedule.stop_after=3", *overrides, **options)
    return run_of(asked).outcome.path


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A run of er on the first three tasks: the path of its record, with its model beside it. Not to be changed."""
    return first_three(tmp_path_factory.mktemp("earlier"), "er")


def continued(folder, record, name, *overrides, stream="toy_gaussians", **options):
    beginning = beginning_of(record, seed=options.get("seed", 0))
    return run_of(request(folder, name, stream, *FIVE, *overrides, beginning=beginning, **DOMAIN | options))


@pytest.mark.parametrize("name", slow_but({"er"}, ["er", "ewc", "finetune", "si", "lwf", "der++", "vcl"]))
def test_going_on_is_a_straight_run_bit_for_bit(name, tmp_path):
    straight = run_of(request(tmp_path, name, "toy_gaussians", *FIVE, **DOMAIN))
    later = continued(tmp_path, first_three(tmp_path, name), name)
    whole, record = straight.outcome.record, later.outcome.record
    assert record.R[2:] == whole.R[2:]
    assert [row[:3] for row in record.R[:2]] == [row[:3] for row in whole.R[:2]]
    assert [row[3:] for row in record.R[:2]] == [[None, None]] * 2
    assert record.baseline == whole.baseline
    for metric in ("acc", "bwt", "fwt", "learning_accuracy"):
        assert record.metrics[metric] == whole.metrics[metric]
    counted = ("samples_drawn", "samples_replayed", "optimizer_steps", "state_bytes")
    assert [record.costs[cost] for cost in counted] == [whole.costs[cost] for cost in counted]
    assert states_equal(later.harness.strategy.state_dict(), straight.harness.strategy.state_dict())


def test_the_record_says_that_it_goes_on_and_is_no_row_of_the_straight_run(record, tmp_path):
    earlier, record = record, continued(tmp_path, record, "er").outcome.record
    begun = {"config": load_record(earlier).config_hash, "experiences": 3}
    assert record.config["continued_from"] == begun
    told = record.provenance["continued_from"]
    assert begun.items() <= told.items() and told["seed"] == 0 and len(told["sha256"]) == 64
    assert str(tmp_path) not in record.to_json()
    straight = plan(request(tmp_path, "er", "toy_gaussians", *FIVE, **DOMAIN)).record_path
    assert record.config_hash != straight.parent.name
    assert validate(record) == []


def test_heads_grow_and_what_was_learned_stays(tmp_path):
    scenario = {"scenario": "class_incremental"}
    earlier = load_record(first_three(tmp_path, "er", **scenario))
    later = continued(tmp_path, earlier.path(tmp_path), "er", **scenario)
    record = later.outcome.record
    assert [row[:3] for row in record.R[:3]] == earlier.R
    assert later.harness.scenario_stream.info.n_outputs == 10
    assert record.R[4][3] is not None and record.R[4][4] > 0.1  # what guessing among ten classes reaches
    assert record.metrics["fwt"] is None  # a class that does not exist is not answered


def test_packnet_goes_on_and_answers_its_old_tasks_bit_for_bit(tmp_path):
    told = {"scenario": "task_incremental"}
    earlier = load_record(first_three(tmp_path, "packnet", **told))
    record = continued(tmp_path, earlier.path(tmp_path), "packnet", **told).outcome.record
    assert [row[:3] for row in record.R[2:]] == [earlier.R[-1]] * 3
    assert record.R[4][4] is not None and record.R[4][3] is not None


@pytest.mark.slow
def test_an_interrupted_run_that_goes_on_is_resumed(tmp_path):
    earlier = first_three(tmp_path, "er")
    straight = continued(tmp_path / "straight", earlier, "er").outcome.record
    asked = request(tmp_path, "er", "toy_gaussians", *FIVE, beginning=beginning_of(earlier, seed=0), **DOMAIN)
    stopped = Run(plan(asked))
    stopped.prepare()
    learn = stopped.harness.strategy.learn

    def interrupted(experience):
        if experience.index == 4:
            raise KeyboardInterrupt
        learn(experience)

    stopped.harness.strategy.learn = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert stopped.plan.checkpoint.exists()
    assert run_of(asked).outcome.record.R == straight.R


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["strategy.buffer_size=7"], "strategy.buffer_size of seed_0.json was 500, and is 7 here"),
        (["train.epochs=3"], "train.epochs of seed_0.json was 2, and is 3 here"),
        (["stream.n_train=21"], "training samples of task 0 of seed_0.json was 40, and is 42 here"),
        (["stream.data_seed=1"], "digest of task 0"),
        (["schedule.stop_after=3"], "the stream has 3 tasks, and seed_0.json learned 3 already"),
        (["calibration.evaluate=true"], "--evaluate calibration asks after each experience"),
    ],
)
def test_what_does_not_begin_alike_is_refused_before_training(options, message, record, tmp_path):
    with pytest.raises(UsageError, match=message) as refusal:
        continued(tmp_path, record, "er", *options)
    assert "\n" not in str(refusal.value)


def test_another_strategy_scenario_or_seed_is_refused(record, tmp_path):
    with pytest.raises(UsageError, match=r"the strategy of seed_0.json was er, and is finetune here"):
        continued(tmp_path, record, "finetune")
    with pytest.raises(UsageError, match=r"the scenario of seed_0.json was domain_incremental"):
        continued(tmp_path, record, "er", scenario="class_incremental")
    with pytest.raises(UsageError, match=r"task_agnostic tells none"):
        continued(tmp_path, record, "er", scenario="task_agnostic")
    with pytest.raises(UsageError, match=r"of seed 0, and this run of seed 1"):
        beginning_of(record, seed=1)
    assert beginning_of(record.parent, seed=0).experiences == 3
    alone = tmp_path / record.name
    shutil.copy(record, alone)
    with pytest.raises(UsageError, match=r"there is no seed_0.model.safetensors beside seed_0.json"):
        beginning_of(alone, seed=0)


def test_a_model_of_another_run_beside_the_record_is_refused(record, tmp_path):
    for file in record.parent.iterdir():
        shutil.copy(file, tmp_path)
    other = load_record(record)
    other.R[2][0] = 0.123
    (tmp_path / record.name).write_text(other.to_json())
    with pytest.raises(UsageError, match=r"is not of the run that seed_0.json records"):
        beginning_of(tmp_path / record.name, seed=0)


def test_what_is_kept_for_each_output_and_cannot_be_placed_is_refused(tmp_path):
    told = {"scenario": "class_incremental"}
    record = first_three(tmp_path, "der++", **told)
    with pytest.raises(UsageError, match=r"10 outputs now, not 6, and this strategy keeps numbers .*state.buffer"):
        continued(tmp_path, record, "der++", **told)


def test_old_entries_go_into_fresh_tensors_along_outputs_and_tasks_alone():
    growth = Growth(outputs=(2, 4), tasks=(3, 5), parameters=7)
    fresh = {"head": torch.zeros(4, 3), "gates": torch.zeros(5, 6), "open": torch.zeros(4, dtype=torch.bool)}
    old = {
        "head": torch.ones(2, 3),
        "gates": torch.ones(3, 6),
        "open": torch.ones(2, dtype=torch.bool),
        "copies": [{"head": torch.full((2, 3), 5.0)}],
        "buffer": torch.ones(9, 3),
    }
    new = grown(old, fresh, growth)
    assert new["head"].tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 2
    assert new["gates"].sum() == 18 and new["gates"].shape == (5, 6)
    assert new["open"].tolist() == [True, True, False, False]
    assert new["copies"][0]["head"].shape == (4, 3)
    assert new["buffer"] is old["buffer"]
    for beside in (torch.ones(9, 2), torch.ones(7)):
        with pytest.raises(UsageError, match=r"4 outputs now, not 2"):
            grown({"beside": beside}, fresh, growth)


def test_samples_of_a_memory_may_have_as_many_rows_as_there_are_outputs():
    growth = Growth(outputs=(8, 10), tasks=(4, 5), samples=frozenset({(1, 8, 8)}))
    images, logits = torch.zeros(5, 1, 8, 8), torch.zeros(5, 8)
    assert grown({"raw": images}, {}, growth)["raw"] is images
    with pytest.raises(UsageError, match="each of the 8 outputs"):
        grown({"logits": logits}, {}, growth)
