"""What a logger is told, and what it has to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Plain = bool | int | float | str


@dataclass(frozen=True)
class LoggedRun:
    """A run as loggers see it.

    root:     the folder of --log-dir
    place:    where the run's record lies below the folder of results, without `.json`: each run has its own
    title:    what it is called on a page
    row:      what all seeds of one configuration share
    config:   the configuration, flat: {"train.epochs": 5}
    facts:    strategy, stream, scenario, seed, device
    tasks:    the names of the tasks; curves have their numbers
    resumed:  whether the run goes on from a checkpoint; then `samples` had been drawn before
    offline:  whether nothing may be sent (`cl-bench --offline`)
    """

    root: Path
    place: str
    title: str
    row: str
    config: Mapping[str, Plain]
    facts: Mapping[str, Plain]
    tasks: Sequence[str]
    resumed: bool = False
    samples: int = 0
    offline: bool = False

    def kept_id(self, library: str) -> str | None:
        """Return the id under which a library kept this run before; None of a run that is not resumed."""
        file = self._id_file(library)
        return file.read_text(encoding="utf-8") if self.resumed and file.is_file() else None

    def keep_id(self, library: str, identity: str) -> str:
        """Keep the id of this run, for the case that it is resumed, and return it."""
        file = self._id_file(library)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(identity, encoding="utf-8")
        return identity

    def _id_file(self, library: str) -> Path:
        return self.root / "ids" / self.place / f"{library}.txt"


class CurveLogger(Protocol):
    """Writes the curves of one run. What it raises ends it, and is told to the user; the run goes on."""

    def __init__(self, run: LoggedRun) -> None:
        """Begin."""

    def scalars(self, samples: int, values: Mapping[str, float]) -> None:
        """Write values, by name, at so many training samples drawn; `samples` never goes back."""

    def finish(self, status: str, values: Mapping[str, float]) -> None:
        """Write the last values and close. status: "complete", "failed" or "interrupted"."""
