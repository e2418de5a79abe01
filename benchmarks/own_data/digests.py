"""What tells the content of files from another content: read once, and again only when a file has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cl_suite import DataError, DataRoot, UsageError, atomic_file

SHORT = 12  # hex digits of a digest in a configuration
FOLDER = Path("own_data")  # below the data root: digests, and images as they were decoded
READERS = 4  # files that are read at a time


def digests_of(folder: Path, names: Sequence[str], root: DataRoot, *, what: str) -> dict[str, str]:
    """Return {name: "sha256:hex"} of files in a folder.

    Kept below the data root by place, names, sizes and times: files that were not written to are not read again.
    Raise DataError, naming the file, where one cannot be read.
    """
    try:
        marks = [_mark(folder, name) for name in names]
    except OSError as problem:
        raise _unreadable(problem, what) from problem
    key = hashlib.sha256("\n".join([str(folder.resolve()), *marks]).encode("utf-8", "surrogateescape")).hexdigest()
    kept = root.path / FOLDER / "digests" / f"{key[:32]}.txt"
    known = _read(kept)
    if len(known) != len(names):
        with ThreadPoolExecutor(READERS) as readers:
            try:
                known = list(readers.map(lambda name: _sha256(folder / name), names))
            except OSError as problem:
                raise _unreadable(problem, what) from problem
        try:
            with atomic_file(kept, flag="--data-root") as file:
                file.write("\n".join(known).encode())
        except UsageError:  # a data root that cannot be written to: the files are read anew next time
            pass
    return {name: f"sha256:{digest}" for name, digest in zip(names, known, strict=True)}


def content_of(digests: dict[str, str]) -> str:
    """Return a sha256 in hex of files by their names and digests; the folder they lie in does not count."""
    lines = [f"{name}\n{digest}" for name, digest in sorted(digests.items())]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def check_other(train: dict[str, str], test: dict[str, str], *, what: str) -> None:
    """Raise UsageError where a test set has a file that is also learned from."""
    learned = {digest: name for name, digest in train.items()}
    for name, digest in test.items():
        if digest in learned:
            raise UsageError(
                f"{what}: {name} of the test set is {learned[digest]} of the training set. "
                "Give it other samples: what is tested must not be learned from."
            )


def _mark(folder: Path, name: str) -> str:
    """Return what changes when a file is written to, or another one takes its place."""
    found = (folder / name).stat()
    return f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read(kept: Path) -> list[str]:
    try:
        return kept.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _unreadable(problem: OSError, what: str) -> DataError:
    name = Path(str(problem.filename or "")).name
    return DataError(
        f"{what}: {name} cannot be read ({problem.strerror or problem}). Check the file and its permissions."
    )
