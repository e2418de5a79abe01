"""Samples as Avalanche's datasets and experiences. Imports Avalanche: only from within functions that need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from avalanche.benchmarks import DatasetExperience
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset
from torch import Tensor
from torch.utils.data import Dataset


@dataclass
class SampleCount:
    """Counts the samples that are read, by whether they belong to the experience at hand."""

    current: int = 0  # number of that experience
    fresh: int = 0
    earlier: int = 0  # read from a memory, or whatever else a strategy keeps
    paused: bool = False

    def take(self) -> tuple[int, int]:
        """Return (fresh, earlier) since the last call."""
        counts = self.fresh, self.earlier
        self.fresh = self.earlier = 0
        return counts


class TensorSamples(Dataset):  # type: ignore[type-arg]
    """Samples of one experience, made once: inputs [N, ...] on the CPU, targets as numbers. Reading them is counted."""

    def __init__(
        self, inputs: Tensor, targets: Tensor, *, experience: int = 0, count: SampleCount | None = None
    ) -> None:
        self.inputs = inputs.cpu()
        self.targets: list[int] = targets.tolist()
        self._experience, self._count = experience, count

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        count = self._count
        if count is not None and not count.paused:
            if self._experience == count.current:
                count.fresh += 1
            else:
                count.earlier += 1
        return self.inputs[position], self.targets[position]


def as_dataset(samples: TensorSamples, *, task: int) -> Any:
    """Return the samples as Avalanche's classification dataset, all of one task label."""
    return _make_taskaware_classification_dataset(samples, targets=samples.targets, task_labels=task)  # type: ignore


@dataclass
class GrowingBenchmark:
    """What strategies ask of a benchmark, an experience at a time: classes still to come are in the last entry."""

    n_classes: int
    classes_order: list[int] = field(default_factory=list)
    n_classes_per_exp: list[int] = field(default_factory=list)

    def add(self, classes: Sequence[int], n_outputs: int) -> None:
        """Add the classes of the next experience."""
        before = sum(self.n_classes_per_exp[:-1]) if self.n_classes_per_exp else 0
        order = [*self.classes_order[:before], *classes]
        self.classes_order = [*order, *(c for c in range(n_outputs) if c not in order)]
        self.n_classes_per_exp = [*self.n_classes_per_exp[:-1], len(classes), n_outputs - before - len(classes)]


class SingleExperience(DatasetExperience):  # type: ignore[type-arg]
    """An experience whose benchmark grows with each: later ones are not known yet."""

    def __init__(
        self,
        dataset: Any,
        *,
        index: int,
        task: int,
        classes: Sequence[int],
        before: set[int],
        benchmark: GrowingBenchmark,
    ) -> None:
        super().__init__(dataset=dataset, current_experience=index)
        self.benchmark = benchmark
        self.task_label, self.task_labels = task, [task]
        self.classes_in_this_experience = list(classes)
        self.previous_classes = set(before)
        self.classes_seen_so_far = before | set(classes)
        self.future_classes = set(range(benchmark.n_classes)) - self.classes_seen_so_far
