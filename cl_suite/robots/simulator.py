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
        """Return a fresh scripted expert for the episode: called before each step, it gives its action [A].

        It raises StopIteration when it has nothing more to do. It may have an attribute `takes_noise`: which entries of
        its latest action may be carried out with noise, a number or an array [A] of 0 and 1. Without it all may.
        """
        ...

    def picture(self) -> Array:
        """Return what it looks like now, upright, [h, w, 3] uint8; for a simulator that was given a renderer."""
        ...

    def close(self) -> None:
        """Free what the environment holds."""
        ...


@dataclass(frozen=True)
class RobotTask:
    """A task that any process can build a simulator for.

    factory: "module:function" called with the options; it returns a Simulator
    horizon: steps after which an episode has failed
    kind:    names the simulator in the key of kept demonstrations, wherever its code lies; "" = the factory does
    options: what the task is; a demonstration is kept under them
    local:   more options, which say where this machine has something (folders) and decide nothing
    graphics: whether pictures need MuJoCo's renderer; then `renderer` is among the local options when it is filmed
    steps_after_success: how long a demonstration goes on once the task is solved; it must be solved at its end
    """

    name: str
    factory: str
    horizon: int
    options: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    steps_after_success: int = 0
    graphics: bool = True
    kind: str = ""

    def simulator(self) -> Simulator:
        """Build one, in this process."""
        module, _, function = self.factory.partition(":")
        simulator: Simulator = getattr(importlib.import_module(module), function)(**self.options, **self.local)
        return simulator
