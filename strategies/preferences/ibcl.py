"""IBCL: a convex hull of posteriors from which a model for any trade-off between the tasks is drawn without training.

Lu, Caprio, Eaton & Lee, "IBCL: Zero-shot Model Generation under Stability-Plasticity Trade-offs" (arXiv 2305.14782).
Each task is fitted by variational inference from several priors. What is kept is a finitely generated credal set, the
convex hull of the posteriors; one that is close to another is replaced by it, so that storage grows sublinearly. A
preference (one weight per task) chooses a point of the hull, and models come from its highest-density region.
"code" marks what the authors' program does, "theory" what the paper says, where they differ; "ours" neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite, log, nan, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Experience,
    Predictor,
    Requirement,
    Strategy,
    StreamInfo,
    UnseenTask,
    UsageError,
    check_choices,
    check_preference,
    class_mask,
    restrict,
)
from strategies.preferences.mean_field import MeanField, Parameters, convex_combination, wasserstein
from strategies.preferences.variational import VariationalOptions, fit_posterior, starting_point


def normalised_distance(a: MeanField, b: MeanField) -> float:
    """|m_a - m_b| / P + |s_a - s_b| / P with P parameters (code): the larger a network, the closer all seems."""
    count = a.mean.numel()
    return float((a.mean - b.mean).norm() + (a.deviation - b.deviation).norm()) / count


def rms_distance(a: MeanField, b: MeanField) -> float:
    """2-Wasserstein distance over sqrt(P): how far a parameter's mean and deviation are from each other, typically."""
    return wasserstein(a, b) / sqrt(a.mean.numel())


DISTANCES: dict[str, Callable[[MeanField, MeanField], float]] = {
    "rms": rms_distance,
    "w2": wasserstein,
    "normalised": normalised_distance,
}


def region_mass(hdr_mass: float, alpha: float | None, convention: str) -> float:
    """Return the probability of the highest-density interval of a parameter.

    alpha: None = `hdr_mass` says it; else 1 - alpha by the paper (theory), alpha by the program (code)
    """
    if alpha is None:
        return hdr_mass
    return 1.0 - alpha if convention == "theory" else alpha


class IBCL(Strategy):
    """IBCL (Lu et al., arXiv 2305.14782): a convex hull of posteriors, models for any preference without training."""

    source = "Lu et al., arXiv 2305.14782"
    costs = (
        "keeps at most 2P numbers a prior and task; one training of means and deviations (2P numbers) for each "
        "prior; a preference costs no training"
    )
    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})

    @dataclass
    class Config(VariationalOptions):
        """Options of IBCL, beside those of variational inference."""

        prior_deviations: list[float] = field(default_factory=lambda: [0.2, 0.25, 0.3])  # one posterior a task for each
        distance: str = "rms"  # between posteriors: rms (ours), w2 (theory), normalised (code)
        threshold: float = 0.001  # a new posterior as close as this to a kept one is replaced by it; 0 = keep all
        combine: str = "linear"  # linear: one Gaussian (code); mixture (theory); sum_of_normals: its variance adds up
        hdr_mass: float = 0.01  # probability of each parameter's highest-density interval, between 0 and 1 (code: 0.01)
        alpha: float | None = None  # says the mass instead of hdr_mass
        alpha_convention: str = "code"  # code: the mass is alpha; theory: 1 - alpha
        sample: str = "per_element"  # draws in the region: per_element; tensor_scalar: one number a tensor (code)
        samples: int = 10  # models drawn for a preference

    @classmethod
    def starts_from_weights(cls, config: Any) -> bool:
        """Only where the first posterior begins at the network's weights."""
        return config.init == "network"

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network whose parameters are random. Raise UsageError for an option or network that cannot be."""
        self._check()
        self.info = info
        self.network: Any = build_model()
        self.parameters = Parameters(self.network, method="ibcl")
        self.extreme_points: list[MeanField] = []  # posteriors, in the order they came
        self.roles: list[
            list[int]
        ] = []  # [task][prior] -> its place in `extreme_points`, its own or of what replaced it
        self.growth: list[int] = []  # kept after each task
        self.nearest: list[
            list[float]
        ] = []  # [task][prior]: distance to the nearest one kept before it, NaN for the first

    def _check(self) -> None:
        c = self.config
        c.check_variational()
        check_choices(
            c,
            {
                "distance": (*DISTANCES,),
                "combine": ("linear", "mixture", "sum_of_normals"),
                "alpha_convention": ("code", "theory"),
                "sample": ("per_element", "tensor_scalar"),
            },
        )
        if not c.prior_deviations or not all(isfinite(each) and each > 0 for each in c.prior_deviations):
            raise UsageError(
                f"strategy.prior_deviations={c.prior_deviations} are not deviations. Give one or more, above 0."
            )
        if not 0 <= c.threshold < float("inf"):
            raise UsageError(f"strategy.threshold={c.threshold} is not a distance. Use 0 (keep all) or more.")
        if c.alpha is None and c.alpha_convention != "code":
            raise UsageError(
                f"strategy.alpha_convention={c.alpha_convention} says what strategy.alpha means, and there is none. "
                "Give strategy.alpha, or leave it out: hdr_mass is the mass itself."
            )
        mass = region_mass(c.hdr_mass, c.alpha, c.alpha_convention)
        if not 0 < mass < 1:
            said = f"hdr_mass={c.hdr_mass}" if c.alpha is None else f"alpha={c.alpha}"
            raise UsageError(
                f"strategy.{said} leaves an empty or unbounded region to draw from. Use more than 0 and less than 1."
            )
        if c.samples < 1:
            raise UsageError(f"strategy.samples={c.samples} draws no model. Use 1 or more.")

    # -- learning ---------------------------------------------------------------------------------------------------

    def learn(self, experience: Experience) -> None:
        """Fit one posterior per prior; keep those that are far from all that are kept."""
        self.network.heads.open(experience.classes)
        self.network.train()
        visible = None
        if self.info.task_classes is not None and experience.classes is not None:
            visible = class_mask(experience.classes, self.info.n_outputs, self.info.device)

        def surprise(theta: Tensor, batch: Batch) -> Tensor:
            logits = self.parameters.answers(theta, batch.inputs)
            return self.info.objective.loss(
                logits if visible is None else restrict(logits, visible), batch.targets
            ).sum()

        roles: list[int] = []
        nearest: list[float] = []
        for number, prior in enumerate(self._priors()):
            posterior = fit_posterior(
                experience,
                surprise,
                prior=prior,
                start=starting_point(self.config, self.parameters, prior, first=not self.roles),
                options=self.config,
                generator=experience.generator("posterior", number, device=self.info.device),
                phase=f"posterior {number + 1}",
            )
            role, distance = self._place(posterior)
            roles.append(role)
            nearest.append(distance)
        if self.roles and max(roles) < self.growth[-1]:
            experience.note(
                f"strategy.threshold={self.config.threshold} replaced every posterior of experience {experience.index} "
                "by an earlier one: its preference means theirs. Use a lower threshold (0 keeps all)."
            )
        self.roles.append(roles)
        self.nearest.append(nearest)
        self.growth.append(len(self.extreme_points))

    def _priors(self) -> list[MeanField]:
        """Return the priors of the coming task: zero-mean Gaussians, then the posteriors of the task before."""
        if self.roles:
            return [self.extreme_points[role] for role in self.roles[-1]]
        zero = torch.zeros(self.parameters.count, device=self.info.device)
        return [MeanField(zero, torch.full_like(zero, deviation)) for deviation in self.config.prior_deviations]

    def _place(self, posterior: MeanField) -> tuple[int, float]:
        """Keep a posterior, or let the nearest kept one stand for it; return its place and the distance to that one."""
        measure = DISTANCES[self.config.distance]
        distances = [measure(posterior, other) for other in self.extreme_points]
        nearest = min(distances, default=nan)
        if self.config.threshold and nearest <= self.config.threshold:
            return distances.index(nearest), nearest
        self.extreme_points.append(posterior)
        return len(self.extreme_points) - 1, nearest

    # -- answering --------------------------------------------------------------------------------------------------

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the model of a task alone, or of even preference where none is named. Raise UnseenTask."""
        learned = len(self.roles)
        if not learned or (task_id is not None and task_id >= learned):
            raise UnseenTask(f"task {task_id} has not been learned" if learned else "nothing has been learned yet")
        wanted = range(learned) if task_id is None else [task_id]
        return self.predictor_for([(task in wanted) / len(wanted) for task in range(learned)])

    def predictor_for(self, preference: Sequence[float]) -> Predictor:
        """Return the model in the middle of the preference's region; of a mixture, at its densest extreme point."""
        parts, weights = self._chosen(preference)
        if self.config.combine == "mixture":  # log density at its own mean
            pairs = zip(weights, parts, strict=True)
            heights = [log(weight) - float(part.deviation.log().sum()) for weight, part in pairs]
            return self.parameters.predictor(parts[heights.index(max(heights))].mean)
        return self.parameters.predictor(self._combined(parts, weights).mean)

    def predictors_for(self, preference: Sequence[float]) -> list[Predictor]:
        """Return `samples` models, uniform in the preference's highest-density region; the same ones each time."""
        parts, weights = self._chosen(preference)
        c = self.config
        mass = region_mass(c.hdr_mass, c.alpha, c.alpha_convention)
        generator = self.info.generator("models", len(self.roles), *(f"{weight:.6f}" for weight in weights))
        if c.combine == "mixture":
            chance = torch.tensor(weights, dtype=torch.float64)
            regions = [parts[place] for place in chance.multinomial(c.samples, replacement=True, generator=generator)]
        else:
            regions = [self._combined(parts, weights)] * c.samples
        return [self.parameters.predictor(self._draw(region, mass, generator)) for region in regions]

    def _chosen(self, preference: Sequence[float]) -> tuple[list[MeanField], list[float]]:
        """Return extreme points and their weights: each posterior of task k has w_k / m; those of zero are left out."""
        if not self.roles:
            raise UnseenTask("nothing has been learned yet")
        tasks = zip(check_preference(preference, len(self.roles)), self.roles, strict=True)
        pairs = [
            (self.extreme_points[role], weight / len(roles)) for weight, roles in tasks if weight for role in roles
        ]
        return [part for part, _ in pairs], [weight for _, weight in pairs]

    def _combined(self, parts: list[MeanField], weights: list[float]) -> MeanField:
        return convex_combination(parts, weights, power=2 if self.config.combine == "sum_of_normals" else 1)

    def _draw(self, region: MeanField, mass: float, generator: torch.Generator) -> Tensor:
        """Return parameters [P], uniform in the box of the region's highest-density intervals."""
        low, high = region.interval(mass)
        if self.config.sample == "per_element":
            share = torch.rand(len(low), generator=generator).to(low.device)
        else:
            scalars = torch.rand(len(self.parameters.sizes), generator=generator)
            share = scalars.repeat_interleave(torch.tensor(self.parameters.sizes)).to(low.device)
        return low + share * (high - low)

    # -- kept and told ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the extreme points, who stands for whom, and which outputs are open."""
        return {
            "means": [each.mean for each in self.extreme_points],
            "deviations": [each.deviation for each in self.extreme_points],
            "roles": self.roles,
            "growth": self.growth,
            "nearest": self.nearest,
            "opened": self.network.heads.opened,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        pairs = zip(state["means"], state["deviations"], strict=True)
        self.extreme_points = [MeanField(mean, deviation).to(self.info.device) for mean, deviation in pairs]
        self.roles, self.growth, self.nearest = state["roles"], state["growth"], state["nearest"]
        self.network.heads.opened.copy_(state["opened"])

    def model_parameters(self) -> int:
        """Return the numbers stored: mean and deviation of each parameter, for each extreme point."""
        return sum(each.scalars for each in self.extreme_points)

    def diagnostics(self) -> dict[str, Any]:
        """Return how the knowledge base grew, and by what distances posteriors were kept or replaced."""
        count = len(self.config.prior_deviations)
        tasks = list(range(1, len(self.growth) + 1))
        growth = {
            "kind": "lines",
            "title": "Knowledge base: posteriors kept",
            "x_label": "tasks learned",
            "y_label": "posteriors",
            "x": tasks,
            "series": {"trained": [count * task for task in tasks], "kept": self.growth},
        }
        return {
            "posteriors_kept": self.growth,
            "posteriors_trained": [count * task for task in tasks],
            "parameters_of_the_network": self.parameters.count,
            "bytes_kept": [2 * 4 * self.parameters.count * kept for kept in self.growth],
            "roles": self.roles,
            "distance_to_nearest_kept": self.nearest,
            "figures": {"knowledge": growth} if tasks else {},
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the stream once for each prior."""
        return info.planned_samples * len(self.config.prior_deviations)
