"""The block that transformers for texts, policies and pictures are made of."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite.core.errors import UsageError

HEAD_SIZE = 32  # numbers of an attention head


def check_dimensions(dimensions: int) -> None:
    """Raise UsageError where vectors of so many numbers do not divide into attention heads."""
    if dimensions < HEAD_SIZE or dimensions % HEAD_SIZE:
        raise UsageError(
            f"model.dimensions={dimensions} does not divide into attention heads of {HEAD_SIZE}. Use 64 or 128."
        )


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward layers, each added to what it reads (Vaswani et al. 2017).

    At padding every layer reads zeros, so that methods which look at a layer's inputs see none of it.
    """

    def __init__(self, dimensions: int, units: int) -> None:
        super().__init__()
        self.heads = dimensions // HEAD_SIZE
        self.norm1, self.norm2 = nn.LayerNorm(dimensions), nn.LayerNorm(dimensions)
        self.query_key_value = nn.Linear(dimensions, 3 * dimensions)
        self.out = nn.Linear(dimensions, dimensions)
        self.up, self.down = nn.Linear(dimensions, units), nn.Linear(units, dimensions)

    def forward(self, stream: Tensor, mask: Tensor) -> Tensor:
        """[B, L, D], mask [B, L] -> [B, L, D]."""
        present = mask[..., None]
        parts = self.query_key_value(self.norm1(stream) * present).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B, heads, L, HEAD_SIZE] each
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        # A finite number: a text without tokens would have NaN for a softmax over nothing.
        shares = scores.masked_fill(~mask[:, None, None], -1e9).softmax(dim=-1)
        mixed = (shares @ value).transpose(1, 2).flatten(2)
        stream = stream + self.out(mixed * present)
        return stream + self.down(F.gelu(self.up(self.norm2(stream) * present)) * present)
