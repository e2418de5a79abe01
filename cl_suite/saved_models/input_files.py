"""Samples from files, as a saved model reads them: images, tables of numbers, texts, arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_suite.core.errors import DataError, UsageError
from cl_suite.saved_models.raw_inputs import StoredKind

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
TABLES = {".csv": ",", ".tsv": "\t"}
MODES = {1: "L", 3: "RGB"}  # Pillow's word for so many channels


@dataclass(frozen=True)
class ReadInputs:
    """Samples and where they come from.

    inputs: as `SavedPredictor` takes them; names: a file or a row of each; kind: "file" or "row"
    """

    inputs: Any
    names: list[str]
    kind: str


def read_inputs(
    path: Path,
    reads: StoredKind,
    *,
    columns: Sequence[str] | None = None,
    learned: Sequence[str] | None = None,
    resize: bool = False,
) -> ReadInputs:
    """Return the samples of a folder of images, an image, a table, a file of texts, or `.npz`.

    reads:   what the model reads
    columns: of a table: the one with the text, or those with the numbers, in order; None = there are no others
    learned: the columns of the table that the model learned from; a table that names its columns must have them
    resize:  make images of another size or mode fit, as `images:FOLDER` does with stream.size and stream.mode

    Raise DataError for a file that cannot be read, UsageError for samples that are not what the model reads.
    """
    if path.is_dir() or path.suffix.lower() in IMAGES:
        read = _images(path, reads, resize=resize)
    elif path.suffix.lower() == ".npz":
        read = _arrays(path)
    elif reads.texts:
        read = _texts(path, columns, learned)
    elif path.suffix.lower() in TABLES:
        read = _numbers(path, reads, columns, learned)
    else:
        raise UsageError(
            f"{path.name} is no file of samples. Give a folder of images, an image, .csv, .npz, or for texts .txt."
        )
    if not read.names:
        raise DataError(f"{path} has no samples. Give a file that has some.")
    return read


def _images(path: Path, reads: StoredKind, *, resize: bool) -> ReadInputs:
    if not isinstance(reads.shape, tuple) or len(reads.shape) != 3 or reads.dtype != "uint8":
        what = "texts" if reads.texts else f"samples of shape {reads.shape}"
        raise UsageError(f"{path} holds images, and the model reads {what}. Give those.")
    channels, height, width = reads.shape
    if channels not in MODES:
        raise UsageError(f"the model reads images of {channels} channels, which no image file has. Give them as .npz.")
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in IMAGES and each.is_file())
        if not files:
            raise DataError(f"{path} has no images ({', '.join(IMAGES[:4])}, ...). Name a folder that has some.")
        names = [each.relative_to(path).as_posix() for each in files]
    else:
        files, names = [path], [path.name]
    pixels = [_pixels(file, mode=MODES[channels], size=(width, height), resize=resize) for file in files]
    return ReadInputs(torch.from_numpy(np.stack(pixels)), names, "file")


def _pixels(file: Path, *, mode: str, size: tuple[int, int], resize: bool) -> np.ndarray:
    """Return an image as [C, H, W] uint8. size: (width, height)"""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)  # upright, as its camera says
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise DataError(f"{file} cannot be read as an image ({problem}). Leave it out, or save it anew.") from problem
    if image.mode.startswith(("I", "F")):
        raise UsageError(f"{file} has more than 8 bits a pixel (mode {image.mode}). Convert it to 8 bits.")
    if (image.mode, image.size) != (mode, size):
        if not resize:
            raise UsageError(
                f"{file} is {image.size[0]}x{image.size[1]} in mode {image.mode}, and the model reads "
                f"{size[0]}x{size[1]} in mode {mode}. Write --resize to make such images fit."
            )
        image = ImageOps.fit(image.convert(mode), size, method=Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _arrays(path: Path) -> ReadInputs:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            name = "inputs" if "inputs" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise UsageError(f"{path} has {', '.join(names) or 'nothing'}. Call the array of samples inputs.")
            array = file[name]
    except (OSError, ValueError, EOFError, KeyError) as problem:
        raise DataError(f"{path} cannot be read as .npz ({problem}). Save it anew with numpy.savez.") from problem
    except Exception as problem:  # zipfile has errors of its own
        if isinstance(problem, UsageError):
            raise
        raise DataError(f"{path} cannot be read as .npz ({problem}). Save it anew with numpy.savez.") from problem
    if array.ndim == 0:
        raise DataError(f"{path} has no samples: {name} is a single number. Give [B, ...].")
    return ReadInputs([str(each) for each in array] if array.dtype.kind in "US" else array, _rows(len(array)), "row")


def _texts(path: Path, columns: Sequence[str] | None, learned: Sequence[str] | None) -> ReadInputs:
    if path.suffix.lower() not in TABLES:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as problem:
            raise DataError(f"{path} is not UTF-8 (byte {problem.start}). Convert it.") from problem
        except OSError as problem:
            raise DataError(f"{path} cannot be read ({problem.strerror or problem}).") from problem
        return ReadInputs(lines, _rows(len(lines)), "row")
    table = _table(path, header=0)
    if columns is None:
        known = [name for name in learned or () if name in table]
        columns = known or (["text"] if "text" in table else list(table))
    if len(columns) != 1:
        raise UsageError(f"which column of {path.name} is the text? Name one with --columns: {', '.join(table)}.")
    _check_columns(table, columns, path)
    return ReadInputs([str(each) for each in table[columns[0]].fillna("")], _rows(len(table)), "row")


def _numbers(path: Path, reads: StoredKind, columns: Sequence[str] | None, learned: Sequence[str] | None) -> ReadInputs:
    if not isinstance(reads.shape, tuple) or len(reads.shape) != 1:
        raise UsageError(f"{path.name} is a table, and the model reads samples of shape {reads.shape}. Give .npz.")
    table = _table(path, header=0)
    if columns is None and _all_numbers(table.columns):  # the first line is a sample, too
        table = _table(path, header=None)
    elif columns is None and learned:  # by name, wherever they stand
        columns = learned
        lacking = [name for name in learned if name not in table]
        if lacking:
            raise UsageError(
                f"{path.name} has no column {lacking[0]!r}, which the model learned from. "
                f"Name others in its place with --columns, in this order: {', '.join(learned[:8])}"
                f"{', ...' if len(learned) > 8 else ''}."
            )
    if columns is not None:
        _check_columns(table, columns, path)
        table = table[list(columns)]
    if table.shape[1] != reads.shape[0]:
        there = ", ".join(map(str, table.columns[:8])) + (", ..." if table.shape[1] > 8 else "")
        raise UsageError(
            f"{path.name} has {table.shape[1]} columns, and the model reads {reads.shape[0]} numbers. "
            f"Name those with --columns: {there}."
        )
    for column in table:
        if not np.issubdtype(table[column].dtype, np.number) or table[column].isna().any():
            bad = table[column][_not_numbers(table[column])]
            place = f" (row {bad.index[0]}: {bad.iloc[0]})" if len(bad) else ""
            raise DataError(f"{path.name}: the column {column} is not all numbers{place}. Mend it, or use --columns.")
    return ReadInputs(table.to_numpy(dtype=np.float32), _rows(len(table)), "row")


def _table(path: Path, *, header: int | None) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path, sep=TABLES[path.suffix.lower()], header=header)
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
        reason = str(problem).partition("\n")[0]
        raise DataError(f"{path} cannot be read as a table ({reason}). Save it as CSV in UTF-8.") from problem


def _check_columns(table: Any, columns: Sequence[str], path: Path) -> None:
    for column in columns:
        if column not in table:
            raise UsageError(f"{path.name} has no column {column!r}. It has {', '.join(map(str, table.columns))}.")


def _all_numbers(names: Any) -> bool:
    try:
        [float(name) for name in names]
    except ValueError:
        return False
    return True


def _not_numbers(column: Any) -> Any:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").isna()


def _rows(count: int) -> list[str]:
    return [str(number) for number in range(count)]
