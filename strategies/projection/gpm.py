"""GPM: update each layer only in directions that inputs of earlier tasks do not span.

Saha, Garg & Roy 2021, "Gradient Projection Memory for Continual Learning" (ICLR, arXiv 2103.09762). The gradient of a
layer's weight lies in the span of the layer's inputs; without its part in the span of old inputs, what the layer
answers to those stays as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cl_suite import Batch, Experience, Requirement, StreamInfo
from strategies.projection.gradient_projection import GradientProjection
from strategies.projection.options import ProjectionOptions
from strategies.projection.plateau_schedule import PlateauStrategy


class GPM(PlateauStrategy):
    """Gradient Projection Memory (Saha et al. 2021): learn orthogonally to what earlier tasks' inputs span."""

    source = "Saha, Garg & Roy 2021, arXiv 2103.09762"
    costs = (
        "keeps orthonormal directions of each layer's inputs, more with each task; a projection of the gradient a "
        "step, a decomposition a task"
    )
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(ProjectionOptions):
        """Options of gradient projection."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is remembered yet."""
        super().setup(info, build_model)
        self.projection = GradientProjection(self, info, self.config)
        self.parts["projection"] = self.projection

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD: momentum and weight decay would move weights along protected directions."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def enter_training(self) -> None:
        """Training mode, but for running statistics of the first task."""
        self.projection.enter_training()

    def start(self, experience: Experience) -> None:
        """Protect the directions of all earlier tasks."""
        super().start(experience)
        self.projection.protect(experience)

    def train(self, experience: Experience) -> None:
        """Train until the validation loss no longer falls."""
        self.projection.begin_training()
        super().train(experience)
        self.projection.end_training(experience)

    def after_epoch(self, experience: Experience, epoch: int) -> bool:
        """Follow the validation loss."""
        return self.projection.after_epoch(experience)

    def adjust_gradients(self, batch: Batch) -> None:
        """Take G M M^T away from each layer's gradient G (eq. 6 and 7)."""
        self.projection.project()

    def finish(self, experience: Experience) -> None:
        """Add the directions that this task's inputs need and the basis M lacks (eq. 8 and 9)."""
        rule = self.config.first_task_rank
        self.projection.remember(
            self.projection.sample(experience), lambda space, R, threshold: space.grow(R, threshold, rule=rule)
        )

    def model_selection(self) -> str:
        """Return "validation" where training data is held out: the state with its lowest loss is kept."""
        return self.projection.model_selection()

    def constraints(self) -> dict[str, float]:
        """Return which share of the gradients' norm the projection removed."""
        return self.projection.constraints()

    def diagnostics(self) -> dict[str, Any]:
        """Return what the bases hold."""
        return self.projection.diagnostics()
