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

from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    Experience,
    GradientStrategy,
    QuadraticPenalty,
    Requirement,
    StreamInfo,
    UsageError,
    check_choices,
    check_own_gradients,
    samples_behind,
    true_label_fisher,
)


class EWC(GradientStrategy):
    """Elastic Weight Consolidation (Kirkpatrick et al. 2017, online: Schwarz et al. 2018): hold back weights in use."""

    source = "Kirkpatrick et al. 2017, arXiv 1612.00796; Schwarz et al. 2018, arXiv 1805.06370"
    costs = (
        "keeps 2P numbers for a network of P, or 2P a task with mode=separate; one pass over fisher_samples of each "
        "task, by single samples"
    )
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
        c = self.config
        self.penalty = QuadraticPenalty(self.model.parameters(), strength=c.ewc_lambda, mode=c.mode, gamma=c.gamma)

    def start(self, experience: Experience) -> None:
        """Find which weights the learning rate cannot hold as tight as their F asks for."""
        super().start(experience)
        c = self.config
        self.penalty.begin()
        self.penalty.weigh(lr=c.lr if c.cap and c.optimizer == "sgd" else 0.0)

    def loss(self, batch: Batch) -> Tensor:
        """Add lambda sum_k sum_i F_k,i (theta_i - theta*_k,i)^2 from the second experience on."""
        loss = super().loss(batch)
        return loss + self.penalty() if self.penalty.acts else loss

    def finish(self, experience: Experience) -> None:
        """Measure this task's Fisher, in evaluation mode, and take the weights as anchor."""
        c = self.config
        fisher = true_label_fisher(
            self.model,
            self.info,
            experience,
            task_masks=self.task_masks,
            samples=c.fisher_samples,
            by_probability=c.fisher_weighting == "prob",
        )
        self.penalty.hold(fisher)

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty of the latest experience."""
        return {"EWC penalty": self.penalty.mean()}

    def diagnostics(self) -> dict[str, Any]:
        """Return how many Fisher diagonals are kept, with mean and largest entry of each."""
        return {
            "fishers": len(self.penalty.importances),
            "fisher_mean": [float(F.mean()) for F in self.penalty.importances],
            "fisher_max": [float(F.max()) for F in self.penalty.importances],
            "weights_capped": int((self.penalty.shares < 1).sum()),  # in the latest experience
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the training passes, and one more over the samples behind each Fisher."""
        return info.planned_samples + samples_behind(info, self.config.fisher_samples)

    def state_dict(self) -> dict[str, Any]:
        """Return the network, Fisher diagonals and anchors: 2P numbers more than the network's, or 2P per task."""
        return super().state_dict() | self.penalty.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.penalty.load_state_dict(state)


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
