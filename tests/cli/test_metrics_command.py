"""`cl-bench metrics`: one run under every definition, and what it refuses."""

import json

import pytest

from cl_suite.cli.main import main
from cl_suite.metrics.definitions.catalogue import DEFINITIONS
from tests.helpers.golden_run import COUNTS, R, record, record_alone, record_joint


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function that runs the command and returns (exit status, standard output, standard error)."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["metrics", *map(str, words)])
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return run


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes a record and returns its file."""

    def save(made, name="seed_0.json"):
        path = tmp_path / name
        path.write_text(made.to_json())
        return path

    return save


def number_of(page, name):
    (line,) = [line for line in page.splitlines() if line.startswith(f"  {name} ")]
    return line.split()[1]


def test_one_run_under_every_definition(ask, saved):
    status, page, _ = ask(saved(record()))
    assert not status
    assert page.startswith("er on golden, class_incremental, protocol quick, seed 0: 4 tasks, rows of R are the tasks")
    assert "the answer is chosen among all classes seen so far" in page
    for name in DEFINITIONS:
        assert number_of(page, name)
    assert (number_of(page, "acc@gem"), number_of(page, "bwt@gem-code")) == ("0.7650", "-0.1650")
    assert "as in cl-suite forgetting" in page and "as in Avalanche StreamForgetting" in page
    assert "divided by: T - 1" in page and "100 to 400 test samples" in page


def test_what_is_not_defined_is_a_dash_with_its_reason(ask, saved):
    _, page, _ = ask(saved(record(curve=[], baseline=[])), "--definitions", "fwt@gem,min-acc@de-lange")
    assert number_of(page, "fwt@gem") == number_of(page, "min-acc@de-lange") == "-"
    assert "there is no score of the untrained network for every task" in page
    assert "run with train.evaluate_every=N" in page
    assert "why they differ" not in page


def test_some_definitions_and_no_others(ask, saved):
    _, page, _ = ask(saved(record()), "--definitions", "acc@micro,forgetting")
    assert "acc@micro" in page and "forgetting@mammoth" in page
    assert "acc@gem" not in page and "forward transfer" not in page


def test_a_reference_fills_what_is_held_against_it(ask, saved):
    path = saved(record())
    _, page, _ = ask(path, "--reference", saved(record_alone(), "alone.json"))
    assert number_of(page, "plasticity@single-task") == "0.0150"
    assert number_of(page, "fwt@continual-world") == "0.2309"
    assert number_of(page, "intransigence@joint") == "-"
    assert "reference: alone on golden" in page
    _, page, _ = ask(path, "--reference", saved(record_joint(seed=3), "joint.json"))
    assert number_of(page, "intransigence@chaudhry") == "0.0100"
    assert number_of(page, "intransigence@joint") == "0.0125"
    assert number_of(page, "plasticity@single-task") == "-"
    assert "reference: joint on golden, class_incremental, protocol quick, seed 3" in page


def test_json_has_numbers_reasons_and_differences(ask, saved):
    status, page, _ = ask(saved(record()), "--json")
    told = json.loads(page)
    assert not status
    assert [entry["name"] for entry in told["metrics"]] == list(DEFINITIONS)
    of = {entry["name"]: entry for entry in told["metrics"]}
    assert of["bwt@gem"]["value"] == pytest.approx(-0.22) and of["bwt@gem"]["reason"] is None
    assert of["plasticity@single-task"]["value"] is None and "--reference" in of["plasticity@single-task"]["reason"]
    assert of["forgetting@first-last"]["reported_by"] == ["Avalanche StreamForgetting"]
    assert of["bwt@gem-code"]["traits"]["divided by"] == "T"
    assert told["record"]["strategy"] == "er" and told["reference"] is None and told["tasks"] == 4
    assert any("divided by" in line for line in told["differences"]["backward transfer"])


def test_a_number_that_rounds_to_nothing_has_no_sign(ask, saved):
    level = [[0.5, 0.1], [0.49999999, 0.9]]
    small = record(R=level, R_task_aware=None, baseline=[], curve=[], test_samples=[5, 5], task_names=["a", "b"])
    _, page, _ = ask(saved(small), "--definitions", "bwt@gem")
    assert number_of(page, "bwt@gem") == "0.0000"


def test_a_task_agnostic_run(ask, saved):
    times = record(scenario="task_agnostic", R=[*R, R[-1]], R_task_aware=None, curve=[])
    _, page, _ = ask(saved(times), "--definitions", "acc@gem,bwt@gem")
    assert "5 rows of R, which are times" in page and number_of(page, "acc@gem") == "0.7650"
    assert "rows of R are times, not the tasks in order" in page


def test_names_of_a_foreign_record_cannot_move_the_cursor(ask, saved):
    status, page, _ = ask(saved(record(strategy="\x1b[2Jevil\n", scenario="of_their_own")))
    assert not status and "\x1b" not in page
    assert page.startswith("?[2Jevil? on golden, of_their_own")


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(ask, *words):
    status, page, error = ask(*words)
    assert status == 2 and not page
    assert error.startswith("cl-bench: ") and error.count("\n") == 1
    return error


def test_files_that_are_no_record_are_refused(ask, saved, tmp_path):
    path = saved(record())
    assert "there is no record" in refused(ask, tmp_path / "seed_9.json")
    assert f"is a folder. Name one record in it, e.g. {path}" in refused(ask, tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert "is damaged: not JSON" in refused(ask, broken)
    assert "is damaged: not JSON" in refused(ask, path, "--reference", broken)


def test_runs_without_results_are_refused(ask, saved):
    failed = saved(record(status="failed", error="out of memory"), "failed.json")
    assert "RECORD is a run that failed: out of memory" in refused(ask, failed)
    empty = saved(record(R=[], R_task_aware=None, baseline=[], test_samples=[], task_names=[]), "empty.json")
    assert "its R is empty" in refused(ask, empty)
    assert "--reference is a run that failed" in refused(ask, saved(record()), "--reference", failed)


def test_an_unknown_definition_is_refused_with_the_nearest(ask, saved):
    error = refused(ask, saved(record()), "--definitions", "forgetting@chaudry")
    assert "there is no forgetting@chaudry. Did you mean forgetting@chaudhry" in error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stream": "another"}, "stream another, the record one with golden"),
        ({"scenario": "task_incremental"}, "scenario task_incremental"),
        ({"provenance": {"stream_version": "2"}}, "stream version 2, the record one with 1"),
        ({"task_names": ["b", "a", "c", "d"]}, "task names ['b', 'a', 'c', 'd']"),
        ({"test_samples": [1, *COUNTS[1:]]}, "test samples [1, 200, 300, 400]"),
        ({"config": {"stream": {"n_tasks": 4, "noise": 1}}}, "stream.noise 1, the record one with None"),
        ({"config": {"stream": {"n_tasks": 4}, "features": {"network": "resnet18"}}}, "features.epochs None"),
    ],
)
def test_a_reference_on_other_tasks_is_refused(ask, saved, changed, message):
    error = refused(ask, saved(record()), "--reference", saved(record_joint(**changed), "other.json"))
    assert message in error and "Name a run on the same tasks" in error


def test_a_reference_with_fewer_tasks_is_refused(ask, saved):
    narrow = [[None, None], [0.9, 0.9]]
    other = record_joint(R=narrow, baseline=[], test_samples=[1, 1], task_names=["a", "b"])
    assert "tasks 2, the record one with 4" in refused(ask, saved(record()), "--reference", saved(other, "other.json"))
