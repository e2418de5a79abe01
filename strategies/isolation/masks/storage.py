"""What supermask methods store, in bytes (a bit per weight and task, or less), and how their masks overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from strategies.isolation.masks.subnetworks import MaskedNetwork, Subnetwork


def entropy_bits(size: int, ones: int) -> float:
    """Return n H2(ones / n): the bits that any code needs for a mask of `size` entries with so many ones."""
    share = ones / size
    if share in (0.0, 1.0):
        return 0.0
    return -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))


def mask_bytes(sizes: Sequence[int], ones: Sequence[int]) -> dict[str, int]:
    """Return the bytes of one mask made of layers with `sizes` entries and `ones` of them set.

    dense: a bit per weight; entropy: the bound of `entropy_bits`; index: 16 bits per kept weight, column pointers
    not counted. Rounded up.
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
        masks = masked.spread(subnetwork)
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
