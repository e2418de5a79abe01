"""Behaviour cloning: what a policy's outputs mean, and how far they are from an expert's actions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_suite.core.errors import UsageError, nearest

MODES = 5  # of a mixture, as in LIBERO's configuration
LEAST_DEVIATION = 1e-4  # of a mixture's parts, likewise


@dataclass(frozen=True)
class BehaviourCloning:
    """Imitate actions: targets [B, A], outputs [B, A]. Loss: mean absolute error (L1).

    The score, where a task has no scorer of its own: the share of samples whose action is within `tolerance`.
    """

    tolerance: float = 0.1  # in units of the action, for every one of its dimensions
    name: str = "behaviour_cloning"

    def outputs(self, actions: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the network's outputs, given those of the action's dimensions."""
        return tuple(actions)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss per sample, [B], mean over the action's dimensions."""
        return (outputs - targets).abs().mean(dim=1)

    def actions(self, outputs: Tensor) -> Tensor:
        """Return the actions to carry out, [B, A]."""
        return outputs

    def correct(self, outputs: Tensor, targets: Tensor, visible: Tensor) -> Tensor:
        """1.0 where every dimension of the action is within the tolerance; `visible`: all outputs."""
        return ((self.actions(outputs) - targets).abs() <= self.tolerance).all(dim=1).float()


@dataclass(frozen=True)
class SquaredError(BehaviourCloning):
    """The same with the mean squared error."""

    name: str = "behaviour_cloning_mse"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss per sample, [B]."""
        return (outputs - targets).square().mean(dim=1)


@dataclass(frozen=True)
class GaussianMixture(BehaviourCloning):
    """The same with a mixture of Gaussians (robomimic, Mandlekar et al. 2021, arXiv 2108.03298; LIBERO's head).

    Outputs [B, modes (2 A + 1)]: for each mode A means through tanh, A deviations as softplus + least_deviation, and
    one weight. Loss: negative log-likelihood. The action is the mean of the weightiest mode; LIBERO draws the mode.
    """

    modes: int = MODES
    least_deviation: float = LEAST_DEVIATION
    name: str = "behaviour_cloning_gmm"

    def outputs(self, actions: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the network's outputs."""
        names = []
        for mode in range(self.modes):
            names += [f"mode {mode}: {part} {action}" for part in ("mean", "deviation") for action in actions]
            names.append(f"mode {mode}: weight")
        return tuple(names)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return means [B, M, A] in (-1, 1), deviations [B, M, A] above 0, logarithms of the weights [B, M]."""
        split = outputs.unflatten(1, (self.modes, -1))
        size = (split.shape[2] - 1) // 2
        deviations = F.softplus(split[..., size : 2 * size]) + self.least_deviation
        return split[..., :size].tanh(), deviations, split[..., -1].log_softmax(dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-likelihood per sample, [B]."""
        means, deviations, weights = self.parts(outputs)
        distance = (targets[:, None] - means) / deviations
        densities = -0.5 * distance.square() - deviations.log() - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(weights + densities.sum(dim=2), dim=1)

    def actions(self, outputs: Tensor) -> Tensor:
        """Return the mean of the weightiest mode, [B, A]."""
        means, _, weights = self.parts(outputs)
        return means[torch.arange(len(means), device=means.device), weights.argmax(dim=1)]


HEADS: dict[str, Callable[[], BehaviourCloning]] = {
    "l1": BehaviourCloning,
    "mse": SquaredError,
    "gmm": GaussianMixture,
}


def imitation_objective(head: str) -> BehaviourCloning:
    """Return the objective of a head by name: l1, mse, gmm. Raise UsageError for another."""
    if head not in HEADS:
        raise UsageError(f"stream.head={head} is not known. {nearest(head, list(HEADS))}")
    return HEADS[head]()
