"""Small image files in the layouts torchvision leaves, and streams loaded from them."""

import hashlib
import pickle

import numpy as np

from benchmarks.images import cifar, mnist
from cl_suite import DataRoot, Seeds
from cl_suite.core.registry import STREAM, choose
from tests.helpers.image_writers import write_idx

SEEDS = Seeds(0, 0, 0)


def digest(path, algorithm):
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def small_image_files(tmp_path, monkeypatch):
    """Return a data root with small files in the layouts torchvision leaves; their checksums go into the tables."""
    random = np.random.default_rng(0)

    def images(labels):
        return random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)

    for part, copies in (("train", 3), ("test", 2)):
        labels = list(range(100)) * copies
        content = {"data": images(labels), "fine_labels": labels, "coarse_labels": [k % 20 for k in labels]}
        write_pickle(tmp_path / "cifar-100-python" / part, content)
    names = {
        "fine_label_names": [f"class {k}" for k in range(100)],
        "coarse_label_names": [f"kind {k}" for k in range(20)],
    }
    write_pickle(tmp_path / "cifar-100-python/meta", names)
    for part in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        labels = list(range(10))
        write_pickle(tmp_path / "cifar-10-batches-py" / part, {"data": images(labels), "labels": labels})
    write_pickle(tmp_path / "cifar-10-batches-py/batches.meta", {"label_names": [f"class {k}" for k in range(10)]})
    for family in ("MNIST", "FashionMNIST"):
        for part, copies in (("train", 4), ("t10k", 2)):
            labels = np.tile(np.arange(10), copies)
            pixels = random.integers(0, 256, (len(labels), 28, 28))
            write_idx(tmp_path / family / "raw" / f"{part}-images-idx3-ubyte", pixels)
            write_idx(tmp_path / family / "raw" / f"{part}-labels-idx1-ubyte", labels)
    for owner, tables in (
        (cifar, ("CIFAR100_FILES", "CIFAR10_FILES")),
        (mnist, ("MNIST_FILES", "FASHION_MNIST_FILES")),
    ):
        for table in tables:
            sums = {name: digest(tmp_path / name, old.partition(":")[0]) for name, old in getattr(owner, table).items()}
            monkeypatch.setattr(owner, table, sums)
            for cls in vars(owner).values():
                if isinstance(cls, type) and getattr(cls, "files", None) and set(cls.files) == set(sums):
                    monkeypatch.setattr(cls, "files", sums)
    return DataRoot(tmp_path, offline=True)


def loaded(name, root, seeds=SEEDS, **options):
    cls = choose(STREAM, name).cls
    return cls(cls.Config(**options)).load(root, seeds)


def rows(samples):
    return {raw.numpy().tobytes() for batch, _ in samples.chunks(1000) for raw in batch}


def assert_sizes_and_normalised(data, n_train, n_test):
    assert (len(data.tasks[0].train), len(data.tasks[0].test)) == (n_train, n_test)
    images = data.prepare(data.tasks[0].train.inputs)
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01
