"""Images become bytes once: decoded with Pillow, kept below the data root, and read from there; large ones mapped.

Sizes and modes are as the files have them. They are changed where that is asked for, and nowhere else.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.own_data.digests import FOLDER
from cl_suite import DataError, DataRoot, PrepareImages, Samples, UsageError, atomic_file, check_choices

FORMAT = 1  # raise it when the bytes made of the same files change
IN_MEMORY = 1 << 30  # bytes of decoded images up to which storage=auto holds them in memory
CHUNK = 64 << 20  # bytes decoded at a time
THREADS = 4
MODES = {"rgb": "RGB", "grey": "L"}


@dataclass
class ImageOptions:
    """What is done to images, and where they are held."""

    size: int | None = None  # pixels: each image is cropped to a square in its middle and resized; None = as they are
    mode: str | None = None  # rgb or grey: images are converted; None = as they are
    padding: int = 0  # training images: random crop after zero-padding by so many pixels
    flip: bool = False  # training images: half of them mirrored
    storage: str = "auto"  # memory, map (read from disk as needed), auto: memory up to 1 GiB; changes no result

    def check(self) -> None:
        """Raise UsageError for a value that has no meaning."""
        if self.size is not None and self.size < 1:
            raise UsageError(f"stream.size={self.size} is not a number of pixels. Use 1 or more, e.g. 32.")
        if self.padding < 0:
            raise UsageError(f"stream.padding={self.padding} is not a number of pixels. Use 0 or more, e.g. 4.")
        if self.mode is not None:
            check_choices(self, {"mode": tuple(MODES)}, group="stream")
        check_choices(self, {"storage": ("auto", "memory", "map")}, group="stream")


@dataclass(frozen=True)
class Encoded:
    """Images as files have them. names: of each, for messages; read: number -> a path or the file's bytes."""

    names: Sequence[str]
    read: Callable[[int], Path | bytes]


@dataclass(frozen=True)
class Stored:
    """Decoded images [N, C, H, W] uint8, and whether they are a memory map."""

    images: Tensor
    on_disk: bool


def stored_images(encoded: Encoded, options: Any, *, content: str, root: DataRoot, what: str) -> Stored:
    """Decode images, or read what was kept of the same ones; `options` has what `ImageOptions` has.

    content: digits that tell these images from others
    Raise DataError, naming the first odd file, for one that cannot be read, or of another size or mode than the first.
    """
    first = _decoded(encoded, 0, options, None, what)
    shape = (len(encoded.names), *first.shape)
    large = options.storage == "map" or (options.storage == "auto" and math.prod(shape) > IN_MEMORY)
    key = hashlib.sha256(f"{FORMAT} {content} {options.size} {options.mode} {shape}".encode()).hexdigest()[:32]
    kept = root.path / FOLDER / f"{key}.npy"
    if not _is_whole(kept, shape):
        pieces = _pieces(encoded, options, first, what)
        try:
            with atomic_file(kept, flag="--data-root") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
                )
                for piece in pieces:
                    file.write(piece.data)
        except DataError:
            raise
        except UsageError:
            if large:
                raise
            everything = np.concatenate(list(_pieces(encoded, options, first, what)))
            return Stored(torch.from_numpy(everything), on_disk=False)
    # Copy-on-write, so that the pages are the file's own and nothing can change it.
    return Stored(torch.from_numpy(np.load(kept, mmap_mode="c" if large else None)), on_disk=large)


def _is_whole(kept: Path, shape: tuple[int, ...]) -> bool:
    try:
        found = np.load(kept, mmap_mode="r")
    except (OSError, ValueError):
        return False
    return found.shape == shape and found.dtype == np.uint8


def _pieces(encoded: Encoded, options: Any, first: np.ndarray[Any, Any], what: str) -> Iterator[np.ndarray[Any, Any]]:
    """Yield all images in order, [K, C, H, W], as many at a time as CHUNK holds."""
    count = max(1, CHUNK // max(1, first.nbytes))
    with ThreadPoolExecutor(THREADS) as decoders:
        for start in range(0, len(encoded.names), count):
            numbers = range(start, min(start + count, len(encoded.names)))
            yield np.stack(list(decoders.map(lambda k: _decoded(encoded, k, options, first, what), numbers)))


def _decoded(
    encoded: Encoded, number: int, options: Any, first: np.ndarray[Any, Any] | None, what: str
) -> np.ndarray[Any, Any]:
    """Return one image [C, H, W] uint8, upright; like `first` where that is given."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    name, source = encoded.names[number], encoded.read(number)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as problem:
        reason = (
            "not an image"
            if isinstance(problem, UnidentifiedImageError)
            else str(problem).partition("\n")[0].rstrip(".") or type(problem).__name__
        )
        raise DataError(f"{what}: {name} cannot be read ({reason}). Mend or remove it.") from problem
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{what}: {name} has more than 8 bits a pixel (mode {image.mode}). Convert it to 8 bits.")
    if options.mode is not None:
        image = image.convert(MODES[options.mode])
    elif image.mode not in MODES.values():
        raise DataError(
            f"{what}: {name} has mode {image.mode}, neither RGB nor grey. Convert it when reading: stream.mode=rgb or "
            "stream.mode=grey."
        )
    if options.size is not None:
        image = ImageOps.fit(image, (options.size, options.size), method=Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    pixels = np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    if first is not None and pixels.shape != first.shape:
        raise _odd(encoded, number, pixels, first, what)
    return pixels


def _odd(
    encoded: Encoded, number: int, pixels: np.ndarray[Any, Any], first: np.ndarray[Any, Any], what: str
) -> DataError:
    def words(image: np.ndarray[Any, Any]) -> str:
        return f"{image.shape[2]} x {image.shape[1]} {'RGB' if len(image) == 3 else 'grey'}"

    asked = ["stream.mode=rgb"] if len(pixels) != len(first) else []
    asked += ["stream.size=32"] if pixels.shape[1:] != first.shape[1:] else []
    return DataError(
        f"{what}: {encoded.names[number]} is {words(pixels)}, but {encoded.names[0]} is {words(first)}. Make them "
        f"alike, or ask for it: {' '.join(asked)}."
    )


def image_preparation(training: Sequence[Samples], options: Any) -> PrepareImages:
    """Return the normalisation by mean and deviation of all training pixels, and the augmentation asked for.

    Pixels are counted by value, in whole numbers: the same result whichever way images are held.
    """
    counts: Tensor | None = None  # [C, 256]
    for samples in training:
        for raw, _ in samples.chunks(256):
            assert isinstance(raw, Tensor)
            counts = torch.zeros(raw.shape[1], 256, dtype=torch.long) if counts is None else counts
            for channel in range(raw.shape[1]):
                counts[channel] += torch.bincount(raw[:, channel].flatten(), minlength=256)
    assert counts is not None
    share = counts.double() / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    return PrepareImages(
        mean=tuple(mean.tolist()),
        std=tuple(variance.sqrt().clamp(min=1e-3).tolist()),
        padding=options.padding,
        flip=options.flip,
    )
