"""What robots' tasks look like at the start: one picture of each. Never imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cl_suite.core.errors import RunError
from cl_suite.robots.pool import RobotPool, SimulatorLost, Worker, environment
from cl_suite.robots.rendering import choose_renderer
from cl_suite.robots.simulator import Array, RobotTask


@contextmanager
def drawing_process(task: RobotTask) -> Iterator[tuple[Worker, str | None]]:
    """Begin a process that can draw `task`; give it and the renderer, None where the task needs no graphics.

    It is a process of its own, because a simulator that was opened without graphics has none.
    Raise DataError where pictures cannot be drawn.
    """
    renderer = choose_renderer() if task.graphics else None
    pool = RobotPool(1)
    try:
        with environment({"MUJOCO_GL": renderer} if renderer else {}):
            (worker,) = pool.workers
        yield worker, renderer
    finally:
        pool.close()


def drawable(task: RobotTask, renderer: str | None) -> RobotTask:
    """Return the task as its simulator is built where it is to draw."""
    return dataclasses.replace(task, local={**task.local, "renderer": renderer})


def first_frames(tasks: Sequence[RobotTask], *, seed: int = 0) -> list[Array]:
    """Return what each task looks like in initial state `seed`, [h, w, 3] uint8 each.

    Raise DataError where the simulator is absent or pictures cannot be drawn, RunError where it fails.
    """
    frames = []
    with drawing_process(tasks[0]) as (worker, renderer):
        for task in tasks:
            try:
                worker.ask("begin", drawable(task, renderer), [seed])
                worker.answer()
                worker.ask("picture", 0)
                frames.append(worker.answer())
            except SimulatorLost as problem:
                raise RunError(f"{task.name} could not be drawn: {problem}.") from problem
    return frames
