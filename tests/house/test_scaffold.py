"""`cl-bench new strategy` writes a plugin that works and a test that passes."""

import subprocess
import sys

import pytest

from cl_suite import UsageError, check_strategy
from cl_suite.cli.main import main
from cl_suite.cli.support.scaffold import write_strategy


def bench(*arguments):
    """Run `cl-bench` in this process; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return ended.value.code


def test_what_is_written_runs_and_its_test_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bench("new", "strategy", "my_method") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"my_method.py", "test_my_method.py"}
    assert bench("--strategy", "my_method.py:MyMethod", "--stream", "toy_gaussians", "train.epochs=1") == 0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_my_method.py", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout


def test_the_check_sees_its_penalty_act_and_notices_when_it_does_not(tmp_path):
    path, _ = write_strategy("my_method", tmp_path)

    def verdict(spec):
        findings = check_strategy(spec, scenarios=["class_incremental"])
        (found,) = [finding for finding in findings if "penalties and projections act" in finding.name]
        return found.status

    assert verdict(f"{path}:MyMethod") == "passed"
    broken = tmp_path / "broken.py"
    broken.write_text(path.read_text().replace("self.anchor = [p.detach().clone() for", "self.anchor = [] and [p for"))
    assert verdict(f"{broken}:MyMethod") == "failed"


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "test_my_method.py").write_text("mine")
    with pytest.raises(UsageError, match=r"test_my_method\.py is there already"):
        write_strategy("my_method", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_my_method.py"]


@pytest.mark.parametrize("name", ["MyMethod", "my-method", "2fast", "my method", "../up"])
def test_a_name_that_is_not_snake_case_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="snake_case"):
        write_strategy(name, tmp_path)
    assert not list(tmp_path.iterdir())
