"""CIFAR-10 and CIFAR-100 cut into tasks by class (Krizhevsky 2009; split protocol of Zenke et al. 2017)."""

import pickle
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cl_suite import DataRoot, PrepareImages, Seeds, Stream, StreamData, class_order, split_by_class

# md5 sums as torchvision publishes them for the unpacked files.
CIFAR100_FILES = {
    "cifar-100-python/train": "md5:16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "md5:7973b15100ade9c7d40fb424638fde48",
}
CIFAR10_FILES = {
    "cifar-10-batches-py/data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "md5:634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "md5:40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "md5:5ff9c542aee3614f3951f8cda6e48888",
}


class _SplitCIFAR(Stream):
    """What both have in common: 32x32 colour images in Python pickles, read only once their checksum is right."""

    what: ClassVar[str]
    files: ClassVar[Mapping[str, str]]
    test_file: ClassVar[str]
    meta_file: ClassVar[str]
    labels_key: ClassVar[str]
    names_key: ClassVar[str]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    licence = "none stated; the author asks for citation"

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read and cut. Training images are cropped (padding 4) and flipped where `train.augment` is on."""
        paths = root.verified(self.files, what=self.what, download=self.download)
        training = [name for name in self.files if name not in (self.test_file, self.meta_file)]
        names = _unpickle(paths[self.meta_file])[self.names_key]
        order = class_order(self.config.class_order, len(names), seeds.classes)
        tasks = split_by_class(
            self._read([paths[name] for name in training]),
            self._read([paths[self.test_file]]),
            n_tasks=self.config.n_tasks,
            class_order=order,
            class_names=names,
        )
        prepare = PrepareImages(mean=self.mean, std=self.std, padding=4, flip=True)
        return StreamData(tasks, prepare, checksums=self.files)

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        root.verified(self.files, what=self.what, download=self.download)
        return self.files

    @abstractmethod
    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision."""

    def _read(self, paths: list[Path]) -> tuple[Tensor, Tensor]:
        """Return (images [N, 3, 32, 32] uint8, labels [N] int64)."""
        parts = [_unpickle(path) for path in paths]
        images = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([part[self.labels_key] for part in parts])
        return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


class SplitCIFAR100(_SplitCIFAR):
    """CIFAR-100 in tasks of equally many classes; by default 20 tasks of 5."""

    source = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; via torchvision"
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

    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision."""
        from torchvision.datasets import CIFAR100

        CIFAR100(str(folder), download=True)


class SplitCIFAR10(_SplitCIFAR):
    """CIFAR-10 in tasks of equally many classes; by default 5 tasks of 2."""

    source = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; via torchvision"
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

    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision."""
        from torchvision.datasets import CIFAR10

        CIFAR10(str(folder), download=True)


def _unpickle(path: Path) -> dict[str, Any]:
    """Read one file; its checksum has been verified, so the pickle is the published one."""
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")
