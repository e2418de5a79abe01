"""A loaded stream turned into another one: storage that tasks share is gone through once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cl_suite.core.samples import Samples
from cl_suite.core.stream import StreamData
from cl_suite.core.types import Inputs, count_samples


def convert(data: StreamData, make: Callable[[Samples], Inputs]) -> StreamData:
    """Return the stream with what `make` returns in place of its inputs, those of no task too.

    make: N samples -> [N, ...]; called once for all that share storage and transform, with what of it is used
    """
    groups: dict[tuple[int, int], list[Samples]] = {}

    def key(part: Samples) -> tuple[int, int]:
        return id(part.inputs), id(part.transform)

    def collect(part: Samples) -> Samples:
        groups.setdefault(key(part), []).append(part)
        return part

    data.with_samples(collect)
    results: dict[tuple[int, int], tuple[Inputs, torch.Tensor]] = {}
    for name, members in groups.items():
        first = members[0]
        in_use = torch.zeros(count_samples(first.inputs), dtype=torch.bool)
        for part in members:
            in_use[slice(None) if part.index is None else part.index] = True
        rows = in_use.nonzero().squeeze(1)
        place = in_use.cumsum(0) - 1  # [M] where a stored row now lies
        results[name] = make(Samples(first.inputs, rows, rows, first.transform)), place

    def result_of(part: Samples) -> Samples:
        inputs, place = results[key(part)]
        return Samples(inputs, part.targets, None if part.index is None else place[part.index])

    return data.with_samples(result_of)
