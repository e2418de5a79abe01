"""Sharing: one archive that can be verified, and nothing taken from it that cannot."""

import contextlib
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cl_suite.core import files as core_files
from cl_suite.records import archive as sharing_archive
from cl_suite.records.record import RunRecord, load_record, save_record
from cl_suite.records.validation import aside, place_of
from tests.helpers.record_makers import failed_record, sound_record


def save(folder: Path, *records: RunRecord) -> None:
    for record in records:
        save_record(record, record.path(folder))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_version(seed: int) -> RunRecord:
    return sound_record(seed, provenance={**sound_record().provenance, "cl_suite": "0.2.0"})


def slower(seed: int) -> RunRecord:
    return sound_record(seed, costs={"train_seconds": 99.0})


def named(content: bytes, name: str) -> dict[str, object]:
    return {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def forge(path: Path, *records: RunRecord, entries=None, listed=None, **manifest) -> Path:
    """Write an archive by hand: {name: content} or zip entries as they are, and a manifest with what is asked for."""
    own = {f"records/{place_of(record)}": record.to_json().encode() for record in records}
    found = {**own, **(entries or {})}
    content = {
        "format": "cl-suite records",
        "format_version": 1,
        "schema_version": 1,
        "counts": {
            "records": len(own),
            "complete": sum(record.status == "complete" for record in records),
            "failed": sum(record.status == "failed" for record in records),
            "streams": len({record.stream for record in records}),
            "strategies": len({record.strategy for record in records}),
        },
        "cl_suite": sorted({str(record.provenance["cl_suite"]) for record in records}),
        "files": [named(text, name) for name, text in found.items() if isinstance(name, str)] + (listed or []),
        **manifest,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({k: v for k, v in content.items() if v is not ...}))
        for name, text in found.items():
            archive.writestr(name, text)
    return path


def test_records_arrive_as_they_left(bench, tmp_path):
    records = [sound_record(0), sound_record(1), failed_record(2), sound_record(0, strategy="avalanche/ewc")]
    save(tmp_path / "results", *records)
    status, out, err = bench("submit", "--name", "toys", "--who", "Zoë, somewhere")
    assert (status, err) == (0, "")
    assert "4 records valid (3 complete, 1 failed runs)" in out
    told = out.rpartition("manifest sha256: ")[2].strip()
    status, out, err = bench("import", "submission.zip", "--results", "theirs")
    assert (status, err) == (0, "")
    assert "4 imported, 0 already there, 0 refused" in out
    assert "name: toys" in out and "from: Zoë, somewhere" in out and told in out
    assert files(tmp_path / "theirs") == files(tmp_path / "results")
    assert "0 imported, 4 already there, 0 refused" in bench("import", "submission.zip", "--results", "theirs")[1]
    with zipfile.ZipFile("submission.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert {entry["name"] for entry in manifest["files"]} == set(archive.namelist()) - {"manifest.json"}
    assert manifest["counts"] == {"records": 4, "complete": 3, "failed": 1, "streams": 1, "strategies": 2}
    assert manifest["cl_suite"] == ["0.1.0"] and manifest["who"] == "Zoë, somewhere"
    assert manifest["format_version"] == manifest["schema_version"] == 1


def test_the_same_records_give_the_same_bytes(bench, tmp_path):
    for folder, order in (("one", (0, 1, 2)), ("two", (2, 0, 1))):
        save(tmp_path / folder, *map(sound_record, order))
        os.utime(next((tmp_path / folder).rglob("*.json")), (0, 10**9 if folder == "one" else 10**8))
        assert bench("submit", "--results", folder, "--output", f"{folder}.zip")[0] == 0
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_an_archive_is_not_replaced_unasked(bench, tmp_path):
    save(tmp_path / "results", sound_record())
    (tmp_path / "submission.zip").write_text("precious")
    status, _, err = bench("submit")
    assert status == 2 and "is there already" in err and (tmp_path / "submission.zip").read_text() == "precious"
    assert bench("submit", "--overwrite")[0] == 0


def test_streams_and_strategies_are_chosen_by_name(bench, tmp_path):
    save(tmp_path / "results", sound_record(), sound_record(stream="other"), sound_record(strategy="ewc"))
    assert "1 records valid" in bench("submit", "--stream", "toy", "--strategy", "ewc")[1]
    status, _, err = bench("submit", "--strategy", "ewd", "--output", "b.zip")
    assert status == 2 and "there is no record of --strategy ewd" in err and "Did you mean ewc" in err


def test_what_is_not_valid_is_named_and_nothing_is_bundled(bench, tmp_path):
    save(tmp_path / "results", sound_record(0), sound_record(1, metrics={"acc": 0.99}))
    status, _, err = bench("submit")
    assert status == 2 and "seed_1.json: metrics.acc is 0.99" in err and "1 of 2 records failed validation" in err
    assert not (tmp_path / "submission.zip").exists()
    status, out, _ = bench("submit", "--dry-run")
    assert status == 2 and "1 records valid" in out and ", 1 not" in out
    status, out, err = bench("submit", "--skip-invalid")
    assert status == 0 and "1 records valid" in out and "seed_1.json" in err


def test_seeds_of_mixed_versions_are_not_bundled(bench, tmp_path):
    save(tmp_path / "results", sound_record(0), other_version(1), sound_record(0, strategy="ewc"))
    status, _, err = bench("submit")
    assert status == 2 and "2 of 3 records failed" in err
    assert "different cl_suite: '0.1.0' (seed 0) and '0.2.0' (seed 1)" in err


def test_a_record_in_the_folder_of_another_configuration_is_not_bundled(bench, tmp_path):
    record = sound_record()
    save_record(record, record.path(tmp_path / "results").parents[1] / ("0" * 12) / "seed_0.json")
    status, _, err = bench("submit")
    assert status == 2 and f"its folder says configuration {'0' * 12}, but its configuration has the hash" in err


def test_no_record_and_names_that_do_not_fit_are_refused(bench, tmp_path):
    status, _, err = bench("submit", "--results", "nowhere")
    assert status == 2 and "there is no record below nowhere" in err
    save(tmp_path / "results", sound_record())
    for name in ("x" * 201, "two\nlines"):
        status, _, err = bench("submit", "--who", name)
        assert status == 2 and "--who must be one line" in err


GOOD = sound_record()
NAME = f"records/{place_of(GOOD)}"
SEVENTH = sound_record(7)
SEVENTH_NAME = f"records/{place_of(SEVENTH)}"


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(NAME)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


SLIPS = {
    "../../evil.json": "a path that leads out of its folder",
    "records/../../evil.json": "a path that leads out of its folder",
    "records\\..\\evil.json": "a path that leads out of its folder",
    "/etc/evil.json": "an absolute path",
    "C:/evil.json": "an absolute path",
    "\\\\server\\evil.json": "an absolute path",
    "records/toy/": "which is no plain file",
    "records/evil.py": "which is no record",
    "evil.json": "which is no record",
    "records/a/b/c/0123456789ab/seed_0.json.exe": "which is no record",
    "records/.a/b/c/0123456789ab/seed_0.json": "which is no record",
    "records/a/b/c/0123456789ab/seed_0\x1b.json": "which is no record",
    "records/ä/b/c/0123456789ab/seed_0.json": "which is no record",
}
WHOLE = GOOD.to_json().encode()
HOSTILE = {
    **{f"entry {name!r}": ({"entries": {name: b"{}"}}, reason) for name, reason in SLIPS.items()},
    "a link": ({"entries": {link(): b"/etc/passwd"}, "listed": [named(b"/etc/passwd", NAME)]}, "a link"),
    "not listed": ({"entries": {NAME: WHOLE}, "files": []}, "which its manifest does not list"),
    "not there": ({"listed": [named(WHOLE, NAME)]}, "which its manifest lists"),
    "listed twice": ({"entries": {NAME: WHOLE}, "listed": [named(WHOLE, NAME)]}, "lists a file twice"),
    "wrong checksum": (
        {"files": [{**named(SEVENTH.to_json().encode(), SEVENTH_NAME), "sha256": "0" * 64}]},
        "another SHA-256 than its manifest lists",
    ),
    "wrong size": (
        {"files": [{**named(SEVENTH.to_json().encode(), SEVENTH_NAME), "bytes": 3}]},
        "with another size than its manifest lists",
    ),
    "odd entry": ({"listed": [{"name": NAME}]}, "not name, sha256 and bytes"),
    "odd entries": ({"files": [3]}, "not name, sha256 and bytes"),
    "no files": ({"files": ...}, "without files"),
    "another format": ({"format": "x"}, "is not one of 'cl-suite records'"),
    "no version": ({"format_version": ...}, "without format_version"),
    "future format": ({"format_version": 2}, "has format_version 2, newer than the 1 known here"),
    "future schema": ({"schema_version": 2}, "has schema_version 2, newer than the 1 known here"),
    "long name": ({"name": "x" * 201}, "whose name is no text of at most 200"),
    "odd sender": ({"who": ["x"]}, "whose who is no text"),
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_a_hostile_archive_is_refused_whole(bench, tmp_path, what):
    asked, reason = HOSTILE[what]
    forge(tmp_path / "a.zip", SEVENTH, **asked)
    status, out, err = bench("import", "a.zip")
    assert (status, out) == (2, "")
    assert reason in err and "Nothing of it was imported" in err and err.count("\n") == 1
    assert err.rstrip().isprintable()
    assert ("Update cl-suite" in err) == what.startswith("future")
    assert files(tmp_path) == {"a.zip": (tmp_path / "a.zip").read_bytes()}


def test_counts_and_versions_are_those_of_the_records(bench, tmp_path):
    for changes in ({"counts": {"records": 9}}, {"cl_suite": ["9.9"]}):
        forge(tmp_path / "a.zip", GOOD, **changes)
        status, _, err = bench("import", "a.zip")
        assert status == 2 and "whose counts or versions are not those of its records" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(bench, tmp_path):
    forge(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr(NAME, b"{}")
    status, _, err = bench("import", "a.zip")
    assert status == 2 and "twice" in err and not (tmp_path / "results").exists()


def test_a_name_that_python_would_cut_short_is_refused(bench, tmp_path):
    forge(tmp_path / "a.zip", entries={"#evil.json": b"{}"})
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"#evil", b"\0evil"))
    status, _, err = bench("import", "a.zip")
    assert status == 2 and "which is no record" in err and err.rstrip().isprintable()


def zip_of(*entries: tuple[str, bytes], **options) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content, **options)
    return target.getvalue()


BOMB = zip_of((NAME, b" " * (sharing_archive.MAX_BYTES + 1)))
CONTAINERS = {
    "empty": (b"", "does not end as a zip"),
    "not a zip": (b"x" * 100, "does not end as a zip"),
    "something behind": (zip_of(("manifest.json", b"{}")) + b"x", "does not end as a zip"),
    "no manifest": (zip_of((NAME, WHOLE)), "has no manifest.json"),
    "manifest no JSON": (zip_of(("manifest.json", b"{")), "manifest.json that is not JSON"),
    "manifest with NaN": (zip_of(("manifest.json", b'{"a": NaN}')), "holds NaN"),
    "another compression": (
        zip_of(("manifest.json", b"{}"), compress_type=zipfile.ZIP_BZIP2),
        "in an unknown compression",
    ),
    "a bomb": (BOMB, "which unpacks to more than"),
}


@pytest.mark.parametrize("what", list(CONTAINERS))
def test_what_is_no_archive_of_ours_is_refused(bench, tmp_path, what):
    content, reason = CONTAINERS[what]
    (tmp_path / "a.zip").write_bytes(content)
    status, out, err = bench("import", "a.zip")
    assert (status, out) == (2, "") and reason in err and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_an_entry_that_lies_about_its_size_is_not_read_to_its_end(bench, tmp_path):
    """The table of contents says 10 bytes; reading stops there, and the checksum of the zip does not fit."""
    forge(tmp_path / "a.zip", listed=[{"name": NAME, "sha256": "0" * 64, "bytes": 10}], entries={})
    content = b" " * 10_000_000
    with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, content)
    lying = (tmp_path / "a.zip").read_bytes().replace((10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lying)
    status, _, err = bench("import", "a.zip")
    assert status == 2 and "is damaged at" in err and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("limit", "value", "reason"), [("MAX_FILES", 3, "more than 3 files"), ("MAX_TOTAL", 50, "unpacks to more than 50")]
)
def test_counts_and_sums_have_limits(bench, tmp_path, monkeypatch, limit, value, reason):
    forge(tmp_path / "a.zip", *map(sound_record, range(5)))
    monkeypatch.setattr(sharing_archive, "MAX_MANIFEST", 10_000)
    monkeypatch.setattr(sharing_archive, limit, value)
    status, _, err = bench("import", "a.zip")
    assert status == 2 and reason in err and not (tmp_path / "results").exists()


def test_records_that_fail_are_refused_and_the_others_taken(bench, tmp_path):
    good, bad = [sound_record(0), sound_record(1)], sound_record(2, metrics={"acc": 0.99})
    wrong = sound_record(3).to_json().encode()
    entries = {
        NAME.replace(place_of(GOOD).split("/")[3], "0" * 12): wrong,
        "records/x/y/z/0123456789ab/seed_4.json": b"no JSON",
        "records/x/y/z/0123456789ab/seed_5.json": sound_record(5).to_json().replace(": 1,", ": 9,", 1).encode(),
        "records/x/y/z/0123456789ab/seed_6.json": b"\xff",
    }
    forge(tmp_path / "a.zip", *good, bad, entries=entries)
    status, out, err = bench("import", "a.zip")
    assert status == 2 and "2 imported, 0 already there, 5 refused" in out
    for reason in (
        "metrics.acc is 0.99",
        "its folder says configuration",
        "is not JSON",
        "newer than the 1",
        "is not UTF-8",
    ):
        assert reason in err
    assert set(files(tmp_path / "results")) == {place_of(record) for record in good}


def test_what_is_there_is_never_overwritten_unasked(bench, tmp_path):
    save(tmp_path / "results", slower(0))
    kept = files(tmp_path / "results")
    forge(tmp_path / "a.zip", sound_record(0), sound_record(1))
    status, out, err = bench("import", "a.zip")
    assert status == 2 and "seed_0.json is there and differs; --overwrite replaces it" in err
    assert "1 imported, 0 already there, 1 refused" in out
    assert files(tmp_path / "results").items() >= kept.items()
    status, out, _ = bench("import", "a.zip", "--overwrite")
    assert status == 0 and "1 imported, 1 already there, 0 refused" in out
    assert load_record(sound_record(0).path(tmp_path / "results")) == sound_record(0)


def test_the_same_record_in_other_words_is_there_already(bench, tmp_path):
    path = GOOD.path(tmp_path / "results")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(GOOD.to_dict()))
    forge(tmp_path / "a.zip", GOOD)
    assert "0 imported, 1 already there, 0 refused" in bench("import", "a.zip")[1]
    assert path.read_text() == json.dumps(GOOD.to_dict())


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_failed_run_never_takes_the_place_of_a_complete_one(bench, tmp_path, more):
    save(tmp_path / "results", sound_record(0))
    whole = GOOD.path(tmp_path / "results")
    forge(tmp_path / "a.zip", failed_record(0))
    assert bench("import", "a.zip", *more)[0] == 0
    assert load_record(whole) == GOOD
    assert load_record(Path(aside(str(whole)))).status == "failed"
    assert "1 already there" in bench("import", "a.zip", *more)[1]


def test_seeds_that_would_mix_versions_with_those_there_are_refused(bench, tmp_path):
    save(tmp_path / "results", sound_record(0))
    forge(tmp_path / "a.zip", other_version(1), other_version(2))
    status, out, err = bench("import", "a.zip")
    assert status == 2 and "0 imported, 0 already there, 2 refused" in out and "different cl_suite" in err
    forge(tmp_path / "b.zip", other_version(0), other_version(1))  # in the place of all that is there
    assert bench("import", "b.zip", "--overwrite")[0] == 0


def test_a_dry_run_says_the_same_and_writes_nothing(bench, tmp_path):
    forge(tmp_path / "a.zip", sound_record(0), sound_record(1, costs={"x": -1}))
    status, out, err = bench("import", "a.zip", "--dry-run")
    assert status == 2 and "1 would be imported, 0 already there, 1 refused" in out and "costs.x is -1" in err
    assert not (tmp_path / "results").exists()


def test_a_full_disk_leaves_whole_records_and_the_same_command_goes_on(bench, tmp_path, monkeypatch):
    forge(tmp_path / "a.zip", *map(sound_record, range(3)))
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(core_files.os, "fsync", full)
        status, _, err = bench("import", "a.zip")
    assert status == 2 and "No space left on device" in err and "1 records were imported before" in err
    assert set(files(tmp_path / "results")) == {place_of(sound_record(0))}
    assert "2 imported, 1 already there" in bench("import", "a.zip")[1]


def test_random_damage_is_refused_or_harmless(bench, tmp_path, monkeypatch):
    """Whatever bytes change: one line and status 2, or the very records that were sent."""
    sent = [sound_record(0), sound_record(1), failed_record(2)]
    whole, draw = forge(tmp_path / "a.zip", *sent).read_bytes(), random.Random(0)
    right = {place_of(record): record.to_json().encode() for record in sent}
    for number in range(400):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            first = len(damaged) - 900 if number % 2 else 0  # at the end is the table of contents
            damaged[draw.randrange(first, len(damaged))] = draw.choice([0, 255, draw.randrange(256)])
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(damaged)) :]
        (tmp_path / "b.zip").write_bytes(damaged)
        status, _, err = bench("import", "b.zip", "--results", f"results_{number}")
        assert status in (0, 2) and "Traceback" not in err and "See where" not in err
        assert (status == 2) == bool(err)
        assert files(tmp_path / f"results_{number}").items() <= right.items()
        with contextlib.suppress(FileNotFoundError):
            for path in (tmp_path / f"results_{number}").rglob("*.json"):
                path.unlink()
    assert not list(tmp_path.glob("*.json"))


def test_neither_command_imports_torch(tmp_path):
    save(tmp_path / "results", sound_record())
    code = (
        "import sys\nfrom cl_suite.cli.main import main\n"
        "for words in (['submit'], ['import', 'submission.zip', '--results', 'there']):\n"
        "    try: main(words)\n    except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'hydra', 'pandas', 'pickle'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
