"""Interpolation of weights: one network per task, and for a preference the network in between. No training for it.

Wortsman et al. 2022, "Model soups" (ICML, arXiv 2203.05482): networks finetuned from the same weights can be averaged.
Ilharco et al. 2023, "Editing Models with Task Arithmetic" (ICLR, arXiv 2212.04089): what a task adds to the weights can
be scaled and summed. Averaging theta_k with weights w that sum to 1 is both: theta_0 + sum_k w_k (theta_k - theta_0).
Networks that did not start together need not have a low loss in between; `strategy.start` says from where they do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from cl_suite import (
    Experience,
    GradientStrategy,
    Inputs,
    ModelPredictor,
    Predictor,
    Requirement,
    StreamInfo,
    UnseenTask,
    check_choices,
    check_preference,
    restrict,
)


class Interpolation(GradientStrategy):
    """Weight interpolation (Wortsman et al. 2022, Ilharco et al. 2023): average the tasks' networks by preference."""

    source = "Wortsman et al. 2022, arXiv 2203.05482; Ilharco et al. 2023, arXiv 2212.04089"
    costs = "keeps a network of P numbers for each task; steps as finetuning; a preference costs an average of them"
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of where a task's network starts; the optimiser's are those of finetuning."""

        start: str = "previous"  # previous: the task before; first: the first task's network; initial: untrained

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network. Raise UsageError for an unknown start."""
        check_choices(self.config, {"start": ("previous", "first", "initial")})
        super().setup(info, build_model)
        self.networks: list[dict[str, Tensor]] = []  # of each task learned, in order: its weights and statistics
        self._initial = self._weights()

    def start(self, experience: Experience) -> None:
        """Put the network where this task begins."""
        if self.networks and self.config.start != "previous":
            begin = self._initial if self.config.start == "initial" else self.networks[0]
            self.model.load_state_dict(begin, strict=False)
        if not self.networks and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules()):
            experience.note("interpolation averages the running statistics of batch norm like weights")
        super().start(experience)

    def finish(self, experience: Experience) -> None:
        """Keep this task's network."""
        self.networks.append(self._weights())

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of what can be averaged: parameters and running statistics, not what is open or counted."""
        state = self.model.state_dict()
        return {name: value.clone() for name, value in state.items() if value.is_floating_point()}

    def predictor_for(self, preference: Sequence[float]) -> Predictor:
        """Return the network with weights sum_k w_k theta_k. Raise UnseenTask, or UsageError for what is no preference.

        Outputs are those of all tasks, however little of them a task's network has been trained.
        """
        if not self.networks:
            raise UnseenTask("nothing has been learned yet")
        return self._predictor(check_preference(preference, len(self.networks)), None)

    def _predictor(self, weights: Sequence[float], visible: Tensor | None) -> Predictor:
        # Terms without weight are left out, so that one network alone is itself, bit for bit.
        chosen = [(weight, network) for weight, network in zip(weights, self.networks, strict=True) if weight]
        tensors = {name: _sum(weight * network[name] for weight, network in chosen) for name in self.networks[0]}

        def forward(inputs: Inputs) -> Tensor:
            logits = functional_call(self.model, tensors, (inputs,))
            return logits if visible is None else restrict(logits, visible)

        return ModelPredictor(self.model, forward)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return a task's own network, or that of even weights where none is named; else the one in training."""
        if task_id is None and self.networks:
            return self._predictor([1 / len(self.networks)] * len(self.networks), None)
        if task_id in self.tasks_learned:
            own = self.tasks_learned.index(task_id)
            visible = None if self.task_masks is None else self.task_masks[task_id]
            return self._predictor([float(place == own) for place in range(len(self.networks))], visible)
        return super().predictor(task_id)

    def model_parameters(self) -> int:
        """Return the parameters of all networks that are kept."""
        return super().model_parameters() * max(1, len(self.networks))

    def diagnostics(self) -> dict[str, Any]:
        """Return how many networks are kept, and how far each is from the first in root mean square."""
        first = self.networks[0] if self.networks else {}
        count = sum(value.numel() for value in first.values())
        squares = [sum(float((each[name] - first[name]).square().sum()) for name in first) for each in self.networks]
        return {
            "networks_kept": len(self.networks),
            "rms_distance_to_first": [(square / count) ** 0.5 for square in squares],
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the network, and those of all tasks."""
        return super().state_dict() | {"networks": list(self.networks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        device = self.info.device
        self.networks = [{name: value.to(device) for name, value in each.items()} for each in state["networks"]]


def _sum(terms: Any) -> Tensor:
    """Return the sum of tensors, from the first on: 0 + x is not always x, bit for bit."""
    first, *others = terms
    for term in others:
        first = first + term
    return first
