"""5-Datasets: CIFAR-10, MNIST, SVHN, Fashion-MNIST and notMNIST, one task each (Ebrahimi et al. 2020; GPM; CUBER).

The published split of notMNIST was not at hand: here a tenth of its images, drawn with a fixed seed, is the test set.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_suite import (
    CIFAR10_FILES,
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_FILES,
    MNIST_FILES,
    DataError,
    DataRoot,
    Inputs,
    PrepareVectors,
    Samples,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
    generator_for,
    read_cifar,
    read_mnist,
    read_pickle,
)

SIZE = 32  # pixels, height and width of what the network reads
# md5 sums as torchvision publishes them.
SVHN_FILES = {
    "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
}
NOT_MNIST_FOLDERS = tuple(f"notMNIST_small/{letter}" for letter in "ABCDEFGHIJ")
NOT_MNIST_SIZE = (28, 28)
NOT_MNIST_TEST_SHARE = 0.1


class Images(NamedTuple):
    """A data set, read: (images [N, C, H, W] uint8, labels [N] int64 in 0..9), and the names of its classes."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: tuple[str, ...]
    checksums: Mapping[str, str] = {}  # of what was read, where no published ones are


@dataclass(frozen=True)
class Source:
    """Where one of the data sets comes from, and the normalisation of GPM's program for it.

    files:     with published checksums, verified before `read`
    folders:   without checksums; they must be there
    mean, std: per channel, for pixels scaled to [0, 1]
    """

    what: str
    read: Callable[[Path], Images]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    download: Callable[[Path], object] | None = None

    def is_present(self, root: DataRoot) -> bool:
        """Whether all files and folders are there, intact or not."""
        return all((root.path / name).exists() for name in (*self.files, *self.folders))

    def verify(self, root: DataRoot) -> None:
        """Download what is absent and verify everything. Raise DataError where that cannot be done."""
        root.verified(self.files, what=self.what, download=self.download)
        for name in self.folders:
            if not (root.path / name).is_dir():
                raise DataError(
                    f"{self.what}: {name} is not in {root.path} (set by --data-root or CL_SUITE_DATA), and there is "
                    "no automatic download. Unpack the public archive notMNIST_small.tar.gz there."
                )


def _read_cifar10(root: Path) -> Images:
    *training, test, meta = (root / name for name in CIFAR10_FILES)
    names = tuple(read_pickle(meta)["label_names"])
    return Images(read_cifar(training, "labels"), read_cifar([test], "labels"), names)


def _read_mnist(root: Path) -> Images:
    return Images(*read_mnist(root / name for name in MNIST_FILES), tuple("0123456789"))


def _read_fashion_mnist(root: Path) -> Images:
    return Images(*read_mnist(root / name for name in FASHION_MNIST_FILES), FASHION_MNIST_CLASSES)


def _read_svhn(root: Path) -> Images:
    """Read MATLAB files of X [H, W, C, N] and y [N, 1], in which label 10 is the digit 0."""
    from scipy.io import loadmat

    parts = []
    for name in SVHN_FILES:
        content = loadmat(root / name)
        images = torch.from_numpy(content["X"]).permute(3, 2, 0, 1).contiguous()
        parts.append((images, torch.from_numpy(content["y"].astype(np.int64)).flatten() % 10))
    train, test = parts
    return Images(train, test, tuple("0123456789"))


def _read_not_mnist(root: Path) -> Images:
    """Read the letters A to J, a folder of PNG files each; the few files that are no 28x28 images are left out.

    The checksum, made from pixels and labels in order, and the number left out go into the record.
    """
    from PIL import Image

    pixels, labels, skipped = [], [], 0
    for label, folder in enumerate(NOT_MNIST_FOLDERS):
        for path in sorted((root / folder).glob("*.png")):
            try:
                with Image.open(path) as file:
                    image = np.array(file.convert("L"))
            except (OSError, SyntaxError, ValueError):  # empty or broken; Pillow names a broken PNG a SyntaxError
                skipped += 1
                continue
            if image.shape == NOT_MNIST_SIZE:
                pixels.append(image)
                labels.append(label)
            else:
                skipped += 1
    if len(set(labels)) < len(NOT_MNIST_FOLDERS):
        raise DataError(f"notMNIST: a folder of {root / 'notMNIST_small'} has no images. Unpack the archive anew.")
    images, targets = torch.from_numpy(np.stack(pixels))[:, None], torch.tensor(labels)
    digest = hashlib.sha256(images.numpy().tobytes() + bytes(labels)).hexdigest()
    order = torch.randperm(len(targets), generator=generator_for(0, "not_mnist", "test"))
    cut = round(NOT_MNIST_TEST_SHARE * len(targets))
    test, train = order[:cut], order[cut:]  # mixed, not letter by letter: some networks normalise by the test batch
    return Images(
        (images[train], targets[train]),
        (images[test], targets[test]),
        tuple("ABCDEFGHIJ"),
        {f"notMNIST_small ({len(targets)} images, {skipped} files left out)": f"sha256:{digest}"},
    )


def _torchvision(dataset: str, *splits: str) -> Callable[[Path], None]:
    """Return what fetches and unpacks a data set through torchvision; `splits`, where it has to be asked for each."""

    def download(folder: Path) -> None:
        from torchvision import datasets

        for options in [{"split": split} for split in splits] or [{}]:
            getattr(datasets, dataset)(str(folder), download=True, **options)

    return download


CIFAR_MEAN, CIFAR_STD = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)
SVHN_MEAN, SVHN_STD = (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197)
SOURCES = {
    "cifar10": Source("CIFAR-10", _read_cifar10, CIFAR_MEAN, CIFAR_STD, CIFAR10_FILES, (), _torchvision("CIFAR10")),
    "mnist": Source("MNIST", _read_mnist, (0.1,), (0.2752,), MNIST_FILES, (), _torchvision("MNIST")),
    "svhn": Source("SVHN", _read_svhn, SVHN_MEAN, SVHN_STD, SVHN_FILES, (), _torchvision("SVHN", "train", "test")),
    "fashion_mnist": Source(
        "Fashion-MNIST",
        _read_fashion_mnist,
        (0.2190,),
        (0.3318,),
        FASHION_MNIST_FILES,
        (),
        _torchvision("FashionMNIST"),
    ),
    "not_mnist": Source("notMNIST", _read_not_mnist, (0.4254,), (0.4501,), {}, NOT_MNIST_FOLDERS),
}


@dataclass(frozen=True)
class ToColour:
    """Stored images [B, 1 or 3, H, W] uint8 -> [B, 3, 32, 32] float32: padded with black, normalised, replicated."""

    mean: Tensor  # [C, 1, 1], in pixel values 0..255
    std: Tensor  # [C, 1, 1]

    def __call__(self, raw: Inputs) -> Tensor:
        """Return the images as the network reads them, in channels_last."""
        assert isinstance(raw, Tensor)
        rows, columns = SIZE - raw.shape[2], SIZE - raw.shape[3]
        padded = F.pad(raw.float(), [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        images = ((padded - self.mean) / self.std).expand(-1, 3, -1, -1)
        return images.contiguous(memory_format=torch.channels_last)

    def to(self, device: torch.device) -> "ToColour":
        """Return the same transform on `device`."""
        return ToColour(self.mean.to(device), self.std.to(device))


class FiveDatasets(Stream):
    """Five data sets of ten classes, one task each: CIFAR-10, MNIST, SVHN, Fashion-MNIST, notMNIST."""

    facts = StreamFacts(
        modality="images",
        citation=(
            "Krizhevsky 2009 (CIFAR-10), LeCun et al. 1998 (MNIST), Netzer et al. 2011 (SVHN), Xiao et al. 2017 "
            "(Fashion-MNIST), Bulatov 2011 (notMNIST)"
        ),
        source="all but notMNIST via torchvision",
        licence="Fashion-MNIST: MIT; SVHN: non-commercial use; none stated for the others",
        sizes=StreamSizes(tasks=5, classes=50, classes_per_task=10, input_shape=(3, 32, 32)),
    )

    @dataclass
    class Config:
        """Which data sets, in which order."""

        datasets: list[str] = field(default_factory=lambda: list(SOURCES))  # some or all of the five, each once

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify and read. Images are kept as stored, and padded and normalised a batch at a time; none is augmented.

        Raise DataError, naming the data set and what would run without it, where one is absent.
        """
        checksums: dict[str, str] = {}
        tasks = []
        for name, source in self._verified(root).items():
            images = source.read(root.path)
            checksums |= {**source.files, **images.checksums}
            transform = ToColour(*(255 * torch.tensor(values)[:, None, None] for values in (source.mean, source.std)))
            train, test = (Samples(*part, transform=transform) for part in (images.train, images.test))
            tasks.append(TaskData(name, train, test, images.classes))
        return StreamData(tuple(tasks), PrepareVectors(), checksums=checksums)

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything that has a published checksum."""
        return {name: value for source in self._verified(root).values() for name, value in source.files.items()}

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum}, as published; notMNIST has none."""
        sources = [SOURCES[name] for name in self.config.datasets if name in SOURCES]
        return {name: value for source in sources for name, value in source.files.items()}

    def _verified(self, root: DataRoot) -> dict[str, Source]:
        chosen = list(self.config.datasets)
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(SOURCES):
            raise UsageError(f"stream.datasets=[{','.join(chosen)}] is no choice of {', '.join(SOURCES)}, each once.")
        for name in chosen:
            try:
                SOURCES[name].verify(root)
            except DataError as problem:
                others = [each for each in chosen if each != name and SOURCES[each].is_present(root)]
                hint = f" Or go on without it: stream.datasets=[{','.join(others)}]." if others else ""
                raise DataError(f"{problem}{hint}") from problem
        return {name: SOURCES[name] for name in chosen}
