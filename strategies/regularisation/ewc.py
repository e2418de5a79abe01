"""EWC: a quadratic penalty holds each weight back by how much earlier tasks depend on it.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks" (PNAS, arXiv 1612.00796), with one
Fisher and anchor per task; its online form of Schwarz et al. 2018, "Progress & Compress" (ICML, arXiv 1805.06370), with
one for all. As the Mammoth library has it, the penalty is lambda sum F (theta - theta*)^2, without the papers' factor
1/2: their lambda is twice this one.

Momentum: lambda weighs one gradient against the other and is no step size, so the optimiser stays the one of finetuning
and all that differs is the penalty. Gradient descent diverges on a parabola that is too steep for its learning rate, as
happens after some tasks with batch normalisation. So no weight is held tighter than a single step of the rate can
(2 lambda F <= 1 / lr); `strategy.cap=false` is the papers' penalty everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    Experience,
    GradientStrategy,
    Requirement,
    StreamInfo,
    UsageError,
    check_choices,
    check_own_gradients,
    competing_outputs,
    fisher_diagonal,
    flatten,
    quadratic_penalty,
    squared_gradients,
    stable_shares,
)


class EWC(GradientStrategy):
    """Elastic Weight Consolidation (Kirkpatrick et al. 2017, online: Schwarz et al. 2018): hold back weights in use."""

    source = "Kirkpatrick et al. 2017, arXiv 1612.00796; Schwarz et al. 2018, arXiv 1805.06370"
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the penalty; the optimiser's are those of finetuning."""

        ewc_lambda: float = 100.0  # weight of the penalty, 0 or more; Mammoth: 90 Split MNIST, 10 Split CIFAR-10
        mode: str = "online"  # online: one decaying Fisher, anchored at the latest weights; separate: one per task
        gamma: float = 1.0  # online: what an old Fisher keeps at each new task, in [0, 1]
        fisher_weighting: str = "none"  # none: as in the papers; prob: by the true label's probability, as Mammoth
        fisher_samples: int = 2000  # training samples behind a task's Fisher; 0 = all, as Mammoth
        cap: bool = True  # sgd: hold a weight at most as tight as the learning rate allows

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is held back yet. Raise UsageError for options or a network that do not fit."""
        super().setup(info, build_model)
        _check(self.config, info, self.model)
        self.importances: list[Tensor] = []  # diagonals of Fisher matrices, [P] each: one, or one per task
        self.anchors: list[Tensor] = []  # theta*, [P] each
        self.penalties = torch.zeros((), device=info.device)  # sum over the steps of the current experience
        self.steps = 0
        self.shares = torch.ones_like(flatten(list(self.model.parameters())))  # of each weight's F that acts, [P]

    def start(self, experience: Experience) -> None:
        """Find which weights the learning rate cannot hold as tight as their F asks for."""
        super().start(experience)
        self.penalties.zero_()
        self.steps = 0
        c = self.config
        if self.importances and c.cap and c.optimizer == "sgd":
            self.shares = stable_shares(self.importances, weight=c.ewc_lambda, lr=c.lr)

    def loss(self, batch: Batch) -> Tensor:
        """Add lambda sum_k sum_i F_k,i (theta_i - theta*_k,i)^2 from the second experience on."""
        loss = super().loss(batch)
        if not self.importances:
            return loss
        theta = flatten(list(self.model.parameters()))
        penalty = self.config.ewc_lambda * self.shares @ quadratic_penalty(theta, self.importances, self.anchors)
        self.penalties += penalty.detach()
        self.steps += 1
        return loss + penalty

    def finish(self, experience: Experience) -> None:
        """Measure this task's Fisher and take the weights as anchor."""
        fisher = self.fisher(experience)
        theta = flatten(list(self.model.parameters())).detach().clone()
        if self.config.mode == "separate" or not self.importances:
            self.importances.append(fisher)
            self.anchors.append(theta)
        else:
            self.importances = [self.config.gamma * self.importances[0] + fisher]
            self.anchors = [theta]

    def fisher(self, experience: Experience) -> Tensor:
        """Return the mean over samples of the squared gradient of log p(true label), [P], in evaluation mode."""
        self.model.eval()

        def squares(batch: Batch) -> Tensor:
            return squared_gradients(
                self.model,
                self.info.objective,
                batch.inputs,
                batch.targets,
                competing_outputs(batch, self.task_masks, self.info.n_outputs),
                by_probability=self.config.fisher_weighting == "prob",
            )

        return fisher_diagonal(experience, squares, samples=self.config.fisher_samples, like=self.shares)

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty of the latest experience."""
        return {"EWC penalty": float(self.penalties) / self.steps if self.steps else 0.0}

    def diagnostics(self) -> dict[str, Any]:
        """Return how many Fisher diagonals are kept, with mean and largest entry of each."""
        return {
            "fishers": len(self.importances),
            "fisher_mean": [float(F.mean()) for F in self.importances],
            "fisher_max": [float(F.max()) for F in self.importances],
            "weights_capped": int((self.shares < 1).sum()),  # in the latest experience
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the training passes, and one more over the samples behind each Fisher."""
        once = info.planned_samples // info.train.epochs
        wanted = self.config.fisher_samples * info.n_experiences
        return info.planned_samples + (min(wanted, once) if wanted else once)

    def state_dict(self) -> dict[str, Any]:
        """Return the network, Fisher diagonals and anchors: 2P numbers more than the network's, or 2P per task."""
        return super().state_dict() | {"importance": list(self.importances), "anchor": list(self.anchors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.importances = [value.to(self.info.device) for value in state["importance"]]
        self.anchors = [value.to(self.info.device) for value in state["anchor"]]


def _check(config: Any, info: StreamInfo, model: nn.Module) -> None:
    """Raise UsageError for options out of range, or a network whose samples have no gradient of their own."""
    check_choices(config, {"mode": ("online", "separate"), "fisher_weighting": ("none", "prob")})
    if not 0 <= config.ewc_lambda < float("inf"):
        raise UsageError(f"strategy.ewc_lambda={config.ewc_lambda} is not a weight. Use 0 or more.")
    if not 0 <= config.gamma <= 1:
        raise UsageError(f"strategy.gamma={config.gamma} is not a share. Use 0 to 1.")
    if config.fisher_samples < 0:
        raise UsageError(f"strategy.fisher_samples={config.fisher_samples} is not a number of samples. Use 0 or more.")
    if config.fisher_weighting == "prob" and not isinstance(info.objective, Classification):
        raise UsageError(
            f"strategy.fisher_weighting=prob needs one class per sample, but {info.stream} is "
            f"{info.objective.name}. Use none."
        )
    check_own_gradients(model, "EWC")
