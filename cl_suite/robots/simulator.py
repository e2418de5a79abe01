"""What a robot simulator is to the rest: something that is reset, stepped and may succeed. Never imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Observation = dict[str, Array]
"""What a robot sees at one moment: "states" [D] float32, and cameras by name, [3, H, W] uint8, if it has any."""


def stack_observations(moments: Sequence[Observation]) -> Observation:
    """Return the same entries with a first axis: one for each moment (or each robot)."""
    return {name: np.stack([moment[name] for moment in moments]) for name in moments[0]}


class Simulator(Protocol):
    """One environment, in one process."""

    def reset(self, seed: int) -> Observation:
        """Return the first observation of the initial state that `seed` stands for, always the same one."""
        ...

    def step(self, action: Array) -> tuple[Observation, bool]:
        """Return the next observation and whether the task is solved; `action` [A] is clipped to its range."""
        ...

    def expert(self) -> Callable[[], Array]:
        """Return a fresh scripted expert for the episode: called before each step, it gives its action [A]."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


@dataclass(frozen=True)
class RobotTask:
    """A task that any process can build a simulator for.

    factory: "module:function" called with the options; it returns a Simulator
    horizon: steps after which an episode has failed
    """

    name: str
    factory: str
    horizon: int
    options: dict[str, Any] = field(default_factory=dict)

    def simulator(self) -> Simulator:
        """Build one, in this process."""
        module, _, function = self.factory.partition(":")
        made: Simulator = getattr(importlib.import_module(module), function)(**self.options)
        return made
