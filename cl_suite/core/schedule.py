"""How tasks follow one another where no boundary is told: once or again, abruptly or blurred. And the hidden truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.samples import Samples
from cl_suite.core.seeding import Seeds, generator_for
from cl_suite.core.types import Inputs, join_inputs

LABELS = ("global", "local")


@dataclass
class Schedule:
    """The course of a stream: `schedule.<field>=...`. All but `stop_after` are of task-agnostic ones.

    Not frozen, because Hydra fills it in.
    """

    order: list[int] | None = None  # tasks in the order they are visited, e.g. [0,1,2,1,3]; None = each once, in order
    blur: int = 0  # samples around each change within which both tasks are mixed; 0 = abrupt
    labels: str = "global"  # global: every task has its own classes; local: all use labels 0, 1, ... (TAME)
    stop_after: int = 0  # learn and score the first so many tasks of the stream alone; 0 = all

    @property
    def is_plain(self) -> bool:
        """Whether tasks come once each, in order, abruptly, with classes of their own."""
        return replace(self, stop_after=0) == Schedule()

    def check(self, n_tasks: int) -> None:
        """Raise UsageError for a course that cannot be."""
        if self.labels not in LABELS:
            raise UsageError(f"schedule.labels={self.labels} is not known. Use {' or '.join(LABELS)}.")
        if self.blur < 0:
            raise UsageError(f"schedule.blur={self.blur} is not a number of samples. Use 0 (abrupt) or more.")
        if self.order is None:
            return
        outside = [task for task in self.order if not 0 <= task < n_tasks]
        if outside or not self.order:
            what = f"names task {outside[0]}" if outside else "is empty"
            raise UsageError(f"schedule.order {what}, but the stream's tasks are 0 to {n_tasks - 1}.")
        left_out = sorted(set(range(n_tasks)) - set(self.order))
        if left_out:
            raise UsageError(f"schedule.order leaves out task {left_out[0]}. Visit every task, or set stream.n_tasks.")

    def visits(self, n_tasks: int) -> list[int]:
        """Return the tasks in the order they are visited."""
        return list(range(n_tasks)) if self.order is None else list(self.order)


@dataclass(frozen=True)
class Visit:
    """A stretch of the stream: samples start <= n < end belong to `task`; near a blurred change, half of them."""

    task: int
    start: int
    end: int


def plan_visits(sizes: Sequence[int], schedule: Schedule, *, epochs: int) -> list[Visit]:
    """Return the visits of a stream whose tasks have so many training samples, each offered `epochs` times a visit.

    Raise UsageError for a course that cannot be.
    """
    schedule.check(len(sizes))
    tasks = schedule.visits(len(sizes))
    lengths = [sizes[task] * epochs for task in tasks]
    if schedule.blur > min(lengths):
        raise UsageError(
            f"schedule.blur={schedule.blur} is wider than the shortest stretch of one task ({min(lengths)} samples). "
            "Use less, or more train.epochs."
        )
    ends = list(accumulate(lengths, initial=0))
    return [Visit(task, start, end) for task, (start, end) in zip(tasks, pairwise(ends), strict=True)]


def hidden_order(parts: list[Samples], visits: Sequence[Visit], *, blur: int, seeds: Seeds) -> HiddenOrder:
    """Lay all samples out: visit after visit, each pass shuffled; near a change, tasks mixed over `blur` samples."""
    owners, positions = [], []
    for number, visit in enumerate(visits):
        part = parts[visit.task]
        generator = generator_for(seeds.data, "sequence", number)
        for _ in range((visit.end - visit.start) // max(1, len(part))):
            owners.append(torch.full((len(part),), visit.task))
            positions.append(torch.randperm(len(part), generator=generator))
    owner, position = torch.cat(owners), torch.cat(positions)
    if blur:
        # Every sample is moved by up to half the width, so that across a change the share of the new task rises
        # from 0 to 1 over the width, and every sample still comes exactly as often.
        noise = torch.rand(len(owner), generator=generator_for(seeds.data, "blur"), dtype=torch.float64) - 0.5
        order = (torch.arange(len(owner), dtype=torch.float64) + blur * noise).argsort(stable=True)
        owner, position = owner[order], position[order]
    return HiddenOrder(parts, owner, position)


class HiddenOrder:
    """A fixed order of samples across tasks, for streams without boundaries. Tells no one where a task begins."""

    def __init__(self, parts: list[Samples], owner: Tensor, position: Tensor) -> None:
        self._parts, self._owner, self._position = parts, owner, position  # owner, position: [N] on the CPU

    def __len__(self) -> int:
        return len(self._owner)

    def cut(self, start: int, end: int) -> HiddenOrder:
        """Return the stretch start <= n < end."""
        return HiddenOrder(self._parts, self._owner[start:end], self._position[start:end])

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs [B, ...], targets [B]) at `positions` [B], in their order."""
        rows = positions.cpu()
        owners = self._owner[rows]
        device = positions.device
        taken, places = [], []
        for owner in owners.unique().tolist():
            members = (owners == owner).nonzero().squeeze(1)
            taken.append(self._parts[owner].take(self._position[rows[members]].to(device)))
            places.append(members)
        inputs, targets = join_inputs([raw for raw, _ in taken]), torch.cat([targets for _, targets in taken])
        if len(places) == 1:
            return inputs, targets
        back = torch.cat(places).argsort().to(device)
        in_order = inputs[back] if isinstance(inputs, Tensor) else {key: value[back] for key, value in inputs.items()}
        return in_order, targets[back]
