"""Heads, normalisation and biases of each task, for methods that keep tasks apart in one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class TaskParameters:
    """What each task has to itself: its rows of the heads, and the network's tensors called `names`.

    classes: per task, its rows of the heads
    first:   {name: tensor} of the network as it was built
    tasks:   {task: {name: tensor}} of finished tasks; of the heads only the task's rows
    """

    def __init__(self, model: nn.Module, names: Sequence[str], classes: Sequence[Sequence[int]]) -> None:
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._heads = [name for name in named if name.startswith("heads.linear.")]
        self._live = {name: named[name].detach() for name in [*self._heads, *names]}
        self._rows = [list(rows) for rows in classes]
        self.first = {name: value.clone() for name, value in self._live.items()}
        self.tasks: dict[int, dict[str, Tensor]] = {}

    def begin(self, task: int, start: Mapping[str, Tensor] | None = None) -> None:
        """Start a head of its own, also where all tasks share outputs; the others from `start`, or as they are."""
        rows = self._rows[task]
        for name, value in self._live.items():
            if name in self._heads:
                value[rows] = self.first[name][rows]
            elif start is not None:
                value.copy_(start[name])

    def keep(self, task: int) -> None:
        """Keep what the task has learned."""
        rows = self._rows[task]
        self.tasks[task] = {n: v[rows] if n in self._heads else v.clone() for n, v in self._live.items()}

    def of(self, task: int) -> dict[str, Tensor]:
        """Return a finished task's tensors in the network's shapes; nothing for one in training."""
        tensors = dict(self.tasks.get(task, {}))
        for name in self._heads if tensors else []:
            rows, tensors[name] = tensors[name], self._live[name].clone()
            tensors[name][self._rows[task]] = rows
        return tensors

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors of every task."""
        return {"tasks": {task: dict(kept) for task, kept in self.tasks.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them, on the network's device."""
        self.tasks = {
            task: {name: value.to(self._live[name].device) for name, value in kept.items()}
            for task, kept in state["tasks"].items()
        }
