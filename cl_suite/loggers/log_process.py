"""One logger in a process of its own, as the run sees it: events go in, and never hold the run up."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

MAX_WAITING = 100_000  # events that the logger has not taken yet


class LogProcess:
    """Starts `python -m cl_suite.loggers.writing` for a logger and feeds it.

    problems: where a line is put for what goes wrong, once; nothing is raised
    show:     let the library print to standard error
    """

    def __init__(self, name: str, *, problems: queue.SimpleQueue[str], show: bool = False) -> None:
        self._name, self._problems = name, problems
        self._lost = False
        self._events: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        # The child imports what this process would: -P keeps the working folder out unless it is on our path.
        path = os.pathsep.join(dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path))
        self._threads: list[threading.Thread] = []
        self._process: subprocess.Popen[str] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cl_suite.loggers.writing", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if show else subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                encoding="utf-8",
            )
        except OSError as problem:
            self._lose(f"could not start ({problem.strerror or problem})")
            return
        self._threads = [
            threading.Thread(target=act, args=(self._process,), daemon=True) for act in (self._feed, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, event: dict[str, Any] | None) -> None:
        """Hand an event on and return at once; None: there are no more."""
        if self._lost:
            return
        try:
            self._events.put_nowait(None if event is None else json.dumps(event))
        except queue.Full:
            self._lose("does not keep up")

    def wait(self, until: float) -> None:
        """Wait, no longer than `until` (of the monotonic clock), for the process to end; then end it."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if not self._lost:
                process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._lose("did not end in time; the end of its curves may be missing")
        finally:
            process.kill()
            process.wait()
        for thread in self._threads:  # both end with the process; what it said last is heard
            thread.join(1.0)

    def _feed(self, process: subprocess.Popen[str]) -> None:
        """Write events to the process, in a thread of its own: a full pipe stops this one only."""
        assert process.stdin is not None
        try:
            with process.stdin as target:
                while (line := self._events.get()) is not None:
                    print(line, file=target, flush=True)
        except (OSError, ValueError):
            pass  # it has ended, and `_hear` says why

    def _hear(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lose(f"stopped ({json.loads(line)})")
        if status := process.wait():
            self._lose(f"ended early (status {status})")

    def _lose(self, reason: str) -> None:
        """Send nothing more, and say why, once."""
        if not self._lost:
            self._lost = True
            self._problems.put(f"--log {self._name} {reason}")
