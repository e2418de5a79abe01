"""What a supermask method keeps of a task: a few bits per weight; how they are bound to a network, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.masked_layers import PerTaskBatchNorm2d, masked_layers_of

_PLACES = (1, 2, 4, 8, 16, 32, 64, 128)


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a mask of n entries (any shape) into [ceil(n / 8)] uint8."""
    flat = mask.reshape(-1).bool()
    padded = torch.zeros(-(-len(flat) // 8) * 8, dtype=torch.uint8, device=mask.device)
    padded[: len(flat)] = flat
    places = torch.tensor(_PLACES, dtype=torch.uint8, device=mask.device)
    return (padded.view(-1, 8) * places).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the bool mask of `shape` that `pack_bits` packed."""
    places = torch.tensor(_PLACES, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, None] & places) != 0
    return bits.reshape(-1)[: math.prod(shape)].view(tuple(shape))


@dataclass
class Subnetwork:
    """The part of the network that answers one task.

    number:  its place in the order of learning; also its row of batch-norm statistics
    task_id: the task, or None where the scenario withholds it
    classes: entries of the global logit vector that its outputs 0, 1, ... stand for
    rows:    (first, end) of the head's output units it uses; None = all (a shared head)
    bits:    packed mask per masked layer
    scores:  per masked layer, where a later task may start from them; else empty
    source:  number of the subnetwork its scores were copied from, -1 if from none
    """

    number: int
    task_id: int | None
    classes: tuple[int, ...]
    rows: tuple[int, int] | None = None
    bits: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    source: int = -1

    def state_dict(self) -> dict[str, Any]:
        """Return all fields, as tensors, numbers and lists."""
        return {
            "number": self.number,
            "task_id": self.task_id,
            "classes": list(self.classes),
            "rows": None if self.rows is None else list(self.rows),
            "bits": list(self.bits),
            "scores": list(self.scores),
            "source": self.source,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> Subnetwork:
        """Return the subnetwork that `state_dict` described."""
        rows = state["rows"]
        return cls(
            number=state["number"],
            task_id=state["task_id"],
            classes=tuple(state["classes"]),
            rows=None if rows is None else (rows[0], rows[1]),
            bits=[bits.to(device) for bits in state["bits"]],
            scores=[scores.to(device) for scores in state["scores"]],
            source=state["source"],
        )


class MaskedNetwork:
    """A masked network and its layers: binds a subnetwork for a forward pass, and leaves everything as it was."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers = masked_layers_of(network)  # the head last
        self.norms = [module for module in network.modules() if isinstance(module, PerTaskBatchNorm2d)]

    @contextmanager
    def bound(
        self, masks: Sequence[Tensor], statistics: int | Tensor | None, rows: tuple[int, int] | None
    ) -> Iterator[None]:
        """Within the block the network reads its weights through `masks` (one per layer, of the rows in use).

        statistics: of the batch norms, see `PerTaskBatchNorm2d.use`; rows: of the head
        """
        before = [layer.mask for layer in self.layers]
        before_rows = self.layers[-1].rows
        before_statistics = [norm.selection for norm in self.norms]
        try:
            self.layers[-1].rows = rows
            for layer, mask in zip(self.layers, masks, strict=True):
                layer.mask = mask
            self.use_statistics(statistics)
            yield
        finally:
            self.layers[-1].rows = before_rows
            for layer, mask in zip(self.layers, before, strict=True):  # type: ignore[assignment]
                layer.mask = mask
            for norm, selection in zip(self.norms, before_statistics, strict=True):
                norm.use(selection)

    def use_statistics(self, selection: int | Tensor | None) -> None:
        """Select statistics in every batch norm."""
        for norm in self.norms:
            norm.use(selection)

    def masks_of(self, subnetwork: Subnetwork) -> list[Tensor]:
        """Return the stored masks, bool, one per layer, of the rows in use."""
        masks = []
        for layer, bits in zip(self.layers, subnetwork.bits, strict=True):
            shape = list(layer.weight.shape)
            if layer is self.layers[-1] and subnetwork.rows is not None:
                shape[0] = subnetwork.rows[1] - subnetwork.rows[0]
            masks.append(unpack_bits(bits, shape))
        return masks

    def spread(self, masks: Sequence[Tensor], rows: tuple[int, int] | None) -> list[Tensor]:
        """Return `masks` in the full shape of the weights: False in rows of the head that are not in use."""
        full = [mask.bool() for mask in masks]
        if rows is not None:
            head = torch.zeros_like(self.layers[-1].weight, dtype=torch.bool)
            head[rows[0] : rows[1]] = full[-1]
            full[-1] = head
        return full

    def union(self, subnetworks: Sequence[Subnetwork]) -> list[Tensor]:
        """Return, per layer in full shape, which weights any of these subnetworks selects."""
        union = [torch.zeros_like(layer.weight, dtype=torch.bool) for layer in self.layers]
        for subnetwork in subnetworks:
            for taken, mask in zip(union, self.spread(self.masks_of(subnetwork), subnetwork.rows), strict=True):
                taken |= mask
        return union

    @property
    def n_weights(self) -> int:
        """Number of masked weights."""
        return sum(layer.weight.numel() for layer in self.layers)

    @property
    def n_channels(self) -> int:
        """Number of normalised channels of one task."""
        return sum(norm.running_mean.shape[1] for norm in self.norms)


def entropy_bits(size: int, ones: int) -> float:
    """Return n H2(ones / n): the bits that any code needs for a mask of `size` entries with so many ones."""
    share = ones / size
    if share in (0.0, 1.0):
        return 0.0
    return -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))


def mask_bytes(sizes: Sequence[int], ones: Sequence[int]) -> dict[str, int]:
    """Return the bytes of one mask made of layers with `sizes` entries and `ones` of them set.

    dense: a bit per weight; entropy: the bound of `entropy_bits`; index: 16 bits per kept weight. Rounded up.
    """
    bits = sum(entropy_bits(size, count) for size, count in zip(sizes, ones, strict=True))
    return {"dense": -(-sum(sizes) // 8), "entropy": math.ceil(bits / 8), "index": 2 * sum(ones)}


def storage(masked: MaskedNetwork, subnetworks: Sequence[Subnetwork], *, weights_from_seed: bool) -> dict[str, Any]:
    """Account for what is stored, exactly, and for how the subnetworks overlap.

    bytes_weights:         32 bits per masked weight; 8 bytes (the seed) where they are never trained
    bytes_weights_trained: 32 bits per weight that any mask selects, and the seed for the others
    bytes_masks_dense, bytes_masks_entropy, bytes_masks_index: all masks, see `mask_bytes`
    bytes_norm:            mean and variance, 32 bits each, per normalised channel and task
    bytes_scores:          scores kept for later tasks to start from; needed in training only
    free_fraction:         share of the weights that no mask selects; `free_fraction_per_layer`: the same per layer
    overlap:               per task, share of its mask that earlier masks had selected
    """
    union = masked.union([])
    totals = {"dense": 0, "entropy": 0, "index": 0}
    overlap = []
    for subnetwork in subnetworks:
        masks = masked.spread(masked.masks_of(subnetwork), subnetwork.rows)
        sizes = [layer.weight.numel() for layer in masked.layers]
        if subnetwork.rows is not None:
            sizes[-1] = masked.layers[-1].weight[0].numel() * (subnetwork.rows[1] - subnetwork.rows[0])
        for name, amount in mask_bytes(sizes, [int(mask.sum()) for mask in masks]).items():
            totals[name] += amount
        taken = sum(int((mask & before).sum()) for mask, before in zip(masks, union, strict=True))
        overlap.append(taken / max(1, sum(int(mask.sum()) for mask in masks)))
        union = [before | mask for before, mask in zip(union, masks, strict=True)]
    used = sum(int(layer.sum()) for layer in union)
    rows_of_statistics = 1 if masked.norms and masked.norms[0].shared else len(subnetworks)
    return {
        "masked_weights": masked.n_weights,
        "bytes_weights": 8 if weights_from_seed else 4 * masked.n_weights,
        "bytes_weights_trained": 8 if weights_from_seed else 8 + 4 * used,
        "bytes_masks_dense": totals["dense"],
        "bytes_masks_entropy": totals["entropy"],
        "bytes_masks_index": totals["index"],
        "bytes_norm": 8 * masked.n_channels * rows_of_statistics,
        "bytes_scores": sum(4 * scores.numel() for s in subnetworks for scores in s.scores),
        "free_fraction": 1 - used / masked.n_weights,
        "free_fraction_per_layer": [1 - int(layer.sum()) / layer.numel() for layer in union],
        "overlap": overlap,
    }
