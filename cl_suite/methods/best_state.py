"""The best state met in training, by a score on validation data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class BestState:
    """Keeps copies of tensors from the epoch with the best validation score; of equal epochs the latest."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self._best = float("-inf")
        self._copies: list[Tensor] = []

    @torch.no_grad()
    def offer(self, score: float) -> None:
        """Keep the tensors as they are now if none did better."""
        if score >= self._best:
            self._best = score
            self._copies = [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the kept values back; nothing if there are none."""
        for tensor, copy in zip(self._tensors, self._copies, strict=False):
            tensor.copy_(copy)
