"""The last few batches of the active expert and how it was before them, for when they turn out to be another task's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cl_suite import Batch
from strategies.tame.expert import Expert


class Rollback:
    """A change is noticed some batches late. Until a batch is `length` batches old it belongs to no expert's memory.

    Holds `length` batches and as many copies of an expert (network, optimiser, losses); length 0 holds nothing. Beside
    them batches that were held back, because whose they are shows later.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._batches: deque[Batch] = deque()
        self._copies: deque[dict[str, Any]] = deque()
        self._held: list[Batch] = []

    def follow(self, expert: Expert, batch: Batch) -> list[Batch]:
        """Before training on a batch: remember both; return the batches that are old enough to be kept for good."""
        self._batches.append(batch)
        if self._length:
            self._copies.append(_changed(expert.state_dict(), torch.clone))
        old = [self._batches.popleft() for _ in range(len(self._batches) - self._length)]
        while len(self._copies) > self._length:
            self._copies.popleft()
        return old

    def undo(self, expert: Expert, device: torch.device) -> list[Batch]:
        """Put the expert back to before the oldest remembered batch; return those batches, which are not its own."""
        if self._copies:
            expert.load_state_dict(self._copies[0], device)
        return self.flush()

    def hold(self, batch: Batch) -> None:
        """Keep a batch that nobody has learned, until `release`."""
        self._held.append(batch)

    def release(self) -> list[Batch]:
        """Return the batches that were held back."""
        held, self._held = self._held, []
        return held

    def flush(self) -> list[Batch]:
        """Forget the copies; return the remembered batches."""
        batches = list(self._batches)
        self._batches.clear()
        self._copies.clear()
        return batches

    def state_dict(self) -> dict[str, Any]:
        """Return batches and copies."""
        return {"batches": _plain(self._batches), "held": _plain(self._held), "copies": list(self._copies)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned."""
        there = _changed({name: state[name] for name in ("batches", "held")}, lambda tensor: tensor.to(device))
        self._batches = deque(Batch(**each) for each in there["batches"])
        self._held = [Batch(**each) for each in there["held"]]
        self._copies = deque(state["copies"])


def _plain(batches: Iterable[Batch]) -> list[dict[str, Any]]:
    names = ("inputs", "targets", "raw", "task_ids")
    return [{name: getattr(batch, name) for name in names} for batch in batches]


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested state with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _changed(entry, change) for key, entry in value.items()}
    return [_changed(entry, change) for entry in value] if isinstance(value, list | tuple) else value
