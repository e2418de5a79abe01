"""Tasks of imitation: demonstrations as samples, an instruction as part of every input, success as the score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cl_suite.robots.demonstrations import Demonstrations
from cl_suite.robots.rollouts import SuccessRate
from cl_suite.stream import Samples, TaskData
from cl_suite.types import Inputs

HELD = 2  # demonstrations that are not learned from; they show how far actions are from the expert's


@dataclass(frozen=True)
class WithInstruction:
    """Observations [B, D] -> [B, D + E]: followed by the task's instruction [E]."""

    instruction: Tensor

    def __call__(self, raw: Inputs) -> Inputs:
        """Return [B, D + E]."""
        assert isinstance(raw, Tensor)
        return torch.cat([raw, self.instruction.expand(len(raw), -1)], dim=1)

    def to(self, device: torch.device) -> WithInstruction:
        """Return the same with the instruction on `device`."""
        return WithInstruction(self.instruction.to(device))


@dataclass(frozen=True)
class PrepareStates:
    """Observations followed by an instruction -> (observation - centre) * scale, the instruction as it is.

    Fixed numbers of the robot's workspace, not statistics of data: nothing of a later task is known before.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Tensor:
        """Return [B, D + E]; nothing to augment."""
        assert isinstance(raw, Tensor)
        size = len(self.centre)
        centre, scale = raw.new_tensor(self.centre), raw.new_tensor(self.scale)
        return torch.cat([(raw[:, :size] - centre) * scale, raw[:, size:]], dim=1)


def imitation_task(
    name: str, made: Demonstrations, *, instruction: Tensor, actions: tuple[str, ...], measure: SuccessRate
) -> TaskData:
    """Return a task of demonstrations; the last two are test samples, the success rate is the score.

    instruction: [E]
    actions:     names of the action's dimensions
    """
    learned = made.first(len(made.lengths) - HELD)
    rows = torch.arange(len(made.actions))
    shown = WithInstruction(instruction)

    def part(index: Tensor) -> Samples:
        return Samples(made.observations, made.actions[index], index, shown)

    return TaskData(name, part(rows[:learned]), part(rows[learned:]), actions, measure)
