"""Networks: a backbone by published name, and the head that fills one global logit vector."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.backbones import BACKBONES, IMAGE_BACKBONES
from cl_suite.errors import UsageError, nearest
from cl_suite.types import Inputs


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
    name: str,
    input_shape: tuple[int, ...],
    n_outputs: int,
    *,
    bias: bool | None = None,
    future: bool = False,
    **options: object,
) -> Network:
    """Return a network by backbone name; "auto" takes an MLP for vectors and grey images, conv_small for colour.

    input_shape: of one sample, (D,) or (C, H, W); n_outputs: of the heads
    bias:        whether the heads have a bias; None = as the backbone wishes (its `head_bias`), which is yes if unsaid
    future:      see HeadBank
    options:     of the backbone: `hidden` (MLPs), `width` (conv_small, ResNets, alexnet)

    Raise UsageError for an unknown name or option, or a backbone that cannot read the input.
    """
    if name == "auto":
        name = "conv_small" if len(input_shape) == 3 and input_shape[0] == 3 else "mlp"
    if name not in BACKBONES:
        raise UsageError(f"model.name={name} is not a backbone. {nearest(name, BACKBONES)}")
    if name in IMAGE_BACKBONES and len(input_shape) != 3:
        raise UsageError(f"model.name={name} reads images [C, H, W], not inputs of shape {input_shape}. Use mlp.")
    known = inspect.signature(BACKBONES[name]).parameters
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            takes = [option for option in known if option != "input_shape"] or ["no options"]
            raise UsageError(
                f"model.{key} has no meaning for model.name={name}, which takes {', '.join(takes)}. "
                f"Set model.{key}=null."
            )
    backbone = BACKBONES[name](input_shape, **given)
    bias = getattr(backbone, "head_bias", True) if bias is None else bias
    heads = HeadBank(backbone.feature_dim, n_outputs, bias=bias, future=future)  # type: ignore[arg-type]
    network = Network(backbone, heads)
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
