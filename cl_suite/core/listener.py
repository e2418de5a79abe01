"""Who follows a run: the display is one; tests and checks are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cl_suite.core.experience import Progress
from cl_suite.core.metering import Meter

Row = list[float | None]


class Listener(Protocol):
    """Follows a run; the display is one."""

    def resumed(self, experiences_done: int) -> None:
        """Say that a run goes on after so many experiences."""

    def progress(self, progress: Progress, meter: Meter) -> None:
        """Receive a reading of the training loop, at most a few times a second."""

    def point(self, point: Mapping[str, Any]) -> None:
        """Receive an evaluation point inside an experience, as it is in the record's `curve`."""

    def note(self, text: str) -> None:
        """Receive a line that the strategy wants to be read."""

    def row(self, experience: int, scores: Row) -> None:
        """Receive a row of R."""


class Silent:
    """A listener that says nothing."""

    def resumed(self, experiences_done: int) -> None:
        """Say nothing."""

    def progress(self, progress: Progress, meter: Meter) -> None:
        """Say nothing."""

    def point(self, point: Mapping[str, Any]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def row(self, experience: int, scores: Row) -> None:
        """Say nothing."""
