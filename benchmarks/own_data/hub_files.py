"""A data set of the Hugging Face hub, fetched once and kept below the data root as it was: samples, labels, facts.

What is kept: samples.bin, all encoded images or UTF-8 texts in a row; samples.npz, where each begins, its label, task
and part; facts.json, last, so that a data set without it is not there. Later runs need neither network nor library.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl_suite import DataError, DataRoot, UsageError, atomic_file, nearest

FOLDER = Path("hub")  # below the data root
INSTALL = "pip install 'cl-suite[hub]' (or: uv pip install 'cl-suite[hub]')"
TEST_SPLITS = ("test", "validation", "valid", "val")
SAMPLES, INDEX, FACTS = "samples.bin", "samples.npz", "facts.json"


@dataclass(frozen=True)
class HubRequest:
    """Which data set, and which of its columns and splits; None = by what the data set says of itself."""

    name: str
    subset: str | None
    revision: str | None
    input: str | None
    label: str | None
    task: str | None
    train_split: str
    test_split: str | None

    @property
    def key(self) -> str:
        """12 hex digits for the folder it is kept in."""
        return hashlib.sha256(json.dumps(self.__dict__, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Kept:
    """A data set as it lies below the data root. facts: kind, classes, tasks, digest, columns, revision."""

    folder: Path
    facts: Mapping[str, Any]

    def index(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return ends, labels, tasks and is_test, [N] each: numbers of names in `facts`, and where a sample ends."""
        with np.load(self.folder / INDEX, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def samples(self) -> np.ndarray[Any, Any]:
        """Return all bytes in a row, as a memory map."""
        return np.memmap(self.folder / SAMPLES, dtype=np.uint8, mode="r")


def kept_data_set(request: HubRequest, root: DataRoot) -> Kept:
    """Return the data set, fetched now if it is not kept. Raise DataError or UsageError if it cannot be had."""
    folder = root.path / FOLDER / request.name.replace("/", "--") / request.key
    facts = _facts(folder)
    if facts is None:
        what = f"hub:{request.name}"
        if root.offline:
            raise DataError(
                f"{what} is not kept in {root.path} (set by --data-root or CL_SUITE_DATA), and --offline forbids a "
                "download. Run once without --offline, or try --stream split_digits, which needs no files."
            )
        _keep(_fetched(request, what), request, folder, what)
        facts = _facts(folder)
        assert facts is not None
    return Kept(folder, facts)


def _facts(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = (folder / INDEX).is_file() and (folder / SAMPLES).is_file()
    return found if whole and (folder / SAMPLES).stat().st_size == found["bytes"] else None


def _fetched(request: HubRequest, what: str) -> Mapping[str, Any]:
    """Return {split: rows}, as the library `datasets` has them."""
    try:
        import datasets
    except ImportError as problem:
        raise DataError(
            f"{what} needs the library datasets, which is not installed. Install it: {INSTALL}."
        ) from problem
    # It tells of each attempt to reach the hub; what came of them is one line.
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        loaded: Any = datasets.load_dataset(request.name, request.subset, revision=request.revision)
    except Exception as problem:  # the hub's, the network's, the disk's: all mean that it cannot be had
        reason = " ".join(str(problem).split())[:200].rstrip(".") or type(problem).__name__
        raise DataError(
            f"{what} could not be fetched from the Hugging Face hub ({reason}). Check the name, stream.subset and the "
            "network."
        ) from problem
    finally:
        log.setLevel(level)
    return loaded


def _keep(loaded: Mapping[str, Any], request: HubRequest, folder: Path, what: str) -> None:
    train, test = _splits(loaded, request, what)
    columns = _columns(loaded[train], request, what)
    kind = columns["kind"]
    names: dict[str, dict[str, int]] = {"label": {}, "task": {}}
    index: dict[str, list[int]] = {"ends": [], "labels": [], "tasks": [], "is_test": []}
    digest, end = hashlib.sha256(), 0
    with atomic_file(folder / SAMPLES, flag="--data-root") as file:
        for number, split in enumerate([train, *([test] if test else [])]):
            for sample, label, task in _rows(loaded[split], columns, what=f"{what}, {split}"):
                file.write(sample)
                end += len(sample)
                index["ends"].append(end)
                index["labels"].append(names["label"].setdefault(label, len(names["label"])))
                index["tasks"].append(names["task"].setdefault(task, len(names["task"])))
                index["is_test"].append(number)
                digest.update(f"{len(sample)} {label!r} {task!r} {number}\n".encode("utf-8", "replace") + sample)
    with atomic_file(folder / INDEX, flag="--data-root") as file:
        np.savez(file, **{name: np.array(values, dtype=np.int64) for name, values in index.items()})  # type: ignore[arg-type]
    facts = {
        "kind": kind,
        "classes": list(names["label"]),
        "tasks": list(names["task"]) if request.task is not None else [],
        "digest": digest.hexdigest(),
        "bytes": end,
        "input": columns["input"],
        "label": columns["label"],
        "train_split": train,
        "test_split": test,
        "licence": str(getattr(getattr(loaded[train], "info", None), "license", "") or ""),
    }
    with atomic_file(folder / FACTS, flag="--data-root") as file:
        file.write(json.dumps(facts, indent=2).encode())


def _splits(loaded: Mapping[str, Any], request: HubRequest, what: str) -> tuple[str, str]:
    """Return the names of the training and the test split; "" = there is no test split."""
    known = list(loaded)
    for option in ("train_split", "test_split"):
        name = getattr(request, option)
        if name is not None and name not in known:
            raise UsageError(f"{what} has no split {name!r}. Set stream.{option}. Its splits: {', '.join(known)}.")
    if request.test_split is not None:
        return request.train_split, request.test_split
    return request.train_split, next((name for name in TEST_SPLITS if name in known), "")


def _columns(rows: Any, request: HubRequest, what: str) -> dict[str, Any]:
    """Return {kind, input, label, task, names}: which columns are meant, found by what the data set says of them."""
    features = dict(rows.features)
    types = {name: type(feature).__name__ for name, feature in features.items()}
    for option in ("input", "label", "task"):
        name = getattr(request, option)
        if name is not None and name not in features:
            raise UsageError(f"{what} has no column {name!r}. {nearest(name, features)} Set stream.{option}.")
    label = request.label or _only(
        [name for name, kind in types.items() if kind == "ClassLabel"], "label", what, features
    )
    left = [name for name in features if name not in (label, request.task)]
    images = [name for name in left if types[name] == "Image"]
    texts = [name for name in left if getattr(features[name], "dtype", "") in ("string", "large_string")]
    chosen = request.input or _only(images or texts, "input", what, features)
    if chosen not in images and chosen not in texts:
        raise UsageError(
            f"{what}: column {chosen!r} holds neither images nor texts ({types[chosen]}). Set stream.input."
        )
    return {
        "kind": "images" if chosen in images else "texts",
        "input": chosen,
        "label": label,
        "task": request.task,
        "names": {name: getattr(features[name], "names", None) for name in (label, request.task) if name is not None},
    }


def _only(found: Sequence[str], option: str, what: str, features: Mapping[str, Any]) -> str:
    if len(found) == 1:
        return found[0]
    several = f"{len(found)} columns could be its {option}" if found else f"no column is plainly its {option}"
    raise UsageError(f"{what}: {several}. Say which with stream.{option}=COLUMN: {', '.join(found or features)}.")


def _rows(rows: Any, columns: Mapping[str, Any], *, what: str) -> Iterator[tuple[bytes, str, str]]:
    """Yield (the sample as bytes, its class, its task) of each row."""
    if columns["kind"] == "images":
        import datasets

        rows = rows.cast_column(columns["input"], datasets.Image(decode=False))
    for number, row in enumerate(rows):
        cells = []
        for name in (columns["label"], columns["task"]):
            value, names = (None, None) if name is None else (row[name], columns["names"][name])
            if name is not None and (value is None or value == "" or (names and value < 0)):
                raise DataError(f"{what}: row {number} has nothing in {name!r}. Choose another split or column.")
            cells.append("" if name is None else str(names[value] if names else value))
        yield _bytes(row[columns["input"]], what=f"{what}, row {number}"), cells[0], cells[1]


def _bytes(value: Any, *, what: str) -> bytes:
    """Return a text as UTF-8, or an image as its file is."""
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if value.get("path"):
            return Path(value["path"]).read_bytes()
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace")
    raise DataError(f"{what} has no sample. Choose another split or column.")
