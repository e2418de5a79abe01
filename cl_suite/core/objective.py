"""What an output means: its loss while training and its score at test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Score:
    """Score of one task in [0, 1].

    value:      under the scenario's own rule (class-incremental: argmax over the classes seen so far)
    task_aware: argmax within the task's own classes, from the same logits; None where that is the rule anyway
    count:      test samples behind the score
    """

    value: float
    count: int
    task_aware: float | None = None


class Objective(Protocol):
    """How a stream's outputs are trained and judged.

    It may have `chance(visible)`: the score to expect of one who guesses among so many visible outputs, in [0, 1].
    """

    @property
    def name(self) -> str:
        """A word for the record."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss per sample, [B]."""
        ...

    def correct(self, outputs: Tensor, targets: Tensor, visible: Tensor) -> Tensor:
        """Return a score in [0, 1] per sample, [B] float; entries outside `visible` [C] do not compete."""
        ...


def class_mask(classes: Iterable[int], n_outputs: int, device: torch.device | str = "cpu") -> Tensor:
    """Return [n_outputs] bool, True for `classes`."""
    mask = torch.zeros(n_outputs, dtype=torch.bool)
    mask[list(classes)] = True
    return mask.to(device)


def restrict(logits: Tensor, visible: Tensor) -> Tensor:
    """Return `logits` [B, C] with -inf where `visible` ([C] or [B, C], bool) is False."""
    return logits.masked_fill(~visible, -torch.inf)


@dataclass(frozen=True)
class Classification:
    """One class per sample. Loss: cross-entropy; score: accuracy of the argmax."""

    name: str = "classification"

    def chance(self, visible: int) -> float:
        """Return the expected score of one who guesses among so many classes."""
        return 1.0 / visible

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy per sample, [B], for logits [B, C] (-inf allowed) and targets [B] in 0..C-1."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def correct(self, outputs: Tensor, targets: Tensor, visible: Tensor) -> Tensor:
        """1.0 where the argmax over the visible classes is the target."""
        return (restrict(outputs, visible).argmax(dim=1) == targets).float()


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels per sample, targets [B, C] in {0, 1}. Score: share of visible labels that are right."""

    name: str = "multi_label"

    def chance(self, visible: int) -> float:
        """Return the expected score of one who tosses a coin for every label."""
        return 0.5

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy per sample, mean over labels that have an output (-inf: none)."""
        present = torch.isfinite(outputs)
        losses = F.binary_cross_entropy_with_logits(
            outputs.masked_fill(~present, 0.0), targets.float(), reduction="none"
        )
        return (losses * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)

    def correct(self, outputs: Tensor, targets: Tensor, visible: Tensor) -> Tensor:
        """Share of the visible labels predicted right at threshold 0."""
        right = ((outputs > 0) == targets.bool()) & visible
        return right.sum(dim=1) / visible.sum().clamp(min=1)
