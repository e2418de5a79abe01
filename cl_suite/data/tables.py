"""Labelled texts in files: tables that are checked line by line, and tasks that are made of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cl_suite.core.errors import DataError
from cl_suite.core.samples import Samples
from cl_suite.core.stream import TaskData
from cl_suite.data.texts import encode_texts

FIELD_BYTES = 1 << 24  # the longest cell a table may have; the csv module's own limit is 128 KiB

Labelled = list[tuple[str, str]]  # (text, its label)


class LabelledTexts(NamedTuple):
    """A data set of texts, read.

    groups: the labels of each group, in the data set's own order (CLINC150: domain -> intents)
    outside: texts of none of the labels, for tests
    """

    train: Labelled
    test: Labelled
    groups: Mapping[str, Sequence[str]]
    outside: Sequence[str] = ()


def text_tasks(
    texts: LabelledTexts, groups: Mapping[str, Sequence[str]] | None = None, *, what: str
) -> tuple[TaskData, ...]:
    """Return one task for each group {name: its labels}, texts as bytes in a storage that all tasks share.

    groups: `texts.groups` if None; texts of labels that are in no group are left out
    what:   the name of the data set, for messages

    Raise DataError where a label is not among the training or the test texts.
    """
    check_labels(texts.train, texts.test, what=what)
    train, test = (encode_texts([text for text, _ in part]) for part in (texts.train, texts.test))

    def view(storage: Tensor, part: Labelled, labels: Sequence[str]) -> Samples:
        local = {label: number for number, label in enumerate(labels)}
        rows = [row for row, (_, label) in enumerate(part) if label in local]
        targets = [local[part[row][1]] for row in rows]
        present = set(targets)
        absent = [label for number, label in enumerate(labels) if number not in present]
        if absent:
            raise DataError(f"{what}: there is no text of {absent[0]}. The files are incomplete: fetch them anew.")
        return Samples(storage, torch.tensor(targets), torch.tensor(rows))

    return tuple(
        TaskData(name, view(train, texts.train, labels), view(test, texts.test, labels), tuple(labels))
        for name, labels in (texts.groups if groups is None else groups).items()
    )


def fetch_files(folder: Path, addresses: Mapping[str, str]) -> None:
    """Download what is absent in `folder`; `addresses`: {relative name: where it is on the network}."""
    for name, address in addresses.items():
        place = folder / name
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(place), progress=False)


def read_rows(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, cells) of a UTF-8 table; a cell in double quotes may hold delimiters and newlines.

    columns: names of the cells each row must have, for messages

    Raise DataError, naming the file and the line, for another number of cells, or bytes that are not UTF-8.
    """
    csv.field_size_limit(FIELD_BYTES)
    with path.open("rb") as file:
        rows = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)  # or a file cut in a cell would pass
        while True:
            first = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as problem:
                raise DataError(f"{path}, line {first}: not a row of a table ({problem}). Fetch it anew.") from problem
            if not row:
                continue
            if len(row) != len(columns):
                raise DataError(
                    f"{path}, line {first}: {len(row)} columns, not the {len(columns)} of "
                    f"{delimiter.join(columns)}. Mend the line, or fetch the file anew."
                )
            yield first, row


def _lines(path: Path, file: Iterator[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            likely = "utf-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
            raise DataError(
                f"{path}, line {number}: not UTF-8 (byte 0x{line[problem.start]:02x}). "
                f"Convert the file, e.g. iconv -f {likely} -t utf-8."
            ) from problem


def check_labels(train: Labelled, test: Labelled, *, what: str) -> None:
    """Raise DataError, naming the data set and the labels, where test texts have labels no training text has."""
    missing = sorted({label for _, label in test} - {label for _, label in train})
    if missing:
        raise DataError(
            f"{what}: no training text has the label {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}, "
            "but test texts do. The training file is incomplete: fetch it anew."
        )
