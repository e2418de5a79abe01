"""Per-class accuracy and confusion matrices: they are the scenario's own answers, counted, and nothing more."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cl_suite import Classification, MultiLabel, Strategy, UnseenTask, UsageError
from cl_suite.cli.main import main
from cl_suite.core.data_root import DataRoot
from cl_suite.core.scenario import Scenario
from cl_suite.evaluation.classes import ClassesEvaluation, sparse
from cl_suite.records.record import load_record, parse_record
from cl_suite.report.charts.figures import draw_figure
from cl_suite.runs.evaluations import chosen_evaluations
from cl_suite.runs.execute import run_one
from cl_suite.runs.harness import Harness
from cl_suite.runs.plan import Request, plan
from tests.helpers.mask_runs import clusters, presented

SMALL = ("stream.n_tasks=3", "stream.n_train=10", "train.epochs=1", "classes.evaluate=true")


def request_for(results, *overrides, strategy="er", scenario="class_incremental", stream="toy_gaussians"):
    root = DataRoot(Path("unused"), offline=True)
    return Request(strategy, stream, results, root, scenario=scenario, threads=1, overrides=overrides)


def run_for(results, *overrides, **options):
    return run_one(plan(request_for(results, *overrides, **options))).record


def dense(confusion, size):
    """Return the matrix that a record has the entries of."""
    matrix = torch.zeros(size, size, dtype=torch.long)
    matrix[confusion["true"], confusion["answered"]] = torch.tensor(confusion["count"])
    return matrix


class Always(Strategy):
    """Answers class `label` of all, or of the task that is named, and nothing on the tasks it does not know."""

    def __init__(self, label, n_outputs, unknown=()):
        self.label, self.n_outputs, self.unknown = label, n_outputs, unknown

    def predictor(self, task_id=None):
        if task_id in self.unknown:
            raise UnseenTask("not this one")
        logits = torch.arange(self.n_outputs).eq(self.label).float()
        return lambda inputs: logits.repeat(len(inputs), 1)

    def setup(self, info, build_model): ...
    def learn(self, experience): ...
    def state_dict(self): ...
    def load_state_dict(self, state): ...


def asked(strategy, stream, experience):
    evaluation = ClassesEvaluation(None, strategy, stream)
    evaluation.observe(experience, None, [])
    return evaluation.entries[0]


# -- whose answers they are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["task_incremental", "class_incremental", "domain_incremental"])
def test_every_sample_is_in_its_row_once_and_the_diagonal_is_r_exactly(tmp_path, scenario):
    record = run_for(tmp_path, *SMALL, scenario=scenario)
    found = record.diagnostics["classes"]
    size = len(found["names"])
    for row, entry in enumerate(found["experiences"]):
        matrix = dense(entry["confusion"], size)
        right = sum(round(score * n) for score, n in zip(record.R[row][: row + 1], record.test_samples, strict=False))
        total = sum(record.test_samples[: row + 1])
        assert int(matrix.trace()) == right and int(matrix.sum()) == total
        shares = [
            right / n if n else None for right, n in zip(matrix.diag().tolist(), matrix.sum(1).tolist(), strict=True)
        ]
        assert entry["accuracy"] == shares and entry["unanswered"] == []
    assert dense(found["experiences"][-1]["confusion"], size).sum(dim=1).tolist() == found["test_samples"]
    assert sum(found["test_samples"]) == sum(record.test_samples)


def test_where_the_task_is_named_nothing_is_taken_for_a_class_of_another(tmp_path):
    record = run_for(tmp_path, *SMALL, scenario="task_incremental")
    matrix = dense(record.diagnostics["classes"]["experiences"][-1]["confusion"], 6)
    blocks = torch.block_diag(*[torch.ones(2, 2)] * 3).bool()
    assert not matrix[~blocks].any()


def test_only_classes_so_far_may_be_answered():
    stream = presented(clusters(), Scenario.CLASS_INCREMENTAL)
    entry = asked(Always(5, 6), stream, 0)  # 5 is of the last task: of the equal others the first answers
    assert set(entry["confusion"]["answered"]) == {0} and entry["accuracy"] == [1.0, 0.0, None, None, None, None]
    assert asked(Always(5, 6), stream, 2)["accuracy"] == [0.0] * 5 + [1.0]


def test_tasks_that_share_labels_count_together_and_each_by_itself():
    stream = presented(clusters(), Scenario.DOMAIN_INCREMENTAL)
    entry = asked(Always(1, 2), stream, 1)
    assert entry["accuracy"] == [0.0, 1.0]
    assert entry["of_tasks"] == [[0.0, 1.0], [0.0, 1.0], [None, None]]
    assert entry["confusion"] == {"true": [0, 1], "answered": [1, 1], "count": [100, 100]}
    assert "of_tasks" not in asked(Always(1, 6), presented(clusters(), Scenario.CLASS_INCREMENTAL), 1)


def test_without_an_answer_a_class_has_no_accuracy_and_no_row():
    stream = presented(clusters())
    entry = asked(Always(0, 6, unknown=(1,)), stream, 2)
    assert entry["unanswered"] == [1]
    assert entry["accuracy"] == [1.0, 0.0, None, None, 1.0, 0.0]  # of equal ones the first of the task answers
    assert not {2, 3} & {*entry["confusion"]["true"], *entry["confusion"]["answered"]}


def test_a_class_some_of_whose_samples_have_no_answer_is_not_half_right():
    stream = presented(clusters(), Scenario.DOMAIN_INCREMENTAL)
    strategy = Always(0, 2)
    calls = iter([strategy.predictor(), UnseenTask("no more")])

    def once(task_id):
        answer = next(calls)
        if isinstance(answer, UnseenTask):
            raise answer
        return answer

    strategy.predictor = once
    entry = asked(strategy, stream, 1)
    assert entry["unanswered"] == [1] and entry["accuracy"] == [None, None]
    assert entry["of_tasks"] == [[1.0, 0.0], [None, None], [None, None]]


def test_joint_has_no_class_right_before_it_answers(tmp_path):
    record = run_for(tmp_path, *SMALL, strategy="joint")
    *earlier, last = record.diagnostics["classes"]["experiences"]
    assert all(set(entry["accuracy"]) == {None} and not entry["confusion"]["count"] for entry in earlier)
    assert None not in last["accuracy"]


def test_entries_of_a_matrix_by_hand():
    matrix = torch.tensor([[3, 0, 1], [0, 0, 0], [2, 0, 4]])
    assert sparse(matrix) == {"true": [0, 0, 2, 2], "answered": [0, 2, 0, 2], "count": [3, 1, 2, 4]}
    assert dense(sparse(matrix), 3).equal(matrix)


# -- names ------------------------------------------------------------------------------------------------------------


def test_every_entry_of_the_logit_vector_has_a_name_of_its_own():
    own = presented(clusters(tasks=2), Scenario.TASK_INCREMENTAL).class_names()
    assert own == ["0 (task 0)", "1 (task 0)", "0 (task 1)", "1 (task 1)"]
    assert presented(clusters(tasks=2), Scenario.DOMAIN_INCREMENTAL).class_names() == ["0", "1"]


def test_a_name_says_all_that_tasks_call_an_entry_they_share(tmp_path):
    record = run_for(tmp_path, *SMALL, scenario="domain_incremental")
    assert record.diagnostics["classes"]["names"] == [
        "cluster 0 / cluster 2 / cluster 4",
        "cluster 1 / cluster 3 / cluster 5",
    ]


# -- a run ------------------------------------------------------------------------------------------------------------


def test_asking_changes_no_score_and_stopped_in_between_it_goes_on_the_same(tmp_path):
    straight = run_for(tmp_path / "straight", *SMALL)
    silent = run_for(tmp_path / "silent", *SMALL[:-1])
    assert straight.R == silent.R and "classes" not in silent.diagnostics
    assert straight.config_hash != silent.config_hash
    hashed = silent.config_hash
    silent.config = {key: value for key, value in silent.config.items() if key != "classes"}
    assert silent.config_hash == hashed  # records of before hash as they did
    save = Harness._save

    def stop(self, experiences_done):
        save(self, experiences_done)
        if experiences_done == 2:
            raise KeyboardInterrupt

    planned = plan(request_for(tmp_path / "stopped", *SMALL))
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Harness, "_save", stop)
        run_one(planned)
    assert run_one(planned).record.diagnostics["classes"] == straight.diagnostics["classes"]


def test_where_tasks_are_hidden_all_classes_may_answer(tmp_path):
    record = run_for(tmp_path, *SMALL, "train.segments=4", scenario="task_agnostic")
    entries = record.diagnostics["classes"]["experiences"]
    counted = [sum(entry["confusion"]["count"]) for entry in entries]
    assert len(entries) == 4 and counted == sorted(counted) and counted[-1] == sum(record.test_samples)


def test_figures_are_drawn_from_the_record_as_it_was_written(tmp_path):
    record = parse_record(run_for(tmp_path, *SMALL).to_json())
    figures = record.diagnostics["figures"]
    assert set(figures) == {"class_accuracy", "confusion"}
    for figure in figures.values():
        assert draw_figure(figure, "er").startswith(b"\x89PNG")
    last = record.diagnostics["classes"]["experiences"][-1]
    assert [row[-1] for row in figures["class_accuracy"]["values"][0]] == pytest.approx(
        [100 * share for share in last["accuracy"]], abs=0.05
    )
    assert [sum(row) for row in figures["confusion"]["values"][0]] == pytest.approx([100] * 6, abs=0.31)


# -- how it is asked --------------------------------------------------------------------------------------------------


def test_several_evaluations_are_asked_at_once(tmp_path, capsys):
    arguments = ["--strategy", "er", "--stream", "toy_gaussians", "--scenario", "class_incremental", "--quiet"]
    arguments += ["--results", str(tmp_path), "--threads", "1", *SMALL[:3]]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--evaluate", "classes,calibration"])
    assert not ended.value.code
    path = next(tmp_path.rglob("seed_0.json"))
    assert json.loads(path.read_text())["metrics"]["ece"] is not None
    assert load_record(path).diagnostics["classes"]["names"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--evaluate", "classes", "--evaluate", "calibration"])  # the same request
    assert not ended.value.code and len(list(tmp_path.rglob("seed_0.json"))) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["clases"], "--evaluate clases is not known. Did you mean classes?"),
        (["classes,classes"], "--evaluate names classes twice"),
        (["classes", "classes"], "--evaluate names classes twice"),
        (["classes,"], "--evaluate  is not known"),
    ],
)
def test_what_is_not_to_be_asked_is_named(values, message):
    with pytest.raises(UsageError, match=message):
        chosen_evaluations(values)


@pytest.mark.parametrize(
    ("objective", "scorer", "message"),
    [
        (MultiLabel(), None, "a_stream has no one class per sample"),
        (Classification(), "episodes", "a_stream acts in a simulator"),
    ],
)
def test_where_samples_have_no_class_it_is_refused(objective, scorer, message):
    stream = SimpleNamespace(
        info=SimpleNamespace(objective=objective, stream="a_stream"), tasks=[SimpleNamespace(scorer=scorer)]
    )
    with pytest.raises(UsageError, match=message):
        ClassesEvaluation(None, None, stream)
