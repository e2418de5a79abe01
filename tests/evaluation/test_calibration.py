"""Calibration: the errors by hand, what a run keeps of them, and where there are no probabilities to judge."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cl_suite import Classification, MultiLabel, RunError, Strategy, UsageError
from cl_suite.cli.main import main
from cl_suite.core.data_root import DataRoot
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.evaluation.calibration import (
    CalibrationEvaluation,
    CalibrationSettings,
    brier_scores,
    expected_calibration_error,
    reliability,
)
from cl_suite.runs.execute import run_one
from cl_suite.runs.harness import Harness
from cl_suite.runs.load import load_stream
from cl_suite.runs.plan import Request, plan

ASKED = ("calibration.evaluate=true", "train.epochs=1")


def request_for(results, *overrides, strategy="er", scenario="class_incremental", stream="split_digits"):
    root = DataRoot(Path("unused"), offline=True)
    return Request(strategy, stream, results, root, scenario=scenario, threads=1, overrides=overrides)


def shown(results, scenario, *overrides, stream="toy_gaussians"):
    planned = plan(request_for(results, *overrides, scenario=scenario, stream=stream))
    run, root = planned.composed.run, DataRoot(results, offline=True)
    loaded = load_stream(planned.stream.cls(run.stream), run, root=root, seeds=planned.seeds, device=planned.device)
    return ScenarioStream(
        stream, loaded.data, planned.scenario, train=run.train, seeds=planned.seeds, device=planned.device
    )


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_expected_calibration_error_by_hand():
    confidence = torch.tensor([0.9, 0.6, 0.55, 0.3])
    right = torch.tensor([1.0, 0.0, 1.0, 0.0])
    # Two bins: {.3}: |0 - .3| of 1/4; {.9, .6, .55}: |2/3 - 2.05/3| of 3/4.
    assert expected_calibration_error(confidence, right, 2) == pytest.approx(0.3 / 4 + 0.05 / 3 * 3 / 4)
    told = reliability(confidence, right, 2)
    assert told["samples"] == [1, 3]
    assert told["accuracy"] == pytest.approx([0.0, 2 / 3])
    assert told["confidence"] == pytest.approx([0.3, 2.05 / 3])
    # One bin: the mean confidence against the accuracy.
    assert expected_calibration_error(confidence, right, 1) == pytest.approx(2.35 / 4 - 0.5)


def test_a_bin_holds_its_upper_bound_and_an_empty_one_counts_nothing():
    told = reliability(torch.tensor([0.25, 0.5, 1.0]), torch.ones(3), 4)
    assert told["samples"] == [1, 1, 0, 1]
    assert told["accuracy"][2] is None and told["confidence"][2] is None
    assert expected_calibration_error(torch.tensor([0.25, 0.5, 1.0]), torch.ones(3), 4) == pytest.approx(1.25 / 3)
    assert reliability(torch.tensor([0.2], dtype=torch.float64), torch.ones(1), 5)["samples"] == [1, 0, 0, 0, 0]


def test_who_is_as_sure_as_right_has_no_error_and_who_is_always_certain_has_all_it_gets_wrong():
    half = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert expected_calibration_error(torch.full((4,), 0.5), half, 15) == pytest.approx(0.0)
    assert expected_calibration_error(torch.ones(4), half, 15) == pytest.approx(0.5)


def test_brier_is_summed_over_classes():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    scores = brier_scores(probabilities, torch.tensor([0, 1, 0, 0]))
    assert scores.tolist() == pytest.approx([0.09 + 0.04 + 0.01, 0.49 + 0.64 + 0.01, 0.0, 2.0])
    assert brier_scores(torch.full((1, 4), 0.25), torch.tensor([2])).item() == pytest.approx(0.75)


# -- which samples, which classes -------------------------------------------------------------------------------------


class Fixed(Strategy):
    """Gives class 0 of each task the logit 1, class 1 the logit 0, and what is still to come 50."""

    def __init__(self, begun):
        self.begun, self.asked = begun, []

    def predictor(self, task_id=None):
        self.asked.append(task_id)

        def answer(inputs):
            logits = torch.tensor([1.0, 0.0] * 3).repeat(len(inputs), 1)
            logits[:, 2 * self.begun :] = 50.0
            return logits

        return answer

    def setup(self, info, build_model): ...
    def learn(self, experience): ...
    def state_dict(self): ...
    def load_state_dict(self, state): ...


def by_hand(logits, targets):
    p = torch.tensor(logits, dtype=torch.float64).softmax(0)
    return [sum((float(p[c]) - (c == y)) ** 2 for c in range(len(logits))) for y in targets]


@pytest.mark.parametrize("begun", [1, 2])
def test_only_classes_and_tasks_seen_so_far_count(tmp_path, begun):
    scenario_stream = shown(tmp_path, "class_incremental", "stream.n_tasks=3")
    strategy = Fixed(begun)
    evaluation = CalibrationEvaluation(CalibrationSettings(evaluate=True), strategy, scenario_stream)
    evaluation.observe(begun - 1, None, [])
    targets = torch.cat([task.test.targets for task in scenario_stream.tasks[:begun]]).tolist()
    scores = by_hand([1.0, 0.0] * begun, targets)
    entry = evaluation.entries[0]
    assert entry["brier"] == pytest.approx(sum(scores) / len(scores))
    confidence = float(torch.tensor([1.0, 0.0] * begun).softmax(0)[0])
    accuracy = sum(y == 0 for y in targets) / len(targets)  # the first of the equal logits answers
    assert entry["confidence"] == pytest.approx(confidence)
    assert entry["accuracy"] == pytest.approx(accuracy)
    assert entry["ece"] == pytest.approx(abs(accuracy - confidence))  # all samples are equally sure: one bin
    assert sum(entry["bins"]["samples"]) == len(targets)
    assert strategy.asked == [None] * begun


def test_where_the_task_is_named_it_answers_among_its_own(tmp_path):
    scenario_stream = shown(tmp_path, "task_incremental", "stream.n_tasks=3")
    strategy = Fixed(3)
    evaluation = CalibrationEvaluation(CalibrationSettings(evaluate=True), strategy, scenario_stream)
    evaluation.observe(1, None, [])
    targets = torch.cat([task.test.targets % 2 for task in scenario_stream.tasks[:2]]).tolist()
    scores = by_hand([1.0, 0.0], targets)
    assert evaluation.entries[0]["brier"] == pytest.approx(sum(scores) / len(scores))
    assert strategy.asked == [0, 1]


def test_a_task_without_an_answer_leaves_the_entry_empty(tmp_path):
    record = run_one(plan(request_for(tmp_path, *ASKED, strategy="joint", stream="toy_gaussians"))).record
    *earlier, last = record.diagnostics["calibration"]["experiences"]
    assert earlier and all(entry["ece"] is entry["brier"] is None for entry in earlier)
    assert last["ece"] == record.metrics["ece"] is not None


def test_answers_that_are_no_probabilities_fail_the_run(tmp_path):
    scenario_stream = shown(tmp_path, "class_incremental")
    strategy = Fixed(2)
    strategy.predictor = lambda task_id: (
        lambda inputs: torch.full((len(inputs), scenario_stream.info.n_outputs), torch.nan)
    )
    evaluation = CalibrationEvaluation(CalibrationSettings(evaluate=True), strategy, scenario_stream)
    with pytest.raises(RunError, match="are no probabilities"):
        evaluation.observe(0, None, [])


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_keeps_both_errors_and_the_bins_behind_them(tmp_path):
    record = run_one(plan(request_for(tmp_path, *ASKED, "calibration.bins=10"))).record
    entries = record.diagnostics["calibration"]["experiences"]
    assert len(entries) == len(record.R)
    for row, entry in enumerate(entries):
        counts = record.test_samples[: row + 1]
        right = sum(n * score for n, score in zip(counts, record.R[row], strict=False))
        assert entry["accuracy"] == pytest.approx(right / sum(counts))  # the rule by which R is scored
        assert sum(entry["bins"]["samples"]) == sum(counts)
        assert len(entry["bins"]["samples"]) == 10
        assert 0 <= entry["ece"] <= 1 and 0 <= entry["brier"] <= 2
    assert (record.metrics["ece"], record.metrics["brier"]) == (entries[-1]["ece"], entries[-1]["brier"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return the record of a run that was asked and not stopped."""
    return run_one(plan(request_for(tmp_path_factory.mktemp("straight"), *ASKED, stream="toy_gaussians"))).record


def test_asking_changes_no_score_and_not_asking_no_hash(tmp_path, straight):
    asked = straight
    silent = run_one(plan(request_for(tmp_path, ASKED[1], stream="toy_gaussians"))).record
    assert asked.R == silent.R and "ece" not in silent.metrics and "calibration" not in silent.diagnostics
    assert asked.config_hash != silent.config_hash
    before = {key: value for key, value in silent.config.items() if key != "calibration"}
    hashed = silent.config_hash
    silent.config = before  # as records were written before there was such an option
    assert silent.config_hash == hashed


def test_stopped_and_continued_the_figures_are_the_same(tmp_path, straight):
    options = {"stream": "toy_gaussians"}
    planned = plan(request_for(tmp_path / "stopped", *ASKED, **options))
    save = Harness._save

    def stop(self, experiences_done):
        save(self, experiences_done)
        if experiences_done == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Harness, "_save", stop)
        run_one(planned)
    assert run_one(planned).record.diagnostics["calibration"] == straight.diagnostics["calibration"]


def test_where_tasks_are_hidden_all_classes_may_answer(tmp_path):
    options = ("train.segments=4", "stream.n_tasks=2")
    record = run_one(plan(request_for(tmp_path, *ASKED, *options, scenario="task_agnostic", stream="toy_gaussians")))
    entries = record.record.diagnostics["calibration"]["experiences"]
    met = [sum(entry["bins"]["samples"]) for entry in entries]
    assert len(entries) == 4 and met == sorted(met) and met[-1] == sum(record.record.test_samples)


# -- where there is nothing to ask ------------------------------------------------------------------------------------


def stub(objective, scorer=None):
    return SimpleNamespace(
        info=SimpleNamespace(objective=objective, stream="a_stream"), tasks=[SimpleNamespace(scorer=scorer)]
    )


@pytest.mark.parametrize(
    ("scenario_stream", "message"),
    [
        (stub(MultiLabel()), "a_stream has no one class per sample"),
        (stub(Classification(), scorer="episodes"), "a_stream acts in a simulator"),
    ],
)
def test_outputs_that_are_no_classes_are_refused(scenario_stream, message):
    with pytest.raises(UsageError, match=message):
        CalibrationEvaluation(CalibrationSettings(evaluate=True), Fixed(1), scenario_stream)


def test_distances_are_refused_and_a_network_that_answers_beside_them_is_not(tmp_path):
    options = {"strategy": "icarl", "stream": "toy_gaussians"}
    with pytest.raises(UsageError, match="ICaRL answers by something else, such as distances"):
        run_one(plan(request_for(tmp_path, *ASKED, **options)))
    record = run_one(plan(request_for(tmp_path, *ASKED, "strategy.classifier=fc", **options))).record
    assert record.metrics["ece"] is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("calibration.evaluate=true", "calibration.bins=0"), "calibration.bins=0 is too small"),
        (("calibration.bins=10",), "Add --evaluate calibration"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, overrides, message):
    with pytest.raises(UsageError, match=message):
        plan(request_for(tmp_path, *overrides, stream="toy_gaussians"))


def test_the_command_has_a_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--strategy", "er", "--stream", "toy_gaussians", "--evaluate", "calibration", "--quiet", "train.epochs=1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    record = json.loads(next(tmp_path.rglob("seed_0.json")).read_text())
    assert record["config"]["calibration"] == {"evaluate": True, "bins": 15}
    assert record["metrics"]["ece"] is not None
