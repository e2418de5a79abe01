"""A benchmark of Avalanche as one of our streams: every sample is read once, and kept as a tensor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cl_suite.avalanche.options import options_class, options_of
from cl_suite.avalanche.presence import load_avalanche
from cl_suite.avalanche.source import AvalancheSource
from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import CLSuiteError, DataError, UsageError
from cl_suite.core.samples import Samples
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import Stream, StreamData, TaskData
from cl_suite.data import image_files
from cl_suite.data.prepare import PrepareImages, PrepareVectors

SLACK = 1e-3  # how far a float may be from a byte, in bytes, to be one


class AvalancheStream(Stream):
    """A benchmark of the library Avalanche (Carta et al. 2023, JMLR 24), read once into tensors."""

    table: ClassVar[AvalancheSource]
    target: ClassVar[Any]
    own: ClassVar[tuple[str, ...]] = ()  # options that are arguments of the target

    @dataclass
    class Config:
        """The arguments of Avalanche's function."""

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Make sure that the files are there, where Avalanche's data set is one whose checksums are known."""
        if not self.table.files:
            return {}
        files: Mapping[str, str] = getattr(image_files, self.table.files)
        root.verified(files, what=self.table.what, download=self._download)
        return files

    def _download(self, folder: Path) -> None:
        load_avalanche(self.table.download)(str(folder), download=True)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Make the benchmark and read every sample of it.

        Raise DataError where files are absent, UsageError where it is no benchmark of classes, or of unlike samples.
        """
        checksums = self.fetch(root)
        tasks = read_tasks(self._benchmark(root, seeds))
        first = tasks[0].train.inputs
        assert isinstance(first, Tensor)
        return StreamData(tasks, self._prepare(first), labels=label_kind(tasks), checksums=checksums)

    def _benchmark(self, root: DataRoot, seeds: Seeds) -> Any:
        from cl_suite.avalanche.strategy_builder import quiet

        takes = inspect.signature(self.target).parameters
        if root.offline and not self.table.files and "dataset_root" in takes:
            raise DataError(
                f"Avalanche fetches the files of {self.target.__name__} itself, which --offline forbids. Leave it out, "
                "or try --stream split_digits, which needs no files."
            )
        given = {
            "dataset_root": str(root.path),
            "seed": seeds.classes,
            "train_transform": None,
            "eval_transform": None,
        }
        arguments = {name: getattr(self.config, name) for name in self.own}
        arguments |= {name: value for name, value in given.items() if name in takes and name not in arguments}
        try:
            with quiet():
                return self.target(**arguments)
        except CLSuiteError:
            raise
        except OSError as problem:
            raise DataError(
                f"Avalanche's {self.target.__name__} could not get its files in {root.path} ({problem}). Fetch them."
            ) from problem
        except Exception as problem:  # whatever a stranger's function raises
            text = str(problem).partition("\n")[0]
            raise UsageError(
                f"{self.target.__name__}({', '.join(f'{n}={v!r}' for n, v in arguments.items())}) made no benchmark "
                f"({type(problem).__name__}: {text}). Set other stream options."
            ) from problem

    def _prepare(self, inputs: Tensor) -> Any:
        if inputs.dtype is not torch.uint8 or inputs.dim() != 4:
            return PrepareVectors()
        mean, std = self.table.mean, self.table.std
        if not mean:
            pixels = inputs.float().transpose(0, 1).flatten(1) / 255
            mean, std = tuple(pixels.mean(1).tolist()), tuple(pixels.std(1).clamp(min=1e-3).tolist())
        return PrepareImages(mean=mean, std=std, padding=self.table.padding, flip=self.table.flip)


def avalanche_stream(name: str, table: AvalancheSource, *, module: str) -> type[AvalancheStream]:
    """Return the stream that a table's entry describes; Avalanche is imported now.

    Raise UsageError if the module or function is not there.
    """
    try:
        target = load_avalanche(table.target)
    except (ImportError, AttributeError) as problem:
        raise UsageError(f"stream 'avalanche/{name}': {problem}. Write avalanche/module:function.") from problem
    if not callable(target):
        raise UsageError(f"stream 'avalanche/{name}' is no function. Give one that returns a benchmark of Avalanche.")
    hidden = (*table.filled, "dataset_root", "seed", "train_transform", "eval_transform", "return_task_id")
    options = options_of(target, filled=hidden, defaults=table.defaults)
    members = {
        "__module__": module,
        "__doc__": f"{table.summary}\n\nAvalanche's {table.target}.",
        "table": table,
        "target": staticmethod(target),
        "own": tuple(options),
        "facts": table.facts,
        "Config": options_class(AvalancheStream.Config, options, defaults={}, module=module),
    }
    return type(target.__name__, (AvalancheStream,), members)


def read_tasks(benchmark: Any) -> tuple[TaskData, ...]:
    """Return the tasks of a benchmark of Avalanche, one per training experience, targets local to each.

    Raise UsageError if it has no training and test streams of classes, or its samples differ in shape or kind.
    """
    try:
        training, tests = list(benchmark.train_stream), list(benchmark.test_stream)
        read = [[_read(each.dataset) for each in stream] for stream in (training, tests)]
    except (AttributeError, TypeError) as problem:
        raise UsageError(
            f"this is no benchmark of classes with train_stream and test_stream ({problem}). "
            "Give a function that returns one of Avalanche's."
        ) from problem
    parts = _alike([part for stream in read for part in stream])
    trained, tested = parts[: len(training)], parts[len(training) :]
    if len(tested) != len(trained):
        tested = _tests_by_class(trained, tested)
    return tuple(_task(number, train, test) for number, (train, test) in enumerate(zip(trained, tested, strict=True)))


def label_kind(tasks: Sequence[TaskData]) -> str:
    """Return "disjoint" or "shared", as `StreamData.labels`. Raise UsageError where classes overlap in part."""
    classes = [set(task.classes) for task in tasks]
    if all(each == classes[0] for each in classes) and len(classes) > 1:
        return "shared"
    if len(set().union(*classes)) == sum(map(len, classes)):
        return "disjoint"
    raise UsageError(
        "the experiences of this benchmark have some classes in common and others not. cl-suite's tasks bring either "
        "new classes or the same ones: give each experience its own, or all the same."
    )


def _read(dataset: Any) -> tuple[Tensor, Tensor]:
    """Return (inputs [N, ...], targets [N]) of one experience, read in evaluation mode: nothing is augmented."""
    rows = dataset.eval()
    samples, targets = [], []
    for position in range(len(rows)):
        row = rows[position]
        samples.append(_tensor(row[0]))
        targets.append(int(row[1]))
    if not samples:
        raise UsageError("an experience of this benchmark has no samples. Give each at least one.")
    shapes = {tuple(each.shape) for each in samples}
    if len(shapes) > 1:
        raise UsageError(
            f"the samples of an experience have several shapes ({', '.join(map(str, sorted(shapes)[:3]))}). "
            "Resize them in the benchmark."
        )
    return torch.stack(samples), torch.tensor(targets)


def _tensor(sample: Any) -> Tensor:
    """Return a sample as a tensor; an image [C, H, W]."""
    if isinstance(sample, Tensor):
        return sample
    array = np.array(sample)  # of a PIL image: [H, W] or [H, W, C]
    if array.dtype == object or array.dtype.kind not in "uifb":
        raise UsageError(f"a sample of this benchmark is a {type(sample).__name__}, neither image nor numbers.")
    tensor = torch.from_numpy(array)
    return tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1) if tensor.dim() == 3 else tensor


def _alike(parts: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return all parts in one kind of number: bytes where that loses nothing. Raise UsageError for unlike shapes."""
    shapes = [tuple(inputs.shape[1:]) for inputs, _ in parts]
    odd = next((number for number, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        raise UsageError(
            f"the experiences of this benchmark have samples of unlike shapes, {shapes[0]} and {shapes[odd]}. "
            "Resize them in the benchmark."
        )
    if all(inputs.dtype is torch.uint8 for inputs, _ in parts):
        return parts
    if shapes[0] and len(shapes[0]) == 3 and all(_are_bytes(inputs) for inputs, _ in parts):
        return [(_as_bytes(inputs), targets) for inputs, targets in parts]
    return [(inputs.float(), targets) for inputs, targets in parts]


def _are_bytes(inputs: Tensor) -> bool:
    if inputs.dtype is torch.uint8:
        return True
    scaled = inputs.float() * 255
    return bool(scaled.min() > -SLACK and scaled.max() < 255 + SLACK and (scaled - scaled.round()).abs().max() < SLACK)


def _as_bytes(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype is torch.uint8 else (inputs.float() * 255).round().to(torch.uint8)


def _tests_by_class(
    trained: list[tuple[Tensor, Tensor]], tested: list[tuple[Tensor, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Cut one test experience for all into those of each training experience's classes."""
    blocks = [set(targets.unique().tolist()) for _, targets in trained]
    if len(tested) != 1 or len(set().union(*blocks)) < sum(map(len, blocks)):
        raise UsageError(
            f"this benchmark has {len(tested)} test experiences for {len(trained)} training ones. Give one for each, "
            "or a single one where each brings its own classes."
        )
    inputs, targets = tested[0]
    cut = []
    for block in blocks:
        rows = torch.isin(targets, torch.tensor(sorted(block)))
        cut.append((inputs[rows], targets[rows]))
    return cut


def _task(number: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> TaskData:
    classes = train[1].unique().tolist()
    unknown = sorted(set(test[1].unique().tolist()) - set(classes))
    if unknown or not len(test[1]):
        what = f"classes it does not train: {unknown[:5]}" if unknown else "no samples"
        raise UsageError(f"test experience {number} of this benchmark has {what}. Make the two streams agree.")
    local = torch.full((max(classes) + 1,), -1, dtype=torch.long)
    local[torch.tensor(classes)] = torch.arange(len(classes))
    names = tuple(map(str, classes))
    return TaskData(
        f"{number}: {', '.join(names)}",
        Samples(train[0], local[train[1]]),
        Samples(test[0], local[test[1]]),
        names,
    )
