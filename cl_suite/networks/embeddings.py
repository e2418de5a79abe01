"""Tables of vectors that text networks look tokens and places up in: trained, or frozen for methods that need it so."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Inputs


class VectorTable(nn.Module):
    """Rows of numbers, weight [rows, D], drawn from N(0, 1) at first.

    frozen: a buffer instead of a parameter, so that no strategy trains, decays or counts it
    """

    weight: Tensor

    def __init__(self, rows: int, dimensions: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, dimensions))
        if frozen:
            self.freeze()

    @property
    def dimensions(self) -> int:
        """D."""
        return self.weight.shape[1]

    def freeze(self) -> None:
        """Keep the table as it is from now on, as a buffer."""
        if not isinstance(self.weight, nn.Parameter):
            return
        table = self.weight.detach()
        del self.weight
        self.register_buffer("weight", table)


class TokenVectors(VectorTable):
    """The vector of every token; zero where there is none."""

    def forward(self, inputs: Inputs) -> Tensor:
        """{"tokens": [B, L] int64, "mask": [B, L] bool} -> [B, L, D], zero where the mask is false."""
        tokens, mask = tokens_and_mask(inputs)
        # Multiplied by the mask, not looked up as a row of zeros: a row could be trained, masked or averaged.
        return F.embedding(tokens, self.weight) * mask[..., None]


class MeanOfTokens(TokenVectors):
    """The mean of a text's token vectors; zero for a text without tokens."""

    def forward(self, inputs: Inputs) -> Tensor:
        """{"tokens": [B, L] int64, "mask": [B, L] bool} -> [B, D]."""
        return masked_mean(super().forward(inputs), tokens_and_mask(inputs)[1])


class PlaceVectors(VectorTable):
    """The vector of every place in a text; texts longer than the table are refused."""

    def forward(self, mask: Tensor) -> Tensor:
        """[B, L] bool -> [B, L, D]. Raise UsageError for more places than there are rows."""
        if mask.shape[1] > len(self.weight):
            raise UsageError(
                f"a text of {mask.shape[1]} tokens is longer than the {len(self.weight)} places this network knows. "
                "Set text.max_length lower, or use model.name=text_cnn."
            )
        return F.embedding((mask.long().cumsum(1) - 1).clamp(min=0), self.weight)


def tokens_and_mask(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return (tokens [B, L], mask [B, L]) with L at least 1: where all texts are empty there is one place, unused."""
    assert isinstance(inputs, Mapping), "text networks read {'tokens': [B, L], 'mask': [B, L]}"
    tokens, mask = inputs["tokens"], inputs["mask"]
    return (tokens, mask) if tokens.shape[1] else (F.pad(tokens, (0, 1)), F.pad(mask, (0, 1)))


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of [B, L, D] over the places where the mask [B, L] is true, [B, D]; 0 where there is none."""
    present = mask[..., None].to(vectors.dtype)
    return (vectors * present).sum(1) / present.sum(1).clamp(min=1)


def freeze_token_vectors(network: nn.Module) -> None:
    """Freeze every table of vectors in `network`, for methods that keep tasks apart by what they do to its layers.

    A table is no layer: masks, owners and gates of weights do not cover it, so that it would forget in their stead.
    """
    for module in network.modules():
        if isinstance(module, VectorTable):
            module.freeze()
