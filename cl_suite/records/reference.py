"""Records where they are stored: below a folder, or packed as those that come with cl-suite. Never imports torch.

The reference: what the makers of cl-suite ran. In a checkout it lies in `results/reference`; a wheel has it packed.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cl_suite.core.errors import UsageError

REFERENCE = "reference"  # the folder of results it lies in, and what it is called on the command line
PACKED = "reference.tar.xz"  # beside this module in a wheel; written by setup.py
LARGEST = 64 * 2**20  # bytes of a record
DEPTH = 5  # parts of a record's path below its folder: stream, scenario, strategy, config hash, file


@dataclass(frozen=True)
class Stored:
    """A file that should be a record. name: where it lies below its folder, with forward slashes."""

    name: str
    place: Path | bytes

    def read(self) -> str:
        """Return its text. Raise OSError if it cannot be read, ValueError if it is too large or no text."""
        size = len(self.place) if isinstance(self.place, bytes) else self.place.stat().st_size
        if size > LARGEST:
            raise ValueError(f"is larger than {LARGEST // 2**20} MiB, more than any record")
        return self.place.decode("utf-8") if isinstance(self.place, bytes) else self.place.read_text(encoding="utf-8")


def stored_below(results: Path) -> Iterator[Stored]:
    """Yield what `own_paths` does, with names."""
    for path in own_paths(results):
        yield Stored(path.relative_to(results).as_posix(), path)


def own_paths(results: Path) -> Iterator[Path]:
    """Yield the `seed_*.json` below a folder, sorted, but for those of a reference that lies in it."""
    for path in sorted(results.rglob("seed_*.json")):
        parts = path.relative_to(results).parts
        if parts[0] != REFERENCE or len(parts) <= DEPTH:  # a stream may be called so
            yield path


def reference_files() -> Iterator[Stored]:
    """Yield the records of the reference, by name. Raise UsageError where this copy of cl-suite has none."""
    folder, packed = reference_folder(), packed_file()
    if folder is not None:
        yield from stored_below(folder)
    elif packed.is_file():
        with tarfile.open(packed, mode="r:xz") as archive:
            for entry in archive:
                content = archive.extractfile(entry)
                if content is not None:
                    yield Stored(PurePosixPath(entry.name).as_posix(), content.read())
    else:
        raise UsageError(
            "this copy of cl-suite comes without its reference records. Install it from a wheel or a clone."
        )


def packed_file() -> Path:
    """Return where a wheel has them."""
    return Path(__file__).with_name(PACKED)


def reference_folder() -> Path | None:
    """Return where a checkout has the reference; None where cl-suite was installed."""
    folder = Path(__file__).resolve().parents[2] / "results" / REFERENCE
    return folder if folder.is_dir() else None
