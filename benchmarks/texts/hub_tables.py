"""A data set of the Hugging Face hub, written once as the CSV tables that streams read."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_suite import DataError

PARTS = ("train", "test")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def hub_is_at_hand() -> bool:
    """Return whether the package `datasets` is installed and not told to stay offline."""
    offline = any(os.environ.get(name, "0").upper() in ("1", "TRUE", "ON", "YES") for name in OFFLINE)
    return not offline and importlib.util.find_spec("datasets") is not None


def fetch_hub_tables(name: str, columns: Sequence[str], folder: Path) -> None:
    """Download a data set and write <folder>/train.csv and test.csv, in its order: both, or neither.

    columns: of the data set, in the order of the table's cells. The first is the label, a number from 0, written from
             1, as the public CSV tables have it

    Raise DataError where it cannot be had, lacks a column, or cannot be written.
    """
    temporary = {part: folder / f".{part}.csv.{os.getpid()}.tmp" for part in PARTS}
    try:
        for part, path in temporary.items():
            _write(path, _rows(_download(name, part), columns, what=f"{name}, {part}"))
        for part, path in temporary.items():
            path.replace(folder / f"{part}.csv")
    except OSError as problem:
        raise DataError(
            f"cannot write to {folder} ({problem.strerror or problem}). Name another data root with --data-root."
        ) from problem
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _download(name: str, part: str) -> Iterable[Mapping[str, Any]]:
    import datasets

    try:
        loaded: Iterable[Mapping[str, Any]] = datasets.load_dataset(name, split=part)
    except Exception as problem:  # the hub's, the network's, the disk's: all mean that it cannot be had
        reason = " ".join(str(problem).split())[:160] or type(problem).__name__
        raise DataError(
            f"{name} could not be fetched from the Hugging Face hub ({reason}). "
            "Check the network, or put the files there."
        ) from problem
    return loaded


def _rows(loaded: Iterable[Mapping[str, Any]], columns: Sequence[str], *, what: str) -> Iterable[list[str]]:
    for number, row in enumerate(loaded):
        missing = [name for name in columns if name not in row]
        if missing:
            raise DataError(f"{what}, row {number}: no column {missing[0]}, but {', '.join(row)}. Another data set?")
        label, *texts = (row[name] for name in columns)
        # As in the public tables: a cell is one line, and a new line in it is \n in two letters.
        yield [str(int(label) + 1), *(str(text or "").replace("\n", "\\n") for text in texts)]


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
