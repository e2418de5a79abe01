"""Processes with simulators: asked, waited for with a time limit, started anew once when they crash or hang.

Requests have numbers: an answer nobody waited for, because it came too late or the question was given up, is dropped.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from cl_suite.core.devices import available_cores
from cl_suite.core.errors import DataError, RunError

START = 120.0  # seconds for a process to begin
WAIT = 300.0  # seconds for one answer: some steps, a reset, or a demonstration
LOST = "the process ended"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class SimulatorLost(Exception):
    """A process crashed, hung, or its simulator raised; the text says which."""


class Worker:
    """One process with one thread, which has one request at a time."""

    def __init__(self, *, wait: float = WAIT) -> None:
        self._wait = wait
        self._start()

    def _start(self) -> None:
        from cl_suite.robots.worker import serve

        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        with environment(dict.fromkeys(THREADS, "1")):  # read when NumPy is loaded
            self._process.start()
        self._requests = 0
        theirs.close()
        self._began = False

    @property
    def process_id(self) -> int | None:
        """Of the process, as the operating system counts."""
        return self._process.pid

    def ask(self, *request: Any) -> None:
        """Send a request without waiting. Raise SimulatorLost if the process is gone."""
        self._requests += 1
        try:
            self._connection.send((self._requests, *request))
        except (BrokenPipeError, ConnectionError, OSError) as problem:
            raise SimulatorLost(self._end()) from problem

    def answer(self) -> Any:
        """Wait for the answer to the latest request.

        Raise SimulatorLost if there is none; DataError if the simulator refuses, which no new process would mend.
        """
        try:
            if not self._began:
                self._receive(START)
                self._began = True
            number, kind, value = self._receive(self._wait)
            while number != self._requests:
                number, kind, value = self._receive(self._wait)
        except (EOFError, ConnectionError, OSError) as problem:
            raise SimulatorLost(self._end()) from problem
        if kind == "refused":
            raise DataError(value)
        if kind == "failed":
            raise SimulatorLost(value)
        return value

    def _receive(self, seconds: float) -> Any:
        if not self._connection.poll(seconds):
            raise SimulatorLost(f"no answer within {seconds:.0f} s")
        return self._connection.recv()

    def _end(self) -> str:
        self._process.join(timeout=5)
        return f"{LOST}, exit code {self._process.exitcode}"

    def restart(self) -> None:
        """End the process, whatever it does, and start another."""
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join(timeout=5)
        self._connection.close()


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Processes that begin here see these variables; this one keeps its own."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RobotPool:
    """Some processes, started when they are first needed and ended with this one.

    size: how many; None = as many as cores this process may use
    """

    def __init__(self, size: int | None = None, *, wait: float = WAIT) -> None:
        self._size = size or available_cores()
        self._wait = wait
        self._workers: list[Worker] = []
        atexit.register(self.close)

    @property
    def workers(self) -> list[Worker]:
        """The processes, all running."""
        while len(self._workers) < self._size:
            self._workers.append(Worker(wait=self._wait))
        return self._workers

    def map(self, requests: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the answers in the order of the requests; each process has one request at a time.

        A process that is lost is started anew, and its request asked once more. Raise RunError if it is lost again. Who
        has had enough may stop: the answers to come are dropped.
        """
        waiting = iter(requests)
        busy: list[tuple[Worker, tuple[Any, ...]]] = []
        for worker, request in zip(self.workers, waiting, strict=False):
            busy.append((worker, request))
            _send(worker, request)
        while busy:
            worker, request = busy.pop(0)
            yield self._collect(worker, request)
            following = next(waiting, None)
            if following is not None:
                busy.append((worker, following))
                _send(worker, following)

    def _collect(self, worker: Worker, request: tuple[Any, ...]) -> Any:
        try:
            return worker.answer()
        except SimulatorLost:
            worker.restart()
        try:
            worker.ask(*request)
            return worker.answer()
        except SimulatorLost as again:
            worker.restart()
            raise RunError(f"a simulator failed twice ({again}). Look at {request[1].name} alone.") from again

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.stop()
        self._workers = []


@cache
def robot_pool() -> RobotPool:
    """Return the pool that all streams of this process share."""
    return RobotPool()


def _send(worker: Worker, request: tuple[Any, ...]) -> None:
    """Ask; a process that is already gone shows when its answer is collected."""
    try:
        worker.ask(*request)
    except SimulatorLost:
        return
