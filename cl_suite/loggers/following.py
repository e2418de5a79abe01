"""Follows a run and sends what is to be drawn to the processes that write it. Reads nothing from the device."""

from __future__ import annotations

import dataclasses
import queue
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cl_suite.core.listener import Listener, Progress, Row
from cl_suite.core.metering import Meter
from cl_suite.loggers.curve_logger import LoggedRun
from cl_suite.loggers.log_process import LogProcess
from cl_suite.loggers.series import Values, final_values, finite_values, point_values, row_values
from cl_suite.records.record import RunRecord

WAIT_SECONDS = 30.0  # for the loggers to write the rest when a run has ended
WAIT_INTERRUPTED = 10.0  # the same, where somebody waits for the prompt


class Followed(Protocol):
    """What is read of a harness."""

    meter: Meter
    results: Any
    scenario_stream: Any


class CurveFollower:
    """A listener that passes curves on to loggers. Whatever happens to one is one warning, and the run goes on.

    loggers: their names, see `chosen_loggers`; with none it does nothing
    console: where warnings go
    show:    let the libraries print to standard error
    """

    def __init__(self, loggers: Sequence[str], run: LoggedRun, *, console: Any, show: bool = False) -> None:
        self._run, self._console = run, console
        self._harness: Followed | None = None
        self._begun = False
        self._problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._processes = [LogProcess(name, problems=self._problems, show=show) for name in loggers]

    def follow(self, harness: Followed) -> None:
        """Say whose run it is; its results are read when something is told."""
        self._harness = harness

    def __enter__(self) -> CurveFollower:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._end("interrupted", {}, wait=WAIT_INTERRUPTED)

    def finish(self, record: RunRecord) -> None:
        """Send the metrics and costs of the record and wait until the loggers have written everything."""
        self._end(record.status, final_values(record.metrics, record.costs), wait=WAIT_SECONDS)

    def resumed(self, experiences_done: int) -> None:
        """Tell the loggers that they go on with the run of before."""
        if self._harness is not None:
            self._run = dataclasses.replace(self._run, resumed=True, samples=self._harness.meter.samples_drawn)

    def progress(self, progress: Progress, meter: Meter) -> None:
        """Send the loss that was read for the display."""
        values = {"loss": progress.loss, "experience": progress.experience, "epoch": progress.epoch}
        steps = {"optimizer_steps": meter.optimizer_steps}
        self._send(
            progress.samples_drawn, finite_values({f"train/{name}": v for name, v in {**values, **steps}.items()})
        )

    def point(self, point: Mapping[str, Any]) -> None:
        """Send the scores at an evaluation point inside an experience."""
        if self._harness is not None:
            begun = self._harness.scenario_stream.begun(point["experience"])
            self._send(point["samples"], point_values(point["scores"], begun))

    def note(self, text: str) -> None:
        """Send nothing: notes are for reading."""

    def row(self, experience: int, scores: Row) -> None:
        """Send what is known after an experience."""
        if self._harness is not None:
            stream, R = self._harness.scenario_stream, self._harness.results.R
            values = row_values(R, stream.begun(experience), rows_are_tasks=stream.has_boundaries)
            self._send(self._harness.meter.samples_drawn, values)

    def _send(self, samples: int, values: Values) -> None:
        self._put({"event": "scalars", "samples": samples, "values": values})
        self._warn()

    def _end(self, status: str, values: Values, *, wait: float) -> None:
        self._put({"event": "end", "status": status, "values": values})
        until = time.monotonic() + wait
        for each in self._processes:
            each.send(None)
        for each in self._processes:
            each.wait(until)
        self._processes = []
        self._warn()

    def _put(self, event: dict[str, Any]) -> None:
        events = [event]
        if not self._begun:  # only now is it known whether the run goes on from a checkpoint
            self._begun = True
            run = {**dataclasses.asdict(self._run), "root": str(self._run.root.absolute())}
            events = [{"event": "start", "run": run}, event]
        for each in self._processes:
            for one in events:
                each.send(one)

    def _warn(self) -> None:
        while not self._problems.empty():
            self._console.print(f"Warning: {self._problems.get()}. The run is not affected.", markup=False)


class Both:
    """A listener for two: what one is told, the other is told too."""

    def __init__(self, first: Listener, second: Listener) -> None:
        self._listeners = (first, second)

    def resumed(self, experiences_done: int) -> None:
        """Pass it on."""
        for each in self._listeners:
            each.resumed(experiences_done)

    def progress(self, progress: Progress, meter: Meter) -> None:
        """Pass it on."""
        for each in self._listeners:
            each.progress(progress, meter)

    def point(self, point: Mapping[str, Any]) -> None:
        """Pass it on."""
        for each in self._listeners:
            each.point(point)

    def note(self, text: str) -> None:
        """Pass it on."""
        for each in self._listeners:
            each.note(text)

    def row(self, experience: int, scores: Row) -> None:
        """Pass it on."""
        for each in self._listeners:
            each.row(experience, scores)
