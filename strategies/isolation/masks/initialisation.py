"""First weights and scores of masked layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cl_suite import UsageError
from strategies.isolation.masks.layers import masked_layers_of


def _signed_constant(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(shape, generator=generator) < 0.5, -scale, scale)


def _xavier(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    fan_out = shape[0] * math.prod(shape[2:])
    return torch.randn(shape, generator=generator) * math.sqrt(2 / (math.prod(shape[1:]) + fan_out))


WEIGHT_INITS: dict[str, Callable[[tuple[int, ...], float, torch.Generator], Tensor]] = {
    "signed_constant": _signed_constant,
    "unsigned_constant": lambda shape, scale, generator: torch.full(shape, scale),
    "kaiming_normal": lambda shape, scale, generator: torch.randn(shape, generator=generator) * scale,
    "xavier_normal": _xavier,
}


@torch.no_grad()
def initialise_weights(network: nn.Module, kind: str, generator: torch.Generator) -> None:
    """Draw the weights of every masked layer; the Kaiming scale is sqrt(2 / fan_in).

    "signed_constant" (Ramanujan et al. 2020): that scale with a random sign; the others are ablations.
    """
    if kind not in WEIGHT_INITS:
        raise UsageError(f"strategy.weight_init={kind} is not known. Use {', '.join(WEIGHT_INITS)}.")
    for layer in masked_layers_of(network):
        shape = tuple(layer.weight.shape)
        layer.weight.copy_(WEIGHT_INITS[kind](shape, math.sqrt(2 / math.prod(shape[1:])), generator))


@torch.no_grad()
def initialise_scores(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the scores of every masked layer: Kaiming uniform with a = sqrt 5, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    for layer in masked_layers_of(network):
        bound = 1 / math.sqrt(math.prod(layer.scores.shape[1:]))
        layer.scores.copy_((torch.rand(layer.scores.shape, generator=generator) * 2 - 1) * bound)
