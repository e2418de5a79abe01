"""Samples: views of stored tensors that tasks share, and whatever else batches can be taken from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cl_suite.core.types import Inputs, choose_inputs, map_inputs


class Source(Protocol):
    """Anything batches can be taken from: an experience's samples, a buffer."""

    def __len__(self) -> int: ...
    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], targets [B]) at `positions` [B]."""
        ...


class Transform(Protocol):
    """Makes a task's samples out of stored ones, a batch at a time, on their device."""

    def __call__(self, raw: Inputs) -> Inputs:
        """[B, ...] as stored -> [B, ...] as the task's samples are; dtype and size may change, alike in every task."""
        ...

    def to(self, device: torch.device) -> Transform:
        """Return the same transform with its tensors on `device`."""
        ...


@dataclass(frozen=True)
class Samples:
    """A view of samples that may share their storage with other tasks.

    inputs:    storage, [M, ...], as stored (images uint8)
    targets:   [N] int64, for the N samples of this view
    index:     [N] int64 rows of the storage that belong to this view; None = all, in order. [N, H]: each sample is a
               window of H rows, so that `take` gives [B, H, ...]
    transform: what makes the task out of the shared storage (a permutation, a rotation, a normalisation of
               its own). What it returns is what `prepare` gets and buffers keep: dtype and size may differ from storage
    on_disk:   whether the storage is a memory map: it stays where it is, and only batches are moved to the device
    """

    inputs: Inputs
    targets: Tensor
    index: Tensor | None = None
    transform: Transform | None = None
    on_disk: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], targets [B]) at `positions` [B] of this view, on the view's device."""
        rows = positions if self.index is None else self.index[positions]
        if self.on_disk:
            device, rows = rows.device, rows.cpu()
            raw = map_inputs(lambda tensor: tensor[rows].to(device), self.inputs)
        else:
            raw = map_inputs(lambda tensor: tensor[rows], self.inputs)
        return (raw if self.transform is None else self.transform(raw)), self.targets[positions]

    def select(self, positions: Tensor) -> Samples:
        """Return the view of these positions only; storage stays shared."""
        index = positions if self.index is None else self.index[positions]
        return dataclasses.replace(self, targets=self.targets[positions], index=index)

    def hollow(self) -> Samples:
        """Return the same view with the storage's first row in place of every one: its memory can be let go of."""
        return dataclasses.replace(
            self, inputs=map_inputs(lambda tensor: tensor[:1].clone().expand_as(tensor), self.inputs)
        )

    def chunks(self, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        """Yield all samples in order, `size` at a time."""
        everything = torch.arange(len(self), device=self.targets.device)
        for positions in everything.split(size):
            yield self.take(positions)


def hold_out(samples: Samples, share: float, generator: torch.Generator) -> tuple[Samples, Samples]:
    """Split training samples into (training, validation), disjoint; `share` in [0, 1) goes to validation."""
    order = torch.randperm(len(samples), generator=generator).to(samples.targets.device)
    held = round(share * len(samples))
    return samples.select(order[held:].sort().values), samples.select(order[:held].sort().values)


class JoinedSources:
    """An experience's own samples, then those of another source."""

    def __init__(self, first: Source, second: Source, task_id: int | None) -> None:
        self._first, self._second, self._task_id = first, second, task_id

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Read both and choose, so that nothing waits for the device."""
        in_first, first, second = self._split(positions)
        first_raw, first_targets = self._first.take(first)
        second_raw, second_targets = self._second.take(second)
        return choose_inputs(in_first, first_raw, second_raw), choose_inputs(in_first, first_targets, second_targets)  # type: ignore

    def task_ids_at(self, positions: Tensor) -> Tensor | None:
        """Return the task of each sample, or None where tasks are withheld."""
        task_ids = getattr(self._second, "task_ids", None)
        if self._task_id is None or task_ids is None:
            return None
        in_first, _, second = self._split(positions)
        return torch.where(in_first, self._task_id, task_ids[second])

    def _split(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self._first)
        return positions < count, positions.clamp(max=count - 1), (positions - count).clamp(min=0)
