"""Linux, macOS and Windows: nothing Unix-only is needed to import, and a number is in its unit or absent.

CI runs on Linux alone. What stands here for another platform takes away what it lacks, or changes what it says; it
proves no more than that.
"""

import json
import subprocess
import sys

import pytest
import torch

from cl_suite.core import devices

# Modules that Python lacks on Windows. Stands for: Windows.
UNIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios", "pty", "syslog", "posix_spawn")
WITHOUT = f"""
import sys
for name in {UNIX_ONLY!r}:
    sys.modules[name] = None
sys.argv = ["cl-bench", *sys.argv[1:]]
from cl_suite.cli.main import main
main()
"""
EVERY_MODULE = f"""
import sys
for name in {UNIX_ONLY!r}:
    sys.modules[name] = None
import importlib, pkgutil
import cl_suite, strategies, benchmarks
missing = []
for package in (cl_suite, strategies, benchmarks):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as problem:
            if problem.name in {UNIX_ONLY!r}:
                missing.append(f"{{module.name}} needs {{problem.name}}")
print(missing)
"""


def test_a_run_ends_well_without_the_modules_that_only_unix_has(tmp_path):
    arguments = ["--strategy", "finetune", "--stream", "toy_gaussians", "train.epochs=1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments, "--device", "cpu", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["status"] == "complete"
    assert "peak_memory_bytes" not in record["costs"]  # this Linux has no psutil: nothing is claimed


def test_no_module_needs_what_only_unix_has():
    done = subprocess.run([sys.executable, "-c", EVERY_MODULE], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="stands for Linux and macOS")
@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_whatever_the_platform_counts_in(monkeypatch, platform, unit):
    import resource

    usage = type("Usage", (), {"ru_maxrss": 5000})
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(devices.sys, "platform", platform)
    assert devices.peak_memory(torch.device("cpu")) == 5000 * unit


@pytest.mark.parametrize(("facts", "expected"), [({"peak_wset": 123}, 123), ({"rss": 5}, None)])
def test_windows_answers_through_psutil_or_not_at_all(monkeypatch, facts, expected):
    process = type("Process", (), {"memory_info": lambda self: type("Info", (), facts)})
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", type("psutil", (), {"Process": process}))
    assert devices.peak_memory(torch.device("cpu")) == expected
