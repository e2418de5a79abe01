"""A user's own table: `--stream table:FILE`, of numbers, of texts, or of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.own_data.cutting import Cut, Part, cut
from benchmarks.own_data.decoding import ImageOptions, image_preparation
from benchmarks.own_data.digests import SHORT, check_other, content_of, digests_of
from benchmarks.own_data.options import OwnData, plain_name
from benchmarks.own_data.table_files import SUFFIXES, Rows, read_table
from cl_suite import (
    DataError,
    DataRoot,
    PrepareTexts,
    PrepareVectors,
    Samples,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    UsageError,
    nearest,
)

FLOAT32 = 1.2e-7  # how far float32 is from a number, as a share of it, at most
DISTINCT = 0.01  # of a column's deviation: numbers that are closer may become one


class TableFile(Stream):
    """Your own table, .csv, .tsv, .parquet or .npz: columns of numbers, or one of texts, and one with the label."""

    facts = StreamFacts(source="the user's own", licence="the user's own", prerequisites="a file")
    place_is = "FILE"
    path: ClassVar[Path]
    what: ClassVar[str]

    @dataclass
    class Config(OwnData):
        """Which columns mean what, and how the rows are divided."""

        label: str = "label"  # the column (or array) of the class
        task: str | None = None  # the column of the task's name; None = tasks are made of classes
        split: str | None = None  # the column that says train or test
        features: list[str] | None = None  # columns that are learned from: numbers, or one of texts; None = all others
        test: str | None = None  # a file like it with the test set; None = by stream.split, else a share held out
        padding: int = 0  # training images of an array: random crop after zero-padding by so many pixels
        flip: bool = False  # training images of an array: half of them mirrored

    @classmethod
    def at(cls, place: str) -> tuple[str, type[TableFile]]:
        """Return the file's own name and its stream. Raise UsageError where it is no file of a table."""
        if not place:
            raise UsageError("table: needs a file. Write table:FILE, e.g. --stream table:iris.csv.")
        path = _table_path(place, f"table:{place}")
        name = plain_name(path.name)
        members = {
            "__module__": cls.__module__,
            "__doc__": f"A table of the user's own, {name}.",
            "path": path,
            "what": f"table:{name}",
        }
        return name, type(cls.__name__, (cls,), members)

    def content_digest(self, root: DataRoot) -> str:
        """Return 12 hex digits of the file, and of the test set's file."""
        return "-".join(content_of(each)[:SHORT] for each in self._digests(root))

    def recorded_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without the place of the test set, which the digest stands for."""
        return {**options, "test": None if options["test"] is None else "own"}

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Read the file once; return {file: checksum}."""
        return digests_of(self.path.parent, [self.path.name], root, what=self.what)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read, cut, and measure the normalisation on training rows alone."""
        c = self.config
        rows = read_table(self.path, c, what=self.what)
        self._check_augmentation(rows)
        held = _positions(rows, "test") or _positions(rows, "validation")
        train, test, test_is = _part(rows, _positions(rows, "train")), None, ""
        if held:
            test, test_is = _part(rows, held), f"rows of {c.split or 'split'}"
        if c.test is not None:
            if held:
                raise UsageError(f"stream.test has no effect: {self.what} has test rows. Leave one of them out.")
            check_other(*self._digests(root), what=self.what)
            theirs = read_table(self._test_path(), c, what=f"stream.test={c.test}", like=rows)
            if _words(theirs) != _words(rows):
                raise DataError(f"{self.what} has {_words(rows)}, its test set {_words(theirs)}. Make them alike.")
            test = _part(theirs, _positions(theirs, "test") or list(range(len(theirs.labels))))
            test_is = "a file of its own"
        done = cut(train, test, c, seeds=seeds, what=self.what, test_is=test_is)
        names = [self.what, "test set"]
        checksums = {name: f"sha256:{content_of(each)}" for name, each in zip(names, self._digests(root), strict=False)}
        return MAKERS[rows.kind](self, done, rows, checksums)

    def _check_augmentation(self, rows: Rows) -> None:
        """Refuse crops and mirror images of what is no image."""
        if rows.kind == "images":
            ImageOptions(padding=self.config.padding).check()
            return
        for option, usual in (("padding", 0), ("flip", False)):
            if getattr(self.config, option) != usual:
                raise UsageError(f"{self.what} has {rows.kind}, so that stream.{option} has no effect. Leave it out.")

    def _test_path(self) -> Path:
        return _table_path(self.config.test, f"stream.test={self.config.test}")

    def _digests(self, root: DataRoot) -> list[dict[str, str]]:
        paths = [self.path, *([self._test_path()] if self.config.test is not None else [])]
        return [digests_of(path.parent, [path.name], root, what=self.what) for path in paths]

    def texts(self, done: Cut, rows: Rows, checksums: Mapping[str, str]) -> StreamData:
        """Return a stream of texts."""
        return StreamData(done.tasks, PrepareTexts(), labels=done.labels, checksums=checksums, facts=done.facts)

    def images(self, done: Cut, rows: Rows, checksums: Mapping[str, str]) -> StreamData:
        """Return a stream of images."""
        prepare = image_preparation([task.train for task in done.tasks], self.config)
        return StreamData(done.tasks, prepare, labels=done.labels, checksums=checksums, facts=done.facts)

    def vectors(self, done: Cut, rows: Rows, checksums: Mapping[str, str]) -> StreamData:
        """Return a stream of numbers, standardised by mean and deviation of the training samples."""
        chosen = torch.cat([task.train.index for task in done.tasks if task.train.index is not None]).unique()
        training = rows.inputs[chosen]
        mean, std = training.mean(0), training.std(0, correction=0)
        coarse = ((training.abs().amax(0) * FLOAT32 > DISTINCT * std) & (std > 0)).nonzero().flatten().tolist()
        if coarse:
            where = f"column {rows.names[coarse[0]]!r}" if rows.names else f"number {coarse[0]} of x"
            raise DataError(
                f"{self.what}: {where} lies around {mean[coarse[0]]:.6g} and differs by {std[coarse[0]]:.2g}, which 32 "
                "bits do not hold. Subtract its mean."
            )
        prepare = PrepareVectors(tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1.0).tolist()))
        facts = done.facts | ({"columns": list(rows.names)} if rows.names else {})
        data = StreamData(done.tasks, prepare, labels=done.labels, checksums=checksums, facts=facts)
        return data.with_samples(_as_float32())


MAKERS = {"texts": TableFile.texts, "images": TableFile.images, "vectors": TableFile.vectors}


def _as_float32() -> Callable[[Samples], Samples]:
    """Return what puts float32 in the place of a storage; of one that several tasks share, once."""
    made: dict[int, torch.Tensor] = {}

    def change(samples: Samples) -> Samples:
        inputs = samples.inputs
        assert isinstance(inputs, torch.Tensor)
        if id(inputs) not in made:
            made[id(inputs)] = inputs.float()
        return replace(samples, inputs=made[id(inputs)])

    return change


def _table_path(place: str, what: str) -> Path:
    path = Path(place).expanduser()
    if path.suffix.casefold() not in SUFFIXES:
        kind = f"{path.suffix} is" if path.suffix else "a name without an ending is"
        raise UsageError(f"{what}: {kind} none of {', '.join(SUFFIXES)}. Write the table as one of them.")
    if not path.is_file():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, [name for name in beside if name.casefold().endswith(SUFFIXES)])
        raise DataError(f"{what}: there is no file {path}. {close if beside else 'Check the path.'}")
    return path


def _positions(rows: Rows, part: str) -> list[int]:
    if rows.parts is None:
        return list(range(len(rows.labels))) if part == "train" else []
    return [row for row, each in enumerate(rows.parts) if each == part]


def _part(rows: Rows, chosen: list[int]) -> Part:
    whole = Part(rows.inputs, torch.arange(len(rows.labels)), rows.labels, rows.tasks)
    return whole.select(torch.tensor(chosen, dtype=torch.long))


def _words(rows: Rows) -> str:
    return rows.kind if rows.kind == "texts" else f"{rows.kind} of {' x '.join(map(str, rows.inputs.shape[1:]))}"
