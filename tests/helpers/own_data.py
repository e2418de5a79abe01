"""Small folders of images and tables, as a user has them."""

import numpy as np
from PIL import Image

from cl_suite import DataRoot, Seeds
from cl_suite.core.registry import STREAM, choose

FLOWERS = ("daisy", "iris", "rose", "tulip")


def image(seed, *, size=(8, 8), mode="RGB", brighter=0):
    """Return noise of (width, height) pixels."""
    pixels = np.random.default_rng(seed).integers(0, 120, (size[1], size[0], 3)) + brighter
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def write_classes(folder, classes=FLOWERS, *, count=5, seed=0, mode="RGB"):
    """Write <folder>/<class>/<n>.png; classes differ in brightness. Return the folder."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            look = image((seed, number, k), brighter=30 * number, mode=mode)
            look.save(folder / name / f"{k}.png")
    return folder


def own(spec, root, seeds=None, **options):
    """Return the loaded stream `prefix:place`."""
    cls = choose(STREAM, spec).cls
    return cls(cls.Config(**options)).load(DataRoot(root), seeds or Seeds(0, 0, 0))


def digest(spec, root, **options):
    """Return what tells the stream's data from other data."""
    cls = choose(STREAM, spec).cls
    return cls(cls.Config(**options)).content_digest(DataRoot(root))


def contents(samples):
    """Return the samples as a set of bytes."""
    return {raw.numpy().tobytes() for batch, _ in samples.chunks(1000) for raw in batch}
