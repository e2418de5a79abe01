"""Memory of past samples: reservoir, class-balanced, ring, exemplars. Bytes are counted and draws are metered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.metering import count_replayed
from cl_suite.core.objective import Classification
from cl_suite.core.types import Batch, Inputs, StreamInfo, map_inputs

if TYPE_CHECKING:
    from cl_suite.core.experience import Experience


class Buffer(ABC):
    """Keeps up to `capacity` samples as stored (images uint8), prepared anew at each draw.

    capacity: samples, for the whole stream
    purpose:  names the generators, so that two buffers of one strategy draw differently

    Storage is allocated once, on the device. Which slot a sample goes to is decided on the CPU, a batch at a time.
    """

    def __init__(self, capacity: int, info: StreamInfo, *, purpose: str = "buffer") -> None:
        if capacity < 1:
            raise UsageError(
                f"a buffer needs a capacity of at least 1 sample, not {capacity}. Set strategy.buffer_size."
            )
        self.capacity = capacity
        # Storage for no more than the stream will offer; it grows if a strategy offers samples more often.
        self._rows = min(capacity, info.planned_samples) or capacity
        self.advice = _advice(capacity, info)  # what the user should know before the stream begins, or ""
        self.seen = 0  # samples offered so far
        self.size = 0  # samples kept
        self._info = info
        self._generator = info.generator(purpose)
        self._view_generator = info.generator(purpose, "augment", device=info.device)
        self._raw: Inputs | None = None
        self._columns: dict[str, Tensor] = {}  # targets, task_ids where given, extras

    def __len__(self) -> int:
        return self.size

    @abstractmethod
    def slots(self, targets: Tensor) -> np.ndarray:
        """Return for each offered sample the slot it takes, or -1; called once per batch, in order of arrival.

        targets: [B], on the device; reading them waits for it, so only buffers that need them do.
        """

    def add(self, batch: Batch, **extras: Tensor) -> None:
        """Offer a batch (its raw samples); `extras` [B, ...] are kept beside them, e.g. `logits`."""
        slots = self.slots(batch.targets)
        self.seen += len(batch)
        keep = _last_per_slot(slots)
        if not len(keep):
            return
        columns = {"targets": batch.targets, **extras}
        if batch.task_ids is not None:
            columns["task_ids"] = batch.task_ids
        if self._raw is None:
            self._raw = map_inputs(self._allocate, batch.raw)
            self._columns = {name: self._allocate(value) for name, value in columns.items()}
        if int(slots.max()) >= self._rows:
            self._grow(int(slots.max()) + 1)
        device = batch.targets.device
        rows = torch.from_numpy(keep).to(device)
        places = torch.from_numpy(slots[keep]).to(device)
        _store(self._raw, places, map_inputs(lambda value: value[rows], batch.raw))
        for name, value in columns.items():
            self._columns[name][places] = value[rows].detach()
        self.size = max(self.size, int(slots.max()) + 1)

    def end_experience(self, experience: Experience) -> None:
        """Called by some strategies after the last batch, for buffers that choose then."""
        del experience  # others have chosen already

    def draw(self, count: int, *, augment: bool | None = None) -> Batch:
        """Return `count` samples (all, if there are fewer) drawn without replacement, prepared, augmented anew."""
        if not self.size:
            raise ValueError("draw from an empty buffer; check len(buffer) first")
        positions = torch.randperm(self.size, generator=self._generator)[:count].to(self._info.device)
        count_replayed(len(positions))
        return self.batch_at(positions, augment=augment)

    def batch_at(self, positions: Tensor, *, augment: bool | None = None) -> Batch:
        """Return the samples at `positions` [B] as a batch; not counted as drawn."""
        raw, targets = self.take(positions)
        augment = self._info.train.augment if augment is None else augment
        inputs = self._info.prepare(raw, self._view_generator if augment else None)
        return Batch(inputs, targets, raw, self.task_ids_at(positions), self.extras_at(positions))

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw, targets) at `positions`: with this a buffer is a source for `experience.batches`."""
        assert self._raw is not None
        return map_inputs(lambda value: value[positions], self._raw), self.targets[positions]

    def extras_at(self, positions: Tensor) -> dict[str, Tensor]:
        """Return what is kept beside the samples at `positions` [B], e.g. {"logits": [B, C]}."""
        return {k: v[positions] for k, v in self._columns.items() if k not in ("targets", "task_ids")}

    def write_extra(self, name: str, positions: Tensor, values: Tensor) -> None:
        """Replace what is kept under `name` beside the samples at `positions` [B] by `values` [B, ...]."""
        self._columns[name][positions] = values.detach()

    @property
    def targets(self) -> Tensor:
        """[capacity] int64; the first `len(self)` are filled."""
        return self._columns["targets"]

    @property
    def task_ids(self) -> Tensor | None:
        """[capacity] int64, or None where the scenario withholds tasks."""
        return self._columns.get("task_ids")

    def task_ids_at(self, positions: Tensor) -> Tensor | None:
        """Return the tasks [B] of the samples at `positions`, or None where the scenario withholds tasks."""
        return None if self.task_ids is None else self.task_ids[positions]

    def bytes_stored(self) -> int:
        """Return the bytes of the kept samples with all that is kept beside them (not of empty slots)."""
        if self._raw is None:
            return 0
        values = [self._raw] if isinstance(self._raw, Tensor) else list(self._raw.values())
        per_sample = sum(v[0].numel() * v.element_size() for v in [*values, *self._columns.values()])
        return per_sample * self.size

    def state_dict(self) -> dict[str, Any]:
        """Return content, counters and generators."""
        filled = slice(0, self.size)
        return {
            "raw": None if self._raw is None else map_inputs(lambda value: value[filled], self._raw),
            "columns": {name: value[filled] for name, value in self._columns.items()},
            "seen": self.seen,
            "size": self.size,
            "generator": self._generator.get_state(),
            "view_generator": self._view_generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.seen, self.size = state["seen"], state["size"]
        self._generator.set_state(state["generator"])
        self._view_generator.set_state(state["view_generator"])
        if state["raw"] is None:
            return
        self._rows = max(self._rows, self.size)
        places = torch.arange(self.size, device=self._info.device)
        self._raw = map_inputs(self._allocate, state["raw"])
        _store(self._raw, places, state["raw"])
        self._columns = {}
        for name, value in state["columns"].items():
            self._columns[name] = self._allocate(value)
            self._columns[name][places] = value.to(self._info.device)

    def _grow(self, rows: int) -> None:
        """Make room for `rows` samples, and for as many again if the capacity allows it."""
        assert self._raw is not None
        extra = min(self.capacity, 2 * rows) - self._rows
        self._rows += extra

        def longer(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros((extra, *value.shape[1:]))])

        self._raw = map_inputs(longer, self._raw)
        self._columns = {name: longer(value) for name, value in self._columns.items()}

    def _allocate(self, like: Tensor) -> Tensor:
        return torch.zeros((self._rows, *like.shape[1:]), dtype=like.dtype, device=self._info.device)

    def _random_integers(self, high: np.ndarray) -> np.ndarray:
        """Return one integer in 0..high-1 for each entry of `high`."""
        uniform = torch.rand(len(high), generator=self._generator, dtype=torch.float64).numpy()
        return np.minimum((uniform * high).astype(np.int64), high - 1)


class Reservoir(Buffer):
    """Every sample offered so far is kept with the same probability (Vitter 1985).

    Item n (from 0): the first `capacity` are kept; then r is drawn from 0..n and replaces slot r if r < capacity.
    """

    def slots(self, targets: Tensor) -> np.ndarray:
        """Return the slot of each sample, or -1."""
        number = self.seen + np.arange(len(targets))
        places = self._random_integers(number + 1)
        return np.where(number < self.capacity, number, np.where(places < self.capacity, places, -1))


class Ring(Buffer):
    """The latest `capacity` samples."""

    def slots(self, targets: Tensor) -> np.ndarray:
        """Return the slot of each sample."""
        return (self.seen + np.arange(len(targets))) % self.capacity


class ClassBalanced(Buffer):
    """Greedy balancing: when full, a sample of a class that is not the largest replaces one of the largest class.

    GDumb's sampler (Prabhu et al. 2020); within the largest class the one to go is drawn at random.
    """

    def slots(self, targets: Tensor) -> np.ndarray:
        """Return the slot of each sample, or -1."""
        held = np.full(self.capacity, -1, dtype=np.int64)
        if self.size:
            held[: self.size] = self.targets[: self.size].cpu().numpy()
        slots = np.full(len(targets), -1, dtype=np.int64)
        filled = self.size
        for position, target in enumerate(targets.tolist()):  # at most one batch; decided on the CPU
            if filled < self.capacity:
                slots[position] = filled
                held[filled] = target
                filled += 1
                continue
            counts = np.bincount(held)
            largest = int(counts.argmax())
            if target < len(counts) and counts[target] == counts[largest]:
                continue
            places = np.flatnonzero(held == largest)
            place = places[self._random_integers(np.array([len(places)]))[0]]
            slots[position] = place
            held[place] = target
        return slots


class Exemplars(Buffer):
    """Samples a strategy chooses itself: `add` appends, `keep` trims. Never more than `capacity`."""

    def slots(self, targets: Tensor) -> np.ndarray:
        """Return the next free slots. Raise ValueError if there are too few."""
        if self.size + len(targets) > self.capacity:
            raise ValueError(f"{self.size} + {len(targets)} samples do not fit into {self.capacity}; trim with keep()")
        return self.size + np.arange(len(targets))

    def keep(self, positions: Tensor) -> None:
        """Keep only the samples at `positions` [N], in this order."""
        if self._raw is None:
            return
        positions = positions.to(self._info.device)
        places = torch.arange(len(positions), device=self._info.device)
        _store(self._raw, places, map_inputs(lambda value: value[positions], self._raw))
        for column in self._columns.values():
            column[places] = column[positions]
        self.size = len(positions)


def _advice(capacity: int, info: StreamInfo) -> str:
    """Return one line where a capacity has an effect one may not expect, else ""."""
    samples = info.planned_samples // max(1, info.train.epochs)
    if isinstance(info.objective, Classification) and capacity < info.n_outputs:
        return f"a memory of {capacity} samples cannot hold one of each of the {info.n_outputs} classes"
    if 0 < samples < capacity:
        return f"a memory of {capacity:,} samples is larger than the stream, which has {samples:,}: nothing is lost"
    return ""


def _last_per_slot(slots: np.ndarray) -> np.ndarray:
    """Return the rows to store: of several samples for one slot the last, as if they had arrived one by one."""
    reversed_slots = slots[::-1]
    _, first = np.unique(reversed_slots, return_index=True)
    rows = len(slots) - 1 - first
    return np.sort(rows[slots[rows] >= 0])


def _store(storage: Inputs, places: Tensor, values: Inputs) -> None:
    if isinstance(storage, Tensor):
        storage[places] = values.to(storage.device)  # type: ignore[union-attr]
    else:
        for name, tensor in storage.items():
            tensor[places] = values[name].to(tensor.device)  # type: ignore[index]
