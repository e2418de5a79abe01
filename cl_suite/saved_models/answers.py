"""What a saved model answers for samples from files, a row each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from cl_suite.core.objective import restrict
from cl_suite.saved_models.input_files import ReadInputs
from cl_suite.saved_models.predictor import SavedPredictor


def answers_for(
    saved: SavedPredictor, read: ReadInputs, task: int | str | None, *, preference: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Return a row for each sample: the file or row it came from, its class, and the probability of that class.

    The probability is a softmax among the classes that may be answered; where answers are distances there is none.
    Raise UsageError as a call of the predictor.
    """
    known = saved.task(task)
    names, allowed = saved.names(known), saved.allowed(known)
    logits = restrict(saved(read.inputs, task, preference=preference), allowed)
    best = logits.argmax(dim=1).tolist()
    rows: list[dict[str, Any]] = [
        {read.kind: name, "class": names[output]} for name, output in zip(read.names, best, strict=True)
    ]
    if saved.answers_logits:
        for row, probability in zip(rows, logits.softmax(dim=1).amax(dim=1).tolist(), strict=True):
            row["probability"] = round(probability, 6)
    return rows


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, with the names of the columns first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
