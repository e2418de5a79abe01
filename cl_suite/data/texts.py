"""Texts as tensors: UTF-8 bytes, padded with zeros, so that a text stream is stored, split and moved like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Inputs

TEXT_BYTES = 2048  # of a text that are kept unless asked otherwise: some 300 to 500 words of English


def filled(stored: Tensor) -> int:
    """Return how many texts reach the bytes that `encode_texts` keeps by default: they were cut there, or nearly."""
    return int((stored[:, TEXT_BYTES - 4 :] != 0).any(dim=1).sum()) if stored.shape[1] >= TEXT_BYTES - 3 else 0


def encode_texts(texts: Sequence[str], *, limit: int = TEXT_BYTES) -> Tensor:
    """Return texts as UTF-8 bytes, [N, longest] uint8, padded with zeros; at least one column, so that "" is a row too.

    limit: bytes; a longer text is cut there, before a character that would not fit whole

    A NUL character, which would read as padding, becomes a space, and what has no UTF-8 form (a lone surrogate) "?".
    """
    stored = [_cut(text.replace("\0", " ").encode("utf-8", errors="replace"), limit) for text in texts]
    rows = np.zeros((len(stored), max(1, *map(len, stored), 1)), dtype=np.uint8)
    for row, content in zip(rows, stored, strict=True):
        row[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return torch.from_numpy(rows)


def decode_texts(stored: Tensor) -> list[str]:
    """Return the texts that `encode_texts` stored, [N, L] uint8 on any device."""
    return [row.tobytes().rstrip(b"\0").decode("utf-8") for row in stored.cpu().contiguous().numpy()]


def _cut(content: bytes, limit: int) -> bytes:
    """Return the first `limit` bytes, without a character of which only a part is left."""
    if len(content) <= limit:
        return content
    return content[:limit].decode("utf-8", errors="ignore").encode("utf-8")


@dataclass(frozen=True)
class PrepareTexts:
    """Marks a stream of texts as stored: no model reads bytes; `cl-bench` makes token ids of them (`text.*`)."""

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Inputs:
        """Raise UsageError: texts have to be made into tokens first."""
        raise UsageError(
            "texts are stored as bytes, which no model reads. Make tokens of them first: cl_suite.as_tokens(data)."
        )
