"""Text networks trained from scratch: {"tokens": [B, L] int64, "mask": [B, L] bool} -> features [B, D].

L is the longest text of the batch, at most that of `input_shape`; tokens come first, then padding, where the mask is
false. Padding never changes an answer, and a text without tokens has one. The layers are Linear and Conv2d, so that
masks, projections and pruning find them; the tables of vectors are in cl_suite/networks/embeddings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Inputs
from cl_suite.networks.attention import AttentionBlock, check_dimensions
from cl_suite.networks.embeddings import MeanOfTokens, PlaceVectors, TokenVectors, masked_mean, tokens_and_mask
from cl_suite.networks.encoders import EncoderVectors, TransformerEncoder

Shape = Mapping[str, tuple[int, ...]]


class TextBag(nn.Sequential):
    """The mean of a text's token vectors, then fully connected layers with ReLU: the order of words does not count."""

    def __init__(
        self,
        input_shape: Shape,
        *,
        vocabulary: int,
        dimensions: int = 128,
        hidden: Sequence[int] = (128,),
        frozen_embeddings: bool = False,
    ) -> None:
        layers: list[nn.Module] = [MeanOfTokens(vocabulary, dimensions, frozen=frozen_embeddings)]
        width = dimensions
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        super().__init__(*layers)
        self.feature_dim = width


class TextCNN(nn.Module):
    """Convolutions of widths 3, 4 and 5 over time, ReLU, maximum over time (Kim 2014, arXiv 1408.5882).

    dimensions: of a token's vector; the paper has 300
    width:      filters of each width; the paper has 100, ExSSNeT 200
    encoder:    token vectors of this frozen encoder's last layer (ExSSNeT, arXiv 2210.10209), not of a table
    A window begins at each token; what it reads beyond the last one is zero. The paper has dropout 0.5 before the head
    and holds the norm of the head's rows; neither is part of this network.
    """

    SPANS = (3, 4, 5)  # tokens that a filter reads

    def __init__(
        self,
        input_shape: Shape,
        *,
        vocabulary: int,
        dimensions: int | None = None,
        width: int = 100,
        frozen_embeddings: bool = False,
        encoder: str | None = None,
    ) -> None:
        super().__init__()
        if encoder is not None and dimensions is not None:
            raise UsageError(
                "model.dimensions has no meaning with model.encoder, whose vectors have a size of their own. "
                "Set model.dimensions=null."
            )
        self.vectors: nn.Module
        if encoder is None:
            self.vectors = TokenVectors(vocabulary, dimensions or 128, frozen=frozen_embeddings)
        else:
            self.vectors = EncoderVectors(encoder, vocabulary=vocabulary)
        size = int(self.vectors.dimensions)  # type: ignore[arg-type]
        # Vectors lie along the channels, as they do in memory, so that kernels are (span, 1).
        self.convolutions = nn.ModuleList(nn.Conv2d(size, width, (span, 1)) for span in self.SPANS)
        self.feature_dim = width * len(self.SPANS)

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens and mask [B, L] -> [B, 3 width]."""
        vectors = self.vectors(inputs)
        _, mask = tokens_and_mask(inputs)
        features = []
        for span, convolution in zip(self.SPANS, self.convolutions, strict=True):
            maps = F.pad(vectors, (0, 0, 0, span - 1)).transpose(1, 2)  # [B, D, L + span - 1]
            windows = convolution(maps[..., None])  # [B, width, L, 1]
            # After ReLU nothing is below 0: windows that begin in the padding never win.
            features.append((F.relu(windows).squeeze(3) * mask[:, None]).amax(dim=2))
        return torch.cat(features, dim=1)


class TextTransformer(nn.Module):
    """A small pre-norm transformer encoder with learned places; the mean over the tokens is the feature.

    input_shape: says how long a text is at most, and so how many places are learned
    dimensions: of a token's vector, a multiple of 32: one attention head for each 32
    hidden:     units of the feed-forward layers, one number for each block
    """

    def __init__(
        self,
        input_shape: Shape,
        *,
        vocabulary: int,
        dimensions: int = 128,
        hidden: Sequence[int] = (256, 256),
        frozen_embeddings: bool = False,
    ) -> None:
        super().__init__()
        check_dimensions(dimensions)
        self.vectors = TokenVectors(vocabulary, dimensions, frozen=frozen_embeddings)
        self.places = PlaceVectors(input_shape["tokens"][0], dimensions, frozen=frozen_embeddings)
        self.blocks = nn.ModuleList(AttentionBlock(dimensions, units) for units in hidden)
        self.norm = nn.LayerNorm(dimensions)
        self.feature_dim = dimensions

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens and mask [B, L] -> [B, D]."""
        _, mask = tokens_and_mask(inputs)
        stream = self.vectors(inputs) + self.places(mask)
        for block in self.blocks:
            stream = block(stream, mask)
        return masked_mean(self.norm(stream), mask)


TEXT_BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "text_cnn": TextCNN,
    "text_transformer": TextTransformer,
    "text_bag": TextBag,
    "transformer_encoder": TransformerEncoder,
}
