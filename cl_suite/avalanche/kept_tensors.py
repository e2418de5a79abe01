"""What a strategy of Avalanche holds, as tensors by name: for the record. It cannot be put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils.data import AvalancheDataset
from torch import Tensor, nn

# Ways back to the run itself, and what only lives while it trains.
PASSED_OVER = {
    *("model", "optimizer", "evaluator", "experience", "adapted_dataset", "dataloader", "mbatch", "mb_output", "loss"),
    *("plugins", "replay_loader", "buffer_dliter", "buffer_dataloader", "criterion", "_criterion", "_experiences"),
}


def kept_tensors(inner: Any) -> dict[str, Tensor]:
    """Return every tensor a strategy keeps beside its network: importances, old weights, the samples of a memory.

    Names are paths, e.g. "EWCPlugin.importances.0.weight"; a memory's samples are [n, ...] in one tensor.
    """
    tensors: dict[str, Tensor] = {}
    visited = {id(inner.model)}
    for owner in [inner, *inner.plugins]:
        for path, tensor in _tensors(vars(owner), type(owner).__name__, visited, 0):
            tensors[path] = tensor
    return tensors


def _tensors(value: Any, path: str, visited: set[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value.detach()
        return
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        yield path, torch.from_numpy(value)
        return
    if value is None or isinstance(value, str | bytes | int | float | bool | type) or depth > 8:
        return
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, AvalancheDataset):
        yield from _samples(value, path)
    elif isinstance(value, nn.Module):
        for name, tensor in value.state_dict().items():
            yield f"{path}.{name}", tensor
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            if str(name) not in PASSED_OVER and not str(name).startswith("_open"):
                yield from _tensors(entry, f"{path}.{name}", visited, depth + 1)
    elif isinstance(value, list | tuple | set):
        for number, entry in enumerate(value):
            yield from _tensors(entry, f"{path}.{number}", visited, depth + 1)
    elif type(value).__module__.startswith("avalanche.") and hasattr(value, "__dict__"):
        yield from _tensors(vars(value), path, visited, depth + 1)


def _samples(dataset: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Return a memory's samples, read without being counted."""
    rows = [dataset[position] for position in range(len(dataset))]
    if not rows:
        return
    for column, values in enumerate(zip(*rows, strict=True)):
        first = values[0]
        stacked = torch.stack(list(values)) if isinstance(first, Tensor) else torch.tensor(values)
        yield f"{path}.samples.{column}", stacked
