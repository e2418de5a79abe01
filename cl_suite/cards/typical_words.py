"""Texts in words: which are typical of a task, how long texts are, and some examples."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from cl_suite.cards.shown_samples import spread_over_classes
from cl_suite.core.samples import Samples
from cl_suite.core.stream import TaskData
from cl_suite.data.texts import decode_texts

WORD = re.compile(r"[^\W\d_]{2,}(?:'[^\W\d_]+)?")  # letters alone, two or more
BATCH = 4096  # texts at a time
TYPICAL = 8  # words
EXAMPLES = 2  # texts


def count_words(samples: Samples) -> tuple[Counter[str], float]:
    """Return how often each word stands in texts stored as bytes, and the mean number of words of a text."""
    counts: Counter[str] = Counter()
    spaced = 0
    for raw, _ in samples.chunks(BATCH):
        for text in decode_texts(raw):  # type: ignore[arg-type]
            counts.update(WORD.findall(text.lower()))
            spaced += len(text.split())
    return counts, spaced / max(1, len(samples))


def typical_words(counts: Sequence[Counter[str]]) -> list[tuple[str, ...]]:
    """Return for each task the words that tell it best from the others, the strongest first.

    The weight is p log(p / q): p is the word's share of the task's words, q of those of the other tasks, with half an
    occurrence added to each. Of a single task they are the most frequent words.
    """
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    everything, different = sum(total.values()), len(total)
    rows = []
    for each in counts:
        here = sum(each.values())
        elsewhere = everything - here

        def weight(word: str, each: Counter[str] = each, here: int = here, elsewhere: int = elsewhere) -> float:
            share = each[word] / here
            if not elsewhere:
                return share
            p = (each[word] + 0.5) / (here + 0.5 * different)
            q = (total[word] - each[word] + 0.5) / (elsewhere + 0.5 * different)
            return share * math.log(p / q)

        ranked = sorted(((-weight(word), word) for word in each), key=lambda pair: pair)
        rows.append(tuple(word for negative, word in ranked[:TYPICAL] if negative < 0))
    return rows


def example_texts(task: TaskData, count: int = EXAMPLES) -> tuple[tuple[str, str], ...]:
    """Return (class, text) of the first test texts of some classes."""
    chosen = spread_over_classes(task.test, count)
    raw, targets = task.test.take(chosen)
    texts = decode_texts(raw)  # type: ignore[arg-type]
    return tuple((task.classes[target], text) for target, text in zip(targets.tolist(), texts, strict=True))
