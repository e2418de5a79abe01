"""CIFAR-10 and CIFAR-100 cut into tasks by class (Krizhevsky 2009; split protocol of Zenke et al. 2017)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cl_suite import (
    CIFAR10_FILES,
    CIFAR100_FILES,
    DataRoot,
    PrepareImages,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
    class_order,
    read_cifar,
    read_pickle,
    split_by_class,
)

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


class _CIFAR(Stream):
    """What all have in common: 32x32 colour images in Python pickles, read only once their checksum is right."""

    what: ClassVar[str]
    files: ClassVar[Mapping[str, str]]
    test_file: ClassVar[str]
    meta_file: ClassVar[str]
    labels_key: ClassVar[str]
    names_key: ClassVar[str]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    mirrors: ClassVar[tuple[str, ...]] = ()  # of the archive that torchvision fetches, byte for byte

    facts = StreamFacts(
        modality="images",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        source="via torchvision",
        licence="none stated; the author asks for citation",
    )

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read and cut. Training images are cropped (padding 4) and flipped where `train.augment` is on."""
        paths = root.verified(self.files, what=self.what, download=self.download)
        training = [paths[name] for name in self.files if name not in (self.test_file, self.meta_file)]
        tasks = self.cut(training, paths[self.test_file], read_pickle(paths[self.meta_file]), seeds)
        prepare = PrepareImages(mean=self.mean, std=self.std, padding=4, flip=True)
        return StreamData(tasks, prepare, checksums=self.files)

    def cut(self, training: list[Path], test: Path, meta: Mapping[str, Any], seeds: Seeds) -> tuple[TaskData, ...]:
        """Read the verified files and return tasks of equally many classes."""
        names = meta[self.names_key]
        order = class_order(self.config.class_order, len(names), seeds.classes)
        first = self.config.first_classes
        if first is not None and not 1 < first <= len(names):
            raise UsageError(
                f"stream.first_classes={first} is not a number of classes of {self.what}. Use 2 to {len(names)}."
            )
        return split_by_class(
            read_cifar(training, self.labels_key),
            read_cifar([test], self.labels_key),
            n_tasks=self.config.n_tasks,
            class_order=order[:first],
            class_names=names,
        )

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        root.verified(self.files, what=self.what, download=self.download)
        return self.files

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum}, as published."""
        return self.files

    @property
    @abstractmethod
    def fetched_by(self) -> type[CIFAR10]:
        """The data set of torchvision that knows where the archive is and what its md5 is."""

    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision: from the authors' page, else from a mirror, with the same checksums."""
        from torchvision.datasets.utils import download_and_extract_archive

        known = self.fetched_by
        sources = [lambda: known(str(folder), download=True)]
        for mirror in self.mirrors:
            sources.append(
                partial(download_and_extract_archive, mirror, str(folder), filename=known.filename, md5=known.tgz_md5)
            )
        problems = []
        for source in sources:
            try:
                source()
            except (OSError, RuntimeError) as problem:
                problems.append(" ".join(str(problem).split()) or type(problem).__name__)
            else:
                return
        raise RuntimeError("; then ".join(problems))


class SplitCIFAR100(_CIFAR):
    """CIFAR-100 in tasks of equally many classes; by default 20 tasks of 5."""

    facts = replace(
        _CIFAR.facts,
        sizes=StreamSizes(
            tasks=20, classes=100, classes_per_task=5, train=50_000, test=10_000, input_shape=(3, 32, 32)
        ),
    )
    what = "CIFAR-100"
    files = CIFAR100_FILES
    test_file = "cifar-100-python/test"
    meta_file = "cifar-100-python/meta"
    labels_key = "fine_labels"
    names_key = "fine_label_names"
    # Mean and standard deviation of the training images, per channel.
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    @dataclass
    class Config:
        """How the classes are divided."""

        n_tasks: int = 20  # any divisor of 100: 5, 10, 20, 50, ...
        class_order: str = "natural"  # natural (0, 1, ...) or seeded (shuffled with seeds.classes)
        first_classes: int | None = None  # of the order, only so many; None = all

    mirrors = ("https://huggingface.co/datasets/nakroy/cifar100-python/resolve/main/cifar-100-python.tar.gz",)

    @property
    def fetched_by(self) -> type[CIFAR10]:
        """As torchvision has it."""
        from torchvision.datasets import CIFAR100

        return CIFAR100


class CIFAR100Superclasses(SplitCIFAR100):
    """CIFAR-100 in 20 tasks of 5: each task is one superclass of the data set's authors (GPM, TRGP, CUBER)."""

    # As in the programs of GPM and TRGP.
    mean = (125.3 / 255, 123.0 / 255, 113.9 / 255)
    std = (63.0 / 255, 62.1 / 255, 66.7 / 255)

    @dataclass
    class Config:
        """How the superclasses are ordered."""

        task_order: str = "natural"  # natural (0, 1, ..., by name) or seeded (shuffled with seeds.classes)

    def cut(self, training: list[Path], test: Path, meta: Mapping[str, Any], seeds: Seeds) -> tuple[TaskData, ...]:
        """Read the verified files and return a task for each coarse label, named after it."""
        names = meta["coarse_label_names"]
        images, fine = read_cifar([test], self.labels_key)
        _, coarse = read_cifar([test], "coarse_labels")
        order = class_order(self.config.task_order, len(names), seeds.classes, option="task_order")
        classes = [fine[coarse == superclass].unique().tolist() for superclass in order]
        tasks = split_by_class(
            read_cifar(training, self.labels_key),
            (images, fine),
            n_tasks=len(names),
            class_order=[each for group in classes for each in group],
            class_names=meta[self.names_key],
        )
        return tuple(replace(task, name=names[superclass]) for task, superclass in zip(tasks, order, strict=True))


# Fine labels of IBCL's program, in the order of its tasks: an animal, and what is none.
ANIMALS = (1, 4, 30, 32, 55, 67, 72, 73, 91, 95)
OTHERS = (8, 13, 41, 48, 58, 69, 81, 85, 89, 90)


class CIFAR100Animals(SplitCIFAR100):
    """CIFAR-100 in 10 tasks with the same question: animal (0) or not (1), on another pair of classes each (IBCL).

    Published with frozen features of an ImageNet network in place of the images: see `features.*`.
    """

    facts = replace(
        SplitCIFAR100.facts,
        scenarios=(
            Scenario.DOMAIN_INCREMENTAL,
            Scenario.TASK_INCREMENTAL,
            Scenario.CLASS_INCREMENTAL,
            Scenario.TASK_AGNOSTIC,
        ),
        sizes=StreamSizes(tasks=10, classes=2, classes_per_task=2, train=10_000, test=2_000, input_shape=(3, 32, 32)),
    )

    @dataclass
    class Config:
        """How many of the pairs."""

        n_tasks: int = 10  # the first so many pairs, 1 to 10

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read and cut; the labels mean the same in every task."""
        return replace(super().load(root, seeds), labels="shared")

    def cut(self, training: list[Path], test: Path, meta: Mapping[str, Any], seeds: Seeds) -> tuple[TaskData, ...]:
        """Read the verified files and return a task for each pair, named after both classes."""
        n_tasks = self.config.n_tasks
        if not 1 <= n_tasks <= len(ANIMALS):
            raise UsageError(f"stream.n_tasks={n_tasks} is not a number of pairs. Use 1 to {len(ANIMALS)}.")
        tasks = split_by_class(
            read_cifar(training, self.labels_key),
            read_cifar([test], self.labels_key),
            n_tasks=n_tasks,
            class_order=[each for pair in zip(ANIMALS[:n_tasks], OTHERS[:n_tasks], strict=True) for each in pair],
            class_names=meta[self.names_key],
        )
        return tuple(replace(task, name=" / ".join(task.classes), classes=("animal", "other")) for task in tasks)


class SplitCIFAR10(_CIFAR):
    """CIFAR-10 in tasks of equally many classes; by default 5 tasks of 2."""

    facts = replace(_CIFAR.facts, sizes=StreamSizes(tasks=5, classes=10, classes_per_task=2, input_shape=(3, 32, 32)))
    what = "CIFAR-10"
    files = CIFAR10_FILES
    test_file = "cifar-10-batches-py/test_batch"
    meta_file = "cifar-10-batches-py/batches.meta"
    labels_key = "labels"
    names_key = "label_names"
    # As in the Mammoth library, whose protocol the class-incremental tables of the field follow.
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2615)

    @dataclass
    class Config:
        """How the classes are divided."""

        n_tasks: int = 5  # any divisor of 10
        class_order: str = "natural"  # natural (0, 1, ...) or seeded (shuffled with seeds.classes)
        first_classes: int | None = None  # of the order, only so many; None = all

    @property
    def fetched_by(self) -> type[CIFAR10]:
        """As torchvision has it."""
        from torchvision.datasets import CIFAR10

        return CIFAR10
