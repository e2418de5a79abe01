"""Ceilings of a card: what joint and single tasks reached, by the records."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cl_suite.cli.main import main
from cl_suite.records.record import load_record, save_record
from tests.helpers.card_rows import SMALL, column


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with records of joint: two seeds, and one of three epochs."""
    results = tmp_path_factory.mktemp("records")
    fast = ["--strategy", "joint", "--stream", "toy_gaussians", "--results", str(results), "--quiet", SMALL]
    for more in (["train.epochs=1", "--seeds", "0,1"], ["train.epochs=3"]):
        with pytest.raises(SystemExit) as ended:
            main([*fast, *more])
        assert ended.value.code == 0
    return results


@pytest.fixture
def joint(trained, tmp_path, unseen):
    """Return the records of one epoch, seeds 0 and 1, as files of this test's own; the others are left out."""
    found = [load_record(path) for path in trained.rglob("seed_*.json")]
    of_one = sorted((r for r in found if r.config["train"]["epochs"] == 1), key=lambda record: record.seed)
    return [save_record(record, record.path(tmp_path / "results")) for record in of_one]


def test_the_ceiling_is_what_joint_reached_on_the_same_tasks(joint, card):
    records = [load_record(path) for path in joint]
    made = card("toy_gaussians", SMALL)
    (ceiling,) = made["scenarios"][0]["ceilings"]
    accs = [record.metrics["acc"] for record in records]
    assert ceiling["seeds"] == [0, 1] and ceiling["strategy"] == "joint" and ceiling["configuration"] == ""
    assert ceiling["acc"] == pytest.approx(np.mean(accs)) and ceiling["spread"] == pytest.approx(np.std(accs, ddof=1))
    last = np.mean([record.R[-1] for record in records], axis=0)
    assert column(made["tasks"], "ceiling") == pytest.approx(list(last))
    assert all(not row["ceilings"] for row in made["scenarios"][1:])
    text = Path(made["written"][0]).read_text()
    assert "Ceiling: joint, protocol quick, mean over 2 seeds." in text


def test_records_of_other_tasks_other_methods_and_failures_are_no_ceiling(joint, card):
    path, second = joint
    second.unlink()
    record = load_record(path)
    made = card("toy_gaussians")  # n_train=200: other tasks
    assert not made["scenarios"][0]["ceilings"] and column(made["tasks"], "ceiling") == [None] * 4
    assert list(made["elsewhere"]) == [f"task_incremental, {SMALL}"]
    for change in ({"strategy": "er"}, {"status": "failed", "error": "why"}, {"stream": "other"}):
        path.unlink()
        save_record(dataclasses.replace(record, **change), path)
        made = card("toy_gaussians", SMALL)
        assert not made["scenarios"][0]["ceilings"] and not made["elsewhere"], change
    path.write_text("{damaged", encoding="utf-8")
    assert not card("toy_gaussians", SMALL)["scenarios"][0]["ceilings"]


def test_of_several_ceilings_the_highest_counts_and_each_is_named(trained, card, unseen):
    made = card("toy_gaussians", SMALL, "--results", trained)
    first, second = made["scenarios"][0]["ceilings"]
    assert first["acc"] >= second["acc"]
    assert {first["configuration"], second["configuration"]} == {"train.epochs=1", "train.epochs=3"}
    assert column(made["tasks"], "ceiling") == first["per_task"]


def test_single_tasks_have_no_ceiling_where_the_seeds_saw_other_tasks(joint, card):
    record = load_record(joint[0])
    save_record(dataclasses.replace(record, task_names=["w", "x", "y", "z"]), joint[0])
    made = card("toy_gaussians", SMALL)
    assert made["scenarios"][0]["ceilings"][0]["seeds"] == [0, 1]
    assert column(made["tasks"], "ceiling") == [None] * 4
