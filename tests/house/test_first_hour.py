"""The first hour: what its page says is typed as it stands, in order, in an empty folder, and every line ends well."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/guides/first_hour.md"
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
TASKS = re.findall(r"^## \d+\. .*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_it_is_ten_things_each_of_two_commands_or_ten_lines():
    assert len(TASKS) == 10
    assert all(len(code.splitlines()) <= 10 for language, code in BLOCKS if language == "python")
    assert all(code.count("cl-bench ") <= 2 for language, code in BLOCKS if language == "sh")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.name != "posix", reason="stands for Linux and macOS: its commands are typed into bash")
def test_the_whole_page_is_typed_in_an_empty_folder(tmp_path):
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "CL_SUITE_DATA": str(tmp_path)}
    for language, code in BLOCKS:
        if language == "python" and code.startswith("# net.py"):
            (tmp_path / "net.py").write_text(code, encoding="utf-8")
            continue
        models = sorted(tmp_path.glob("results/*/*/er/*/*.model.safetensors"))
        code = code.replace("HASH", models[0].parent.name if models else "HASH")
        command = ["bash", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    runs = {path.parts[-5] for path in tmp_path.glob("results/*/*/*/*/seed_0.json")}
    assert runs == {"split_digits", "images-digits", "table-digits.csv"}
    assert (tmp_path / "results/leaderboard.html").is_file()
