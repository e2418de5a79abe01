"""Samples of no task: how they are shown, what is measured, and where there is nothing to ask."""

import json
from pathlib import Path

import pytest
import torch

from cl_suite import UnseenTask, UsageError
from cl_suite.cli.main import main
from cl_suite.core.data_root import DataRoot
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.evaluation.open_set import OpenSetEvaluation, OpenSetSettings, separation
from cl_suite.runs.execute import run_one
from cl_suite.runs.harness import Harness
from cl_suite.runs.load import load_stream
from cl_suite.runs.plan import Request, plan

ASKED = ("open_set.evaluate=true", "stream.n_tasks=3", "stream.n_train=60", "train.epochs=4")


def request_for(results, *overrides, strategy="joint", scenario="class_incremental", stream="toy_text", **options):
    root = DataRoot(Path("unused"), offline=True)
    return Request(strategy, stream, results, root, scenario=scenario, threads=1, overrides=overrides, **options)


def test_figures_of_certainties_that_are_worked_out_by_hand():
    # Of the six pairs the inside is more certain in four, alike in one.
    inside, outside = torch.tensor([0.9, 0.6, 0.5]), torch.tensor([0.6, 0.2])
    found = separation(inside, outside)
    assert found["auroc"] == pytest.approx((2 + 1.5 + 1) / 6)
    assert found["fpr95"] == 0.5  # to let 0.5 pass, 0.6 passes too


def test_who_is_equally_certain_of_everything_can_tell_nothing_and_who_is_certain_of_the_tasks_alone_everything():
    same = torch.full((40,), 0.5)
    assert separation(same, same) == {"auroc": 0.5, "fpr95": 1.0}
    assert separation(torch.full((40,), 0.9), same) == {"auroc": 1.0, "fpr95": 0.0}


def test_a_strategy_that_has_learned_the_words_knows_those_it_has_not(tmp_path):
    record = run_one(plan(request_for(tmp_path, *ASKED))).record
    assert record.metrics["open_set_auroc"] > 0.75
    told = record.diagnostics["open_set"]
    assert told["samples"] == 50 and len(told["experiences"]) == 3
    assert told["experiences"][-1]["auroc"] == record.metrics["open_set_auroc"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return the record of a run of er that was asked and not stopped."""
    return run_one(plan(request_for(tmp_path_factory.mktemp("straight"), *ASKED, strategy="er"))).record


def test_asking_changes_no_score(tmp_path, straight):
    asked = straight
    silent = run_one(plan(request_for(tmp_path, *ASKED[1:], strategy="er"))).record
    assert asked.R == silent.R and "open_set" not in silent.diagnostics
    assert asked.config_hash != silent.config_hash


def test_samples_of_no_task_are_not_among_the_training_texts(tmp_path):
    planned = plan(request_for(tmp_path, *ASKED))
    stream = planned.stream.cls(planned.composed.run.stream)
    loaded = load_stream(
        stream, planned.composed.run, root=DataRoot(tmp_path, offline=True), seeds=planned.seeds, device=planned.device
    )
    train = [part.train for part in loaded.data.tasks]
    beyond, _ = loaded.data.ood.take(torch.arange(50))
    rows = {tuple(row.tolist()) for row in beyond["tokens"]}
    for samples in train:
        raw, _ = samples.take(torch.arange(len(samples)))
        assert rows.isdisjoint(tuple(row.tolist()) for row in raw["tokens"])


def test_stopped_and_continued_the_figures_are_the_same(tmp_path, straight):
    planned = plan(request_for(tmp_path / "stopped", *ASKED, strategy="er"))
    row = Harness._save

    def stop(self, experiences_done):
        row(self, experiences_done)
        if experiences_done == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Harness, "_save", stop)
        run_one(planned)
    assert run_one(planned).record.diagnostics["open_set"] == straight.diagnostics["open_set"]


class Fixed:
    """Is as sure of class 0 as the first token says, and surer of class 5, which comes last, than of any other."""

    def predictor(self, task_id=None):
        def answer(inputs):
            logits = torch.zeros(len(inputs["tokens"]), 6)
            logits[:, 0] = inputs["tokens"][:, 0] % 7
            logits[:, 5] = 50.0
            return logits

        return answer


def test_only_tasks_and_classes_begun_so_far_count(tmp_path):
    planned = plan(request_for(tmp_path, *ASKED))
    run, root = planned.composed.run, DataRoot(tmp_path, offline=True)
    loaded = load_stream(planned.stream.cls(run.stream), run, root=root, seeds=planned.seeds, device=planned.device)
    shown = ScenarioStream(
        "toy", loaded.data, planned.scenario, train=run.train, seeds=planned.seeds, device=planned.device
    )
    evaluation = OpenSetEvaluation(OpenSetSettings(evaluate=True), Fixed(), shown)
    for experience in range(3):
        evaluation.observe(experience, None, [])
    for experience in range(2):  # class 5 is not begun: certainty is that of class 0 among the classes so far

        def certainty(samples, classes=2 * (experience + 1)):
            raw, _ = samples.take(torch.arange(len(samples)))
            sure = (raw["tokens"][:, 0] % 7).float().exp()
            return sure / (sure + classes - 1)

        inside = torch.cat([certainty(task.test) for task in shown.tasks[: experience + 1]])
        found = evaluation.entries[experience]["auroc"]
        assert found == pytest.approx(separation(inside, certainty(shown.ood))["auroc"], abs=1e-6)
    assert evaluation.entries[2]["auroc"] == pytest.approx(0.5, abs=0.01)  # now it is, and all are as certain


class Mute:
    """Has no answer where no task is named."""

    def predictor(self, task_id=None):
        raise UnseenTask("no")


def test_no_answer_is_no_figure(tmp_path):
    planned = plan(request_for(tmp_path, *ASKED))
    run = planned.composed.run
    root = DataRoot(tmp_path, offline=True)
    loaded = load_stream(planned.stream.cls(run.stream), run, root=root, seeds=planned.seeds, device=planned.device)
    shown = ScenarioStream(
        "toy", loaded.data, planned.scenario, train=run.train, seeds=planned.seeds, device=planned.device
    )
    evaluation = OpenSetEvaluation(OpenSetSettings(evaluate=True), Mute(), shown)
    evaluation.observe(0, None, [])
    assert evaluation.metrics([]) == {"open_set_auroc": None, "open_set_fpr95": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "task_incremental"}, "tells the task of each. Use --scenario class_incremental"),
        ({"stream": "split_digits"}, "split_digits has none. Use a stream that has, e.g. clinc150"),
    ],
)
def test_where_there_is_nothing_to_ask_it_is_said(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        plan(request_for(tmp_path, "open_set.evaluate=true", **options))


def test_the_command_has_a_flag_and_the_report_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "--strategy",
                "er",
                "--stream",
                "toy_text",
                "--scenario",
                "class_incremental",
                "--evaluate",
                "open_set",
                "--quiet",
                "train.epochs=1",
                "stream.n_train=20",
            ]
        )
    assert not ended.value.code
    record = json.loads(next(tmp_path.rglob("seed_0.json")).read_text())
    assert record["config"]["open_set"] == {"evaluate": True}
    with pytest.raises(SystemExit):
        main(["report"])
    page = next(tmp_path.rglob("leaderboard.md")).read_text()
    assert "| AUROC | FPR95 |" in page
    assert f"{100 * record['metrics']['open_set_auroc']:.1f}" in page
