"""EWC by preference: each earlier task holds the weights back as much as the preference says. One training for each.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks" (PNAS, arXiv 1612.00796), with one
Fisher and anchor per task, each weighted. Even weights are EWC with one Fisher per task, all of its loss divided by the
number of tasks. As in `ewc` the penalty has no factor 1/2, and no weight is held tighter than one step of the rate can.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Experience,
    GradientStrategy,
    QuadraticPenalty,
    StreamInfo,
    UsageError,
    check_own_gradients,
    samples_behind,
    true_label_fisher,
)
from strategies.preferences.one_per_preference import OnePerPreference


class PreferenceEWC(OnePerPreference):
    """EWC (Kirkpatrick et al. 2017) with each task's penalty weighted by a preference, trained anew for each."""

    source = "Kirkpatrick et al. 2017, arXiv 1612.00796"
    costs = (
        "keeps 2P numbers a task; one training for each preference asked for, and a pass over fisher_samples of "
        "each task"
    )

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the penalty; the optimiser's are those of finetuning."""

        ewc_lambda: float = 100.0  # weight of the penalties, 0 or more, as strategy.ewc_lambda of ewc
        fisher_samples: int = 2000  # training samples behind a task's Fisher; 0 = all
        cap: bool = True  # sgd: hold a weight at most as tight as the learning rate allows

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is held back yet. Raise UsageError for options or a network that do not fit."""
        super().setup(info, build_model)
        c = self.config
        if not 0 <= c.ewc_lambda < float("inf"):
            raise UsageError(f"strategy.ewc_lambda={c.ewc_lambda} is not a weight. Use 0 or more.")
        if c.fisher_samples < 0:
            raise UsageError(f"strategy.fisher_samples={c.fisher_samples} is not a number of samples. Use 0 or more.")
        check_own_gradients(self.model, "preference_ewc")
        self.penalty = QuadraticPenalty(self.model.parameters(), strength=c.ewc_lambda)

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self.penalty.begin()

    def prefer(self, preference: tuple[float, ...]) -> None:
        """Weigh the Fisher matrices; find which weights the learning rate cannot hold as tight as they ask for."""
        super().prefer(preference)
        c = self.config
        self.penalty.weigh(preference[:-1], lr=c.lr if c.cap and c.optimizer == "sgd" else 0.0)

    def loss(self, batch: Batch) -> Tensor:
        """Return w_i L(batch) + lambda sum over earlier k of w_k F_k (theta - theta*_k)^2, summed over weights."""
        terms = [self.weights[-1] * self.losses(batch).mean()] if self.preference[-1] else []
        if self.penalty.acts:
            terms.append(self.penalty())
        return torch.stack(terms).sum()

    def finish(self, experience: Experience) -> None:
        """Measure this task's Fisher and take the weights, as trained for even ones, as anchor."""
        samples = self.config.fisher_samples
        self.penalty.hold(
            true_label_fisher(self.model, self.info, experience, task_masks=self.task_masks, samples=samples)
        )

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty of the latest experience, over the steps of all trainings that have one."""
        return {"weighted EWC penalty": self.penalty.mean()}

    def diagnostics(self) -> dict[str, Any]:
        """Return trainings, and mean and largest entry of each Fisher diagonal."""
        return super().diagnostics() | {
            "fisher_mean": [float(F.mean()) for F in self.penalty.importances],
            "fisher_max": [float(F.max()) for F in self.penalty.importances],
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return one training of each experience, and one more pass over the samples behind each Fisher."""
        return info.planned_samples + samples_behind(info, self.config.fisher_samples)

    def state_dict(self) -> dict[str, Any]:
        """Return networks, Fisher diagonals and anchors: 2P numbers per task more than the networks."""
        return super().state_dict() | self.penalty.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.penalty.load_state_dict(state)
