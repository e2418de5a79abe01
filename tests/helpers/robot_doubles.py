"""Simulators that go wrong on purpose; any process can build them."""

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.toy.point_mass import HORIZON, PointMass
from cl_suite import DataError
from cl_suite.robots.simulator import RobotTask


class Troubled(PointMass):
    """Goes wrong at its third step, as often as a file says."""

    def __init__(self, goal, trouble, times):
        super().__init__(goal)
        self._trouble, self._times, self._steps = trouble, Path(times), 0

    def reset(self, seed):
        self._steps = 0
        return super().reset(seed)

    def step(self, action):
        self._steps += 1
        left = int(self._times.read_text())
        if self._steps == 3 and left:
            self._times.write_text(str(left - 1))
            TROUBLES[self._trouble]()
        return super().step(action)


def _raise():
    raise ArithmeticError("the physics exploded")


TROUBLES = {"crash": lambda: os._exit(7), "hang": lambda: time.sleep(3600), "raise": _raise}


class Lost(PointMass):
    """Its expert does not know where to go."""

    def expert(self):
        return lambda: np.zeros(2)


class Absent(PointMass):
    """Lacks something that no new process would have."""

    def __init__(self):
        raise DataError("the wine rack is absent. Fetch it.")


def troubled_task(trouble, times, *, count):
    times.write_text(str(count))
    options = {"goal": "right", "trouble": trouble, "times": str(times)}
    return RobotTask(f"troubled by {trouble}", "tests.helpers.robot_doubles:Troubled", HORIZON, options)


def lost_task():
    return RobotTask("lost", "tests.helpers.robot_doubles:Lost", HORIZON, {"goal": "right"})
