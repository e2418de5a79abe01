"""A saved state in a longer stream: where tensors differ only in outputs or tasks, old entries go into fresh ones.

One rule for every strategy, by names and sizes alone. What it cannot tell is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cl_suite.core.errors import UsageError


@dataclass(frozen=True)
class Growth:
    """From how many to how many outputs and tasks; and the parameters of the network then (None = there is no one)."""

    outputs: tuple[int, int]
    tasks: tuple[int, int]
    parameters: int | None = None
    samples: frozenset[tuple[int, ...]] = frozenset()  # shapes of one sample: what ends in one is samples, in a buffer

    @property
    def of_outputs(self) -> bool:
        """Whether there are more outputs now."""
        return self.outputs[0] != self.outputs[1]


def grown(old: Any, fresh: Any, growth: Growth) -> Any:
    """Return the state `old` in the sizes of a longer stream.

    fresh: the state of the same strategy, set up for the longer stream, before it has learned

    A tensor of the same shape as the fresh one at its place stays as it is. One that is shorter along outputs or tasks
    becomes the first entries of the fresh one. What a strategy has only after learning (a buffer, a copy of the
    network) is held against the fresh tensor of the same name, if there is one.
    Raise UsageError for a tensor that seems to have an entry for each output and cannot be placed so.
    """
    named: dict[Any, Tensor] = {}
    for name, tensor in named_tensors(fresh):
        named.setdefault(name, tensor)
    return _grown(old, fresh, growth, named, "state")


def _grown(old: Any, fresh: Any, growth: Growth, named: Mapping[Any, Tensor], place: str) -> Any:
    if isinstance(old, Mapping):
        there = fresh if isinstance(fresh, Mapping) else {}
        result = {}
        for key, value in old.items():
            twin = there.get(key)
            if twin is None and isinstance(value, Tensor):
                twin = named.get(key)
            result[key] = _grown(value, twin, growth, named, f"{place}.{key}")
        return result
    if isinstance(old, list | tuple):
        twins = fresh if isinstance(fresh, list | tuple) and len(fresh) == len(old) else [None] * len(old)
        return type(old)(
            [_grown(value, twin, growth, named, f"{place}[{n}]") for n, (value, twin) in enumerate(zip(old, twins))]  # noqa: B905
        )
    if not isinstance(old, Tensor) or (isinstance(fresh, Tensor) and fresh.shape == old.shape):
        return old
    placed = _placed(old, fresh, growth) if isinstance(fresh, Tensor) else None
    if placed is not None:
        return placed
    flat = growth.parameters is not None and old.dim() == 1 and len(old) == growth.parameters
    of_samples = any(old.shape[-len(shape) :] == shape for shape in growth.samples if len(shape) > 1)
    if growth.of_outputs and not of_samples and (growth.outputs[0] in old.shape or flat):
        what = "all parameters" if flat else f"each of the {growth.outputs[0]} outputs"
        raise UsageError(
            f"--continue-from: the stream has {growth.outputs[1]} outputs now, not {growth.outputs[0]}, and this "
            f"strategy keeps numbers for {what} ({place}, {list(old.shape)}) that have no counterpart before it "
            "learns. Use --scenario domain_incremental, or train it from the beginning."
        )
    return old


def _placed(old: Tensor, fresh: Tensor, growth: Growth) -> Tensor | None:
    """Return the fresh tensor with the old one as its first entries along outputs or tasks; None where sizes forbid."""
    if old.dim() != fresh.dim() or old.dtype != fresh.dtype:
        return None
    pairs = [(before, now) for before, now in zip(old.shape, fresh.shape, strict=True) if before != now]
    if not all(pair in (growth.outputs, growth.tasks) for pair in pairs):
        return None
    result = fresh.detach().cpu().clone()
    result[tuple(slice(size) for size in old.shape)] = old
    return result


def named_tensors(state: Any) -> Iterator[tuple[Any, Tensor]]:
    """Yield (name, tensor) of everything in dictionaries, however deep."""
    if isinstance(state, Mapping):
        for name, value in state.items():
            if isinstance(value, Tensor):
                yield name, value
            else:
                yield from named_tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from named_tensors(value)
