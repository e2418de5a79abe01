"""`cl-bench completion`: a shell that reads it completes commands, flags, names and options."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
source "$1"; shift
for line in "$@"; do
  COMP_LINE="$line"; COMP_POINT=${#line}; COMP_TYPE=9; COMPREPLY=()
  COMP_WORDS=($line); [[ "$line" == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]}-1))
  _python_argcomplete cl-bench
  echo "${COMPREPLY[*]}"
done
complete -p cl-bench
"""
LINES = {
    "cl-bench re": {"report"},
    "cl-bench --strat": {"--strategy"},
    "cl-bench --strategy exss": {"exssnet"},
    "cl-bench run strategy.lr=0.1 --strategy er --stream split_d": {"split_digits"},
    "cl-bench --strategy er strategy.lr=0.1 strategy.buf": {"strategy.buffer_size=", "strategy.buffer="},
    "cl-bench --strategy er --stream split_digits stream.": {
        f"stream.{name}=" for name in ("n_tasks", "class_order", "first_task", "task_sizes")
    },
    "cl-bench --strategy er protocol=": {"quick", "standard", "paper"},
    "cl-bench info forgetting@f": {"first-last", "facil"},
    "cl-bench --strategy er --evaluate cal": {"calibration"},
    "cl-bench --strategy er --evaluate classes,op": {"classes,open_set"},
    "cl-bench list --modality ": {"image", "text", "robot", "vector"},
    "cl-bench list --scenario task_a": {"task_agnostic"},
    "cl-bench completion z": {"zsh"},
    "cl-bench compare er der+": {"der++"},
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(bench, tmp_path):
    status, script, _ = bench("completion", "bash")
    assert status == 0
    (tmp_path / "script").write_text(script)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(tmp_path / "script"), *LINES],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    *answers, registered = done.stdout.splitlines()
    assert "cl-bench" in registered, done.stderr
    for (line, expected), answer in zip(LINES.items(), answers, strict=True):
        found = {word.rpartition("@")[2] for word in answer.split()}
        assert found == expected, line
    assert list(tmp_path.iterdir()) == [tmp_path / "script"], "nothing is run"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(bench, tmp_path, shell):
    status, script, _ = bench("completion", shell)
    assert status == 0 and "cl-bench" in script
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (tmp_path / "script").write_text(script)
    assert subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True).returncode == 0


def test_another_shell_is_refused(bench):
    status, _, err = bench("completion", "csh")
    assert status == 2 and "invalid choice" in err
