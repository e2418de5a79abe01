"""Records: whole or not at all, strict JSON, no complete run lost."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_suite.core import files
from cl_suite.core.errors import RunError, UsageError
from cl_suite.core.files import slug, write_atomic
from cl_suite.records.provenance import git_state, without_home, without_machine
from cl_suite.records.record import (
    SCHEMA_VERSION,
    RunRecord,
    config_hash,
    load_record,
    provenance,
    record_path,
    save_record,
)

CONFIG = {"protocol": "quick", "seeds": {"model": None}, "strategy": {"lr": 0.05}, "stream": {"n_tasks": 2}}


def a_record(**changes: Any) -> RunRecord:
    record = RunRecord(
        strategy="er",
        stream="split_digits",
        scenario="class_incremental",
        protocol="quick",
        seed=1,
        seeds={"model": 1, "data": 1, "classes": 1},
        config=CONFIG,
        R=[[0.1 + 0.2, None], [1 / 3, 2 / 3]],
        R_task_aware=[[0.9, None], [0.8, 0.9]],
        baseline=[0.1, 0.2],
        test_samples=[10, 20],
        task_names=["0: a, b", "1: c, ü"],
        curve=[{"experience": 1, "step": 5, "samples": 100, "scores": [0.2, None]}],
        metrics={"acc": 0.5, "fwt": None},
        costs={"samples_drawn": 100, "train_seconds": 1.5},
        diagnostics={"layers": [{"name": "fc", "density": 0.1}]},
        provenance={"stream_version": "2", "device": "cpu"},
    )
    return dataclasses.replace(record, **changes)


def test_a_record_comes_back_exactly(tmp_path: Path) -> None:
    path = save_record(a_record(), a_record().path(tmp_path))
    loaded = load_record(path)
    assert loaded == a_record()
    assert [score.hex() for score in loaded.R[1] if score is not None] == [(1 / 3).hex(), (2 / 3).hex()]


def test_the_file_lies_and_reads_as_promised(tmp_path: Path) -> None:
    record = a_record()
    path = save_record(record, record.path(tmp_path))
    assert path == tmp_path / "split_digits" / "class_incremental" / "er" / record.config_hash / "seed_1.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema_version"] == SCHEMA_VERSION == 1
    assert content["R"][0] == [0.1 + 0.2, None]
    assert set(content) == {field.name for field in dataclasses.fields(RunRecord)}
    assert content == record.to_dict()
    assert "    [0.9, null],\n" in path.read_text(encoding="utf-8")  # a row a line


def test_numbers_that_are_not_finite_become_null_and_arrays_lists() -> None:
    record = a_record(R=[[math.nan, None], [math.inf, 0.5]], diagnostics={"x": np.float32(0.5), "y": np.arange(2)})
    content = json.loads(record.to_json(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert content["R"] == [[None, None], [None, 0.5]]
    assert content["diagnostics"] == {"x": 0.5, "y": [0, 1]}
    assert json.loads(a_record(config={"clip": math.inf}).to_json())["config"] == {"clip": "inf"}


def test_what_json_cannot_keep_is_named() -> None:
    with pytest.raises(RunError, match=r"cannot keep diagnostics\.model\.inner: it is a object"):
        a_record(diagnostics={"model": {"inner": object()}}).to_json()


def test_the_hash_leaves_out_what_does_not_decide_a_result() -> None:
    plain = config_hash(CONFIG)
    assert len(plain) == 12
    assert int(plain, 16) >= 0
    assert config_hash(dict(reversed(CONFIG.items()))) == plain
    assert config_hash({**CONFIG, "seed": 3, "device": "cuda", "results": "elsewhere", "data_root": "there"}) == plain
    assert config_hash({**CONFIG, "protocol": "standard"}) != plain
    assert config_hash({**CONFIG, "strategy": {"lr": 0.1}}) != plain
    assert config_hash({**CONFIG, "strategy": {"lr": 0.05, "device": "x"}}) != plain  # only at the top
    assert config_hash({**CONFIG, "seeds": {"model": 4}}) != plain
    assert config_hash(CONFIG, stream_version="2") != plain
    assert config_hash({"clip": math.inf}) != config_hash({"clip": None})


def test_the_hash_is_the_same_in_every_process_and_release() -> None:
    assert config_hash({"strategy": {"lr": 0.05}, "train": {"epochs": 5}}) == "d02d9f7f3436"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("er", "er"), ("avalanche/ewc", "avalanche-ewc"), ("module.sub:Class", "module.sub-Class"), ("a b\\c", "a-b-c")],
)
def test_slugs(name: str, folder: str) -> None:
    assert slug(name) == folder


def test_a_plugin_file_keeps_its_folder_to_itself(tmp_path: Path) -> None:
    one, other = slug("path/to/my_method.py:MyMethod"), slug("/home/someone/my_method.py:MyMethod")
    assert one.startswith("my_method-MyMethod-")
    assert other.startswith("my_method-MyMethod-")
    assert one != other
    for name in ("../../etc", "..", "", "/", "ü", "a/../b"):
        where = record_path(tmp_path, stream=name, scenario="s", strategy=name, config_hash="0", seed=0)
        assert where.resolve().parts[: len(tmp_path.parts)] == tmp_path.parts
        assert len(where.relative_to(tmp_path).parts) == 5


def test_a_failed_run_never_replaces_a_complete_one(tmp_path: Path) -> None:
    path = a_record().path(tmp_path)
    failed = a_record(status="failed", error="the loss became nan")
    assert save_record(failed, path) == path  # nothing there yet
    assert save_record(a_record(), path) == path  # the run was repeated and ended well
    whole = path.read_bytes()
    aside = save_record(failed, path)
    assert aside == path.with_name("seed_1.failed.json")
    assert load_record(aside).error == "the loss became nan"
    assert path.read_bytes() == whole
    save_record(a_record(), path)
    assert not aside.exists()  # superseded


def test_a_failed_run_does_not_replace_what_cannot_be_read(tmp_path: Path) -> None:
    path = a_record().path(tmp_path)
    write_atomic(path, '{"schema_version": 99}')
    assert save_record(a_record(status="failed", error="x"), path) != path
    assert path.read_text() == '{"schema_version": 99}'


def damage(**changes: Any) -> str:
    return json.dumps({**a_record().to_dict(), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged: not JSON at line 1"),
        (a_record().to_json()[:200], "is damaged: not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "it has no schema_version"),
        (json.dumps({"schema_version": 1}), "strategy is missing"),
        (damage(schema_version=2), "schema_version 2, newer than the 1 known here. Update cl-suite"),
        (damage(status="done"), "status cannot be 'done'"),
        (damage(R=[[0.1, 0.2], [0.3]]), "R cannot be"),
        (damage(R=[["0.1", 0.2]]), "R cannot be"),
        (damage(R=[[True, 0.2]]), "R cannot be"),
        (damage(baseline=[0.1]), "differ in their number of tasks"),
        (damage(seed="1"), "seed cannot be '1'"),
        (damage(model_selection="test"), "model_selection cannot be"),
        (damage(metrics={"acc": "high"}), "metrics cannot be"),
        (a_record().to_json().replace("0.5", "NaN", 1), "it holds NaN, which is not a JSON number"),
        (a_record().to_json().replace("0.5", "1e999", 1), "metrics cannot be"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "seed_0.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_record(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seed_0\.json cannot be read \(No such file"):
        load_record(tmp_path / "seed_0.json")


def test_fields_of_a_later_release_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "seed_0.json"
    path.write_text(damage(extra_field=3))
    assert load_record(path) == a_record()


def test_a_folder_that_cannot_be_written_is_named_with_the_flag(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=r"cannot write to .*results.*--results"):
        save_record(a_record(), a_record().path(tmp_path / "results"))


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seed_0.json"
    write_atomic(path, "old")

    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_atomic(tmp_path / "seed_0.json", "new")
    assert not list(tmp_path.iterdir())


def test_two_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "seed_0.json"
    texts = [letter * 200_000 for letter in "ab"]
    writers = [
        threading.Thread(target=lambda text=text: [write_atomic(path, text) for _ in range(10)]) for text in texts
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_provenance_tells_neither_user_nor_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "someone"
    (home / "project").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.chdir(home / "project")
    found = provenance(
        [
            "--strategy",
            str(home / "mine.py:M"),
            f"--results={home}/project/out",
            "--data-root",
            "/mnt/disk/data",
            "x.lr=1",
        ],
        torch_version="2.6",
        device="cpu",
        threads=1,
        stream_version="1",
        data_checksums={"cifar-100-python/train": "md5:00"},
        started=datetime(2025, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        finished=datetime(2025, 1, 1, 1, tzinfo=UTC),
    )
    assert found["command"] == [
        "cl-bench",
        "--strategy",
        "~/mine.py:M",
        "--results=out",
        "--data-root",
        ".../data",
        "x.lr=1",
    ]
    assert found["started"] == "2025-01-01T00:00:00+00:00"
    assert found["finished"] == "2025-01-01T01:00:00+00:00"
    assert found["torch"] == "2.6"
    assert "someone" not in json.dumps(found)
    assert without_home(f"no file {home}/data, {home}where") == f"no file ~/data, {home}where"
    assert without_machine("strategy.lr=0.1") == "strategy.lr=0.1"
    record = a_record(strategy=str(home / "mine.py:M"), status="failed", error=f"{home}/mine.py is bad")
    assert "someone" not in record.to_json()


def _git(folder: Path, *arguments: str) -> None:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, env={**os.environ, **identity}
    )


def test_git_state(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)
    _git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "leaderboard.md").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    commit, dirty = git_state(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (tmp_path / "results" / "leaderboard.md").write_text("2")
    assert git_state(tmp_path) == (commit, False)  # results are not code
    (tmp_path / "code.py").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    assert git_state(tmp_path / "results") == (None, None)  # inside someone else's repository


def test_torch_is_not_imported() -> None:
    script = (
        "import sys; import cl_suite.metrics.matrix, cl_suite.records.record, cl_suite.report.build; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'hydra', 'pandas'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("['pandas']", "")  # pandas shows that the script looks right
