"""Tasks of imitation: demonstrations as samples, an instruction as part of every input, success as the score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_suite.core.samples import Samples
from cl_suite.core.stream import Scorer, TaskData
from cl_suite.core.types import Inputs
from cl_suite.core.version import renamed
from cl_suite.robots.kept_demonstrations import Demonstrations

INSTRUCTION = "instruction"  # its place among the inputs of a policy
STATES = "states"
SHIFT = 4  # pixels by which pictures are moved at most, where they are augmented


@dataclass(frozen=True)
class WithInstruction:
    """Adds the task's instruction [E] to every sample: {..., "instruction": [B, E]}."""

    instruction: Tensor

    def __call__(self, raw: Inputs) -> Inputs:
        """Return the entries of `raw`, [B, H, ...] each, and the instruction [B, E]."""
        assert isinstance(raw, Mapping)
        count = next(iter(raw.values())).shape[0]
        return {**raw, INSTRUCTION: self.instruction.expand(count, -1)}

    def to(self, device: torch.device) -> WithInstruction:
        """Return the same with the instruction on `device`."""
        return WithInstruction(self.instruction.to(device))


@dataclass(frozen=True)
class PrepareStates:
    """States -> (states - centre) * scale; cameras -> [-1, 1]; the instruction as it is.

    Fixed numbers of the robot's workspace, not statistics of data: nothing of a later task is known before.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Inputs:
        """Return entries [B, H, ...] and the instruction [B, E]; a generator shifts cameras, all moments alike."""
        assert isinstance(raw, Mapping)
        prepared = {}
        for name, value in raw.items():
            if name == STATES:
                value = (value - value.new_tensor(self.centre)) * value.new_tensor(self.scale)
            elif name != INSTRUCTION:
                value = value.float() / 127.5 - 1.0
                value = value if generator is None else _shifted(value, generator)
            prepared[name] = value
        return prepared


def _shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [B, H, 3, h, w], each sample moved by up to SHIFT pixels, its edge repeated."""
    count, moments, colours, height, width = pictures.shape
    flat = pictures.flatten(1, 2)
    padded = torch.nn.functional.pad(flat, (SHIFT,) * 4, mode="replicate")
    device = pictures.device
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count), generator=generator, device=device)
    rows = down[:, None] + torch.arange(height, device=device)
    columns = right[:, None] + torch.arange(width, device=device)
    samples = torch.arange(count, device=device)[:, None, None, None]
    channels = torch.arange(moments * colours, device=device)[None, :, None, None]
    moved = padded[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return moved.unflatten(1, (moments, colours))


def windows(lengths: Tensor, history: int) -> Tensor:
    """Return for each step of each episode the rows of its latest `history` moments, [N, H] int64, oldest first.

    lengths: [E] steps of each episode; before an episode's first step its first moment is repeated
    """
    ends = lengths.cumsum(0)
    first = torch.repeat_interleave(ends - lengths, lengths)
    steps = torch.arange(int(lengths.sum()))
    back = torch.arange(history - 1, -1, -1)
    return (steps[:, None] - back).maximum(first[:, None])


@renamed(measure="scorer")
def imitation_task(
    name: str,
    shown: Demonstrations,
    *,
    held_out: int,
    instruction: Tensor,
    outputs: tuple[str, ...],
    history: int = 1,
    scorer: Scorer | None = None,
) -> TaskData:
    """Return a task of demonstrations: the last `held_out` ones are test samples, the others are learned from.

    instruction: [E], part of every input
    outputs:     names of the network's outputs (an objective's `outputs`)
    scorer:      the score; None = that of the test samples
    """
    n_train = shown.first(len(shown.lengths) - held_out)
    rows, transform = windows(shown.lengths, history), WithInstruction(instruction)
    train = Samples(shown.observations, shown.actions[:n_train], rows[:n_train], transform)
    test = Samples(shown.observations, shown.actions[n_train:], rows[n_train:], transform)
    return TaskData(name, train, test, outputs, scorer)
