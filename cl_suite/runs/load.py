"""A stream as a run sees it: loaded, its images or texts made into vectors or token ids where that was asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UsageError
from cl_suite.core.samples import Transform
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import Stream, StreamData, TaskData
from cl_suite.core.types import map_inputs
from cl_suite.data.texts import PrepareTexts, decode_texts
from cl_suite.data.tokenizers import WORDS
from cl_suite.data.tokens import as_tokens, tokens_summary
from cl_suite.features.extract import as_features, features_summary, public_facts
from cl_suite.features.frozen_networks import ENCODER, FIRST_TASK
from cl_suite.runs.config import RunConfig

SAMPLED = 32  # training and test samples of a task that tell it from another


@dataclass(frozen=True)
class StoredTask:
    """What a task's samples are as they are stored, before anything is made of them.

    shape, dtype: of one sample, e.g. (1, 28, 28) and "uint8"; by name where there are several tensors
    texts:        whether they are texts, whose bytes have no shape of their own: ()
    transform:    what makes the task's samples of them; None = nothing
    digest:       12 hex digits over some of its samples and their targets: other data has another
    """

    shape: tuple[int, ...] | dict[str, tuple[int, ...]]
    dtype: str | dict[str, str]
    texts: bool
    transform: Transform | None
    digest: str


@dataclass(frozen=True)
class Loaded:
    """The data, the stream's public facts, and what its samples were encoded by: for the record, and in words.

    stored: of each task, what it was before it was encoded
    """

    data: StreamData
    card: dict[str, Any]
    encoding: dict[str, dict[str, Any]]
    remarks: list[str]
    stored: tuple[StoredTask, ...]


def load_stream(stream: Stream, run: RunConfig, *, root: DataRoot, seeds: Seeds, device: torch.device) -> Loaded:
    """Read a stream's data and make of it what `features.*` and `text.*` ask for.

    Raise DataError where files are absent or wrong, UsageError where the configuration cannot be met.
    """
    check_first_task(run)
    source = first_tasks(stream.load(root, seeds), run.schedule.stop_after)
    return encode_stream(stream, source, run, root=root, seeds=seeds, device=device)


def first_tasks(data: StreamData, count: int) -> StreamData:
    """Return the stream's first `count` tasks, 0 = all. Raise UsageError where there are not so many."""
    if not 0 <= count <= len(data.tasks):
        raise UsageError(
            f"schedule.stop_after={count} is out of range. Use 1 to {len(data.tasks)}, or 0 for all tasks."
        )
    return dataclasses.replace(data, tasks=data.tasks[:count]) if count else data


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
    texts = isinstance(source.prepare, PrepareTexts)
    stored = tuple(stored_task(task, texts=texts) for task in source.tasks)
    return Loaded(data, stream.card() | public_facts(features), facts, remarks, stored)


def stored_task(task: TaskData, *, texts: bool) -> StoredTask:
    """Return what a task's samples are as they are stored; `texts`: bytes that `encode_texts` made."""
    digest = hashlib.sha256()
    for part in (task.train, task.test):
        places = torch.linspace(0, len(part) - 1, min(SAMPLED, len(part))).long()
        raw, targets = dataclasses.replace(part, transform=None).take(places.to(part.targets.device))
        if texts:  # without their padding, which other texts decide
            assert isinstance(raw, Tensor)
            digest.update("\0".join(decode_texts(raw)).encode())
        else:
            map_inputs(lambda value: _add(digest, value), raw)
        _add(digest, targets)
    if isinstance(raw, Tensor):
        shape, dtype = () if texts else tuple(raw.shape[1:]), _kind(raw)
        return StoredTask(shape, dtype, texts, task.test.transform, digest.hexdigest()[:12])
    shapes = {name: tuple(value.shape[1:]) for name, value in raw.items()}
    dtypes = {name: _kind(value) for name, value in raw.items()}
    return StoredTask(shapes, dtypes, False, task.test.transform, digest.hexdigest()[:12])


def _add(digest: Any, value: Tensor) -> Tensor:
    digest.update(value.cpu().contiguous().numpy().tobytes())
    return value


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


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
