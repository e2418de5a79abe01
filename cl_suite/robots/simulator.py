"""What a robot simulator is to the rest: something that is reset, stepped and may succeed. Never imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Simulator(Protocol):
    """One environment, in one process."""

    def reset(self, seed: int) -> Array:
        """Return the first observation [D] of the initial state that `seed` stands for, always the same one."""
        ...

    def step(self, action: Array) -> tuple[Array, bool]:
        """Return the next observation [D] and whether the task is solved; `action` [A] is clipped to its range."""
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
