"""The folder data lives in, and files that are verified before anything reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from cl_suite.core.errors import DataError


def default_data_root() -> Path:
    """Return $CL_SUITE_DATA, else the user's cache folder."""
    configured = os.environ.get("CL_SUITE_DATA")
    if configured:
        return Path(configured).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cl-suite"


@dataclass(frozen=True)
class DataRoot:
    """Where files are looked for, and whether absent ones may be downloaded."""

    path: Path
    offline: bool = False

    def verified(
        self,
        files: Mapping[str, str],
        *,
        what: str,
        download: Callable[[Path], object] | None = None,
    ) -> dict[str, Path]:
        """Return {relative name: path} after checking every file against its checksum.

        files:    relative path -> "sha256:<hex>" or "md5:<hex>"
        what:     the name of the data set, for messages
        download: fetches everything into the given folder; called once if a file is absent

        Raise DataError naming the file, the place it was looked for and the next move.
        """
        if any(not (self.path / name).is_file() for name in files):
            self._download(files, what, download)
        for name, expected in files.items():
            self._check(self.path / name, expected, what)
        return {name: self.path / name for name in files}

    def _download(self, files: Mapping[str, str], what: str, download: Callable[[Path], object] | None) -> None:
        missing = next(name for name in files if not (self.path / name).is_file())
        place = f"{what}: {missing} is not in {self.path} (set by --data-root or CL_SUITE_DATA)"
        instead = "or try --stream split_digits, which needs no files"
        if download is None:
            raise DataError(f"{place}, and there is no automatic download. Put it there, {instead}.")
        if self.offline:
            raise DataError(f"{place}, and --offline forbids a download. Put it there, {instead}.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            download(self.path)
        except (OSError, RuntimeError) as problem:
            # torchvision says why only after a first line that names the file: keep it all, on one line.
            reason = shorten(str(problem), 300) or type(problem).__name__
            raise DataError(f"{place}, and the download failed ({reason}). Put it there, {instead}.") from problem

    @staticmethod
    def _check(path: Path, expected: str, what: str) -> None:
        if not path.is_file():
            raise DataError(f"{what}: {path} is still absent after the download. Fetch it by hand.")
        algorithm, _, digest = expected.partition(":")
        try:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, algorithm).hexdigest()
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
            raise DataError(
                f"{what}: {path} cannot be read ({reason}). Check its permissions and the disk."
            ) from problem
        if actual != digest:
            raise DataError(
                f"{what}: {path} is truncated or altered ({algorithm} {actual[:12]}, expected {digest[:12]}). "
                "Delete it and run again to fetch it anew."
            )
