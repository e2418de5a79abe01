"""A small uniform sample of the stream, each sample with its expert: what a selector is trained on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from cl_suite import Batch, Inputs, Reservoir, StreamInfo, UsageError, join_inputs

PARTS: dict[str, Callable[[StreamInfo, int], int]] = {
    "global": lambda info, max_experts: 1,
    "per_expert": lambda info, max_experts: max_experts,
    "per_class": lambda info, max_experts: info.n_outputs,
}


class ExpertMemory:
    """Reservoirs that share `capacity` samples: one for all, one per expert, or one per class the strategy sees.

    As a source for `experience.batches` its targets are the experts, [N] int64; labels are kept beside them.
    """

    def __init__(self, capacity: int, info: StreamInfo, *, kind: str, max_experts: int) -> None:
        if kind not in PARTS:
            raise UsageError(f"strategy.buffer={kind} is not known. Use {', '.join(PARTS)}.")
        parts = PARTS[kind](info, max_experts)
        if capacity < max(parts, max_experts):
            what = f"to learn {max_experts} experts apart" if parts <= max_experts else f"for {parts} labels"
            hint = "fewer strategy.max_experts" if parts <= max_experts else "strategy.buffer=global"
            raise UsageError(
                f"strategy.selector_memory={capacity} is too small {what}. "
                f"Use {max(parts, max_experts)} samples or more, or {hint}."
            )
        self._info, self._kind, self._each = info, kind, capacity // parts
        self._parts: dict[int, Reservoir] = {}

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))

    def add(self, batch: Batch, expert: int) -> None:
        """Offer a batch that `expert` was trained on."""
        experts = torch.full_like(batch.targets, expert)
        kept = {"label": batch.targets, "expert": experts}
        if self._kind != "per_class":
            self._part(expert if self._kind == "per_expert" else 0).add(batch, **kept)
            return
        for label in batch.targets.unique().tolist():
            rows = batch.targets == label
            self._part(label).add(_rows(batch, rows), **{name: value[rows] for name, value in kept.items()})

    def experts(self) -> list[int]:
        """Return the experts there are samples of."""
        return self._owners().unique().tolist()

    def of_expert(self, expert: int) -> Positions:
        """Return the samples of one expert with their labels, as a source for `experience.batches`."""
        return Positions(self, (self._owners() == expert).nonzero().squeeze(1))

    def _owners(self) -> Tensor:
        """The expert of every sample, [N]."""
        everything = torch.arange(len(self), device=self._info.device)
        return self.take(everything)[1] if len(self) else everything

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], experts [B])."""
        return self.read(positions, "expert")

    def read(self, positions: Tensor, name: str) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], what is kept under `name`, "expert" or "label", [B])."""
        parts = [self._parts[key] for key in sorted(self._parts)]
        starts = [0, *accumulate(map(len, parts))]
        raws, values, order = [], [], []
        for (start, end), part in zip(pairwise(starts), parts, strict=True):
            rows = ((positions >= start) & (positions < end)).nonzero().squeeze(1)
            inside = positions[rows] - start
            raws.append(part.take(inside)[0])
            values.append(part.extras_at(inside)[name])
            order.append(rows)
        back = torch.cat(order).argsort()
        raw = join_inputs(raws)
        picked = raw[back] if isinstance(raw, Tensor) else {key: value[back] for key, value in raw.items()}
        return picked, torch.cat(values)[back]

    def _part(self, key: int) -> Reservoir:
        if key not in self._parts:
            self._parts[key] = Reservoir(self._each, self._info, purpose=f"selector {key}")
        return self._parts[key]

    def bytes_stored(self) -> int:
        """Return the bytes of the kept samples."""
        return sum(part.bytes_stored() for part in self._parts.values())

    def state_dict(self) -> dict[str, Any]:
        """Return every reservoir."""
        return {str(key): part.state_dict() for key, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._parts = {}
        for key, part in state.items():
            self._part(int(key)).load_state_dict(part)


class Positions:
    """Some samples of a memory, with their labels."""

    def __init__(self, memory: ExpertMemory, positions: Tensor) -> None:
        self._memory, self._positions = memory, positions

    def __len__(self) -> int:
        return len(self._positions)

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], labels [B])."""
        return self._memory.read(self._positions[positions], "label")


def _rows(batch: Batch, rows: Tensor) -> Batch:
    def pick(inputs: Inputs) -> Inputs:
        return inputs[rows] if isinstance(inputs, Tensor) else {key: value[rows] for key, value in inputs.items()}

    return Batch(pick(batch.inputs), batch.targets[rows], pick(batch.raw))
