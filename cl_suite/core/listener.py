"""Who follows a run: what an experience reports to the harness, and the harness to a display, a log, a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cl_suite.core.metering import Meter

Row = list[float | None]


@dataclass(frozen=True)
class Progress:
    """One reading of the training loop, at most a few times a second."""

    experience: int
    step: int  # batches drawn in this experience
    epoch: int
    epochs: int
    phase: str
    loss: float | None
    samples_drawn: int


@dataclass
class Hooks:
    """What the harness listens to. Defaults do nothing, so an experience also works alone in a test."""

    meter: Meter = field(default_factory=Meter)
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_evaluation_point: Callable[[int, int], None] = lambda experience, step: None
    on_note: Callable[[str], None] = lambda text: None
    on_epoch: Callable[[int, str], None] = lambda experience, phase: None
    on_observation: Callable[[float, float | None, int, bool], None] = lambda loss, threshold, expert, shift: None


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
