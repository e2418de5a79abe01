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
    StreamInfo,
    UsageError,
    check_own_gradients,
    competing_outputs,
    fisher_diagonal,
    flatten,
    quadratic_penalty,
    squared_gradients,
    stable_shares,
)
from strategies.preferences.one_per_preference import OnePerPreference


class PreferenceEWC(OnePerPreference):
    """EWC (Kirkpatrick et al. 2017) with each task's penalty weighted by a preference, trained anew for each."""

    source = "Kirkpatrick et al. 2017, arXiv 1612.00796"

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
        self.importances: list[Tensor] = []  # diagonal of each task's Fisher matrix, [P]
        self.anchors: list[Tensor] = []  # theta*, [P]: the weights after each task
        self.held: list[tuple[Tensor, Tensor]] = []  # (w_k F_k, theta*_k) of the tasks that weigh anything, [P] each
        self.shares = torch.ones(self.model_parameters(), device=info.device)  # of each weight's F that acts, [P]
        self.penalties = torch.zeros((), device=info.device)  # sum over the steps of the current experience
        self.steps = 0

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self.penalties.zero_()
        self.steps = 0

    def prefer(self, preference: tuple[float, ...]) -> None:
        """Weigh the Fisher matrices; find which weights the learning rate cannot hold as tight as they ask for."""
        super().prefer(preference)
        terms = zip(preference[:-1], self.importances, self.anchors, strict=True)
        self.held = [(weight * F, anchor) for weight, F, anchor in terms if weight]
        c = self.config
        if self.held and c.cap and c.optimizer == "sgd":
            self.shares = stable_shares([F for F, _ in self.held], weight=c.ewc_lambda, lr=c.lr)

    def loss(self, batch: Batch) -> Tensor:
        """Return w_i L(batch) + lambda sum over earlier k of w_k F_k (theta - theta*_k)^2, summed over weights."""
        terms = [self.weights[-1] * self.losses(batch).mean()] if self.preference[-1] else []
        if self.held:
            theta = flatten(list(self.model.parameters()))
            importances, anchors = zip(*self.held, strict=True)
            penalty = self.config.ewc_lambda * self.shares @ quadratic_penalty(theta, importances, anchors)
            self.penalties += penalty.detach()
            self.steps += 1
            terms.append(penalty)
        return torch.stack(terms).sum()

    def finish(self, experience: Experience) -> None:
        """Measure this task's Fisher and take the weights, as trained for even ones, as anchor."""
        self.model.eval()
        self.importances.append(
            fisher_diagonal(experience, self._squares, samples=self.config.fisher_samples, like=self.shares)
        )
        self.anchors.append(flatten(list(self.model.parameters())).detach().clone())

    def _squares(self, batch: Batch) -> Tensor:
        visible = competing_outputs(batch, self.task_masks, self.info.n_outputs)
        return squared_gradients(self.model, self.info.objective, batch.inputs, batch.targets, visible)

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty of the latest experience, over the steps of all trainings that have one."""
        return {"weighted EWC penalty": float(self.penalties) / self.steps if self.steps else 0.0}

    def diagnostics(self) -> dict[str, Any]:
        """Return trainings, and mean and largest entry of each Fisher diagonal."""
        return super().diagnostics() | {
            "fisher_mean": [float(F.mean()) for F in self.importances],
            "fisher_max": [float(F.max()) for F in self.importances],
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return one training of each experience, and one more pass over the samples behind each Fisher."""
        once = info.planned_samples // info.train.epochs
        wanted = self.config.fisher_samples * info.n_experiences
        return info.planned_samples + (min(wanted, once) if wanted else once)

    def state_dict(self) -> dict[str, Any]:
        """Return networks, Fisher diagonals and anchors: 2P numbers per task more than the networks."""
        return super().state_dict() | {"importance": list(self.importances), "anchor": list(self.anchors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.importances = [value.to(self.info.device) for value in state["importance"]]
        self.anchors = [value.to(self.info.device) for value in state["anchor"]]
