"""Where CIFAR-100 is fetched from: the authors' page, then a mirror; both are held to the same checksums."""

import hashlib
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torchvision.datasets

from benchmarks.images.cifar import SplitCIFAR100
from cl_suite import DataError, DataRoot

FILES = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def address(tmp_path):
    """Of a server on this machine that has what lies in tmp_path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def mirror(tmp_path, monkeypatch, address):
    """An archive in the layout of CIFAR-100 on a server, and a first source that has nothing."""
    content = tmp_path / "content"
    for name in FILES:
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(name.encode())
    archive = tmp_path / "mirror" / "cifar-100-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(content / "cifar-100-python", "cifar-100-python")
    known = torchvision.datasets.CIFAR100
    monkeypatch.setattr(known, "url", f"{address}/gone/cifar-100-python.tar.gz")
    monkeypatch.setattr(known, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(SplitCIFAR100, "mirrors", (f"{address}/mirror/cifar-100-python.tar.gz",))
    sums = {name: f"md5:{hashlib.md5((content / name).read_bytes()).hexdigest()}" for name in FILES}
    monkeypatch.setattr(SplitCIFAR100, "files", sums)
    return archive


def test_where_the_first_source_fails_the_mirror_is_tried(tmp_path, mirror):
    root = DataRoot(tmp_path / "data")
    assert SplitCIFAR100(SplitCIFAR100.Config()).fetch(root) == SplitCIFAR100.files
    assert all((root.path / name).read_bytes() == name.encode() for name in FILES)


def test_a_mirror_with_other_bytes_is_refused(tmp_path, mirror):
    mirror.write_bytes(b"something else")
    with pytest.raises(DataError, match="the download failed"):
        SplitCIFAR100(SplitCIFAR100.Config()).fetch(DataRoot(tmp_path / "data"))


def test_where_both_fail_one_line_says_why_and_what_needs_no_files(tmp_path, mirror):
    mirror.unlink()
    with pytest.raises(DataError) as refusal:
        SplitCIFAR100(SplitCIFAR100.Config()).fetch(DataRoot(tmp_path / "data"))
    text = str(refusal.value)
    assert text.count("404") == 2 and "; then " in text
    assert "split_digits" in text and "\n" not in text


def test_the_mirror_is_asked_for_the_archive_that_torchvision_knows():
    (address,) = SplitCIFAR100.mirrors
    assert address.startswith("https://huggingface.co/")
    assert Path(address).name == torchvision.datasets.CIFAR100.filename
