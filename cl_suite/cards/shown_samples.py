"""Which samples of a task are shown: the first of each class, then the second of each, always the same ones."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_suite.core.samples import Samples


def spread_over_classes(samples: Samples, count: int) -> Tensor:
    """Return positions of at most `count` samples, [K] int64: class by class in turn, as often as there is room."""
    targets = samples.targets
    if targets.dim() != 1 or targets.is_floating_point():  # actions, labels of which a sample has several
        return torch.linspace(0, len(targets) - 1, min(count, len(targets))).round().long()
    classes = targets.unique().tolist()
    columns = [(targets == each).nonzero().squeeze(1)[:count].tolist() for each in classes]
    rounds = range(max((len(column) for column in columns), default=0))
    positions = [column[number] for number in rounds for column in columns if number < len(column)]
    return torch.tensor(positions[:count], dtype=torch.long)
