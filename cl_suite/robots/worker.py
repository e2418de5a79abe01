"""The process of some simulators: steps several of one task at once, or lets their expert show the task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cl_suite.core.errors import CLSuiteError
from cl_suite.robots.simulator import Array, Observation, RobotTask, Simulator, stack_observations


def serve(connection: Any) -> None:
    """Say that it has begun; answer requests (number, name, ...) with (number, "done", value), until it is killed.

    Or with (number, "failed", one line) or, where the project itself refuses, (number, "refused", one line).
    """
    crew = _Crew()
    answers: dict[str, Callable[..., Any]] = {
        "begin": crew.begin,
        "step": crew.step,
        "picture": crew.picture,
        "demonstrate": crew.demonstrate,
    }
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        connection.send((0, "done", "begun"))
        while True:
            number, name, *arguments = connection.recv()
            try:
                connection.send((number, "done", answers[name](*arguments)))
            except CLSuiteError as problem:  # absent files or packages: no new process would have them
                connection.send((number, "refused", str(problem)))
            except Exception as problem:  # a simulator's own: told to who asked, who decides
                connection.send((number, "failed", f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"))
    crew.close()


class _Crew:
    """Simulators of the latest task, one for each episode that runs beside others; they are used again."""

    def __init__(self) -> None:
        self._task: RobotTask | None = None
        self._simulators: list[Simulator] = []

    def begin(self, task: RobotTask, seeds: Sequence[int]) -> Observation:
        """Reset a simulator for each seed; return the observations, [L, ...] each."""
        self._prepare(task, len(seeds))
        pairs = zip(self._simulators, seeds, strict=False)
        return stack_observations([simulator.reset(seed) for simulator, seed in pairs])

    def step(self, lanes: Sequence[int], actions: Array) -> tuple[Observation, list[bool]]:
        """Step the simulators `lanes` by `actions` [len(lanes), A]; return their observations, and who is done."""
        results = [self._simulators[lane].step(action) for lane, action in zip(lanes, actions, strict=True)]
        return stack_observations([observation for observation, _ in results]), [solved for _, solved in results]

    def picture(self, lane: int) -> Array:
        """Return what a simulator looks like now, [h, w, 3] uint8."""
        return self._simulators[lane].picture()

    def demonstrate(self, task: RobotTask, seed: int, noise: float) -> tuple[Observation, Array, bool]:
        """Let the expert act; return observations [T, ...], its actions [T, A], and whether it succeeded.

        noise: standard deviation of what is added to an action when it is carried out; the one returned is clean

        It ends when the expert does, or `task.steps_after_success` steps after the task is solved for the first time,
        and has succeeded if the task is solved then: a thing may be at its place and yet in the hand.
        """
        self._prepare(task, 1)
        simulator = self._simulators[0]
        generator = np.random.default_rng([seed, 1])
        observation = simulator.reset(seed)
        act = simulator.expert()
        observations, actions, solved, steps_left = [], [], False, None
        for _ in range(task.horizon):
            try:
                action = np.clip(act(), -1.0, 1.0).astype(np.float32)
            except StopIteration:
                break
            observations.append(observation)
            actions.append(action)
            carried = action
            if noise:
                deviation = noise * generator.standard_normal(action.shape).astype(np.float32)
                carried = action + deviation * np.asarray(getattr(act, "takes_noise", 1), dtype=np.float32)
            observation, solved = simulator.step(np.clip(carried, -1.0, 1.0))
            if steps_left is None and solved:
                steps_left = task.steps_after_success
            elif steps_left is not None:
                steps_left -= 1
            if steps_left == 0:
                break
        return stack_observations(observations), np.stack(actions), solved

    def _prepare(self, task: RobotTask, count: int) -> None:
        if task != self._task:
            self.close()
            self._task = task
        while len(self._simulators) < count:
            self._simulators.append(task.simulator())

    def close(self) -> None:
        """Close all simulators."""
        for simulator in self._simulators:
            with contextlib.suppress(Exception):
                simulator.close()
        self._simulators = []
        self._task = None
