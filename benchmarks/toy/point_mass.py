"""A robot for tests and first steps: a point on a plane that is pushed to a goal. No physics engine, never torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cl_suite.robots import Array, Observation, RobotTask

KIND = "cl_suite.robots.point_mass:PointMass"  # in what a record says of demonstrations, as it always did
STEP = 0.1  # what a full action moves it by
NEAR = 0.1  # of the goal: solved
HORIZON = 40
SIZE, EDGE = 96, 1.5  # of a picture: pixels, and how far from the middle it shows
GOALS = {"right": (1.0, 0.0), "up": (0.0, 1.0), "left": (-1.0, 0.0), "down": (0.0, -1.0)}


class PointMass:
    """States are the place (x, y); actions are the direction it is moved in, each in [-1, 1]."""

    def __init__(self, goal: str, renderer: str | None = None) -> None:
        self._goal = np.array(GOALS[goal])
        self._place = np.zeros(2)

    def reset(self, seed: int) -> Observation:
        """Begin near the middle."""
        self._place = np.random.default_rng(seed).uniform(-0.2, 0.2, 2)
        return self._as_observation()

    def step(self, action: Array) -> tuple[Observation, bool]:
        """Move; solved near the goal."""
        self._place = self._place + STEP * np.clip(action, -1.0, 1.0)
        return self._as_observation(), bool(np.linalg.norm(self._goal - self._place) < NEAR)

    def _as_observation(self) -> Observation:
        return {"states": self._place.astype(np.float32)}

    def expert(self) -> Callable[[], Array]:
        """Go straight to the goal."""
        return lambda: np.clip((self._goal - self._place) / STEP, -1.0, 1.0)

    def picture(self) -> Array:
        """Return the plane from above: the goal in green, the point in black, [96, 96, 3] uint8."""
        plane = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
        for place, radius, colour in ((self._goal, 5, (90, 180, 110)), (self._place, 3, (20, 20, 20))):
            column, row = ((np.array([place[0], -place[1]]) + EDGE) / (2 * EDGE) * SIZE).astype(int)
            rows, columns = np.ogrid[:SIZE, :SIZE]
            plane[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = colour
        return plane

    def close(self) -> None:
        """Nothing to free."""


def point_mass_task(goal: str) -> RobotTask:
    """Return the task of one goal: right, up, left or down."""
    return RobotTask(
        f"go {goal}", "benchmarks.toy.point_mass:PointMass", HORIZON, {"goal": goal}, graphics=False, kind=KIND
    )
