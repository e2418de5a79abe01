"""Tables and arrays in files, read into columns: CSV, TSV, Parquet, and NumPy's .npz."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_suite import DataError, encode_texts, nearest

MISSING = ("", "na", "n/a", "nan", "null", "none")  # cells of a column of numbers that hold none
TRAIN, TEST, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")
MOST = 60  # characters of names that a message repeats
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """A table, read.

    inputs: [N, D] float64 numbers, [N, C, H, W] uint8 images, or texts as bytes [N, L] uint8
    kind:   "vectors", "images" or "texts"
    names:  of the columns the inputs are made of; empty for arrays
    labels, tasks, parts: [N] as text; parts are "train", "test" or "validation"; None = there is no such column
    """

    inputs: Tensor
    kind: str
    names: tuple[str, ...]
    labels: list[str]
    tasks: list[str] | None
    parts: list[str] | None


def read_table(path: Path, options: Any, *, what: str, like: Rows | None = None) -> Rows:
    """Read a table. `options` has label, task, split and features; `like`: the training table of a test table.

    Raise DataError, in one line, where the file cannot be read, a column is absent, or a cell holds no number.
    """
    if path.suffix.casefold() == ".npz":
        return _from_arrays(path, options, what)
    frame = FRAMES[path.suffix.casefold()](path, what)
    columns = [str(name) for name in frame.columns]
    frame.columns = columns
    for option in ("label", "task", "split"):
        name = getattr(options, option)
        if name is not None and name not in columns:
            raise DataError(
                f"{what} has no column {name!r}. Say which it is with stream.{option}=COLUMN. "
                f"Its columns: {_few(columns)}."
            )
    if not len(frame):
        raise DataError(f"{what} has no rows. Add some.")
    reserved = [name for name in (options.label, options.task, options.split) if name is not None]
    chosen = list(like.names) if like else _features(options.features, columns, reserved, what)
    absent = [name for name in chosen if name not in columns]
    if absent:
        raise DataError(f"{what} has no column {absent[0]!r}. {nearest(absent[0], columns)}")
    numbers = {name: _numeric(frame[name]) for name in chosen}
    textual = [name for name, values in numbers.items() if values is None]
    if len(textual) == 1 and len(chosen) == 1:
        inputs, kind = encode_texts([_cell(value) for value in frame[chosen[0]]]), "texts"
    elif textual:
        value = next((text for text in map(_cell, frame[textual[0]]) if not _is_number(text)), "")
        raise DataError(
            f"{what}: column {textual[0]!r} is not of numbers ({value[:30]!r}). Make numbers of it, or choose columns: "
            f"stream.features=[{','.join(name for name in chosen if name not in textual) or textual[0]}]."
        )
    else:
        table = np.stack([values for values in numbers.values() if values is not None], axis=1)
        _check_finite(table, chosen, what)
        inputs, kind = torch.from_numpy(table), "vectors"
    return Rows(
        inputs,
        kind,
        tuple(chosen),
        _texts(frame[options.label], options.label, what),
        None if options.task is None else _texts(frame[options.task], options.task, what),
        None if options.split is None else _parts(_texts(frame[options.split], options.split, what), what),
    )


def _csv(path: Path, what: str, separator: str = ",") -> Any:
    import pandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header lose cells
            return pandas.read_csv(
                path, sep=separator, keep_default_na=False, encoding="utf-8-sig", low_memory=False, index_col=False
            )
    except (pandas.errors.ParserWarning, OSError, ValueError) as problem:  # ParserError is a ValueError
        reason = str(problem).partition("\n")[0].rstrip(".")
        raise DataError(
            f"{what} cannot be read ({reason}). Write it as UTF-8 with a line of column names."
        ) from problem


def _parquet(path: Path, what: str) -> Any:
    import pandas

    try:
        import pyarrow  # noqa: F401
    except ImportError as problem:
        raise DataError(
            f"{what}: Parquet files need pyarrow, which is not installed. Install it: pip install 'cl-suite[parquet]'."
        ) from problem
    try:
        return pandas.read_parquet(path)
    except Exception as problem:  # pyarrow's own kinds of errors
        reason = str(problem).partition("\n")[0].rstrip(".")
        raise DataError(f"{what} cannot be read ({reason}). Write it anew.") from problem


FRAMES: Mapping[str, Callable[[Path, str], Any]] = {
    ".csv": _csv,
    ".tsv": lambda path, what: _csv(path, what, "\t"),
    ".parquet": _parquet,
}
SUFFIXES = (*FRAMES, ".npz")


def _features(asked: Sequence[str] | None, columns: list[str], reserved: list[str], what: str) -> list[str]:
    chosen = [name for name in columns if name not in reserved] if asked is None else list(map(str, asked))
    if asked is None:
        _check_meant(chosen, columns, what)
    clash = [name for name in chosen if name in reserved]
    if clash:
        raise DataError(f"{what}: stream.features names {clash[0]!r}, which is the label, task or split. Leave it out.")
    if not chosen:
        raise DataError(f"{what} has no column but {_few(columns)}. Add columns of numbers, or one of texts.")
    return chosen


def _check_meant(chosen: Sequence[str], columns: list[str], what: str) -> None:
    """Raise DataError for a column that nobody would learn from on purpose: row numbers, a task, a part."""
    others = ",".join(name for name in chosen if name not in ("task", "split") and not _is_nameless(name))
    choose = f"choose columns: stream.features=[{others if len(others) < MOST else '...'}]"
    for name in chosen:
        if _is_nameless(name):
            raise DataError(
                f"{what}: column {columns.index(name) + 1} has no name; row numbers, perhaps. "
                f"Give it a name, or {choose}."
            )
        if name in ("task", "split"):
            raise DataError(
                f"{what} has a column {name!r}, which would be learned from. Say what it is with stream.{name}={name}, "
                f"or {choose}."
            )


def _is_nameless(name: str) -> bool:
    return not name.strip() or name.startswith("Unnamed: ")  # as pandas calls it


def _numeric(column: Any) -> Array | None:
    """Return a column as float64, NaN where a cell is empty; None where it is not of numbers."""
    import pandas

    if pandas.api.types.is_bool_dtype(column) or pandas.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    cells = [_cell(value) for value in column]
    if any(not _is_number(cell) and cell.strip().casefold() not in MISSING for cell in cells):
        return None
    if not any(_is_number(cell) for cell in cells):
        return None
    return np.array([float(cell) if _is_number(cell) else np.nan for cell in cells])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cell(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _check_finite(table: Array, names: Sequence[str], what: str) -> None:
    rows, columns = np.nonzero(~np.isfinite(table))
    if len(rows):
        where = f"column {names[columns[0]]!r}" if names else f"number {columns[0]}"
        value = "no number" if np.isnan(table[rows[0], columns[0]]) else "infinity"
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise DataError(
            f"{what}: row {rows[0] + 1}, {where}, holds {value}{more}. Fill it in, or leave the row or the column out."
        )


def _texts(column: Any, name: str, what: str) -> list[str]:
    cells = [_cell(value).strip() for value in column]
    empty = next((row for row, cell in enumerate(cells) if not cell), None)
    if empty is not None:
        raise DataError(f"{what}: row {empty + 1} has nothing in {name!r}. Fill it in, or leave the row out.")
    return cells


def _parts(values: Sequence[str], what: str) -> list[str]:
    known = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(TEST, "test"), **dict.fromkeys(VALIDATION, "validation")}
    for row, value in enumerate(values):
        if value.casefold() not in known:
            raise DataError(f"{what}: row {row + 1} is of the part {value!r}. Write train or test.")
    return [known[value.casefold()] for value in values]


def _from_arrays(path: Path, options: Any, what: str) -> Rows:
    """Read x, y and, if they are there, task and split; or x_train, y_train, x_test, y_test."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as problem:  # a damaged archive has many ways to say so
        reason = str(problem).partition("\n")[0].rstrip(".")
        raise DataError(f"{what} cannot be read ({reason}). Write it with numpy.savez, without objects.") from problem
    names = _few(sorted(arrays))
    if options.features is not None:
        raise DataError(f"{what}: stream.features chooses columns of a table, and x is one array. Leave it out.")
    if "x" not in arrays and "x_train" in arrays:
        if "y_train" not in arrays:
            raise DataError(f"{what} has x_train, but no y_train. It has {names}.")
        sides = [side for side in ("train", "test") if f"x_{side}" in arrays and f"y_{side}" in arrays]
        try:
            arrays |= {key: np.concatenate([arrays[f"{key}_{side}"] for side in sides]) for key in ("x", "y")}
        except ValueError as problem:
            raise DataError(
                f"{what}: x_train and x_test do not fit together ({problem}). Make them alike."
            ) from problem
        arrays["split"] = np.concatenate([np.full(len(arrays[f"y_{side}"]), side) for side in sides])
    label = options.label if options.label in arrays else "y"
    if "x" not in arrays or label not in arrays:
        raise DataError(f"{what} has {names}. It needs x and y, or x_train, y_train, x_test and y_test.")
    x = arrays["x"]
    columns = {key: arrays[name] for key, name in _named(options, label, arrays).items()}
    for key, values in columns.items():
        columns[key] = values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
        if columns[key].ndim != 1 or len(columns[key]) != len(x):
            raise DataError(
                f"{what}: {key} has the shape {_shape(values)}, and x {_shape(x)}. Give one {key} for each of x."
            )
    if not len(x):
        raise DataError(f"{what} has no samples. Add some.")
    inputs, kind = _array_inputs(x, what)
    cells = {key: [str(value) for value in values.tolist()] for key, values in columns.items()}
    parts = _parts(cells["split"], what) if "split" in cells else None
    return Rows(inputs, kind, (), cells["label"], cells.get("task"), parts)


def _named(options: Any, label: str, arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return {label, task, split: the array that holds it}, as far as there is one."""
    named = {"label": label}
    for key in ("task", "split"):
        name = getattr(options, key) or key
        if name in arrays:
            named[key] = name
        elif getattr(options, key) is not None:
            raise DataError(f"there is no array {name!r} for stream.{key}. There are {_few(sorted(arrays))}.")
    return named


def _array_inputs(x: Array, what: str) -> tuple[Tensor, str]:
    """Return (inputs, kind): [N, D] is vectors; bytes [N, H, W], [N, H, W, C] or [N, C, H, W] are images."""
    if x.dtype.kind not in "uifb":
        raise DataError(f"{what}: x is of {x.dtype}, not of numbers. Give numbers.")
    if x.ndim == 2:
        table = x.astype(np.float64)
        _check_finite(table, (), what)
        return torch.from_numpy(table), "vectors"
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise DataError(
            f"{what}: x has the shape {_shape(x)}. Give [N, D] for numbers, or [N, H, W], [N, H, W, 1 or 3] for images."
        )
    if x.dtype != np.uint8:
        scaled = x.astype(np.float64) * (255 if x.dtype.kind == "f" and x.max() <= 1 else 1)
        if (
            not np.isfinite(scaled).all()
            or scaled.min() < 0
            or scaled.max() > 255
            or np.abs(scaled - scaled.round()).max() > 1e-3
        ):
            raise DataError(
                f"{what}: x holds images of {x.dtype} that are no bytes. Give uint8 of 0 to 255, or floats of n/255."
            )
        x = scaled.round().astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(x)), "images"


def _shape(array: Array) -> str:
    return f"[{', '.join(map(str, array.shape))}]"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
