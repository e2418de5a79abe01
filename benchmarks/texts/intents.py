"""What someone wants of an assistant, in one sentence: CLINC150, Banking77 and HWU64 in tasks of several intents.

Texts are as the data sets have them, untouched; none is empty or longer than 433 characters.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.texts.data_sets import CLINC150_FILES, read_clinc150, read_hwu64
from benchmarks.texts.hwu64_files import HWU64_FILES
from cl_suite import (
    ClassSplit,
    DataRoot,
    LabelledTexts,
    PrepareTexts,
    Samples,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    UsageError,
    check_choices,
    class_order,
    encode_texts,
    fetch_files,
    read_rows,
    task_sizes,
    text_tasks,
)

BANKING77_ADDRESS = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/"
    "banking_data"
)


class _Intents(Stream):
    """What the three have in common: a task is a group of intents, and no intent is in two."""

    what: ClassVar[str]
    files: ClassVar[Mapping[str, str]]

    facts = StreamFacts(
        modality="texts",
        # Intents of different tasks have nothing in common that a shared label could stand for: not domain-incremental.
        scenarios=(Scenario.TASK_INCREMENTAL, Scenario.CLASS_INCREMENTAL, Scenario.TASK_AGNOSTIC),
    )

    @abstractmethod
    def read(self, root: DataRoot) -> LabelledTexts:
        """Verify and read. Raise DataError where files are absent or wrong."""

    @abstractmethod
    def groups(self, texts: LabelledTexts, seeds: Seeds) -> dict[str, Sequence[str]]:
        """Return the tasks in their order: {name: intents}."""

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read and cut; the texts are stored once, as bytes."""
        texts = self.read(root)
        tasks = text_tasks(texts, self.groups(texts, seeds), what=self.what)
        outside = Samples(encode_texts(texts.outside), torch.zeros(len(texts.outside), dtype=torch.long))
        return StreamData(tasks, PrepareTexts(), checksums=self.files, ood=outside if len(outside) else None)

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        self.read(root)
        return self.files

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum}, as published."""
        return self.files

    def first_of(self, names: Sequence[str], seeds: Seeds) -> list[str]:
        """Return the first `stream.n_tasks` of these groups, along `stream.task_order`."""
        c = self.config
        if not 1 <= c.n_tasks <= len(names):
            raise UsageError(f"stream.n_tasks={c.n_tasks} is not a number of tasks. Use 1 to {len(names)}.")
        order = class_order(c.task_order, len(names), seeds.classes, option="task_order")
        return [names[number] for number in order[: c.n_tasks]]


class CLINC150(_Intents):
    """CLINC150: 150 intents, a task for each of their 10 domains; 100 training and 30 test texts an intent.

    The validation texts are left out; train.validation holds out of the training texts. With `--evaluate open_set` the
    1,000 test texts out of scope are shown besides, which are of no intent.
    """

    facts = replace(
        _Intents.facts,
        citation="Larson et al. 2019, An Evaluation Dataset for Intent Classification",
        source="github.com/clinc/oos-eval",
        licence="CC BY 3.0",
        out_of_distribution=True,
        sizes=StreamSizes(tasks=10, classes=150, classes_per_task=15, train=15_000, test=4_500),
    )
    what = "CLINC150"
    files = CLINC150_FILES

    @dataclass
    class Config:
        """How many domains, in which order."""

        n_tasks: int = 10  # the first so many domains, 1 to 10
        task_order: str = "natural"  # natural (as in domains.json) or seeded (shuffled with seeds.classes)

    def read(self, root: DataRoot) -> LabelledTexts:
        """Verify and read."""
        return read_clinc150(root, self.files)

    def groups(self, texts: LabelledTexts, seeds: Seeds) -> dict[str, Sequence[str]]:
        """Return the domains with their intents, as the data set lists them."""
        return {name: texts.groups[name] for name in self.first_of(list(texts.groups), seeds)}


class Banking77(_Intents):
    """Banking77: 77 intents of customers of a bank, by default 7 tasks of 11. Intents are not equally frequent."""

    facts = replace(
        _Intents.facts,
        citation="Casanueva et al. 2020, Efficient Intent Detection",
        source="github.com/PolyAI-LDN/task-specific-datasets",
        licence="CC BY 4.0",
        sizes=StreamSizes(tasks=7, classes=77, classes_per_task=11, train=10_003, test=3_080),
    )
    what = "Banking77"
    files = {
        "banking77/train.csv": "sha256:b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
        "banking77/test.csv": "sha256:d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        "banking77/categories.json": "sha256:53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63",
    }

    @dataclass
    class Config(ClassSplit):
        """How the intents are divided; the natural order is that of categories.json."""

        n_tasks: int = 7  # any divisor of 77

    def read(self, root: DataRoot) -> LabelledTexts:
        """Verify and read: one group, of all the intents."""
        addresses = {name: f"{BANKING77_ADDRESS}/{Path(name).name}" for name in self.files}
        paths = root.verified(self.files, what=self.what, download=lambda folder: fetch_files(folder, addresses))
        *tables, categories = paths.values()
        train, test = (
            [(text, intent) for _, (text, intent) in list(read_rows(path, ("text", "category")))[1:]] for path in tables
        )
        return LabelledTexts(train, test, {"all": json.loads(categories.read_text(encoding="utf-8"))})

    def groups(self, texts: LabelledTexts, seeds: Seeds) -> dict[str, Sequence[str]]:
        """Return the intents of each task, along the order."""
        intents, c = texts.groups["all"], self.config
        order = class_order(c.class_order, len(intents), seeds.classes, names=intents)
        ends = [0, *accumulate(task_sizes(len(order), c, usual=type(c)().n_tasks))]
        parts = [[intents[k] for k in order[start:end]] for start, end in pairwise(ends)]
        return {f"{number}: {part[0]} ...": part for number, part in enumerate(parts)}


class HWU64(_Intents):
    """HWU64: 64 intents of a home assistant by the authors' 18 scenarios, 16 tasks of 2 to 10 intents (fold 1 of 10).

    Three scenarios (cooking, news, weather) have one intent, which a task told its id cannot miss; they are one task
    of three, the last, unless stream.singles=apart. Nothing is done about unequal tasks: each counts as one.
    """

    facts = replace(
        _Intents.facts,
        citation="Liu et al. 2019, Benchmarking NLU Services",
        source="github.com/xliuhw/NLU-Evaluation-Data, fold 1",
        licence="CC BY 4.0",
        sizes=StreamSizes(tasks=16, classes=64, classes_per_task=(2, 10), train=9_960, test=1_076),
    )
    what = "HWU64"
    files = HWU64_FILES

    @dataclass
    class Config:
        """How many scenarios, in which order."""

        n_tasks: int = 16  # the first so many, 1 to 16 (18 with singles=apart)
        task_order: str = "natural"  # natural (by the alphabet) or seeded (shuffled with seeds.classes)
        singles: str = "together"  # scenarios of one intent: together (one task, the last) or apart

    def read(self, root: DataRoot) -> LabelledTexts:
        """Verify and read."""
        return read_hwu64(root, self.files)

    def groups(self, texts: LabelledTexts, seeds: Seeds) -> dict[str, Sequence[str]]:
        """Return the scenarios, by the alphabet, with their intents; those of one intent as asked."""
        check_choices(self.config, {"singles": ("together", "apart")}, group="stream")
        groups = dict(texts.groups)
        single = [name for name, intents in groups.items() if len(intents) == 1]
        if self.config.singles == "together" and len(single) > 1:
            joined = [intent for name in single for intent in groups[name]]
            groups = {name: intents for name, intents in groups.items() if name not in single}
            groups[", ".join(single)] = joined
        return {name: groups[name] for name in self.first_of(list(groups), seeds)}
