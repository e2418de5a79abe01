"""A labelled data set cut into tasks by class: the options streams have for it, the order, the sizes, the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.samples import Samples
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import TaskData
from cl_suite.core.types import Inputs

MANY = 30  # names of classes that a message can hold


@dataclass
class ClassSplit:
    """How classes are divided into tasks: what a stream's `Config` derives from, with its own `n_tasks`."""

    n_tasks: int = 1  # tasks of equally many classes
    class_order: Any = "natural"  # natural (0, 1, ...), seeded (shuffled with seeds.classes), or a list: [3,1,...]
    first_task: int | None = None  # classes of the first task, the rest divided equally; None = as many as the others
    task_sizes: list[int] | None = None  # classes of each task, in place of n_tasks and first_task


def cut_by_class(
    train: tuple[Inputs, Tensor],
    test: tuple[Inputs, Tensor],
    options: Any,
    *,
    seeds: Seeds,
    class_names: Sequence[str],
    first_classes: int | None = None,
) -> tuple[TaskData, ...]:
    """Cut a labelled data set as `options` (a `ClassSplit`) say; `train` and `test` as in `split_by_class`.

    first_classes: of the order only so many; None = all
    Raise UsageError for options that do not fit these classes.
    """
    order = class_order(options.class_order, len(class_names), seeds.classes, names=class_names)[:first_classes]
    usual = type(options)().n_tasks
    sizes = task_sizes(len(order), options, usual=usual)
    return _cut(train, test, sizes=sizes, class_order=order, class_names=class_names)


def split_by_class(
    train: tuple[Inputs, Tensor],
    test: tuple[Inputs, Tensor],
    *,
    n_tasks: int,
    class_order: Sequence[int],
    class_names: Sequence[str],
    first_task: int | None = None,
) -> tuple[TaskData, ...]:
    """Cut a labelled data set into `n_tasks` tasks of equally many classes, along `class_order`.

    `train` and `test` are (inputs [N, ...], labels [N] int64); all tasks share the storage. Samples of classes that are
    not in `class_order` are left out, and so are those of a negative label.
    first_task: classes of the first task, the others share the rest; None = as many as the others
    Raise UsageError if `n_tasks` does not divide the number of classes.
    """
    sizes = equal_sizes(len(class_order), n_tasks, first_task)
    return _cut(train, test, sizes=sizes, class_order=class_order, class_names=class_names)


def _cut(
    train: tuple[Inputs, Tensor],
    test: tuple[Inputs, Tensor],
    *,
    sizes: Sequence[int],
    class_order: Sequence[int],
    class_names: Sequence[str],
) -> tuple[TaskData, ...]:
    def view(inputs: Inputs, labels: Tensor, classes: Sequence[int]) -> Samples:
        highest = max(*class_order, int(labels.max()) if len(labels) else 0, 0)
        local = torch.full((highest + 1,), -1, dtype=torch.long)
        local[torch.tensor(classes)] = torch.arange(len(classes))
        targets = torch.where(labels < 0, -1, local[labels.clamp(min=0)])
        index = (targets >= 0).nonzero().squeeze(1)
        return Samples(inputs, targets[index], index)

    tasks = []
    for number, (start, end) in enumerate(pairwise(accumulate(sizes, initial=0))):
        classes = list(class_order[start:end])
        names = tuple(class_names[c] for c in classes)
        tasks.append(TaskData(f"{number}: {', '.join(names)}", view(*train, classes), view(*test, classes), names))
    return tuple(tasks)


def task_sizes(n_classes: int, options: Any, *, usual: int | None = None) -> list[int]:
    """Return the number of classes of each task, as `options` (a `ClassSplit`) say.

    usual: the stream's own `n_tasks`, which `task_sizes` may take the place of

    Raise UsageError, naming what would fit, for options that do not fit so many classes.
    """
    sizes = options.task_sizes
    if sizes is None:
        return equal_sizes(n_classes, options.n_tasks, options.first_task)
    if options.first_task is not None or options.n_tasks not in (None, usual, len(sizes)):
        other = "first_task" if options.first_task is not None else "n_tasks"
        raise UsageError(f"stream.task_sizes says how large every task is. Leave stream.{other} out.")
    if not sizes or min(sizes) < 1 or sum(sizes) != n_classes:
        raise UsageError(
            f"stream.task_sizes={_as_list(sizes)} does not divide the {n_classes} classes. "
            f"Give numbers from 1 whose sum is {n_classes}."
        )
    return list(sizes)


def equal_sizes(n_classes: int, n_tasks: int, first_task: int | None = None) -> list[int]:
    """Return the number of classes of each task: `first_task` in the first, the rest divided equally.

    Raise UsageError, naming what would fit, where they cannot be.
    """
    if first_task is None:
        if n_tasks < 1 or n_classes % n_tasks:
            allowed = [n for n in range(1, n_classes + 1) if n_classes % n == 0]
            raise UsageError(
                f"stream.n_tasks={n_tasks} does not divide the {n_classes} classes. Use one of {_few(allowed)}."
            )
        return [n_classes // n_tasks] * n_tasks
    rest, others = n_classes - first_task, n_tasks - 1
    if not 1 <= first_task <= n_classes:
        raise UsageError(
            f"stream.first_task={first_task} is not a number of classes for the first task. Use 1 to {n_classes}."
        )
    if (others < 1 and rest) or (others and (rest < 1 or rest % others)):
        allowed = [1 + n for n in range(1, rest + 1) if rest % n == 0] if rest else [1]
        raise UsageError(
            f"stream.first_task={first_task} leaves {rest} of the {n_classes} classes, which stream.n_tasks={n_tasks} "
            f"does not divide: the first task counts as one. Use stream.n_tasks={_few(allowed)}."
        )
    return [first_task, *([rest // others] * others if others else [])]


def class_order(
    kind: Any, n_classes: int, seed: int, *, option: str = "class_order", names: Sequence[str] = ()
) -> list[int]:
    """Return the order of the classes: "natural" (0, 1, ...), "seeded" (shuffled with `seed`), or as a list gives it.

    names: of the classes, in their natural order. A list holds names, or numbers from 0; where all the names are whole
           numbers, an entry is a name. Classes it leaves out are not used.

    Raise UsageError, naming `stream.<option>`, for another kind, and for an entry that is unknown or there twice.
    """
    if kind == "natural":
        return list(range(n_classes))
    if kind == "seeded":
        return torch.randperm(n_classes, generator=torch.Generator().manual_seed(seed)).tolist()
    if isinstance(kind, str) or not isinstance(kind, Sequence):
        raise UsageError(f"stream.{option}={kind} is not known. Use natural or seeded, or a list: [3,1,...].")
    order = [_class_of(entry, n_classes, names, option) for entry in kind]
    if not order:
        raise UsageError(f"stream.{option}=[] names no class. Use natural or seeded, or name some.")
    twice = next((entry for entry, number in zip(kind, order, strict=True) if order.count(number) > 1), None)
    if twice is not None:
        raise UsageError(f"stream.{option} names {twice} twice. Name each class once.")
    return order


def _class_of(entry: Any, n_classes: int, names: Sequence[str], option: str) -> int:
    """Return the number of a class from its name or its number."""
    text = str(entry)
    if isinstance(entry, str) or (names and all(_is_whole(name) for name in names)):
        if text in names:
            return list(names).index(text)
        known = nearest(text, names) if len(names) <= MANY else f"There are {len(names)}, e.g. {', '.join(names[:3])}."
        raise UsageError(f"stream.{option} names {text!r}, which is no class. {known}")
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < n_classes:
        return entry
    raise UsageError(f"stream.{option} names class {text}, but the classes are 0 to {n_classes - 1}. Name one of them.")


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdigit()


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _as_list(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"
