"""Texts in tasks of two groups, one against the other, as TF-IDF vectors (the protocol of IBCL's program).

The vectors are made with the training texts of all tasks, those still to come included, without their labels, as the
published protocol does.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from benchmarks.texts.data_sets import CLINC150_FILES, read_clinc150
from cl_suite import (
    DataError,
    DataRoot,
    PrepareVectors,
    Samples,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    UsageError,
)

NEWSGROUPS_FOLDER = "20newsgroups"  # below the data root, handed to scikit-learn as its data_home
NEWSGROUPS_CACHE = "20news-bydate_py3.pkz"  # as scikit-learn calls it

Labelled = list[tuple[str, str]]  # (text, its group)


class Texts(NamedTuple):
    """A data set, read: training and test texts with their groups, and {file: checksum} of what was read."""

    train: Labelled
    test: Labelled
    checksums: Mapping[str, str]


class _TextPairs(Stream):
    """What both have in common: pairs of groups of texts, and the vectors."""

    pairs: ClassVar[tuple[tuple[str, str], ...]]
    classes: ClassVar[tuple[str, str]]

    facts = StreamFacts(
        modality="vectors",
        scenarios=(
            Scenario.DOMAIN_INCREMENTAL,
            Scenario.TASK_INCREMENTAL,
            Scenario.CLASS_INCREMENTAL,
            Scenario.TASK_AGNOSTIC,
        ),
    )

    @dataclass
    class Config:
        """How many of the pairs, and the size of the vectors."""

        n_tasks: int = 5  # the first so many pairs, 1 to 5
        dimensions: int = 512  # numbers a text at most; fewer where the training texts span fewer

    @abstractmethod
    def read(self, root: DataRoot) -> Texts:
        """Return all texts with their groups. Raise DataError where files are absent or wrong."""

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read the texts and make the vectors, with those of the training texts of all tasks as the measure."""
        c = self.config
        if not 1 <= c.n_tasks <= len(self.pairs):
            raise UsageError(f"stream.n_tasks={c.n_tasks} is not a number of pairs. Use 1 to {len(self.pairs)}.")
        if c.dimensions < 1:
            raise UsageError(f"stream.dimensions={c.dimensions} is too small. Use 1 or more.")
        texts = self.read(root)
        pairs = self.pairs[: c.n_tasks]
        train, test = ([_of_pair(part, pair) for pair in pairs] for part in (texts.train, texts.test))
        vectors = iter(tfidf_vectors([t for t, _ in train], [t for t, _ in test], c.dimensions))
        tasks = tuple(
            TaskData(
                " / ".join(pair),
                Samples(next(vectors), torch.tensor(train[number][1])),
                Samples(next(vectors), torch.tensor(test[number][1])),
                self.classes,
            )
            for number, pair in enumerate(pairs)
        )
        return StreamData(tasks, PrepareVectors(), labels="shared", checksums=texts.checksums)

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        return self.read(root).checksums

    def card(self) -> dict[str, Any]:
        """Return the public facts, and what the vectors know of later tasks."""
        known = (
            "TF-IDF and PCA are fitted on the training texts of all tasks, so that unlabelled texts of tasks still to "
            "come are used, as in the published protocol (IBCL)"
        )
        return super().card() | {"vectors": known}


def _of_pair(texts: Labelled, pair: tuple[str, str]) -> tuple[list[str], list[int]]:
    """Return the texts of both groups, in the data set's order, and 0 for the first group, 1 for the other."""
    chosen = [(text, pair.index(group)) for text, group in texts if group in pair]
    return [text for text, _ in chosen], [label for _, label in chosen]


def tfidf_vectors(train: Sequence[Sequence[str]], test: Sequence[Sequence[str]], dimensions: int) -> list[torch.Tensor]:
    """Return [N, D] float32 for the training and the test texts of each task: train 0, test 0, train 1, ...

    TF-IDF (English stop words left out, and words in more than 95 % or fewer than 2 of the texts), then the first D
    principal components, both fitted on all the training texts; D is `dimensions`, or their rank where it is lower.
    """
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(stop_words="english", max_df=0.95, min_df=2)
    counted = words.fit_transform([text for task in train for text in task])
    components = min(dimensions, min(counted.shape) - 1)
    # The seed is of the solver's first vector, and part of the stream; "arpack" reads sparse matrices as they are.
    pca = PCA(components, svd_solver="arpack", random_state=0).fit(counted)
    spread = pca.singular_values_
    rank = int((spread > spread[0] * max(counted.shape) * np.finfo(spread.dtype).eps).sum())

    def vectors(texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(pca.transform(words.transform(texts))[:, :rank].astype(np.float32))

    return [vectors(part) for both in zip(train, test, strict=True) for part in both]


class CLINC150Pairs(_TextPairs):
    """CLINC150 (150 intents in 10 domains) in 5 tasks: a domain of affairs (0) against one of home and talk (1).

    Each intent has its training and test texts from the data set itself; texts out of scope are left out.
    """

    facts = replace(
        _TextPairs.facts,
        citation="Larson et al. 2019, An Evaluation Dataset for Intent Classification",
        source="github.com/clinc/oos-eval",
        licence="CC BY 3.0",
        sizes=StreamSizes(tasks=5, classes=2, classes_per_task=2, train=15_000, test=4_500, input_shape=(512,)),
    )
    classes = ("affairs", "home and talk")
    pairs = (
        ("banking", "kitchen_and_dining"),
        ("credit_cards", "home"),
        ("travel", "utility"),
        ("auto_and_commute", "small_talk"),
        ("work", "meta"),
    )
    files: ClassVar[Mapping[str, str]] = CLINC150_FILES

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum}, as published."""
        return self.files

    def read(self, root: DataRoot) -> Texts:
        """Verify and read: the group of a text is the domain of its intent."""
        texts = read_clinc150(root, self.files)
        domain_of = {intent: domain for domain, intents in texts.groups.items() for intent in intents}
        train, test = ([(text, domain_of[intent]) for text, intent in part] for part in (texts.train, texts.test))
        return Texts(train, test, self.files)


class NewsgroupsComputer(_TextPairs):
    """20 Newsgroups in 5 tasks: a group on computers (0) against one that is not (1); headers and quotes left out.

    Read through scikit-learn, which verifies the archive it downloads, and then keeps a pickle below the data root: a
    pickle runs code, so put none there that is not yours.
    """

    facts = replace(
        _TextPairs.facts,
        citation="Lang 1995, NewsWeeder: Learning to Filter Netnews (20 Newsgroups, by date)",
        source="via scikit-learn",
        licence="none stated",
        sizes=StreamSizes(tasks=5, classes=2, classes_per_task=2),
    )
    classes = ("computer", "other")
    pairs = (
        ("comp.graphics", "misc.forsale"),
        ("comp.os.ms-windows.misc", "rec.autos"),
        ("comp.sys.ibm.pc.hardware", "rec.motorcycles"),
        ("comp.sys.mac.hardware", "rec.sport.baseball"),
        ("comp.windows.x", "rec.sport.hockey"),
    )

    def read(self, root: DataRoot) -> Texts:
        """Read both parts, downloaded if they are not there; the checksum is of the texts as read."""
        from sklearn.datasets import fetch_20newsgroups

        home = root.path / NEWSGROUPS_FOLDER
        place = f"20 Newsgroups: {NEWSGROUPS_CACHE} is not in {home} (below --data-root or CL_SUITE_DATA)"
        instead = "Copy it there from a folder of scikit-learn's, or try --stream clinc150_pairs."
        if root.offline and not (home / NEWSGROUPS_CACHE).is_file():
            raise DataError(f"{place}, and --offline forbids a download. {instead}")
        parts: list[Labelled] = []
        try:
            for part in ("train", "test"):
                read = fetch_20newsgroups(
                    data_home=str(home),
                    subset=part,
                    categories=[group for pair in self.pairs for group in pair],
                    shuffle=False,
                    remove=("headers", "footers", "quotes"),
                    download_if_missing=not root.offline,
                )
                parts.append(
                    [(text, read.target_names[label]) for text, label in zip(read.data, read.target, strict=True)]
                )
        except (OSError, RuntimeError) as problem:
            reason = " ".join(str(problem).split()) or type(problem).__name__
            raise DataError(f"{place}, or is damaged, and no download was made ({reason}). {instead}") from problem
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        train, test = parts
        return Texts(train, test, {f"{NEWSGROUPS_FOLDER} (texts as read)": f"sha256:{digest}"})
