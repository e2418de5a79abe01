"""Networks: a backbone by published name, and the head that fills one global logit vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.types import Inputs
from cl_suite.networks.choice import choose_network
from cl_suite.networks.origins import ChosenNetwork, Shape, Wanted


class HeadBank(nn.Module):
    """All outputs of a stream in one linear layer; outputs not opened yet answer -inf.

    Preallocated for the whole stream: [n_outputs, in_features]; shapes never change while training.
    future: whether outputs not opened yet compete all the same, in training too (the Mammoth library's convention)
    """

    opened: Tensor  # [n_outputs] bool

    def __init__(self, in_features: int, n_outputs: int, *, bias: bool = True, future: bool = False) -> None:
        super().__init__()
        self.future = future
        self.linear = nn.Linear(in_features, n_outputs, bias=bias)
        self.register_buffer("opened", torch.zeros(n_outputs, dtype=torch.bool))

    def open(self, classes: Sequence[int] | None = None) -> None:
        """Let these outputs answer from now on; None opens all."""
        if classes is None:
            self.opened.fill_(True)
        else:
            self.opened[list(classes)] = True

    @property
    def is_open(self) -> bool:
        """Whether any output answers."""
        return bool(self.opened.any())

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_features] -> logits [B, n_outputs]."""
        return self.shown(self.linear(features))

    def shown(self, outputs: Tensor) -> Tensor:
        """Return outputs [B, n_outputs] of the linear layer as `forward` answers them: -inf where nothing is open."""
        return outputs if self.future else outputs.masked_fill(~self.opened, -torch.inf)


class Network(nn.Module):
    """Backbone (inputs -> features [B, D]) and heads (features -> logits [B, C])."""

    def __init__(self, backbone: nn.Module, heads: HeadBank) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads

    def features(self, inputs: Inputs) -> Tensor:
        """Return [B, D], what the heads read."""
        return self.backbone(inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits [B, C]."""
        return self.heads(self.features(inputs))


def build_network(
    name: str | ChosenNetwork,
    input_shape: Shape,
    n_outputs: int,
    *,
    bias: bool | None = None,
    future: bool = False,
    vocabulary: int | None = None,
    extra: Mapping[str, object] | None = None,
    **options: object,
) -> Network:
    """Return a network by the name of its backbone.

    "auto" takes an MLP for vectors and grey images, conv_small for colour, text_cnn for tokens, bc_mlp for what robots
    see. `path/to/net.py:Net`, `module:Net`, `timm:NAME` and `torchvision:NAME` are networks from elsewhere.

    input_shape: of one sample, (D,), (C, H, W) or {"tokens": (L,), "mask": (L,)}; n_outputs: of the heads
    bias:        whether the heads have a bias; None = as the backbone wishes (its `head_bias`), which is yes if unsaid
    future:      see HeadBank
    vocabulary:  number of token ids, padding included, where samples are tokens
    options:     of the backbone: `hidden` (MLPs, text_bag, text_transformer, policies), `width` (conv_small, ResNets,
                 alexnet, text_cnn), `dimensions` (text networks, policies), `frozen_embeddings`, `encoder` (text
                 networks), `vision` (policies); None = its own
    extra:       further options of the backbone by name, whatever they are called

    Raise UsageError for an unknown name or option, or a backbone that cannot read the input; PluginError for a network
    from elsewhere that cannot be imported, made or used.
    """
    chosen = choose_network(name) if isinstance(name, str) else name
    asked = {key: value for key, value in options.items() if value is not None} | dict(extra or {})
    backbone = chosen.make(Wanted(input_shape, n_outputs, vocabulary, asked))
    bias = getattr(backbone, "head_bias", True) if bias is None else bias
    heads = HeadBank(backbone.feature_dim, n_outputs, bias=bias, future=future)  # type: ignore[arg-type]
    network = Network(backbone, heads)
    if not chosen.channels_last:
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def statistics_held(norms: list[Any], hold: bool) -> Iterator[None]:
    """Within it batch norm in training mode normalises by the batch, and its running statistics do not move."""
    for norm in norms:
        norm.track_running_stats = not hold
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
