"""Buffers by name, and the one that is filled when a task ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.objective import Classification
from cl_suite.core.scenario import Requirement
from cl_suite.core.types import StreamInfo
from cl_suite.methods.replay_buffer import Buffer, ClassBalanced, Reservoir, Ring

if TYPE_CHECKING:
    from cl_suite.core.experience import Experience


class FirstOfEach(Buffer):
    """The first samples of each experience as the stream stores them, in equal shares: LIBERO's memory.

    Liu et al. 2023 (arXiv 2306.03310) keep the first 1,000 sequences of each task when it ends. `capacity` is for the
    whole stream. It is filled by `end_experience` alone: strategies that do not call it are refused.
    """

    _ending = False  # whether samples are offered because an experience ends

    def slots(self, targets: Tensor) -> np.ndarray:
        """Return -1 while an experience is learned, the next free slots when it ends."""
        return self.size + np.arange(len(targets)) if self._ending else np.full(len(targets), -1, dtype=np.int64)

    def end_experience(self, experience: Experience) -> None:
        """Keep the first samples."""
        self._ending = True
        self.add(experience.first(self.capacity // self._info.n_experiences))
        self._ending = False


BUFFERS: dict[str, type[Buffer]] = {
    "reservoir": Reservoir,
    "balanced": ClassBalanced,
    "ring": Ring,
    "first": FirstOfEach,
}


def build_buffer(kind: str, capacity: int, info: StreamInfo, *, purpose: str = "buffer", ends: bool = False) -> Buffer:
    """Return a buffer by name: reservoir, balanced, ring or first.

    ends: whether the strategy tells the buffer when an experience ends

    Raise UsageError for another name, for one that balances classes where there are none, and for `first` where it
    would stay empty.
    """
    if kind not in BUFFERS:
        raise UsageError(f"strategy.buffer={kind} is not known. Use {', '.join(BUFFERS)}.")
    if BUFFERS[kind] is ClassBalanced and not isinstance(info.objective, Classification):
        raise UsageError("strategy.buffer=balanced needs one class per sample. Use strategy.buffer=reservoir.")
    boundaries = Requirement.BOUNDARIES in info.scenario.provides
    if BUFFERS[kind] is FirstOfEach and not (ends and boundaries and 0 < info.n_experiences <= capacity):
        raise UsageError(
            "strategy.buffer=first keeps samples when a task ends: of er and a_gem, where tasks are told, with "
            f"strategy.buffer_size of {info.n_experiences} or more. Use reservoir."
        )
    return BUFFERS[kind](capacity, info, purpose=purpose)
