"""A run killed at any moment goes on from the last finished experience, to bitwise the same R."""

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from cl_suite.cli.main import main
from cl_suite.core.data_root import DataRoot
from cl_suite.core.experience import Experience
from cl_suite.runs.execute import run_one
from cl_suite.runs.plan import Request, plan

# Kills its own process with SIGKILL in the middle of the third experience, then behaves like `cl-bench`.
KILLED_IN_TASK_3 = """
import os, signal, sys
from cl_suite.cli import main
from cl_suite.core import experience
after_batch = experience.Experience._after_batch
def kill(self, *arguments, **options):
    if self.index == 2 and self._steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    after_batch(self, *arguments, **options)
experience.Experience._after_batch = kill
main.main(sys.argv[1:])
"""


FEW = ("train.epochs=2",)  # one for the masks, one for the weights


def arguments_for(strategy, results):
    return ["--strategy", strategy, "--stream", "split_digits", "--results", str(results), "--threads", "1"]


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def bench(*arguments):
    """Run `cl-bench` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def interrupted(results):
    """Run finetune in this process, with Ctrl-C in the middle of the third experience."""
    after_batch = Experience._after_batch

    def interrupt(self, *arguments, **options):
        if self.index == 2 and self._steps == 3:
            raise KeyboardInterrupt
        after_batch(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Experience, "_after_batch", interrupt)
        return bench(*arguments_for("finetune", results))


def request_for(strategy, results, **options):
    return Request(strategy, "split_digits", results, DataRoot(Path("unused"), offline=True), threads=1, **options)


# Processes are slow to start: test_contract.py stops and continues every installed strategy within one.
def test_killed_in_task_3_and_started_again_gives_bitwise_the_same_scores(tmp_path):
    strategy = "exssnet"
    straight = run_one(plan(request_for(strategy, tmp_path / "straight", overrides=FEW))).record
    command = [sys.executable, "-c", KILLED_IN_TASK_3, *arguments_for(strategy, tmp_path / "killed"), *FEW]
    killed = subprocess.run(command)
    assert killed.returncode == -9
    unfinished = plan(request_for(strategy, tmp_path / "killed", overrides=FEW))
    assert unfinished.checkpoint.exists()
    assert not unfinished.record_path.exists()
    resumed = run_one(unfinished)
    assert resumed.record.R == straight.R
    assert resumed.record.R_task_aware == straight.R_task_aware
    assert resumed.record.costs["samples_drawn"] == straight.costs["samples_drawn"]
    assert resumed.record.costs["optimizer_steps"] == straight.costs["optimizer_steps"]
    assert resumed.path.exists()
    assert not unfinished.checkpoint.exists()


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """Results of a finetune run stopped in its third task; made once, copied by each test."""
    folder = tmp_path_factory.mktemp("stopped")
    assert interrupted(folder).status == 130
    return folder


@pytest.fixture
def stopped(stopped_run, tmp_path):
    return shutil.copytree(stopped_run, tmp_path / "results")


def test_a_resumed_run_does_not_learn_finished_experiences_again(stopped):
    again = bench(*arguments_for("finetune", stopped))
    assert again.status == 0
    assert "Resumed after 2 of 5 experiences" in again.err


def test_no_resume_starts_anew(stopped):
    again = bench(*arguments_for("finetune", stopped), "--no-resume")
    assert again.status == 0
    assert "Resumed" not in again.err


def test_ctrl_c_says_what_was_saved_and_exits_130(tmp_path):
    stopped = interrupted(tmp_path)
    assert stopped.status == 130
    assert "Saved up to the last finished experience" in stopped.err
    assert "The same command goes on from there." in stopped.err
    assert "Traceback" not in stopped.err


def test_a_finished_run_is_shown_not_run_again_unless_overwritten(tmp_path):
    first = bench(*arguments_for("finetune", tmp_path))
    path = next(tmp_path.rglob("seed_0.json"))
    written = path.stat().st_mtime_ns
    second = bench(*arguments_for("finetune", tmp_path))
    assert second.status == 0
    assert "already finished" in second.err
    assert second.out == first.out
    assert path.stat().st_mtime_ns == written
    third = bench(*arguments_for("finetune", tmp_path), "--overwrite")
    assert third.status == 0
    assert path.stat().st_mtime_ns > written
    assert json.loads(path.read_text())["status"] == "complete"


def test_a_checkpoint_of_another_configuration_is_not_continued(stopped):
    other = bench(*arguments_for("finetune", stopped), "strategy.lr=0.02")
    assert other.status == 0
    assert "Resumed" not in other.err


def test_a_damaged_checkpoint_is_named_and_nothing_is_lost(stopped):
    checkpoint = next(stopped.rglob("*.partial.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    again = bench(*arguments_for("finetune", stopped))
    assert again.status == 2
    assert str(checkpoint) in again.err and "--no-resume" in again.err
    assert checkpoint.exists()
