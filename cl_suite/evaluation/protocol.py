"""What may be asked of a strategy after each experience, beyond its scores: `--evaluate <name>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.metrics.matrix import Matrix, Row


@dataclass
class OpenSetSettings:
    """Whether samples that belong to no task are shown after each experience."""

    evaluate: bool = False  # set by --evaluate open_set


class Evaluation(Protocol):
    """Asks after each experience and keeps what it found; a part of the harness."""

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Before an experience: tell the strategy what it must know by then, or watch its batches."""
        ...

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """After an experience, whose row of R is `scores`: ask. Random numbers drawn here are given back."""
        ...

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return the figures of the finished run, whose matrix is R, for tables."""
        ...

    def record(self) -> dict[str, Any]:
        """Return everything measured, for the record's diagnostics."""
        ...

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what a checkpoint must keep: an entry for each experience so far."""
        ...

    def load_state_dict(self, entries: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        ...
