"""Single task: a fresh network for each task, trained on it alone. What a task can be learned to, without transfer."""

from collections.abc import Callable
from typing import Any

from torch import nn

from cl_suite import (
    Experience,
    GradientStrategy,
    ModelPredictor,
    Network,
    Predictor,
    Requirement,
    StreamInfo,
    UnseenTask,
    restrict,
)


class SingleTask(GradientStrategy):
    """A fresh network for each task: the reference for plasticity, intransigence and Continual World's transfer.

    Where the task is known at test each is answered by its own network, and nothing is forgotten (`independent` in the
    code of GEM). Else the newest answers, which knows its own task alone: read the diagonal of R.
    """

    costs = "keeps a network for each task, where the task is known at test; steps as finetuning"

    requires = frozenset({Requirement.BOUNDARIES})

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Keep what makes networks, and build the first."""
        super().setup(info, build_model)
        self.build = build_model
        self.networks: list[Network] = []  # in the order of the tasks, the newest last; one alone where none is named

    def start(self, experience: Experience) -> None:
        """Go on with a network that has learned nothing."""
        if self.experiences_learned:
            self.model = self.build()  # type: ignore[assignment]
        self.networks = [*(self.networks if self.task_masks is not None else []), self.model]
        super().start(experience)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the task's own network; the newest where no task is named. Raise UnseenTask before it is learned."""
        if task_id is None or self.task_masks is None:
            return super().predictor(None)
        if task_id >= len(self.networks):
            raise UnseenTask(f"task {task_id} has not been learned")
        network, visible = self.networks[task_id], self.task_masks[task_id]
        return ModelPredictor(network, lambda inputs: restrict(network(inputs), visible))

    def state_dict(self) -> dict[str, Any]:
        """Return the newest network, progress, and the networks of earlier tasks."""
        return super().state_dict() | {"earlier": [network.state_dict() for network in self.networks[:-1]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.networks = []
        for weights in state["earlier"]:
            network: Any = self.build()
            network.load_state_dict(weights)
            self.networks.append(network)
        if self.experiences_learned:
            self.networks.append(self.model)

    def model_parameters(self) -> int:
        """Return the parameters of all networks that answer."""
        return sum(weight.numel() for network in self.networks for weight in network.parameters())

    def diagnostics(self) -> dict[str, Any]:
        """Return how many networks answer."""
        return {"networks_kept": len(self.networks)}
