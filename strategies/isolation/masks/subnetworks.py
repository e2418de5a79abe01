"""What a supermask method keeps of a task, how that is bound to a network, and what it costs to store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from strategies.isolation.masks.layers import PerTaskBatchNorm2d, masked_layers_of

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
    def bound(self, masks: Sequence[Tensor], statistics: int, rows: tuple[int, int] | None) -> Iterator[None]:
        """Within the block the network reads its weights through `masks`, one per layer, of the rows in use.

        statistics: number of the subnetwork whose batch norms are used; rows: of the head
        """
        with self._restored():
            self.layers[-1].rows = rows
            self.use_statistics(statistics)
            for layer, mask in zip(self.layers, masks, strict=True):
                layer.mask, layer.mixture = mask, None
            yield

    @contextmanager
    def superposed(self, masks: Sequence[Tensor], alpha: Tensor, statistics: Tensor | None) -> Iterator[None]:
        """Within the block sample b reads the weights through sum_i alpha_bi masks_i.

        masks: per layer [k, out, in, ...]; alpha: [B, k]; statistics: see `PerTaskBatchNorm2d.use`
        """
        with self._restored():
            self.layers[-1].rows = None
            self.use_statistics(statistics)
            for layer, stack in zip(self.layers, masks, strict=True):
                layer.mixture = (stack, alpha)
            yield

    @contextmanager
    def _restored(self) -> Iterator[None]:
        before = [(layer, layer.mask, layer.rows, layer.mixture) for layer in self.layers]
        selected = [(norm, norm.selection) for norm in self.norms]
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()  # answering never moves the statistics of a task
        try:
            yield
        finally:
            for layer, mask, rows, mixture in before:
                layer.mask, layer.rows, layer.mixture = mask, rows, mixture
            for norm, selection in selected:
                norm.use(selection)
            for module, mode in modes:
                module.training = mode

    def bind(self, subnetwork: Subnetwork) -> None:
        """Let the network train as this subnetwork: its statistics and rows, its masks made from the scores."""
        self.use_statistics(subnetwork.number)
        self.layers[-1].rows = subnetwork.rows
        for layer in self.layers:
            layer.mask = None
            layer.weight.requires_grad_(False)
            layer.scores.requires_grad_(True)

    def fix(self, masks: Sequence[Tensor]) -> None:
        """End a search: from now on read the weights through `masks`; no score gets a gradient."""
        for layer, mask in zip(self.layers, masks, strict=True):
            layer.mask = mask
            layer.scores.requires_grad_(False)
            layer.scores.grad = None

    @torch.no_grad()
    def searched_masks(self) -> list[Tensor]:
        """Return the masks that the scores give now, float, one per layer, of the rows in use."""
        return [layer.searched_mask() for layer in self.layers]

    def store(self, subnetwork: Subnetwork, *, keep_scores: bool) -> list[Tensor]:
        """Store the masks that the scores give now as bits, and the scores if asked; return the masks."""
        masks = self.searched_masks()
        subnetwork.bits = [pack_bits(mask) for mask in masks]
        if keep_scores:
            # The rows of a head of its own mean nothing to another task.
            kept = self.layers if subnetwork.rows is None else self.layers[:-1]
            subnetwork.scores = [layer.scores.detach().clone() for layer in kept]
        return masks

    @torch.no_grad()
    def start_scores(self, scores: Sequence[Tensor]) -> None:
        """Copy stored scores into the layers (without the head's, if they were not kept)."""
        for layer, start in zip(self.layers, scores, strict=False):
            layer.scores.copy_(start)

    def use_statistics(self, selection: int | Tensor | None) -> None:
        """Select statistics in every batch norm."""
        for norm in self.norms:
            norm.use(selection)

    def statistics_of(self, subnetwork: Subnetwork) -> list[Tensor]:
        """Return the running statistics that training this subnetwork moves, as views."""
        rows = [(norm, 0 if norm.shared else subnetwork.number) for norm in self.norms]
        return [buffer[row] for norm, row in rows for buffer in (norm.running_mean, norm.running_var)]

    def masks_of(self, subnetwork: Subnetwork) -> list[Tensor]:
        """Return the stored masks, bool, one per layer, of the rows in use."""
        masks = []
        for layer, bits in zip(self.layers, subnetwork.bits, strict=True):
            shape = list(layer.weight.shape)
            if layer is self.layers[-1] and subnetwork.rows is not None:
                shape[0] = subnetwork.rows[1] - subnetwork.rows[0]
            masks.append(unpack_bits(bits, shape))
        return masks

    def spread(self, subnetwork: Subnetwork) -> list[Tensor]:
        """Return the stored masks in the full shape of the weights: False in rows of the head that are not in use."""
        masks = self.masks_of(subnetwork)
        if subnetwork.rows is not None:
            head = torch.zeros_like(self.layers[-1].weight, dtype=torch.bool)
            head[subnetwork.rows[0] : subnetwork.rows[1]] = masks[-1]
            masks[-1] = head
        return masks

    def union(self, subnetworks: Sequence[Subnetwork]) -> list[Tensor]:
        """Return, per layer in full shape, which weights any of these subnetworks selects."""
        union = [torch.zeros_like(layer.weight, dtype=torch.bool) for layer in self.layers]
        for subnetwork in subnetworks:
            union = [taken | mask for taken, mask in zip(union, self.spread(subnetwork), strict=True)]
        return union

    @property
    def n_weights(self) -> int:
        """Number of masked weights."""
        return sum(layer.weight.numel() for layer in self.layers)

    @property
    def n_channels(self) -> int:
        """Number of normalised channels of one task."""
        return sum(norm.running_mean.shape[1] for norm in self.norms)
