"""Weights that the current task may not write: held exactly where they are while the others train."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class HeldWeights:
    """Opens weights for training, but for those that are held.

    weights:   per layer
    trainable: per layer, bool of the weight's shape: what may change
    decay:     weight decay, applied to those alone
    """

    def __init__(self, weights: Sequence[Tensor], trainable: Sequence[Tensor], *, decay: float) -> None:
        self.weights = [weight.requires_grad_(True) for weight in weights]
        self._held = [~free for free in trainable]
        self._before = [weight.detach()[held] for weight, held in zip(self.weights, self._held, strict=True)]
        self._decay = decay

    def protect(self) -> None:
        """Between backward and step: a gradient of exactly zero leaves Adam, RMSProp and SGD exactly where they are."""
        for weight, held in zip(self.weights, self._held, strict=True):
            assert weight.grad is not None
            if self._decay:
                weight.grad.add_(weight.detach(), alpha=self._decay)
            weight.grad.masked_fill_(held, 0.0)

    def close(self) -> None:
        """After training: no more gradients. Raise AssertionError if a held weight has moved."""
        for weight, held, values in zip(self.weights, self._held, self._before, strict=True):
            weight.requires_grad_(False)
            weight.grad = None
            assert torch.equal(weight[held], values), "a weight moved that this task may not write"
