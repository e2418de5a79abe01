"""Published image data sets in the layouts torchvision unpacks: checksums and reading, shared by streams.

Read only what `DataRoot.verified` has checked: a pickle runs code.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

# sha256 of the unpacked files; the packed ones have the md5 torchvision publishes.
MNIST_FILES = {
    "MNIST/raw/train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "MNIST/raw/train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "MNIST/raw/t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "MNIST/raw/t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_MNIST_FILES = {
    "FashionMNIST/raw/train-images-idx3-ubyte": (
        "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "FashionMNIST/raw/train-labels-idx1-ubyte": (
        "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "FashionMNIST/raw/t10k-images-idx3-ubyte": (
        "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": (
        "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
IDX_TYPE_UINT8 = 0x08


def read_pickle(path: Path) -> dict[str, Any]:
    """Read one file of CIFAR; its checksum must have been verified, so that the pickle is the published one."""
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")


def read_cifar(paths: Iterable[Path], labels_key: str) -> tuple[Tensor, Tensor]:
    """Return (images [N, 3, 32, 32] uint8, labels [N] int64), one file after another."""
    parts = [read_pickle(path) for path in paths]
    images = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part[labels_key] for part in parts])
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def read_mnist(paths: Iterable[Path]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (training images [N, 1, H, W] uint8, labels [N] int64) and the same for test.

    paths: training images, training labels, test images, test labels, the order of `MNIST_FILES`
    """
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    return (train_images[:, None], train_labels.long()), (test_images[:, None], test_labels.long())


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of bytes as uint8: magic number (0, 0, type, axes), sizes as big-endian int32, data.

    Raise ValueError if it holds another type.
    """
    content = path.read_bytes()
    axes = content[3]
    if content[2] != IDX_TYPE_UINT8:
        raise ValueError(f"{path.name} holds no bytes")
    sizes = np.frombuffer(content, dtype=">i4", count=axes, offset=4).astype(np.int64)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(sizes)
    return torch.from_numpy(values.copy())
