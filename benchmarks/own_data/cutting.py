"""Labelled rows of a storage cut into tasks: by class, or as the data itself names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.own_data.options import OwnData, in_order
from cl_suite import (
    DataError,
    Inputs,
    Samples,
    Seeds,
    TaskData,
    UsageError,
    class_order,
    count_samples,
    cut_by_class,
    generator_for,
    nearest,
)

AUTOMATIC_TASKS = 5  # where the data names no tasks and nobody says how many


@dataclass(frozen=True)
class Part:
    """Some rows of a storage, with the names of their classes and tasks.

    inputs: storage [M, ...]; rows: [N] int64; labels: [N] names; tasks: [N] names, None where the data names none
    """

    inputs: Inputs
    rows: Tensor
    labels: Sequence[str]
    tasks: Sequence[str] | None = None

    def select(self, positions: Tensor) -> Part:
        """Return the part of these positions, in their order."""
        chosen = positions.tolist()
        tasks = None if self.tasks is None else [self.tasks[k] for k in chosen]
        return Part(self.inputs, self.rows[positions], [self.labels[k] for k in chosen], tasks)


@dataclass(frozen=True)
class Cut:
    """The tasks, what their labels mean (`StreamData.labels`), and how they came to be, for the record."""

    tasks: tuple[TaskData, ...]
    labels: str
    facts: dict[str, Any]


def cut(train: Part, test: Part | None, options: OwnData, *, seeds: Seeds, what: str, test_is: str = "") -> Cut:
    """Cut own data into tasks. `test` None: a share of each class is held out of `train`, the same for every run.

    what:    the stream's name, for messages; test_is: where the test set comes from
    Raise DataError where the data cannot be cut so, UsageError where the options do not fit it.
    """
    if not len(train.labels):
        raise DataError(f"{what} has no training samples. Add some, or look at how it is divided.")
    names = in_order(train.labels)
    if len(names) < 2:
        raise DataError(f"{what} has one class, {names[0]!r}, and nothing to tell it from. Add another class.")
    share = options.share(what, test_is)
    if test is None:
        train, test = _held_out(train, share, options.split_seed, what=what)
        test_is = f"held out, {100 * share:g} % of each class (split_seed {options.split_seed})"
    else:
        _check_test(names, test, what=what)
    if train.tasks is None:
        if test.tasks is not None:
            raise DataError(f"the test set of {what} names tasks, but the training set does not. Name them in both.")
        if options.task_order != "natural":
            raise UsageError(f"{what} names no tasks, so that stream.task_order has no effect. Use class_order.")
        tasks, labels = _by_class(train, test, names, options, seeds=seeds, what=what), "disjoint"
    else:
        tasks, labels = _as_named(train, test, options, seeds=seeds, what=what)
    counts = {part: sum(len(getattr(task, part)) for task in tasks) for part in ("train", "test")}
    return Cut(
        tasks, labels, {"test_set": test_is, "training_samples": counts["train"], "test_samples": counts["test"]}
    )


def _held_out(part: Part, share: float, seed: int, *, what: str) -> tuple[Part, Part]:
    """Return (training, test): of each class in each task a share, at least one sample, and never the last one."""
    groups: dict[tuple[str, str], list[int]] = {}
    tasks = part.tasks or [""] * len(part.labels)
    for position, key in enumerate(zip(tasks, part.labels, strict=True)):
        groups.setdefault(key, []).append(position)
    is_test = torch.zeros(len(part.labels), dtype=torch.bool)
    for (task, label), members in groups.items():
        where = f"class {label!r}" + (f" of task {task!r}" if task else "")
        if len(members) < 2:
            raise DataError(
                f"{what}: {where} has one sample, which cannot be both learned and tested. "
                "Add samples, leave the class out, or give a test set."
            )
        count = min(max(1, round(share * len(members))), len(members) - 1)
        shuffled = torch.randperm(len(members), generator=generator_for(seed, "own data", task, label))
        is_test[torch.tensor(members)[shuffled[:count]]] = True
    return part.select((~is_test).nonzero().squeeze(1)), part.select(is_test.nonzero().squeeze(1))


def _check_test(names: Sequence[str], test: Part, *, what: str) -> None:
    unknown = in_order(set(test.labels) - set(names))
    if unknown:
        raise DataError(
            f"the test set of {what} has the class {unknown[0]!r}, which no training sample has. "
            f"{nearest(unknown[0], names)}"
        )
    if not len(test.labels):
        raise DataError(f"the test set of {what} has no samples. Add some, or leave it out.")


def _by_class(
    train: Part, test: Part, names: list[str], options: OwnData, *, seeds: Seeds, what: str
) -> tuple[TaskData, ...]:
    fitted = options
    if options.n_tasks is None and options.task_sizes is None:
        order = class_order(options.class_order, len(names), seeds.classes, names=names)
        fitted = replace(options, task_sizes=_automatic(len(order), options.first_task), first_task=None)
    tasks = cut_by_class(_labelled(train, names), _labelled(test, names), fitted, seeds=seeds, class_names=names)
    for task in tasks:
        for part in ("training", "test"):
            present = set((task.train if part == "training" else task.test).targets.unique().tolist())
            absent = [name for number, name in enumerate(task.classes) if number not in present]
            if absent:
                raise DataError(f"{what}: no {part} sample has the class {absent[0]!r}. Add some, or leave it out.")
    return tasks


def _automatic(n_classes: int, first_task: int | None) -> list[int]:
    """Return sizes of up to five tasks of at least two classes where that is possible, as equal as can be."""
    first = [] if first_task is None else [first_task]
    rest = n_classes - sum(first)
    if first and not 1 <= first[0] <= n_classes:
        raise UsageError(
            f"stream.first_task={first[0]} is not a number of classes for the first task. Use 1 to {n_classes}."
        )
    if not rest:
        return first
    others = max(1, min(AUTOMATIC_TASKS - len(first), rest // 2))
    return first + [rest // others + (number < rest % others) for number in range(others)]


def _labelled(part: Part, names: Sequence[str]) -> tuple[Inputs, Tensor]:
    """Return (storage, the number of the class of each of its rows; -1 for rows that are not of the part)."""
    labels = torch.full((count_samples(part.inputs),), -1, dtype=torch.long)
    labels[part.rows] = _numbers(part.labels, names)
    return part.inputs, labels


def _numbers(labels: Sequence[str], names: Sequence[str]) -> Tensor:
    number = {name: k for k, name in enumerate(names)}
    return torch.from_numpy(np.fromiter((number[label] for label in labels), dtype=np.int64, count=len(labels)))


def _as_named(
    train: Part, test: Part, options: OwnData, *, seeds: Seeds, what: str
) -> tuple[tuple[TaskData, ...], str]:
    """Return one task for each that the data names, and "shared" if some class is in two of them: then all have all."""
    assert train.tasks is not None
    for option, usual in (("class_order", "natural"), ("first_task", None), ("task_sizes", None)):
        if getattr(options, option) != usual:
            raise UsageError(f"{what} names its tasks, so that stream.{option} has no effect. Use stream.task_order.")
    known = in_order(train.tasks)
    order = class_order(options.task_order, len(known), seeds.classes, option="task_order", names=known)
    count = len(order) if options.n_tasks is None else options.n_tasks
    if not 1 <= count <= len(order):
        raise UsageError(f"stream.n_tasks={count} is not a number of tasks of {what}. Use 1 to {len(order)}.")
    chosen = [known[number] for number in order[:count]]
    classes: dict[str, set[str]] = {name: set() for name in chosen}
    for task, label in zip(train.tasks, train.labels, strict=True):
        if task in classes:
            classes[task].add(label)
    if test.tasks is not None:
        unknown = in_order(set(test.tasks) - set(known))
        if unknown:
            raise DataError(f"the test set of {what} has the task {unknown[0]!r}. {nearest(unknown[0], known)}")
    shared = max(Counter(label for each in classes.values() for label in each).values()) > 1
    union = in_order(set().union(*classes.values()))
    tasks = []
    for name in chosen:
        labels = union if shared else in_order(classes[name])
        learned = _view(train, name, labels, what=what, of="training")
        tasks.append(TaskData(name, learned, _view(test, name, labels, what=what, of="test"), tuple(labels)))
    return tuple(tasks), "shared" if shared else "disjoint"


def _view(part: Part, task: str, labels: list[str], *, what: str, of: str) -> Samples:
    """Return the samples of a task; where the part names no tasks, all those of the task's classes."""
    known = set(labels)
    rows = [
        position
        for position, label in enumerate(part.labels)
        if (label in known if part.tasks is None else part.tasks[position] == task)
    ]
    if not rows:
        raise DataError(f"{what}: task {task!r} has no {of} samples. Add some, or leave the task out.")
    chosen = part.select(torch.tensor(rows))
    strange = next((label for label in chosen.labels if label not in known), None)
    if strange is not None:
        raise DataError(
            f"{what}: task {task!r} is tested on the class {strange!r}, which it does not learn. Move the samples."
        )
    return Samples(part.inputs, _numbers(chosen.labels, labels), chosen.rows)
