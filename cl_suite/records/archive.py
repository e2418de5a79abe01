"""The archive records travel in: a zip of JSON files and a manifest that lists every one. Never imports torch.

What is read is somebody else's: sizes and counts are checked before anything is unpacked, reads have a limit, and the
names in the archive decide nothing about where something is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cl_suite.core.errors import UsageError
from cl_suite.records.record import SCHEMA_VERSION
from cl_suite.records.strict_json import MAX_BYTES, read_json
from cl_suite.records.validation import as_ascii

FORMAT, FORMAT_VERSION = "cl-suite records", 1
MANIFEST, FOLDER = "manifest.json", "records/"
MAX_FILES = 50_000
MAX_TOTAL = 2**30  # bytes of all records, unpacked
MAX_MANIFEST = 2**25  # bytes
MAX_ENTRY = 1024  # bytes of the table of contents for one file
MAX_TEXT = 200  # characters of the name and of who sends it
ENTRY = b"PK\x01\x02"  # how an entry of the table of contents begins
END, END_SIZE = b"PK\x05\x06", 22  # how a zip without a comment ends
LARGE, LARGE_SIZE = b"PK\x06\x07", 20  # stands before the end where the numbers of the end do not count
NAME = re.compile(
    r"records/(?:[A-Za-z0-9_+][A-Za-z0-9._+-]*/){3}[0-9a-f]{12}/seed_-?[0-9]{1,19}(?:\.failed)?\.json", re.ASCII
)
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip knows: bytes depend on the records alone


@dataclass(frozen=True)
class Listed:
    """One file as the manifest lists it: name in the archive, SHA-256 of its bytes in hex, how many they are."""

    name: str
    sha256: str
    size: int

    @property
    def place(self) -> str:
        """Where it lay below the folder of results."""
        return self.name.removeprefix(FOLDER)


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def pack(files: Iterable[tuple[Listed, bytes]], manifest: bytes) -> bytes:
    """Return the archive: the manifest, then the files in the order given. Same contents, same bytes (of one zlib)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
        for name, content in ((MANIFEST, manifest), *((listed.name, content) for listed, content in files)):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return target.getvalue()


def manifest_of(files: Iterable[Listed], facts: Mapping[str, Any]) -> bytes:
    """Return the manifest as JSON. facts: what is told beside the list of files."""
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "schema_version": SCHEMA_VERSION, **facts}
    listed = [{"name": each.name, "sha256": each.sha256, "bytes": each.size} for each in files]
    lines = ",\n    ".join(json.dumps(each) for each in listed)
    head = json.dumps(content, indent=2).removesuffix("\n}")
    return f'{head},\n  "files": [\n    {lines}\n  ]\n}}\n'.encode()


class Newer(ValueError):
    """An archive of a format or schema that this cl-suite does not know yet."""


class Archive:
    """An archive opened for reading: `manifest` as it says, `files` in its order, `read` for the bytes of one.

    Raise UsageError, naming the file and what is wrong, if it is not exactly what a manifest of this format lists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as problem:
            raise UsageError(
                f"archive {path} cannot be read ({problem.strerror or problem}). Check its name."
            ) from problem
        try:
            self._zip = _opened(self._file)
            self._entries = self._checked_entries()
            content = self._bytes(MANIFEST, MAX_MANIFEST)
            self.fingerprint = digest(content)
            self.manifest = _manifest(content)
            self.files = _listed(self.manifest)
            self._check_listed()
        except ValueError as problem:
            self._file.close()
            raise self.refusal(problem) from problem

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, listed: Listed) -> bytes:
        """Return the bytes of a file. Raise UsageError if they are not those the manifest lists."""
        try:
            content = self._bytes(listed.name, listed.size)
            if digest(content) != listed.sha256:
                raise ValueError(f"holds {listed.name} with another SHA-256 than its manifest lists")
            return content
        except ValueError as problem:
            raise self.refusal(problem) from problem

    def refusal(self, problem: ValueError) -> UsageError:
        """Return the error that says why this archive is not taken, and what to do."""
        move = "Update cl-suite" if isinstance(problem, Newer) else "Ask for the archive again"
        return UsageError(f"archive {self._path} {problem}. Nothing of it was imported. {move}.")

    def _checked_entries(self) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            name = entry.orig_filename
            if name in entries:
                raise ValueError(f"holds {as_ascii(name)} twice")
            if fault := _entry_fault(entry, name):
                raise ValueError(fault)
            entries[name] = entry
        if MANIFEST not in entries:
            raise ValueError(f"has no {MANIFEST}")
        return entries

    def _check_listed(self) -> None:
        listed = {each.name for each in self.files}
        for name in sorted(self._entries.keys() - listed - {MANIFEST}):
            raise ValueError(f"holds {name}, which its manifest does not list")
        for each in self.files:
            if each.name not in self._entries:
                raise ValueError(f"lacks {each.name}, which its manifest lists")
            if self._entries[each.name].file_size != each.size:
                raise ValueError(f"holds {each.name} with another size than its manifest lists")

    def _bytes(self, name: str, most: int) -> bytes:
        """Return the bytes of an entry, reading not one more than it may have. Raise ValueError."""
        try:
            with self._zip.open(self._entries[name]) as file:
                content = file.read(most + 1)
        except _UNREADABLE as problem:
            raise ValueError(f"is damaged at {name} ({as_ascii(str(problem))})") from problem
        if len(content) > most:
            raise ValueError(f"holds {name} with more bytes than the {most} allowed")
        return content


# What Python's zipfile raises on bytes that are not a zip it reads.
_UNREADABLE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, OSError,
    RuntimeError, ValueError, IndexError,
)  # fmt: skip


def _opened(file: BinaryIO) -> zipfile.ZipFile:
    """Open a zip, but not one whose table of contents is too long to be read into memory. Raise ValueError."""
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - END_SIZE - LARGE_SIZE))
        tail = file.read()
        if tail[-END_SIZE : 4 - END_SIZE] != END or tail[-2:] != b"\0\0":
            raise ValueError("it does not end as a zip without a comment does")
        (length,) = struct.unpack("<12xL6x", tail[-END_SIZE:])
        file.seek(max(0, size - END_SIZE - length))
        too_long = length > MAX_ENTRY * (MAX_FILES + 1) or file.read(length).count(ENTRY) > MAX_FILES + 1
        if too_long or tail[:-END_SIZE].startswith(LARGE):
            raise ValueError(f"it holds more than {MAX_FILES} files")
        return zipfile.ZipFile(file)
    except _UNREADABLE as problem:
        raise ValueError(f"is no zip archive that can be read ({as_ascii(str(problem))})") from problem


def _entry_fault(entry: zipfile.ZipInfo, name: str) -> str | None:
    """Return why an entry may not be in an archive, from what the table of contents says of it."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return f"holds {as_ascii(name)}, an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return f"holds {as_ascii(name)}, a path that leads out of its folder"
    if stat.S_ISLNK(kind):
        return f"holds {as_ascii(name)}, a link"
    if name.endswith("/") or kind not in (0, stat.S_IFREG):
        return f"holds {as_ascii(name)}, which is no plain file"
    if name != MANIFEST and not NAME.fullmatch(name):
        return (
            f"holds {as_ascii(name)}, which is no record: records/<stream>/<scenario>/<strategy>/<hash>/seed_<n>.json"
        )
    if entry.flag_bits & 0x1:
        return f"holds {as_ascii(name)} encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"holds {as_ascii(name)} in an unknown compression"
    most = MAX_MANIFEST if name == MANIFEST else MAX_BYTES
    return f"holds {as_ascii(name)}, which unpacks to more than {most} bytes" if entry.file_size > most else None


def _manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = read_json(content, most=MAX_MANIFEST)
    except ValueError as problem:
        raise ValueError(f"has a {MANIFEST} that {problem}") from problem
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"has a {MANIFEST} that is not one of {FORMAT!r}")
    for name, known in (("format_version", FORMAT_VERSION), ("schema_version", SCHEMA_VERSION)):
        version = manifest.get(name)
        if type(version) is not int or version < 1:
            raise ValueError(f"has a {MANIFEST} without {name}")
        if version > known:
            raise Newer(f"has {name} {as_ascii(version)}, newer than the {known} known here")
    for name in ("name", "who"):
        text = manifest.get(name)
        if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
            raise ValueError(f"has a {MANIFEST} whose {name} is no text of at most {MAX_TEXT} characters")
    return manifest


def _listed(manifest: Mapping[str, Any]) -> list[Listed]:
    files = manifest.get("files")
    if not isinstance(files, list):
        raise ValueError(f"has a {MANIFEST} without files")
    listed = [_entry(each) for each in files]
    if len({each.name for each in listed}) < len(listed):
        raise ValueError(f"has a {MANIFEST} that lists a file twice")
    if sum(each.size for each in listed) > MAX_TOTAL:
        raise ValueError(f"unpacks to more than {MAX_TOTAL} bytes")
    return listed


def _entry(each: Any) -> Listed:
    if isinstance(each, dict):
        name, sha256, size = each.get("name"), each.get("sha256"), each.get("bytes")
        named = isinstance(name, str) and NAME.fullmatch(name)
        hashed = isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)
        if named and hashed and type(size) is int and 0 <= size <= MAX_BYTES:
            return Listed(str(name), str(sha256), size)
    raise ValueError(f"has a {MANIFEST} with an entry that is not name, sha256 and bytes: {as_ascii(each)}")


def texts(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the sender says of the archive, free of control characters: `name: ...`, `from: ...`."""
    for key, word in (("name", "name"), ("who", "from")):
        if manifest.get(key):
            yield f"{word}: {''.join(c if c.isprintable() else '?' for c in manifest[key])}"
