"""AG News, Yelp, Amazon, DBpedia and Yahoo Answers, a task each: the sequence of MbPA++, IDBR, LAMOL and ExSSNeT.

The files are the public CSV tables of Zhang et al. 2015 (label from 1, title, text; no header), below the data root.
They have no published checksums one by one, so those of the files as read go into the record. A data set of which
nothing is there comes from the Hugging Face hub, where the package `datasets` is installed and there is a network, and
is kept as such tables.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.texts.hub_tables import fetch_hub_tables, hub_is_at_hand
from cl_suite import (
    DataError,
    DataRoot,
    PrepareTexts,
    Samples,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
    check_choices,
    encode_texts,
    generator_for,
    read_rows,
)

STARS = tuple(f"{number} star{'s' if number > 1 else ''}" for number in range(1, 6))


class Source(NamedTuple):
    """One of the data sets.

    folders: below the data root, the first that is there: our name, and that of the public archive
    columns: of a row; the last is the text itself
    hub:     its name on the Hugging Face hub and the columns there; None = it is not there, or in another form
    """

    what: str
    folders: tuple[str, str]
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    hub: tuple[str, tuple[str, ...]] | None = None


SOURCES = {
    "ag_news": Source(
        "AG News",
        ("ag_news", "ag_news_csv"),
        ("label", "title", "description"),
        ("World", "Sports", "Business", "Sci/Tech"),
        # Not from the hub: title and description are one text there, which is no column of the table.
    ),
    "yelp": Source(
        "Yelp",
        ("yelp", "yelp_review_full_csv"),
        ("label", "text"),
        STARS,
        ("Yelp/yelp_review_full", ("label", "text")),
    ),
    "amazon": Source("Amazon", ("amazon", "amazon_review_full_csv"), ("label", "title", "text"), STARS),
    "dbpedia": Source(
        "DBpedia",
        ("dbpedia", "dbpedia_csv"),
        ("label", "title", "abstract"),
        (
            *("Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation"),
            *("Building", "NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork"),
        ),
        ("fancyzhx/dbpedia_14", ("label", "title", "content")),
    ),
    "yahoo": Source(
        "Yahoo Answers",
        ("yahoo", "yahoo_answers_csv"),
        ("label", "question", "details", "answer"),
        (
            *("Society & Culture", "Science & Mathematics", "Health", "Education & Reference", "Computers & Internet"),
            *("Sports", "Business & Finance", "Entertainment & Music", "Family & Relationships"),
            "Politics & Government",
        ),
        ("community-datasets/yahoo_answers_topics", ("topic", "question_title", "question_content", "best_answer")),
    ),
}
# The four published orders, as the specification of ExSSNeT lists them; which number a paper gives each differs.
ORDERS = (
    ("ag_news", "yelp", "amazon", "yahoo", "dbpedia"),
    ("yelp", "yahoo", "amazon", "dbpedia", "ag_news"),
    ("dbpedia", "yahoo", "ag_news", "amazon", "yelp"),
    ("yelp", "ag_news", "dbpedia", "amazon", "yahoo"),
)


class Text5(Stream):
    """AG News, Yelp, Amazon, DBpedia and Yahoo in one of the four published orders, 2,000 training texts a class.

    A text is the last column alone (of Yahoo the answer), as in ExSSNeT's program. A part that is absent is refused
    with the choice of those that are there; a shorter sequence shares no table with the whole one. Class-incremental,
    the stars of Yelp and those of Amazon are ten classes that compete.
    """

    facts = StreamFacts(
        modality="texts",
        citation=(
            "Zhang, Zhao & LeCun 2015, Character-level Convolutional Networks for Text Classification, arXiv 1509.01626"
        ),
        licence="AG News: non-commercial use; DBpedia: CC BY-SA; Yelp, Amazon, Yahoo: their own terms",
        scenarios=(Scenario.TASK_INCREMENTAL, Scenario.CLASS_INCREMENTAL, Scenario.TASK_AGNOSTIC),
        sizes=StreamSizes(tasks=5, classes=38, classes_per_task=(4, 14), train=76_000, test=38_000),
    )

    @dataclass
    class Config:
        """Which data sets, in which order, and how many of their texts."""

        order: int = 1  # of the published ones, 1 to 4
        datasets: list[str] = field(
            default_factory=lambda: list(SOURCES)
        )  # two or more of the five; order is `order`'s
        train_per_class: int = 2000  # drawn with data_seed, without replacement
        test: int = 7600  # test texts of each data set, drawn likewise; 0 = the whole file, up to 650,000 (ExSSNeT)
        text: str = "body"  # body: the last column alone; all: every column but the label, joined
        data_seed: int = 0  # which texts are drawn; not one of the run's seeds: every run sees the same data

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Find, read and draw. Texts of more than 2,048 bytes are cut there.

        Raise DataError, naming the data set and what would run without it, where one is absent or incomplete.
        """
        checksums: dict[str, str] = {}
        tasks = []
        for name, paths in self._data_files(root).items():
            train, test = (self._read(name, part, path) for part, path in paths.items())
            checksums |= {f"{path.parent.name}/{path.name}": _sha256(path) for path in paths.values()}
            tasks.append(TaskData(name, train, test, SOURCES[name].classes))
        return StreamData(tuple(tasks), PrepareTexts(), checksums=checksums)

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Look for all files, in the hub too, and return their checksums; none is published."""
        paths = [path for both in self._data_files(root).values() for path in both.values()]
        return {f"{path.parent.name}/{path.name}": _sha256(path) for path in paths}

    def card(self) -> dict[str, Any]:
        """Return the public facts, and which of the five are in the sequence."""
        names = self._names()
        return super().card() | {"sequence": f"{len(names)} of the 5 data sets: {', '.join(names)}"}

    def _names(self) -> list[str]:
        """Return the data sets in their order. Raise UsageError for options that cannot be met."""
        c = self.config
        names = list(c.datasets)
        if not 1 <= c.order <= len(ORDERS):
            raise UsageError(f"stream.order={c.order} is not one of the published orders. Use 1 to {len(ORDERS)}.")
        if len(set(names)) < len(names) or not set(names) <= set(SOURCES):
            raise UsageError(f"stream.datasets=[{','.join(names)}] is no choice of {', '.join(SOURCES)}, each once.")
        if len(names) < 2:
            raise UsageError(f"stream.datasets=[{','.join(names)}] is no sequence. Name two or more of the five.")
        if c.train_per_class < 1 or c.test < 0:
            name, low = ("train_per_class", 1) if c.train_per_class < 1 else ("test", 0)
            raise UsageError(f"stream.{name}={getattr(c, name)} is too small. Use {low} or more.")
        check_choices(c, {"text": ("body", "all")}, group="stream")
        return [name for name in ORDERS[c.order - 1] if name in names]

    def _data_files(self, root: DataRoot) -> dict[str, dict[str, Path]]:
        """Return {data set: {part: file}} in the order of the sequence. Raise DataError where a file is absent."""
        names = self._names()
        files = {name: _at_hand(name, root) for name in names}
        whole = [name for name, paths in files.items() if len(paths) == 2]
        if whole == names:
            return files
        lacking = next(name for name in names if name not in whole)
        part = next(part for part in ("train", "test") if part not in files[lacking])
        source = SOURCES[lacking]
        hint = (
            f"Or go on with what is there: stream.datasets=[{','.join(whole)}]."
            if len(whole) > 1
            else f"Of {', '.join(names)} {'only ' + whole[0] if whole else 'none'} is there, and a sequence needs two."
        )
        raise DataError(
            f"{source.what}: {source.folders[0]}/{part}.csv is not in {root.path} (set by --data-root or "
            f"CL_SUITE_DATA). Unpack the public archive {source.folders[1]}.tar.gz there{_hub_hint(lacking, root)}. "
            f"{hint}"
        )

    def _read(self, name: str, part: str, path: Path) -> Samples:
        """Return the drawn texts of a file, in the file's order; it is gone through twice, and never held whole."""
        labels = _labels(path, SOURCES[name])
        generator = generator_for(self.config.data_seed, "text5", name, part)
        rows = self._rows(labels, part, path, generator)
        numbers = set(rows.tolist())
        first = 1 if self.config.text == "all" else -1
        texts = [
            " ".join(cell for cell in row[first:] if cell)
            for number, (_, row) in enumerate(read_rows(path, SOURCES[name].columns))
            if number in numbers
        ]
        return Samples(encode_texts([text.replace("\\n", " ") for text in texts]), labels[rows])

    def _rows(self, labels: torch.Tensor, part: str, path: Path, generator: torch.Generator) -> torch.Tensor:
        """Return the numbers of the rows that are drawn, ascending."""
        if part == "test":
            if len(labels) < self.config.test:
                raise DataError(
                    f"{path}: {len(labels)} rows, fewer than stream.test={self.config.test}. Is it complete? "
                    f"Or ask for {len(labels)}."
                )
            order = torch.randperm(len(labels), generator=generator)
            return order[: self.config.test or len(labels)].sort().values
        parts = []
        for label, count in enumerate(labels.bincount().tolist()):
            if count < self.config.train_per_class:
                raise DataError(
                    f"{path}: {count} rows of label {label + 1}, fewer than stream.train_per_class="
                    f"{self.config.train_per_class}. Is it complete? Or ask for {count}."
                )
            rows = (labels == label).nonzero().squeeze(1)
            parts.append(rows[torch.randperm(count, generator=generator)[: self.config.train_per_class]])
        return torch.cat(parts).sort().values


def _files(name: str, root: DataRoot) -> dict[str, Path]:
    """Return {part: file} of what is there of a data set, in the first of its folders that has both."""
    candidates = [
        {part: path for part in ("train", "test") if (path := root.path / folder / f"{part}.csv").is_file()}
        for folder in SOURCES[name].folders
    ]
    return max(candidates, key=len)


def _at_hand(name: str, root: DataRoot) -> dict[str, Path]:
    """Return {part: file} of a data set, fetched from the hub where there is none of it: sources are not mixed."""
    files, source = _files(name, root), SOURCES[name]
    if files or source.hub is None or root.offline or not hub_is_at_hand():
        return files
    fetch_hub_tables(*source.hub, root.path / source.folders[0])
    return _files(name, root)


def _hub_hint(name: str, root: DataRoot) -> str:
    source = SOURCES[name]
    if source.hub is not None and (there := next(iter(_files(name, root).values()), None)):
        return f", or remove {there.parent.name}/{there.name} to fetch both files from the Hugging Face hub"
    if source.hub is None:
        return " (it cannot be fetched from the Hugging Face hub)"
    if root.offline:
        return ", or leave --offline out"
    return "" if hub_is_at_hand() else ", or install the package datasets to fetch it from the Hugging Face hub"


def _labels(path: Path, source: Source) -> torch.Tensor:
    """Return the label of each row, [N] int64 from 0. Raise DataError, with the line, for one that is none.

    Raise DataError too where a class has no row.
    """
    known = {str(number + 1): number for number in range(len(source.classes))}
    labels = []
    for line, row in read_rows(path, source.columns):
        if row[0].strip() not in known:
            raise DataError(
                f"{path}, line {line}: label {row[0][:20]!r} is not a number from 1 to {len(known)}, the classes of "
                f"{source.what}. Is it the right file?"
            )
        labels.append(known[row[0].strip()])
    missing = sorted(set(known.values()) - set(labels))
    if missing:
        raise DataError(
            f"{path}: no row has label {missing[0] + 1} ({source.classes[missing[0]]}). "
            "The file is incomplete: unpack it anew."
        )
    return torch.tensor(labels)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
