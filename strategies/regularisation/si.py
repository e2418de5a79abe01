"""SI: a quadratic penalty holds each weight back by its share in the fall of earlier losses, measured while training.

Zenke, Poole & Ganguli 2017, "Continual Learning Through Synaptic Intelligence" (ICML, arXiv 1703.04200). While a task
is trained, omega sums up the loss's gradient times the step against it (eq. 3); at its end
Omega += omega / ((theta - theta*)^2 + xi) (eq. 5), and later losses have c sum Omega (theta - theta*)^2 added (eq. 4).

As in the authors' program Omega is not below 0, which the paper does not say: with a negative one the penalty would
reward distance without end. Gradients are clipped by value as in the Mammoth library; omega takes them as they were
before the penalty and the clipping. Mammoth's omega is lr * gradient^2 of the clipped gradient with the penalty in it.

Momentum: the path integral takes the step as it was made, so it is right for every optimiser (the authors used Adam),
and the optimiser stays the one of finetuning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, GradientStrategy, Requirement, StreamInfo, UsageError


class SI(GradientStrategy):
    """Synaptic Intelligence (Zenke et al. 2017): penalise moving weights that earlier losses fell by."""

    source = "Zenke, Poole & Ganguli 2017, arXiv 1703.04200"
    costs = "keeps 3P numbers for a network of P; no pass beside those of finetuning"
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the penalty; the optimiser's are those of finetuning."""

        c: float = 1.0  # weight of the penalty, 0 or more; Mammoth: 0.5 to 1
        xi: float = 0.001  # added to a weight's squared way, above 0; Mammoth: 1, which holds little in few steps
        clip: float = 1.0  # largest absolute entry of the gradient that is stepped with; 0 = no limit, as in the paper

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is held back yet. Raise UsageError for a value outside its range."""
        super().setup(info, build_model)
        c = self.config
        for name, value, least in (("c", c.c, "0 or more"), ("clip", c.clip, "0 or more"), ("xi", c.xi, "more than 0")):
            if not 0 <= value < float("inf") or (name == "xi" and not value):
                raise UsageError(f"strategy.{name}={value} is out of range. Use {least}.")
        self.parameters = list(self.model.parameters())
        self.anchor = flatten(self.parameters)  # theta*, [P]: weights at the end of the previous task
        self.importance = torch.zeros_like(self.anchor)  # Omega, [P]
        self.path = torch.zeros_like(self.anchor)  # omega, [P]: of the current task
        self.penalties = torch.zeros((), device=info.device)  # sum over the steps of the current experience
        self.steps = 0

    def start(self, experience: Experience) -> None:
        """Begin the path of a new task."""
        super().start(experience)
        self.path.zero_()
        self.penalties.zero_()
        self.steps = 0

    @torch.no_grad()
    def adjust_gradients(self, batch: Batch) -> None:
        """Keep the loss's gradient, add the penalty's, 2 c Omega (theta - theta*), and clip."""
        self.before = flatten(self.parameters)
        self.gradient = flatten([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        if self.experiences_learned:
            distance = self.before - self.anchor
            pull = self.importance * distance
            self.penalties += self.config.c * (pull * distance).sum()
            self.steps += 1
            add_to_gradients(self.parameters, pull, factor=2 * self.config.c)
        if self.config.clip:
            nn.utils.clip_grad_value_(self.parameters, self.config.clip)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """omega += gradient * (theta before the step - theta after it): what this step took off the loss (eq. 3)."""
        self.path += self.gradient * (self.before - flatten(self.parameters))

    @torch.no_grad()
    def finish(self, experience: Experience) -> None:
        """Turn the path into importance (eq. 5) and take the weights as anchor."""
        theta = flatten(self.parameters)
        self.importance = consolidated(self.importance, self.path, theta - self.anchor, xi=self.config.xi)
        self.anchor = theta
        self.path.zero_()

    def trained_tensors(self) -> list[Tensor]:
        """Return the network's, and the path: gone back to a state, it is the path to that state."""
        return [*super().trained_tensors(), self.path]

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty of the latest experience."""
        return {"SI penalty": float(self.penalties) / self.steps if self.steps else 0.0}

    def diagnostics(self) -> dict[str, Any]:
        """Return what the weights' importance has become."""
        return {
            "importance_mean": float(self.importance.mean()),
            "importance_max": float(self.importance.max()),
            "share_of_weights_held": float((self.importance > 0).float().mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the network and 3P numbers more; the path is zero between experiences, but is kept while training."""
        vectors = {"importance": self.importance, "anchor": self.anchor, "path": self.path}
        return super().state_dict() | vectors

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        device = self.info.device
        self.importance, self.anchor = state["importance"].to(device), state["anchor"].to(device)
        self.path = state["path"].to(device)


def consolidated(importance: Tensor, path: Tensor, way: Tensor, *, xi: float) -> Tensor:
    """Return Omega + omega / (way^2 + xi), not below 0 (eq. 5). All [P]; way: how far each weight went in the task."""
    return (importance + path / (way.square() + xi)).clamp(min=0)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Return all entries as one vector of its own, [P], without gradient."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def add_to_gradients(parameters: Sequence[Tensor], vector: Tensor, *, factor: float) -> None:
    """Add factor * vector [P] to the gradients, in place; a parameter without gradient is not trained."""
    pieces = vector.split([parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(piece.view(parameter.shape), alpha=factor)
