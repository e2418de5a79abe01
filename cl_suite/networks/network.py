"""Networks: a backbone by published name, and the head that fills one global logit vector."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.types import Inputs
from cl_suite.networks.images import BACKBONES, IMAGE_BACKBONES
from cl_suite.networks.policies import POLICIES
from cl_suite.networks.texts import TEXT_BACKBONES


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
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]],
    n_outputs: int,
    *,
    bias: bool | None = None,
    future: bool = False,
    vocabulary: int | None = None,
    **options: object,
) -> Network:
    """Return a network by backbone name.

    "auto" takes an MLP for vectors and grey images, conv_small for colour, text_cnn for tokens, bc_mlp for what robots
    see.

    input_shape: of one sample, (D,), (C, H, W) or {"tokens": (L,), "mask": (L,)}; n_outputs: of the heads
    bias:        whether the heads have a bias; None = as the backbone wishes (its `head_bias`), which is yes if unsaid
    future:      see HeadBank
    vocabulary:  number of token ids, padding included, where samples are tokens
    options:     of the backbone: `hidden` (MLPs, text_bag, text_transformer, policies), `width` (conv_small, ResNets,
                 alexnet, text_cnn), `dimensions` (text networks, policies), `frozen_embeddings`, `encoder` (text
                 networks), `vision` (policies)

    Raise UsageError for an unknown name or option, or a backbone that cannot read the input.
    """
    name = _fitting_name(name, input_shape, vocabulary)
    build = {**BACKBONES, **TEXT_BACKBONES, **POLICIES}[name]
    known = [option for option in inspect.signature(build).parameters if option not in ("input_shape", "vocabulary")]
    arguments = {key: value for key, value in options.items() if value is not None}
    for key in arguments:
        if key not in known:
            takes = known or ["no options"]
            raise UsageError(
                f"model.{key} has no meaning for model.name={name}, which takes {', '.join(takes)}. "
                f"Set model.{key}=null."
            )
    if name in TEXT_BACKBONES:
        arguments["vocabulary"] = vocabulary
    backbone = build(input_shape, **arguments)
    bias = getattr(backbone, "head_bias", True) if bias is None else bias
    heads = HeadBank(backbone.feature_dim, n_outputs, bias=bias, future=future)  # type: ignore[arg-type]
    network = Network(backbone, heads)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fitting_name(name: str, shape: tuple[int, ...] | Mapping[str, tuple[int, ...]], vocabulary: int | None) -> str:
    """Return the backbone that a name means for such samples. Raise UsageError if it cannot read them."""
    kinds = {"images or vectors": BACKBONES, "tokens of texts": TEXT_BACKBONES, "what robots see": POLICIES}
    everything = [known for backbones in kinds.values() for known in backbones]
    kind = _kind(shape, vocabulary)
    if name == "auto":
        colour = not isinstance(shape, Mapping) and len(shape) == 3 and shape[0] == 3
        return {"tokens of texts": "text_cnn", "what robots see": "bc_mlp"}.get(kind, "conv_small" if colour else "mlp")
    if name not in everything:
        raise UsageError(f"model.name={name} is not a backbone. {nearest(name, everything)}")
    if name not in kinds[kind]:
        reads = next(other for other, backbones in kinds.items() if name in backbones)
        advice = f"Use {', '.join(kinds[kind])}"
        if kind == "tokens of texts":
            advice += ", or vectors of a frozen encoder (features.network=encoder)"
        raise UsageError(f"model.name={name} reads {reads}, not {kind}. {advice}.")
    if name in IMAGE_BACKBONES and len(shape) != 3:
        raise UsageError(f"model.name={name} reads images [C, H, W], not inputs of shape {shape}. Use mlp.")
    return name


def _kind(shape: tuple[int, ...] | Mapping[str, tuple[int, ...]], vocabulary: int | None) -> str:
    if not isinstance(shape, Mapping):
        return "images or vectors"
    if vocabulary is not None and set(shape) == {"tokens", "mask"}:
        return "tokens of texts"
    if {"states", "instruction"} <= set(shape):
        return "what robots see"
    raise UsageError(
        f"no backbone of cl-suite reads dictionaries of {', '.join(shape)}. "
        "Use a stream of images, vectors, texts or robot tasks."
    )


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
