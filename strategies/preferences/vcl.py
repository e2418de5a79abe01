"""VCL: Bayes' rule from task to task, each posterior the prior of the next.

Nguyen, Li, Bui & Turner 2018, "Variational Continual Learning" (ICLR, arXiv 1710.10628), with mean-field Gaussians. The
answer is the mean of the probabilities of some networks drawn from the posterior. The memory is that of IBCL's program
(Lu et al., arXiv 2305.14782): samples of each earlier task add a likelihood of their own while the next is learned. The
paper's coreset is held out of the posteriors instead and trained on before an answer; 0 samples are VCL without either.
With `strategy.per_preference` each likelihood is weighted by the preference, one posterior for each ("VCL-reg").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    Experience,
    Inputs,
    Predictor,
    Requirement,
    Strategy,
    StreamInfo,
    UnseenTask,
    UsageError,
    check_preference,
    class_mask,
    restrict,
)
from strategies.preferences.mean_field import MeanField, Parameters
from strategies.preferences.one_per_preference import PreferenceModels
from strategies.preferences.task_memory import TaskMemory
from strategies.preferences.variational import VariationalOptions, fit_posterior, starting_point


class VCL(Strategy):
    """Variational continual learning (Nguyen et al. 2018): the posterior of each task is the prior of the next."""

    source = "Nguyen et al. 2018, arXiv 1710.10628; by preference: Lu et al., arXiv 2305.14782"
    costs = (
        "keeps means and deviations, 2P numbers for a network of P, and memory_per_task samples of each task, all "
        "replayed in each step; with per_preference a training for each"
    )
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(VariationalOptions):
        """Options of VCL, beside those of variational inference."""

        prior_deviation: float = 0.25  # of the first prior, a zero-mean Gaussian (IBCL's program: 0.25 or 2.5)
        samples: int = 10  # networks drawn from the posterior to answer
        memory_per_task: int = 20  # samples of each earlier task (IBCL's program: 20 or 200); 0 = none
        per_preference: bool = False  # VCL-reg: one posterior for each preference announced; else one for all

    @classmethod
    def starts_from_weights(cls, config: Any) -> bool:
        """Only where the first posterior begins at the network's weights."""
        return config.init == "network"

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network whose parameters are random. Raise UsageError for an option or network that cannot be."""
        c = self.config
        c.check_variational()
        if not 0 < c.prior_deviation < float("inf"):
            raise UsageError(f"strategy.prior_deviation={c.prior_deviation} is not possible. Use a number above 0.")
        if c.samples < 1:
            raise UsageError(f"strategy.samples={c.samples} draws no model. Use 1 or more.")
        if c.memory_per_task < 0:
            raise UsageError(f"strategy.memory_per_task={c.memory_per_task} is a number of samples. Use 0 or more.")
        self.info = info
        self.network: Any = build_model()
        self.parameters = Parameters(self.network, method="vcl")
        self.memory = TaskMemory(info, c.memory_per_task) if c.memory_per_task else None
        self.models = PreferenceModels(info.device)
        zero = torch.zeros(self.parameters.count, device=info.device)
        self.posterior = MeanField(zero, torch.full_like(zero, c.prior_deviation))  # of all tasks learned, even weights
        self.visible = torch.zeros(0, info.n_outputs, dtype=torch.bool, device=info.device)  # [tasks, C]: compete

    # -- learning ---------------------------------------------------------------------------------------------------

    def announce(self, preferences: Sequence[tuple[float, ...]]) -> None:
        """Hear which preferences will be asked for; with one posterior for all it does not matter."""
        if self.config.per_preference:
            self.models.announced = list(preferences)

    def learn(self, experience: Experience) -> None:
        """Fit the posterior, from that of the tasks before as the prior; with `per_preference` one for each."""
        self.network.heads.open(experience.classes)
        self.network.train()
        classes = None if self.info.task_classes is None else experience.classes
        everything = range(self.info.n_outputs)
        row = class_mask(everything if classes is None else classes, self.info.n_outputs, self.info.device)
        self.visible = torch.cat([self.visible, row[None]])
        prior = self.posterior
        start = starting_point(self.config, self.parameters, prior, first=len(self.visible) == 1)
        plan = self.models.plan(len(self.visible))
        for number, preference in enumerate(plan, start=1):
            posterior = fit_posterior(
                experience,
                self._surprise(preference),
                prior=prior,
                start=start,
                options=self.config,
                generator=experience.generator("posterior", device=self.info.device),
                phase=f"posterior {number} of {len(plan)}",
                order=1,
            )
            if number == 1:
                self.posterior = posterior  # of even weights
            else:
                self.models.keep(preference, {"mean": posterior.mean, "deviation": posterior.deviation})
        if self.memory is not None:
            self.memory.keep(experience)

    def _surprise(self, preference: tuple[float, ...]) -> Callable[[Tensor, Batch], Tensor]:
        """Return T times sum over tasks of w_k (-log likelihood), T the number of tasks: even weights are plain VCL.

        A memory stands for its task: it counts as many samples as the batch has, however many it holds.
        """
        tasks = len(preference)
        weights = tasks * torch.tensor(preference, device=self.info.device)  # [T]
        earlier = [place for place, weight in enumerate(preference[:-1]) if weight and self.memory is not None]

        def surprise(theta: Tensor, batch: Batch) -> Tensor:
            terms = []
            if preference[-1]:
                terms.append(weights[-1] * self._losses(theta, batch, self.visible[-1]).sum())
            if earlier:
                assert self.memory is not None
                replay = self.memory.draw(earlier)
                losses = self._losses(theta, replay, self.visible[replay.extras["order"]])
                terms.append(len(batch) * self.memory.shares(weights[:-1], replay) @ losses)
            return torch.stack(terms).sum() if terms else 0.0 * theta.sum()

        return surprise

    def _losses(self, theta: Tensor, batch: Batch, visible: Tensor) -> Tensor:
        return self.info.objective.loss(restrict(self.parameters.answers(theta, batch.inputs), visible), batch.targets)

    # -- answering --------------------------------------------------------------------------------------------------

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the mean over draws from the posterior; only the task's outputs are finite if it is named."""
        self._require_learned(task_id)
        visible = None if task_id is None else self.visible[task_id]
        return self._mean(self._draws(self.posterior), visible)

    def predictor_for(self, preference: Sequence[float]) -> Predictor:
        """Return the mean over draws for a preference. Raise UnseenTask; UsageError for one that was not announced."""
        return self._mean(self._draws(self._posterior_for(preference)), None)

    def predictors_for(self, preference: Sequence[float]) -> list[Predictor]:
        """Return the draws one by one, the same ones each time: of its own posterior, or of the one for all."""
        return [self.parameters.predictor(theta) for theta in self._draws(self._posterior_for(preference))]

    def _posterior_for(self, preference: Sequence[float]) -> MeanField:
        self._require_learned(None)
        check_preference(preference, len(self.visible))
        tensors = self.models.of(preference) if self.config.per_preference else None
        return self.posterior if tensors is None else MeanField(tensors["mean"], tensors["deviation"])

    def _require_learned(self, task_id: int | None) -> None:
        learned = len(self.visible)
        if not learned or (task_id is not None and task_id >= learned):
            raise UnseenTask(f"task {task_id} has not been learned" if learned else "nothing has been learned yet")

    def _draws(self, posterior: MeanField) -> Tensor:
        """Return `samples` parameter vectors, [S, P], by the same noise whatever the posterior."""
        generator = self.info.generator("networks", len(self.visible), device=self.info.device)
        return torch.stack([posterior.sample(generator) for _ in range(self.config.samples)])

    def _mean(self, draws: Tensor, visible: Tensor | None) -> Predictor:
        """Return the predictor of log mean probability over networks; of the mean output where it is no class's."""
        networks = [self.parameters.predictor(theta) for theta in draws]
        classifies = isinstance(self.info.objective, Classification)

        def predict(inputs: Inputs) -> Tensor:
            outputs = torch.stack([network(inputs) for network in networks])  # [S, B, C]
            if visible is not None:
                outputs = restrict(outputs, visible)
            if not classifies:
                return outputs.mean(0)
            return outputs.log_softmax(-1).logsumexp(0) - log(len(networks))

        return predict

    # -- kept and told ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return posteriors, memory, and which outputs are open and compete."""
        return {
            "mean": self.posterior.mean,
            "deviation": self.posterior.deviation,
            "models": self.models.state_dict(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "opened": self.network.heads.opened,
            "visible": self.visible,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.posterior = MeanField(state["mean"], state["deviation"]).to(self.info.device)
        self.models.load_state_dict(state["models"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
        self.network.heads.opened.copy_(state["opened"])
        self.visible = state["visible"].to(self.info.device)

    def model_parameters(self) -> int:
        """Return the numbers behind an answer: mean and deviation of each parameter."""
        return self.posterior.scalars

    def diagnostics(self) -> dict[str, Any]:
        """Return the trainings of each experience, how sure the posterior is, and what the memory holds."""
        return self.models.diagnostics() | {
            "mean_deviation": float(self.posterior.deviation.mean()),
            "memory_samples": 0 if self.memory is None else len(self.memory.samples),
            "memory_bytes": 0 if self.memory is None else self.memory.bytes_stored(),
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return, for one posterior a task: fresh samples, the memories in each step, and what fills them."""
        count = self.config.memory_per_task
        steps = info.planned_steps / info.n_experiences  # of an experience
        return round(info.planned_samples + steps * count * sum(range(info.n_experiences)) + count * info.n_experiences)
