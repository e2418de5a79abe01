"""A stream as a run sees it: loaded, its images or texts made into vectors or token ids where that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UsageError
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import Stream, StreamData
from cl_suite.data.tokenizers import WORDS
from cl_suite.data.tokens import as_tokens, tokens_summary
from cl_suite.features.extract import as_features, features_summary, public_facts
from cl_suite.features.frozen_networks import ENCODER, FIRST_TASK
from cl_suite.runs.config import RunConfig


@dataclass(frozen=True)
class Loaded:
    """The data, the stream's public facts, and what its samples were encoded by: for the record, and in words."""

    data: StreamData
    card: dict[str, Any]
    encoding: dict[str, dict[str, Any]]
    remarks: list[str]


def load_stream(stream: Stream, run: RunConfig, *, root: DataRoot, seeds: Seeds, device: torch.device) -> Loaded:
    """Read a stream's data and make of it what `features.*` and `text.*` ask for.

    Raise DataError where files are absent or wrong, UsageError where the configuration cannot be met.
    """
    check_first_task(run)
    return encode_stream(stream, stream.load(root, seeds), run, root=root, seeds=seeds, device=device)


def encode_stream(
    stream: Stream, source: StreamData, run: RunConfig, *, root: DataRoot, seeds: Seeds, device: torch.device
) -> Loaded:
    """Make of a stream's data, `source`, what `features.*` and `text.*` ask for.

    Raise DataError where weights are absent, UsageError where the configuration cannot be met.
    """
    share = run.train.validation
    encoded, features = as_features(source, run.features, root=root, seeds=seeds, device=device, validation=share)
    data, tokens = as_tokens(encoded, run.text, root=root, seeds=seeds, validation=share)  # what is still texts
    facts = {name: entry for name, entry in (("text", tokens), ("features", features)) if entry}
    facts |= {"data": dict(source.facts)} if source.facts else {}
    remarks = [tokens_summary(tokens)] if tokens else []
    remarks += [features_summary(features)] if features else []
    return Loaded(data, stream.card() | public_facts(features), facts, remarks)


def check_first_task(run: RunConfig) -> None:
    """Raise UsageError where something would be made of task 0 that is not the first to be shown."""
    if not run.schedule.order or run.schedule.order[0] == 0:
        return
    made_of_it = {
        f"text.tokenizer={WORDS}": run.text.tokenizer == WORDS,
        f"features.weights={FIRST_TASK}": run.features.is_on
        and run.features.network != ENCODER
        and run.features.weights == FIRST_TASK,
    }
    for option in (option for option, applies in made_of_it.items() if applies):
        raise UsageError(
            f"{option} is made of task 0, but schedule.order shows task {run.schedule.order[0]} first. "
            "Begin schedule.order with 0, or use another."
        )
