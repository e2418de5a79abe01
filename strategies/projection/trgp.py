"""TRGP: gradient projection that reuses the frozen weights of the most related old tasks by scaling them.

Lin, Yang, Fan & Zhang 2022, "TRGP: Trust Region Gradient Projection for Continual Learning" (ICLR, arXiv 2202.02931),
on top of GPM. In each layer the trust region of a task are the old tasks onto whose input space S_j its gradient
projects most; there the effective weight is W + sum_j W S_j (Q_j - I) S_j^T, with Q_j learned and kept per task.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, Predictor, Requirement, StreamInfo
from strategies.projection.options import ProjectionOptions
from strategies.projection.plateau_schedule import PlateauStrategy
from strategies.projection.regimes import CORRELATED, UNRELATED
from strategies.projection.trust_region_projection import TrustRegionOptions, TrustRegionProjection


class TRGP(PlateauStrategy):
    """Trust Region Gradient Projection (Lin et al. 2022): GPM that reuses related tasks' frozen weights."""

    source = "Lin, Yang, Fan & Zhang 2022, arXiv 2202.02931"
    costs = (
        "keeps directions and, for each task, scaling matrices of each layer; a projection a step, scaled layers in "
        "every pass, a decomposition a task"
    )
    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN, Requirement.TASK_ID_AT_TEST})

    @dataclass
    class Config(TrustRegionOptions, ProjectionOptions):
        """Options of trust-region gradient projection."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is remembered yet."""
        super().setup(info, build_model)
        self.projection = TrustRegionProjection(self, info, self.config)
        self.parts["projection"] = self.projection

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD: momentum and weight decay would move weights along protected directions."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def enter_training(self) -> None:
        """Training mode, but for running statistics of the first task."""
        self.projection.enter_training()

    def start(self, experience: Experience) -> None:
        """Protect all old directions, find the trust region of each layer, and set its scaling to the identity."""
        super().start(experience)
        self.projection.protect(experience)
        if self.projection.tasks_done:
            _, shares = self.projection.correlate(experience)
            regimes = {
                name: [CORRELATED if rho > self.config.eps1 else UNRELATED for rho in shares[name]] for name in shares
            }
            self.projection.log.add(regimes, shares)
            self.projection.begin_reuse(experience, shares)

    def train(self, experience: Experience) -> None:
        """Train until the validation loss no longer falls; the scaling matrices freely beside the weights."""
        self.projection.begin_training()
        super().train(experience)
        self.projection.end_training(experience)

    def after_epoch(self, experience: Experience, epoch: int) -> bool:
        """Follow the validation loss."""
        return self.projection.after_epoch(experience)

    def trained_tensors(self) -> list[Tensor]:
        """Return the network's, and the scaling matrices of the current task."""
        return self.projection.trained_tensors()

    def adjust_gradients(self, batch: Batch) -> None:
        """Take the part in the span of all old tasks' inputs away from each weight's gradient."""
        self.projection.project()

    def finish(self, experience: Experience) -> None:
        """Choose the task's own bases among old and new directions, and keep its scaling matrices."""
        assert experience.task_id is not None
        self.projection.remember_task(self.projection.sample(experience), task_id=experience.task_id)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network with the weights scaled as the task was learned."""
        return self.projection.predictor(super().predictor(task_id), task_id)

    def model_selection(self) -> str:
        """Return "validation" where training data is held out: the state with its lowest loss is kept."""
        return self.projection.model_selection()

    def constraints(self) -> dict[str, float]:
        """Return which share of the gradients' norm the projection removed."""
        return self.projection.constraints()

    def diagnostics(self) -> dict[str, Any]:
        """Return bases, scaling matrices and regimes."""
        return self.projection.diagnostics()
