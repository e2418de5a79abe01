"""A Gaussian over all parameters of a network, independent in each: N(mean, diag deviation^2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_suite import Inputs, ModelPredictor, Predictor, UsageError, flatten


@dataclass(frozen=True)
class MeanField:
    """mean, deviation: [P], in the order of `Parameters`; deviations above 0."""

    mean: Tensor
    deviation: Tensor

    @property
    def scalars(self) -> int:
        """How many numbers are stored for it."""
        return self.mean.numel() + self.deviation.numel()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw [P], through which gradients reach mean and deviation (reparameterised)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.deviation * noise

    def log_density(self, theta: Tensor) -> Tensor:
        """Return log N(theta), a scalar."""
        standardised = (theta - self.mean) / self.deviation
        return -(0.5 * standardised.square() + self.deviation.log()).sum() - 0.5 * math.log(2 * math.pi) * len(theta)

    def interval(self, mass: float) -> tuple[Tensor, Tensor]:
        """Return (low, high) [P]: per parameter the central, and as it is a Gaussian the densest, region of `mass`.

        Its half-width is z deviations, z = Phi^-1((1 + mass) / 2). The box of all of them holds mass^P.
        """
        half = torch.special.ndtri(torch.tensor((1.0 + mass) / 2.0, dtype=torch.float64)).item() * self.deviation
        return self.mean - half, self.mean + half

    def to(self, device: torch.device) -> MeanField:
        """Return it on a device."""
        return MeanField(self.mean.to(device), self.deviation.to(device))


def divergence(q: MeanField, p: MeanField) -> Tensor:
    """KL(q || p) in closed form, a scalar: sum of log(s_p/s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2."""
    ratio = (q.deviation / p.deviation).square()
    shift = ((q.mean - p.mean) / p.deviation).square()
    return 0.5 * (ratio + shift - 1.0 - ratio.log()).sum()


def wasserstein(a: MeanField, b: MeanField) -> float:
    """2-Wasserstein distance: sqrt(|m_a - m_b|^2 + |s_a - s_b|^2) for diagonal Gaussians."""
    return math.sqrt(float((a.mean - b.mean).square().sum() + (a.deviation - b.deviation).square().sum()))


def convex_combination(parts: Sequence[MeanField], weights: Sequence[float], *, power: int = 1) -> MeanField:
    """Return the Gaussian of mean sum w m and deviation sum w s; with `power` 2 of variance sum w^2 s^2."""
    mean = sum(weight * part.mean for weight, part in zip(weights, parts, strict=True))
    spread = sum((weight * part.deviation) ** power for weight, part in zip(weights, parts, strict=True))
    assert isinstance(mean, Tensor) and isinstance(spread, Tensor)
    return MeanField(mean, spread ** (1.0 / power))


class Parameters:
    """The parameters of a network as one vector [P], and the network with another vector in their place."""

    def __init__(self, network: nn.Module, *, method: str) -> None:
        """Raise UsageError, naming the `method`, for a network that keeps statistics beside its parameters."""
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            raise UsageError(
                f"{method} keeps distributions over parameters, and batch norm keeps statistics beside them. "
                "Use a network without it (model.name=mlp or lenet5), or features.network=... with model.name=mlp."
            )
        self.network: Any = network
        self.shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]

    @property
    def count(self) -> int:
        """P."""
        return sum(self.sizes)

    def vector(self) -> Tensor:
        """Return the network's own parameters, [P], detached."""
        return flatten(list(self.network.parameters())).detach()

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Return {name: tensor} views of a vector [P]."""
        pieces = theta.split(self.sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def answers(self, theta: Tensor, inputs: Inputs) -> Tensor:
        """Return logits [B, C] of the network with parameters `theta` [P]."""
        return functional_call(self.network, self.named(theta), (inputs,))

    def predictor(self, theta: Tensor) -> Predictor:
        """Return the predictor of parameters `theta` [P], evaluation mode, without gradients."""
        fixed = theta.detach().clone()
        return ModelPredictor(self.network, lambda inputs: self.answers(fixed, inputs))
