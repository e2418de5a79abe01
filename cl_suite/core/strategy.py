"""What the harness asks of a continual learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.scenario import Requirement
from cl_suite.core.types import Inputs, StreamInfo, TrainSettings

Predictor = Callable[[Inputs], Tensor]
"""Inputs [B, ...] -> logits [B, C] over the whole stream. Frozen, no side effects; valid until the next `learn`."""


class Strategy(ABC):
    """A continual learner: learns experiences one after another, answers with predictors.

    requires: what it needs from a scenario; the harness refuses a scenario that withholds it
    modes:    options under which it needs less, e.g. ({"allocation": "uncertainty"},); named where it is refused
    Config:   its options, typed and defaulted; the Hydra schema of `strategy.<field>=...`
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset()
    modes: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    source: ClassVar[str] = ""  # the paper
    costs: ClassVar[str] = ""  # in one line: what is kept beside the network, what a step takes; for `cl-bench info`
    resumable: ClassVar[bool] = True  # False: `state_dict` is for the record alone; an interrupted run starts anew

    @dataclass
    class Config:
        """No options."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def config_for(cls, options: Mapping[str, Any]) -> type:
        """Return the schema of `strategy.<field>=...`, given the options asked for; by default `Config`.

        A wrapper adds the schema of the strategy it wraps.
        """
        return cls.Config

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """Return what this strategy needs under `config`; by default `requires`."""
        return cls.requires

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Whether `learn` asks for `experience.validation()` under these options; a user is told where nothing does."""
        return False

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """Return why `train.early_stopping` cannot be had under `config`, for one line; "" = it can."""
        return "it trains in a loop of its own"

    @classmethod
    def starts_from_weights(cls, config: Any) -> bool:
        """Return whether what it learns starts from the weights that networks are built with, as `model.weights` says.

        False under a `config` by which it draws its own: then those of a file would have no effect, and are refused.
        """
        return True

    @abstractmethod
    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Prepare for a stream. `build_model` makes a fresh network each time; its n-th network is seeded by n."""

    @abstractmethod
    def learn(self, experience: Experience) -> None:
        """Learn one experience. Its samples are not to be had after the return, except from a buffer."""

    @abstractmethod
    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the predictor for a task (None where the id is withheld). Raise UnseenTask if there is none."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that learning changes: tensors, numbers, strings, lists and dictionaries of them."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned (tensors arrive on the CPU), after `setup`.

        Learning must go on as if never interrupted: bit for bit on a CPU.
        """

    def answers_logits(self) -> bool:
        """Whether the softmax of a predictor's outputs is its probability of each class; distances are not."""
        return True

    def model_selection(self) -> str:
        """Return "none", "validation" or "oracle": what chose among the states met in training."""
        return "none"

    def diagnostics(self) -> dict[str, Any]:
        """Return method-specific facts for the record: numbers, strings, lists and dictionaries of them."""
        return {}

    def training_facts(self) -> dict[str, Any]:
        """Return what a training loop tells of itself, for the record's diagnostics, whatever the method."""
        return {}

    def constraints(self) -> dict[str, float]:
        """Return how strongly each penalty or projection acted in the latest experience, by name; {} if there is none.

        For example {"EWC penalty": its mean value}. `cl-bench check` fails one that is zero from the second
        experience on: a published EWC was once silently zero for a whole release.
        """
        return {}

    def model_parameters(self) -> int:
        """Return the number of parameters of the networks in use, for the table of costs."""
        return 0

    def trained_network(self) -> nn.Module | None:
        """Return the network that is being trained, for diagnostics of its modules; None if there is no one such."""
        return None

    def expected_samples(self, info: StreamInfo) -> int:
        """Return how many samples the whole run will draw, replay included: for the time left, nothing else."""
        return info.planned_samples


class ModelPredictor:
    """A predictor out of a module: evaluation mode during the call, as it was before afterwards."""

    def __init__(self, model: nn.Module, forward: Callable[[Inputs], Tensor] | None = None) -> None:
        self._model = model
        self._forward = forward or model

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> Tensor:
        """Return logits [B, C]."""
        modes = {module: module.training for module in self._model.modules()}
        self._model.eval()
        try:
            return self._forward(inputs)
        finally:
            for module, mode in modes.items():
                module.training = mode


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
}


def build_optimizer(name: str, parameters: Any, *, lr: float, weight_decay: float, momentum: float = 0.0) -> Any:
    """Return the optimiser called `name` (sgd, adam, rmsprop). Raise UsageError for another name."""
    if name not in OPTIMIZERS:
        raise UsageError(f"strategy.optimizer={name} is not known. Use {', '.join(OPTIMIZERS)}.")
    extra = {} if name == "adam" else {"momentum": momentum}
    return OPTIMIZERS[name](parameters, lr=lr, weight_decay=weight_decay, **extra)
