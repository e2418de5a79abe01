"""Two tasks of a few texts, and the tokens they are made into."""

from pathlib import Path

import torch

from cl_suite import (
    DataRoot,
    PrepareTexts,
    Samples,
    Seeds,
    StreamData,
    TaskData,
    encode_texts,
)
from cl_suite.data.tokens import TextOptions, as_tokens

SEEDS = Seeds(0, 0, 0)
CPU = torch.device("cpu")
OFFLINE = DataRoot(Path("unused"), offline=True)
FIRST = ["What's my balance?", "my card, MY balance", "", "one two three four five six seven eight nine ten"]
SECOND = ["turn the lights off", "what is my balance", "naïve lights"]


def stream(first=FIRST, second=SECOND):
    """Two tasks whose training and test texts share their storage."""
    stored = encode_texts([*first, *second])
    tasks = []
    for number, rows in enumerate((range(len(first)), range(len(first), len(first) + len(second)))):
        part = Samples(stored, torch.arange(len(rows)) % 2, torch.tensor(rows))
        tasks.append(TaskData(f"task {number}", part, part.select(torch.tensor([0, 1])), ("a", "b")))
    return StreamData(tuple(tasks), PrepareTexts())


def made(data=None, *, validation=0.0, root=OFFLINE, seeds=SEEDS, **options):
    options = TextOptions(**options)
    options.check()
    return as_tokens(data or stream(), options, root=root, seeds=seeds, validation=validation)


def shown(samples):
    """Return the ids of each text, without padding."""
    inputs, _ = samples.take(torch.arange(len(samples)))
    return [row[mask].tolist() for row, mask in zip(inputs["tokens"], inputs["mask"], strict=True)]
