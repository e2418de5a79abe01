"""Where a record comes from: the commit of this checkout."""

import subprocess
from pathlib import Path

import pytest

from cl_suite.records.provenance import code_state, git_state

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
