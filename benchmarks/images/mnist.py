"""MNIST and Fashion-MNIST cut into tasks by class, and MNIST permuted or rotated anew in each task."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_suite import (
    FASHION_MNIST_CLASSES,
    FASHION_MNIST_FILES,
    MNIST_FILES,
    ClassSplit,
    DataRoot,
    Inputs,
    PrepareImages,
    Samples,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
    cut_by_class,
    generator_for,
    read_mnist,
)


class _MNISTFamily(Stream):
    """28x28 grey images in IDX files, in torchvision's layout; nothing is augmented."""

    what: ClassVar[str] = "MNIST"
    files: ClassVar[Mapping[str, str]] = MNIST_FILES
    names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    # Mean and standard deviation of the training images.
    mean: ClassVar[float] = 0.1307
    std: ClassVar[float] = 0.3081

    facts = StreamFacts(
        modality="images",
        citation="LeCun, Cortes & Burges 1998, The MNIST database",
        source="via torchvision",
        licence="none stated for the data",
    )

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        root.verified(self.files, what=self.what, download=self.download)
        return self.files

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum}, as published."""
        return self.files

    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision."""
        from torchvision.datasets import MNIST

        MNIST(str(folder), download=True)

    def read(self, root: DataRoot) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return (training images [60000, 1, 28, 28] uint8, labels [60000] int64) and the same for test."""
        return read_mnist(root.verified(self.files, what=self.what, download=self.download).values())

    def prepare(self) -> PrepareImages:
        """Return the normalisation."""
        return PrepareImages(mean=(self.mean,), std=(self.std,))


class SplitMNIST(_MNISTFamily):
    """MNIST in tasks of equally many digits; by default 5 tasks of 2."""

    facts = replace(
        _MNISTFamily.facts,
        sizes=StreamSizes(tasks=5, classes=10, classes_per_task=2, train=60_000, test=10_000, input_shape=(1, 28, 28)),
    )

    @dataclass
    class Config(ClassSplit):
        """How the classes are divided."""

        n_tasks: int = 5  # any divisor of 10

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read and cut."""
        train, test = self.read(root)
        tasks = cut_by_class(train, test, self.config, seeds=seeds, class_names=self.names)
        return StreamData(tasks, self.prepare(), checksums=self.files)


class SplitFashionMNIST(SplitMNIST):
    """Fashion-MNIST in tasks of equally many kinds of clothing; by default 5 tasks of 2."""

    facts = replace(
        SplitMNIST.facts, citation="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST, arXiv 1708.07747", licence="MIT"
    )

    what = "Fashion-MNIST"
    files = FASHION_MNIST_FILES
    names = FASHION_MNIST_CLASSES
    mean = 0.2860
    std = 0.3530

    def download(self, folder: Path) -> None:
        """Fetch and unpack through torchvision."""
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(folder), download=True)


@dataclass(frozen=True)
class Permute:
    """Puts the pixels of [B, C, H, W] images in another order, the same for every image and channel."""

    order: Tensor  # [H * W] int64, on the device of the images

    def __call__(self, raw: Inputs) -> Tensor:
        """Return the images with their pixels permuted."""
        assert isinstance(raw, Tensor)
        return raw.flatten(2)[:, :, self.order].view_as(raw)

    def to(self, device: torch.device) -> "Permute":
        """Return the same permutation on `device`."""
        return Permute(self.order.to(device))


@lru_cache
def _rotation_grid(degrees: float, height: int, width: int, device: torch.device) -> Tensor:
    """Where each output pixel reads its value, [1, H, W, 2]; made once per task and device, not once per batch."""
    angle = math.radians(degrees)
    # The output pixel at p shows the input at R(-angle) p, in coordinates whose y axis points down.
    matrix = [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
    return F.affine_grid(torch.tensor([matrix], device=device), [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class Rotate:
    """Rotates [B, C, H, W] uint8 images about their centre, bilinearly; what comes in from outside is black."""

    degrees: float  # counter-clockwise

    def __call__(self, raw: Inputs) -> Tensor:
        """Return the images rotated, rounded to uint8; 0 degrees returns them as they are."""
        assert isinstance(raw, Tensor)
        if self.degrees % 360 == 0:
            return raw
        grid = _rotation_grid(self.degrees, raw.shape[2], raw.shape[3], raw.device).expand(len(raw), -1, -1, -1)
        return F.grid_sample(raw.float(), grid, align_corners=False).round().clamp(0, 255).to(torch.uint8)

    def to(self, device: torch.device) -> "Rotate":
        """Return itself: it holds no tensors."""
        return self


class PermutedMNIST(_MNISTFamily):
    """MNIST with a fixed random order of the pixels in each task (Goodfellow et al. 2014); all ten digits each time."""

    facts = replace(
        _MNISTFamily.facts,
        scenarios=(
            Scenario.DOMAIN_INCREMENTAL,
            Scenario.TASK_INCREMENTAL,
            Scenario.CLASS_INCREMENTAL,
            Scenario.TASK_AGNOSTIC,
        ),
        sizes=StreamSizes(
            tasks=10, classes=10, classes_per_task=10, train=600_000, test=100_000, input_shape=(1, 28, 28)
        ),
    )

    @dataclass
    class Config:
        """Which permutations."""

        n_tasks: int = 10  # permutations
        first_is_identity: bool = False  # whether the first task shows the digits as they are
        permutation_seed: int = 0  # the permutations themselves; not one of the run's seeds
        outputs: str = "per_task"  # where the task is told: per_task, or shared (one 10-way head: GPM, TRGP, CUBER)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read, and draw the permutations; all tasks share the images."""
        c = self.config
        _check_tasks(c.n_tasks)
        transforms: list[Permute | Rotate | None] = []
        for task in range(c.n_tasks):
            generator = generator_for(c.permutation_seed, "permutation", task)
            identity = task == 0 and c.first_is_identity
            transforms.append(None if identity else Permute(torch.randperm(28 * 28, generator=generator)))
        return _transformed(self, root, transforms, [f"permutation {task}" for task in range(c.n_tasks)])


class RotatedMNIST(_MNISTFamily):
    """MNIST rotated by another angle in each task (Lopez-Paz & Ranzato 2017); all ten digits each time.

    Few noisy samples at near angles (`samples`, `noise`, `max_degrees`) make tasks that can improve one another.
    """

    facts = PermutedMNIST.facts

    @dataclass
    class Config:
        """Which angles."""

        n_tasks: int = 10  # angles
        max_degrees: float = 180.0  # the angles lie between 0 and this
        angles: str = "even"  # even: 0 to max_degrees, the maximum left out; random: uniform, drawn with angle_seed
        angle_seed: int = 0  # angles, choice of samples and noise; not one of the run's seeds
        samples: int = 0  # training images of each task, none in two tasks; 0 = all images in every task
        noise: float = 0.0  # standard deviation of fixed Gaussian noise on the training images, in pixel values 0..255
        outputs: str = "per_task"  # where the task is told: per_task, or shared (one 10-way head)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read, and choose the angles; all tasks share the stored images, unless noise is added to them."""
        c = self.config
        _check_tasks(c.n_tasks)
        self._check()
        shares = {
            "even": torch.arange(c.n_tasks, dtype=torch.float64) / c.n_tasks,
            "random": torch.rand(c.n_tasks, generator=generator_for(c.angle_seed, "angles"), dtype=torch.float64),
        }
        if c.angles not in shares:
            raise UsageError(f"stream.angles={c.angles} is not known. Use even or random.")
        degrees = (c.max_degrees * shares[c.angles]).tolist()
        data = _transformed(
            self, root, [Rotate(angle) for angle in degrees], [f"{angle:g} degrees" for angle in degrees]
        )
        if not c.samples:
            return data
        order = torch.randperm(len(data.tasks[0].train), generator=generator_for(c.angle_seed, "samples"))
        if c.n_tasks * c.samples > len(order):
            raise UsageError(
                f"stream.samples={c.samples} is too many: {c.n_tasks} tasks share {len(order)} images. "
                f"Use {len(order) // c.n_tasks} or fewer."
            )
        parts = order[: c.n_tasks * c.samples].view(c.n_tasks, -1).sort(1).values
        tasks = [replace(task, train=task.train.select(part)) for task, part in zip(data.tasks, parts, strict=True)]
        if c.noise:
            tasks = [replace(task, train=self._noisy(task.train, number)) for number, task in enumerate(tasks)]
        return replace(data, tasks=tuple(tasks))

    def _noisy(self, samples: Samples, task: int) -> Samples:
        """Return the task's images with noise added once and for all, as float32 beyond 0..255 where it falls so."""
        images, targets = samples.take(torch.arange(len(samples)))
        assert isinstance(images, Tensor)
        noise = torch.randn(images.shape, generator=generator_for(self.config.angle_seed, "noise", task))
        return Samples(images + self.config.noise * noise, targets)

    def _check(self) -> None:
        """Refuse a configuration that has no meaning."""
        c = self.config
        if not math.isfinite(c.max_degrees):
            raise UsageError(f"stream.max_degrees={c.max_degrees} is not an angle. Use a finite number of degrees.")
        if c.samples < 0:
            raise UsageError(f"stream.samples={c.samples} is not a number of images. Use 0 (all) or more.")
        if not 0 <= c.noise < math.inf:
            raise UsageError(f"stream.noise={c.noise} is not a standard deviation. Use 0 or more pixel values.")
        if c.noise and not c.samples:
            raise UsageError("stream.noise is stored with the images of each task. Set stream.samples too, e.g. 1000.")


def _check_tasks(n_tasks: int) -> None:
    if n_tasks < 1:
        raise UsageError(f"stream.n_tasks={n_tasks} is too small. Use 1 or more.")


def _transformed(
    stream: _MNISTFamily, root: DataRoot, transforms: list[Permute | Rotate | None], names: list[str]
) -> StreamData:
    """Return one task per transform; the images are stored once and transformed a batch at a time."""
    outputs = stream.config.outputs
    if outputs not in ("per_task", "shared"):
        raise UsageError(f"stream.outputs={outputs} is not known. Use per_task or shared.")
    train, test = stream.read(root)
    tasks = tuple(
        TaskData(name, Samples(*train, transform=transform), Samples(*test, transform=transform), stream.names)
        for name, transform in zip(names, transforms, strict=True)
    )
    single_head = outputs == "shared"
    return StreamData(tasks, stream.prepare(), labels="shared", checksums=stream.files, single_head=single_head)
