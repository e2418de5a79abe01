"""Files written whole or not at all, names that are safe as folders, digests of files. Never imports torch."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cl_suite.core.errors import UsageError

LONGEST_SLUG = 100  # characters of a folder; longer names are cut and keep 6 digits of their hash


def write_atomic(path: Path, content: str | bytes, *, flag: str = "--results") -> None:
    """Write a file whole or not at all: into the same folder, to the disk, then renamed.

    Raise UsageError, naming the folder and the `flag` that chose it, if it cannot be made or written.
    """
    with atomic_file(path, flag=flag) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, flag: str = "--results") -> Iterator[IO[bytes]]:
    """Give a file to write into piece by piece; it is at `path` once the block has ended, or never. As `write_atomic`.

    An OSError in the block counts as the disk's and becomes a UsageError; any other error is the block's own.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise UsageError(
            f"cannot write to {path.parent} ({problem.strerror or problem}). Name another folder with {flag}."
        ) from problem


def slug(name: str) -> str:
    """Return a name that is safe as a folder: `avalanche/ewc` -> `avalanche-ewc`.

    A plugin's file, `path/to/file.py:Class`, becomes `file-Class-` and 6 hex digits of the whole spec: two files of
    one name stay apart, and no folder of this machine is shown.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    file, in_file, class_name = name.rpartition(".py")
    if in_file and class_name[:1] in ("", ":"):
        stem = re.split(r"[/\\]", file)[-1]
        return f"{slug(stem + class_name)}-{digest}"
    plain = re.sub(r"[^A-Za-z0-9._+]+", "-", name).strip("-.") or digest
    return plain if len(plain) <= LONGEST_SLUG else f"{plain[: LONGEST_SLUG - 20]}-{digest}"


def sha256_of(file: Path) -> str:
    """Return the hex digest of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
