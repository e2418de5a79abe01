"""An entry in the registry is all that a new evaluation needs: options, refusals, checkpoints and records follow."""

import dataclasses
import subprocess
import sys

import pytest

from cl_suite import DataRoot, UsageError
from cl_suite.evaluation.protocol import Evaluation, Settings
from cl_suite.evaluation.registry import EVALUATE, Entry
from cl_suite.records.record import load_record
from cl_suite.runs import evaluations
from cl_suite.runs.evaluations import ENTRIES, EVALUATED
from cl_suite.runs.execute import Run, run_one
from cl_suite.runs.plan import Request, plan


@pytest.fixture
def counting(monkeypatch):
    """Add an evaluation as an entry adds one."""
    entry = Entry(
        EVALUATE, "count samples", "tests.helpers.counting:Counting", "tests.helpers.counting:CountingSettings"
    )
    monkeypatch.setitem(ENTRIES, "counting", entry)
    monkeypatch.setitem(EVALUATED, "counting", entry)


def request(folder, *overrides, scenario=None):
    return Request(
        strategy="finetune",
        stream="toy_gaussians",
        results=folder,
        data_root=DataRoot(folder, offline=True),
        scenario=scenario,
        threads=1,
        overrides=("stream.n_tasks=3", "stream.n_train=20", "train.epochs=1", *overrides),
    )


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_names_an_evaluation_and_its_options(name):
    entry = ENTRIES[name]
    assert issubclass(entry.evaluation, Evaluation)
    if entry.request == EVALUATE:
        assert issubclass(entry.settings, Settings)
        settings = entry.settings()
        settings.check()
        assert not settings.evaluate
        others = [field.name for field in dataclasses.fields(settings) if field.name != "evaluate"]
        assert not others or entry.settings.without.startswith(f"{name}.*")


def test_what_is_asked_stands_in_configuration_metrics_and_record(tmp_path, counting):
    record = run_one(plan(request(tmp_path, "counting.evaluate=true", "counting.times=3"))).record
    assert record.config["counting"] == {"evaluate": True, "times": 3, "full_disk": False}
    counted = [entry["samples"] for entry in record.diagnostics["counting"]["experiences"]]
    assert counted == [3 * 40, 3 * 80, 3 * 120]
    assert record.metrics["samples_counted"] == 360.0


def test_a_new_evaluation_changes_no_hash_of_a_run_that_does_not_ask_for_it(tmp_path, monkeypatch):
    before = plan(request(tmp_path)).record_path
    module = "tests.helpers.counting"
    entry = Entry(EVALUATE, "count samples", f"{module}:Counting", f"{module}:CountingSettings")
    monkeypatch.setitem(ENTRIES, "counting", entry)
    monkeypatch.setitem(EVALUATED, "counting", entry)
    assert plan(request(tmp_path)).record_path == before
    assert plan(request(tmp_path, "counting.evaluate=true")).record_path != before


def test_a_run_whose_evaluation_cannot_finish_is_recorded_as_failed(tmp_path, counting):
    outcome = run_one(plan(request(tmp_path, "counting.evaluate=true", "counting.full_disk=true")))
    assert outcome.record.status == "failed" and "full disk" in outcome.record.error
    assert len(outcome.record.R) == 3  # what was measured is kept


def test_what_is_not_asked_leaves_no_trace(tmp_path, counting):
    record = run_one(plan(request(tmp_path))).record
    assert "counting" not in record.diagnostics and "samples_counted" not in record.metrics


@pytest.mark.parametrize(
    ("overrides", "scenario", "message"),
    [
        (["counting.times=3"], None, "Add --evaluate counting"),
        (["counting.evaluate=true", "counting.times=0"], None, "counting.times=0 is too small"),
        (["counting.evaluate=true"], "task_agnostic", "needs tasks, and task_agnostic tells none"),
        (["counting.tiems=3"], None, "counting.times"),
    ],
)
def test_what_has_no_answer_is_refused_before_data_is_read(tmp_path, counting, overrides, scenario, message):
    with pytest.raises(UsageError, match=message):
        plan(request(tmp_path, *overrides, scenario=scenario))


def test_an_interrupted_run_goes_on_with_what_was_kept(tmp_path, counting):
    asked = ("counting.evaluate=true",)
    straight = run_one(plan(request(tmp_path / "straight", *asked))).record
    run = Run(plan(request(tmp_path / "stopped", *asked)))
    run.prepare()
    evaluation = run.harness.evaluations["counting"]
    observe = evaluation.observe

    def stop_after_two(experience, meter, scores):
        if experience == 2:
            raise KeyboardInterrupt
        observe(experience, meter, scores)

    evaluation.observe = stop_after_two
    with pytest.raises(KeyboardInterrupt):
        run.train()
    again = run_one(plan(request(tmp_path / "stopped", *asked)))
    assert again.record.diagnostics["counting"] == straight.diagnostics["counting"]
    assert load_record(again.path).R == straight.R


def test_prepare_trains_nothing_and_record_says_what_failed(tmp_path, counting):
    run = Run(plan(request(tmp_path, "counting.evaluate=true")))
    run.prepare()
    assert run.harness.meter.samples_drawn == 0 and run.harness.results.R == []
    run.harness.strategy.learn = lambda experience: 1 / 0
    run.train()
    outcome = run.record()
    assert outcome.record.status == "failed" and "ZeroDivisionError" in outcome.record.error
    assert load_record(outcome.path).status == "failed"


def test_the_names_are_known_without_torch():
    code = f"import sys, {evaluations.__name__}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
