"""Where a record comes from: the commit of this checkout."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cl_suite.records.provenance import code_state, git_state, provenance

ROOT = Path(__file__).parents[2]


def head(folder):
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.mark.skipif(head(ROOT) is None, reason="not a git checkout")
def test_a_record_names_the_commit_of_the_checkout_that_it_came_from():
    commit, dirty = code_state()
    assert commit == head(ROOT) and isinstance(dirty, bool)


def test_a_folder_inside_a_checkout_is_not_one():
    assert git_state(ROOT / "cl_suite" / "records") == (None, None)


def test_a_run_that_no_command_asks_for_keeps_the_call():
    facts = {"torch_version": "2", "device": "cpu", "threads": 1, "stream_version": "1", "data_checksums": {}}
    started = datetime(2026, 1, 1, tzinfo=UTC)
    assert provenance(["--seed", "0"], **facts, started=started)["command"] == ["cl-bench", "--seed", "0"]
    assert provenance([], **facts, started=started, call="cl_suite.run(Mine)")["command"] == [
        "python",
        "cl_suite.run(Mine)",
    ]
