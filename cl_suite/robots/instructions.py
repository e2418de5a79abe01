"""What a robot is told to do, as a vector that is part of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_suite.errors import UsageError

KINDS = ("onehot", "hashed")
HASHED = 32  # dimensions of a hashed bag of words


def embed_instructions(sentences: Sequence[str], kind: str) -> Tensor:
    """Return one vector for each instruction, [T, E] float32.

    onehot: the place of the task in the whole family; says nothing of what tasks have in common
    hashed: a bag of words, each word +1 or -1 in one of 32 places, of length 1 (Weinberger et al. 2009, 0902.2206)

    Raise UsageError for another kind.
    """
    if kind == "onehot":
        return torch.eye(len(sentences))
    if kind != "hashed":
        raise UsageError(f"stream.language={kind} is not known. Use {' or '.join(KINDS)}.")
    rows = torch.zeros(len(sentences), HASHED)
    for row, sentence in zip(rows, sentences, strict=True):
        for word in sentence.lower().split():
            digest = hashlib.sha256(word.encode()).digest()
            row[digest[0] % HASHED] += 1.0 if digest[1] % 2 else -1.0
    return torch.nn.functional.normalize(rows, dim=1)
