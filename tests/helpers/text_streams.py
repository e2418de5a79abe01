"""A tiny stream of token ids for tests: every class has words of its own, among words that all share."""

from dataclasses import dataclass

import torch

from cl_suite import Samples, Seeds, StreamData, TaskData
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.types import TrainSettings

VOCABULARY, LENGTH = 40, 12
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trimmed:
    """Cuts a batch to its longest text, in fours, so that lengths differ from batch to batch."""

    def __call__(self, raw, generator=None):
        longest = max(4, -(-int(raw["mask"].sum(1).max()) // 4) * 4)
        return {name: value[:, :longest] for name, value in raw.items()}


def texts(classes, count, generator):
    """Return ({"tokens", "mask"} [N, LENGTH], targets [N]): class k says words 10 + 3k to 12 + 3k, all say 1 to 9."""
    targets = torch.arange(len(classes)).repeat_interleave(count)
    lengths = torch.randint(3, LENGTH + 1, (len(targets),), generator=generator)
    lengths[0] = 0  # an empty text
    mask = torch.arange(LENGTH) < lengths[:, None]
    own = 10 + 3 * (targets + classes.start)[:, None] + torch.randint(3, mask.shape, generator=generator)
    shared = torch.randint(1, 10, mask.shape, generator=generator)
    tokens = torch.where(torch.rand(mask.shape, generator=generator) < 0.6, own, shared)
    return {"tokens": tokens * mask, "mask": mask}, targets


def stream(*, n_tasks=3, count=12, test=8):
    """Return a stream of `n_tasks` tasks of two classes."""
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for number in range(n_tasks):
        classes = range(2 * number, 2 * number + 2)
        parts = [Samples(*texts(classes, size, generator)) for size in (count, test)]
        tasks.append(TaskData(f"task {number}", *parts, tuple(f"class {k}" for k in classes)))
    return StreamData(tuple(tasks), Trimmed(), vocabulary=VOCABULARY)


def scenario_stream(scenario=Scenario.TASK_INCREMENTAL, *, epochs=2, data=None, **train):
    """Return the stream under a scenario."""
    settings = TrainSettings(epochs=epochs, batch_size=8, **train)
    return ScenarioStream("texts", data or stream(), scenario, train=settings, seeds=Seeds(0, 0, 0), device=CPU)


def some(length=7):
    """Return a batch of three texts, one of them empty, in `length` places."""
    lengths = torch.tensor([5, 0, 3])
    mask = torch.arange(length) < lengths[:, None]
    tokens = torch.randint(1, VOCABULARY, (3, length), generator=torch.Generator().manual_seed(1))
    return {"tokens": tokens * mask, "mask": mask}


def padded(inputs, extra=4):
    """Return the same texts with more padding, in which the tokens are not 0."""
    tokens, mask = inputs["tokens"], inputs["mask"]
    return {
        "tokens": torch.cat([tokens, torch.full((len(tokens), extra), 3)], 1),
        "mask": torch.cat([mask, torch.zeros(len(mask), extra, dtype=torch.bool)], 1),
    }
