"""A run killed at any moment goes on from the last finished experience, to bitwise the same R."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cl_suite.data_root import DataRoot
from cl_suite.planning import Request, plan
from cl_suite.runs import run_one

# Kills its own process with SIGKILL in the middle of the third experience, then behaves like `cl-bench`.
KILLED_IN_TASK_3 = """
import os, signal, sys
from cl_suite import cli, experience
after_batch = experience.Experience._after_batch
def kill(self, *arguments, **options):
    if self.index == 2 and self._steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    after_batch(self, *arguments, **options)
experience.Experience._after_batch = kill
cli.main(sys.argv[1:])
"""


def arguments_for(strategy, results):
    return ["--strategy", strategy, "--stream", "split_digits", "--results", str(results), "--threads", "1"]


def run_cli(arguments, *, program=("-m", "cl_suite")):
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )


def request_for(strategy, results, **options):
    return Request(strategy, "split_digits", results, DataRoot(Path("unused"), offline=True), threads=1, **options)


# One of each way to keep state; test_contract.py stops and continues every installed strategy within one process.
KINDS = ("finetune", "fpf", "packnet", "exssnet")


@pytest.mark.parametrize("strategy", KINDS)
def test_killed_in_task_3_and_started_again_gives_bitwise_the_same_scores(strategy, tmp_path):
    straight = run_one(plan(request_for(strategy, tmp_path / "straight"))).record
    killed = run_cli(arguments_for(strategy, tmp_path / "killed"), program=("-c", KILLED_IN_TASK_3))
    assert killed.returncode == -9
    unfinished = plan(request_for(strategy, tmp_path / "killed"))
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
def killed_run(tmp_path_factory):
    """Results of a finetune run killed in its third task; made once, copied by each test."""
    folder = tmp_path_factory.mktemp("killed")
    assert run_cli(arguments_for("finetune", folder), program=("-c", KILLED_IN_TASK_3)).returncode == -9
    return folder


@pytest.fixture
def killed(killed_run, tmp_path):
    return shutil.copytree(killed_run, tmp_path / "results")


def test_a_resumed_run_does_not_learn_finished_experiences_again(killed):
    again = run_cli(arguments_for("finetune", killed))
    assert again.returncode == 0
    assert "Resumed after 2 of 5 experiences" in again.stderr


def test_no_resume_starts_anew(killed):
    again = run_cli([*arguments_for("finetune", killed), "--no-resume"])
    assert again.returncode == 0
    assert "Resumed" not in again.stderr


def test_ctrl_c_says_what_was_saved_and_exits_130(tmp_path):
    interrupt = KILLED_IN_TASK_3.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt")
    stopped = run_cli(arguments_for("finetune", tmp_path), program=("-c", interrupt))
    assert stopped.returncode == 130
    assert "Saved up to the last finished experience" in stopped.stderr
    assert "The same command goes on from there." in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_finished_run_is_shown_not_run_again_unless_overwritten(tmp_path):
    first = run_cli(arguments_for("finetune", tmp_path))
    path = next(tmp_path.rglob("seed_0.json"))
    written = path.stat().st_mtime_ns
    second = run_cli(arguments_for("finetune", tmp_path))
    assert second.returncode == 0
    assert "already finished" in second.stderr
    assert second.stdout == first.stdout
    assert path.stat().st_mtime_ns == written
    third = run_cli([*arguments_for("finetune", tmp_path), "--overwrite"])
    assert third.returncode == 0
    assert path.stat().st_mtime_ns > written
    assert json.loads(path.read_text())["status"] == "complete"


def test_a_checkpoint_of_another_configuration_is_not_continued(killed):
    other = run_cli([*arguments_for("finetune", killed), "strategy.lr=0.02"])
    assert other.returncode == 0
    assert "Resumed" not in other.stderr


def test_a_damaged_checkpoint_is_named_and_nothing_is_lost(killed):
    checkpoint = next(killed.rglob("*.partial.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    again = run_cli(arguments_for("finetune", killed))
    assert again.returncode == 2
    assert str(checkpoint) in again.stderr and "--no-resume" in again.stderr
    assert checkpoint.exists()
