"""A memory in which every task has its place: its samples can be had alone, to be weighted by a preference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from cl_suite import Batch, Exemplars, Experience, StreamInfo, UsageError, count_replayed

ORDER = "order"  # name of the column that says when a sample's task was learned: 0, 1, ...


class TaskMemory:
    """Samples of each task, in the order in which tasks were learned. A part of a strategy.

    per_task: samples of each task, drawn at random when it is kept; None = all of them
    samples:  the buffer; beside each sample stands its task's place in the order, `batch.extras["order"]` [B]
    sizes:    [tasks] float, on the device: samples of each task
    """

    def __init__(self, info: StreamInfo, per_task: int | None) -> None:
        if per_task is not None and per_task < 1:
            raise UsageError(f"strategy.memory_per_task={per_task} is a number of samples. Use 1 or more.")
        everything = info.planned_samples // info.train.epochs
        capacity = everything if per_task is None else per_task * info.n_experiences
        self.samples = Exemplars(max(1, capacity), info, purpose="task memory")
        self.sizes = torch.zeros(0, device=info.device)
        self._per_task = per_task
        self._ends = [0]  # of each task's samples in the buffer, behind a leading 0

    def __len__(self) -> int:
        """Return the number of tasks kept."""
        return len(self._ends) - 1

    def keep(self, experience: Experience) -> None:
        """Keep samples of a new task; they are counted as drawn."""
        size = self._per_task  # all of a task are read in the run's own batches
        with closing(experience.batches(epochs=1, batch_size=size, augment=False, phase="memory", order=0)) as batches:  # type: ignore
            for batch in batches:
                place = torch.full((len(batch),), len(self), device=batch.targets.device)
                self.samples.add(batch, **{ORDER: place})
                if size is not None:
                    break
        self._ends.append(len(self.samples))
        self._measure()

    def draw(self, tasks: Sequence[int]) -> Batch:
        """Return all samples of these tasks (places in the order) as one batch, augmented anew; counted as replayed."""
        device = self.sizes.device
        ranges = [torch.arange(self._ends[task], self._ends[task + 1], device=device) for task in tasks]
        positions = torch.cat(ranges)
        count_replayed(len(positions))
        return self.samples.batch_at(positions)

    def shares(self, weights: Tensor, batch: Batch) -> Tensor:
        """Return the weight [B] of each sample of a batch of the memory, so that a task's sum to its `weights` [T]."""
        return (weights / self.sizes)[batch.extras[ORDER]]

    def bytes_stored(self) -> int:
        """Return the bytes of the samples with all that is kept beside them."""
        return self.samples.bytes_stored()

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, and where each task's end."""
        return {"samples": self.samples.state_dict(), "ends": list(self._ends)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.samples.load_state_dict(state["samples"])
        self._ends = list(state["ends"])
        self._measure()

    def _measure(self) -> None:
        counts = [end - begin for begin, end in zip(self._ends, self._ends[1:], strict=False)]
        self.sizes = torch.tensor(counts, dtype=torch.float32, device=self.sizes.device)
