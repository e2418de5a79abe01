"""What a run shows: progress while it goes on, a row of R after each experience, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cl_suite.core.listener import Progress
from cl_suite.core.metering import Meter
from cl_suite.records.record import RunRecord

ESTIMATE_AFTER = 5.0  # seconds of training before the time left is told


def console_for(*, quiet: bool) -> Console:
    """Return the console messages go to: standard error, so that standard output holds results alone."""
    return Console(file=sys.stderr, quiet=quiet, highlight=False, soft_wrap=True)


class LiveLine(Protocol):
    """A line that is written anew as a run goes on."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """Take the line away."""
        ...

    def update(self, renderable: Any, *, refresh: bool = False) -> None:
        """Show this in its place."""
        ...


def _live_line(console: Console) -> LiveLine | None:
    """Return the live line of a console that has one of its own, or of a terminal."""
    own: LiveLine | None = getattr(console, "live_line", None)
    return own or (Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None)


class RunDisplay:
    """Follows one run. On a terminal a live line; elsewhere only the estimate of the time left.

    expected_samples: what the whole run will draw, for the time left
    """

    def __init__(self, console: Console, *, n_experiences: int, expected_samples: int) -> None:
        self._console = console
        self._n_experiences = n_experiences
        self._expected = max(1, expected_samples)
        self._started: float | None = None  # the first reading: what came before was set-up, not throughput
        self._drawn_before = 0
        self._estimate_printed = False
        self._live = _live_line(console)

    def __enter__(self) -> RunDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def resumed(self, experiences_done: int) -> None:
        """Say where the run goes on."""
        self._console.print(f"Resumed after {experiences_done} of {self._n_experiences} experiences.")

    def progress(self, progress: Progress, meter: Meter) -> None:
        """Show task, epoch, loss, samples per second and time left."""
        if meter.optimizer_steps == 0:
            return
        if self._started is None:
            self._started, self._drawn_before = time.monotonic(), meter.samples_drawn
            return
        elapsed = time.monotonic() - self._started
        rate = (meter.samples_drawn - self._drawn_before) / elapsed
        if not rate:  # nothing has been drawn since: a pass over what a strategy keeps
            return
        left = max(0.0, (self._expected - meter.samples_drawn) / rate)
        if not self._estimate_printed and elapsed >= ESTIMATE_AFTER:
            self._estimate_printed = True
            self._console.print(f"About {_minutes(left)} left at {rate:,.0f} samples/s.")
        if self._live is not None:
            self._live.update(self._line(progress, meter, rate, left), refresh=True)

    def point(self, point: Mapping[str, Any]) -> None:
        """Show nothing: a row of R is shown after each experience."""

    def note(self, text: str) -> None:
        """Show a line of the strategy."""
        self._console.print(f"Note: {text}.", markup=False)

    def row(self, experience: int, scores: Sequence[float | None]) -> None:
        """Show a row of R: percent, one number per task."""
        if self._live is None:
            return
        answered = [score for score in scores if score is not None]
        mean = f"{100 * sum(answered) / len(answered):5.1f}" if answered else "    -"
        cells = " ".join("  -" if score is None else f"{100 * score:3.0f}" for score in scores)
        width = len(str(self._n_experiences))
        self._console.print(f"[bold]{experience + 1:>{width}}[/]/{self._n_experiences}  mean {mean}  |  {cells}")

    def _line(self, progress: Progress, meter: Meter, rate: float, left: float) -> Text:
        share = min(1.0, meter.samples_drawn / self._expected)
        filled = round(24 * share)
        bar = "━" * filled + "╌" * (24 - filled)
        loss = "-" if progress.loss is None else f"{progress.loss:.3f}"
        phase = f" {progress.phase}" if progress.phase else ""
        return Text.assemble(
            (bar, "cyan"),
            f" {share:4.0%}  experience {progress.experience + 1}/{self._n_experiences}",
            f"{phase}  epoch {progress.epoch + 1}/{progress.epochs}  loss {loss}",
            f"  {rate:,.0f} samples/s  {_minutes(left)} left",
        )


def summary_title(record: RunRecord) -> str:
    """Return what the table a run ends with is of."""
    return f"{record.strategy} on {record.stream}, {record.scenario}, protocol {record.protocol}"


def summary_rows(records: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    """Return the table a run ends with as (names of columns, rows): one row per seed, and their mean where several."""
    columns = _columns(records)
    rows = [[str(record.seed), *(render(value(record)) for _, value, render in columns)] for record in records]
    if len(records) > 1:
        cells = []
        for _, value, render in columns:
            values = [v for v in map(value, records) if v is not None]
            cells.append(render(sum(values) / len(values)) if len(values) == len(records) else "-")
        rows.append(["mean", *cells])
    return ["seed", *(name for name, _, _ in columns)], rows


def summary_table(records: Sequence[RunRecord]) -> Table:
    """Return the table a run ends with, for a terminal."""
    table = Table(
        title=summary_title(records[0]),
        box=box.SIMPLE_HEAD,
        title_style="bold",
        title_justify="left",
        pad_edge=False,
    )
    names, rows = summary_rows(records)
    for name in names:
        table.add_column(name, justify="left" if name == "seed" else "right", no_wrap=True)
    for number, cells in enumerate(rows):
        if number and number == len(records):
            table.add_section()
        table.add_row(*cells)
    return table


def _columns(records: Sequence[RunRecord]) -> list[tuple[str, Any, Any]]:
    def metric(name: str) -> Any:
        return lambda record: record.metrics.get(name)

    def cost(name: str) -> Any:
        return lambda record: record.costs.get(name)

    columns = [("ACC %", metric("acc"), _percent)]
    if any(record.R_task_aware is not None for record in records):
        columns.append(("task-aware %", metric("acc_task_aware"), _percent))
    return [
        *columns,
        ("BWT", metric("bwt"), _points),
        ("FWT", metric("fwt"), _points),
        ("forgetting", metric("forgetting"), _points),
        ("samples", cost("samples_drawn"), _count),
        ("FLOPs", cost("training_flops"), _flops),
        ("train", cost("train_seconds"), _seconds),
        ("total", cost("wall_seconds"), _seconds),
        ("state", cost("state_bytes"), _megabytes),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _points(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:+.1f}" if round(100 * value, 1) else "0.0"


def _flops(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f} MB"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
