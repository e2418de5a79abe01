"""Records as frames: all runs of a folder, two strategies beside each other, the leaderboard."""

import numpy as np
import pytest

import cl_suite
from cl_suite.core.errors import UsageError
from tests.helpers.python_runs import FAST


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def results(folder):
    """finetune, and er with two sizes of its memory, two seeds each; one run has failed."""
    quick = {"progress": False, "results": folder, "seeds": [0, 1], "scenario": "class_incremental", **FAST}
    found = {
        "finetune": cl_suite.run("finetune", **quick),
        "er": cl_suite.run("er", buffer_size=20, **quick),
        "small er": cl_suite.run("er", buffer_size=5, **quick),
    }
    failed = {**quick, "seeds": 7, "lr": 1e30, "raise_on_failure": False}
    return found | {"failed": cl_suite.run("finetune", **failed)}


def test_every_run_is_a_row(folder, results):
    frame = cl_suite.load_results(folder)
    assert len(frame) == 7 and set(frame.status) == {"complete", "failed"}
    er = frame[frame.strategy == "er"].sort_values(["strategy.buffer_size", "seed"])
    assert er["strategy.buffer_size"].tolist() == [5, 5, 20, 20]
    assert er.acc.tolist() == [*results["small er"].metrics.acc, *results["er"].metrics.acc]
    assert er.train_seconds.tolist() == [*results["small er"].costs.train_seconds, *results["er"].costs.train_seconds]
    assert "train.epochs" not in frame  # the same in all
    assert set(frame.path) == {str(path) for each in results.values() for path in each.paths}
    assert frame.set_index("status").error["failed"].startswith("the loss became")


def test_every_score_is_a_row(folder, results):
    frame = cl_suite.load_results(folder, what="R")
    of_one = frame[(frame.config_hash == results["er"].records[0].config_hash) & (frame.seed == 1)]
    matrix = of_one.pivot(index="experience", columns="task", values="score").to_numpy()
    np.testing.assert_array_equal(matrix, results["er"].R[1])
    assert of_one.task_name.unique().tolist() == results["er"].tasks


def test_a_damaged_record_is_left_out_with_a_warning(folder, results):
    damaged = folder / "seed_9.json"
    damaged.write_text("{")
    try:
        with pytest.warns(UserWarning, match=r"seed_9\.json is damaged"):
            assert len(cl_suite.load_results(folder)) == 7
    finally:
        damaged.unlink()


def test_two_results_are_compared_as_they_are_by_name(folder, results):
    er, finetune = results["er"], results["finetune"]
    held = cl_suite.compare(er, finetune)
    named = cl_suite.compare(f"er@{er.records[0].config_hash}", "finetune", results=folder)
    mixed = cl_suite.compare(er, "finetune", results=folder)
    for frame in (held, named, mixed):
        assert frame["mean"].tolist() == pytest.approx([(er.metrics.acc - finetune.metrics.acc).mean()])
        assert frame.seeds.tolist() == [(0, 1)]
    other = cl_suite.compare(er, results["small er"], metric="forgetting")
    assert other["mean"][0] == pytest.approx((er.metrics.forgetting - results["small er"].metrics.forgetting).mean())


def test_the_leaderboard_is_a_frame_and_a_report(folder, results, tmp_path):
    board = cl_suite.leaderboard(folder, tmp_path / "board", charts=False)
    assert board.strategy.tolist()[:3].count("er") == 2 and board.stream.unique().tolist() == ["toy_gaussians"]
    best = max((results[name] for name in ("er", "small er", "finetune")), key=lambda each: each.metrics.acc.mean())
    assert board.acc_mean[0] == pytest.approx(best.metrics.acc.mean())
    assert not [name for name in board if name.endswith("_mean") and board[name].isna().all()]
    assert {path.name for path in (tmp_path / "board").iterdir()} >= {"leaderboard.html", "leaderboard.csv"}


@pytest.mark.slow
def test_others_stand_beside(folder, results, tmp_path):
    others = tmp_path / "others"
    cl_suite.run("er", results=others, progress=False, **{**FAST, "scenario": "class_incremental"})
    frame = cl_suite.load_results(folder, beside=str(others))
    assert frame.origin.value_counts().to_dict() == {"yours": 7, "others": 1}
    board = cl_suite.leaderboard(folder, beside=str(others))
    assert board[board.strategy == "er"].origin.tolist().count("others") == 1


def test_what_is_not_there_is_said_in_a_line(folder, results, tmp_path):
    with pytest.raises(UsageError, match="no records below"):
        cl_suite.load_results(tmp_path)
    with pytest.raises(UsageError, match="what='r' is not known"):
        cl_suite.load_results(folder, what="r")
    with pytest.raises(UsageError, match="no record of this stream"):
        cl_suite.compare(results["er"], results["finetune"], stream="split_digits")
    with pytest.raises(UsageError, match="there is no record of gem"):
        cl_suite.compare("er", "gem", results=folder)
