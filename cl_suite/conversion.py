"""A loaded stream turned into another one: storage that tasks share is gone through once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from cl_suite.stream import Samples, StreamData, TaskData
from cl_suite.types import Inputs, count_samples


def convert_tasks(data: StreamData, make: Callable[[Samples], Inputs]) -> tuple[TaskData, ...]:
    """Return the tasks with what `make` returns in place of their inputs.

    make: N samples -> [N, ...]; called once for all that share storage and transform, with what of it some task uses
    """
    parts = [part for task in data.tasks for part in (task.train, task.test)]
    groups: dict[tuple[int, int], list[int]] = {}
    for number, part in enumerate(parts):
        groups.setdefault((id(part.inputs), id(part.transform)), []).append(number)
    made: dict[int, Samples] = {}
    for members in groups.values():
        first = parts[members[0]]
        used = torch.zeros(count_samples(first.inputs), dtype=torch.bool)
        for number in members:
            index = parts[number].index
            used[slice(None) if index is None else index] = True
        rows = used.nonzero().squeeze(1)
        converted = make(Samples(first.inputs, rows, rows, first.transform))
        place = used.cumsum(0) - 1  # [M] where a stored row now lies
        for number in members:
            index = parts[number].index
            made[number] = Samples(converted, parts[number].targets, None if index is None else place[index])
    return tuple(
        dataclasses.replace(task, train=made[2 * number], test=made[2 * number + 1])
        for number, task in enumerate(data.tasks)
    )
