"""The data root: where it is, when it downloads, and that nothing unverified gets through."""

import hashlib
from pathlib import Path

import pytest

from cl_suite import DataError, DataRoot
from cl_suite.core.data_root import default_data_root

CONTENT = {"set/a.bin": b"first", "set/b.bin": b"second"}
FILES = {
    "set/a.bin": "sha256:" + hashlib.sha256(CONTENT["set/a.bin"]).hexdigest(),
    "set/b.bin": "md5:" + hashlib.md5(CONTENT["set/b.bin"]).hexdigest(),
}


class Download:
    """Writes `content` and counts how often it was asked to."""

    def __init__(self, content):
        self.content, self.calls = content, 0

    def __call__(self, folder):
        self.calls += 1
        for name, data in self.content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def refused(root, download=None):
    with pytest.raises(DataError) as problem:
        root.verified(FILES, what="A set", download=download)
    message = str(problem.value)
    assert "\n" not in message and message.startswith("A set: ") and problem.value.exit_status == 2
    return message


def test_the_environment_names_the_root_and_the_cache_is_the_default(monkeypatch):
    monkeypatch.setenv("CL_SUITE_DATA", "~/somewhere")
    assert default_data_root() == Path.home() / "somewhere"
    monkeypatch.delenv("CL_SUITE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert default_data_root() == Path("caches/cl-suite")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_root() == Path.home() / ".cache/cl-suite"


def test_absent_files_are_downloaded_once_and_then_found(tmp_path):
    root, download = DataRoot(tmp_path / "not/made/yet"), Download(CONTENT)
    paths = root.verified(FILES, what="A set", download=download)
    assert {name: path.read_bytes() for name, path in paths.items()} == CONTENT
    root.verified(FILES, what="A set", download=download)
    assert download.calls == 1


def test_one_absent_file_is_enough_to_download(tmp_path):
    Download({"set/a.bin": CONTENT["set/a.bin"]})(tmp_path)
    download = Download(CONTENT)
    DataRoot(tmp_path).verified(FILES, what="A set", download=download)
    assert download.calls == 1


@pytest.mark.parametrize("name", list(CONTENT))
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"!", lambda data: b""])
def test_a_damaged_file_is_refused_and_left_where_it_is(name, damage, tmp_path):
    Download(CONTENT | {name: damage(CONTENT[name])})(tmp_path)
    download = Download(CONTENT)
    message = refused(DataRoot(tmp_path), download)
    assert f"{tmp_path / name} is truncated or altered" in message and "Delete it and run again" in message
    assert download.calls == 0 and (tmp_path / name).read_bytes() == damage(CONTENT[name])


def test_offline_forbids_the_download(tmp_path):
    download = Download(CONTENT)
    message = refused(DataRoot(tmp_path / "nothing", offline=True), download)
    assert "set/a.bin is not in " + str(tmp_path / "nothing") in message and "--offline forbids" in message
    assert download.calls == 0 and not (tmp_path / "nothing").exists()


def test_without_a_download_the_user_is_asked_for_the_file(tmp_path):
    assert "no automatic download. Put it there" in refused(DataRoot(tmp_path))


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (
            RuntimeError("Error downloading a.bin:\nTried a mirror, got:\nno route"),
            "a.bin: Tried a mirror, got: no route",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_failed_download_keeps_the_reason_on_one_line(problem, reason, tmp_path):
    def download(folder):
        raise problem

    message = refused(DataRoot(tmp_path), download)
    assert f"{reason})" in message and "--stream split_digits" in message


def test_a_download_that_leaves_a_file_out_is_noticed(tmp_path):
    message = refused(DataRoot(tmp_path), Download({"set/a.bin": CONTENT["set/a.bin"]}))
    assert f"{tmp_path / 'set/b.bin'} is still absent after the download" in message


def test_a_download_is_verified(tmp_path):
    assert "truncated or altered" in refused(DataRoot(tmp_path), Download(CONTENT | {"set/b.bin": b"other"}))


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "the download failed" in refused(DataRoot(tmp_path / "file"), Download(CONTENT))


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def unreadable(file, algorithm):
        raise PermissionError(13, "Permission denied")

    Download(CONTENT)(tmp_path)
    monkeypatch.setattr(hashlib, "file_digest", unreadable)
    assert f"{tmp_path / 'set/a.bin'} cannot be read (Permission denied)" in refused(DataRoot(tmp_path))
