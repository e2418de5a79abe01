"""Builds a strategy of Avalanche from the run's network, options and settings. Imports Avalanche."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.avalanche.networks import Classifier, Extractor, PreparedView, TaskAwareNetwork, TaskFreeNetwork
from cl_suite.core.errors import UsageError
from cl_suite.core.objective import class_mask
from cl_suite.core.strategy import build_optimizer
from cl_suite.core.types import StreamInfo
from cl_suite.networks.network import Network


@dataclass
class StrategyBuilder:
    """Makes one strategy of Avalanche.

    target:  the class that the recipe names
    network: ours, whose modules are trained
    options: the strategy's, as the run has them
    own:     names of those that are arguments of the target's constructor
    view:    how stored samples become what the network reads
    """

    target: Any
    info: StreamInfo
    network: Network
    options: Any
    own: tuple[str, ...]
    view: PreparedView

    def __post_init__(self) -> None:
        self.extractor = Extractor(self.network, self.view)

    def model(self, *, whole: bool = False, task_aware: bool = True) -> Any:
        """Return our network; told the task where the scenario tells it at test, unless `task_aware` is False.

        whole: outputs that no task has opened yet compete too
        """
        classifier = Classifier(self.network.heads, whole=whole)
        masks = self.masks() if task_aware else None
        if masks is None:
            return TaskFreeNetwork(self.extractor, classifier).to(self.info.device)
        return TaskAwareNetwork(self.extractor, classifier, masks).to(self.info.device)

    def masks(self) -> Tensor | None:
        """Return each task's outputs, [T, n_outputs] bool, or None where the task is not known at test."""
        if self.info.task_classes is None:
            return None
        return torch.stack([class_mask(classes, self.info.n_outputs) for classes in self.info.task_classes])

    def feature_dimension(self) -> int:
        """Return D, how many features the backbone has."""
        return self.network.heads.linear.in_features

    def optimizer(self, *modules: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of the run's options for what these modules have."""
        c = self.options
        parameters = list(dict.fromkeys(each for module in modules for each in module.parameters()))
        return build_optimizer(c.optimizer, parameters, lr=c.lr, weight_decay=c.weight_decay, momentum=c.momentum)

    def arguments(self) -> dict[str, Any]:
        """Return the options that the target's constructor has. Raise UsageError if one must be set and is not."""
        return {name: getattr(self.options, name) for name in self.own}

    def common(self) -> dict[str, Any]:
        """Return what every constructor takes: batch size, epochs, device, no evaluation of its own."""
        from avalanche.training.plugins import EvaluationPlugin

        train = self.info.train
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has no loggers, as is meant
            evaluator = EvaluationPlugin()
        return {
            "train_mb_size": train.batch_size,
            "train_epochs": train.epochs,
            "eval_mb_size": max(train.batch_size, 64),
            "device": self.info.device,
            "evaluator": evaluator,
        }

    def make(self, cls: Any, **given: Any) -> Any:
        """Return a strategy: as `construct`, with an optimiser of `model` and the cross-entropy, unless given too."""
        given.setdefault("optimizer", self.optimizer(given["model"]))
        if "criterion" in inspect.signature(cls.__init__).parameters:
            given.setdefault("criterion", nn.CrossEntropyLoss())
        return self.construct(cls, **given)

    def construct(self, cls: Any, **given: Any) -> Any:
        """Return `cls` with `given`, the options, and what every strategy takes. Raise UsageError if it refuses."""
        arguments = self.arguments() if cls is self.target else {}
        unset = sorted(name for name, value in arguments.items() if value is None and self._must_be_set(name))
        if unset:
            raise UsageError(f"strategy.{unset[0]} has no default in Avalanche. Set it: strategy.{unset[0]}=...")
        with quiet():
            try:
                return cls(**{**self.common(), **arguments, **given})
            except (AssertionError, ValueError) as problem:  # how Avalanche refuses options
                raise UsageError(
                    f"Avalanche's {cls.__name__} refuses its options ({str(problem).partition(chr(10))[0]}). "
                    f"They are {', '.join(f'strategy.{name}={value}' for name, value in arguments.items())}."
                ) from problem

    def keep_copies(self, inner: Any) -> Any:
        """Return a strategy of synaptic intelligence whose plugin keeps copies also on a CPU; see `si_fix`."""
        from cl_suite.avalanche.si_fix import KeptCopies

        place = next(number for number, each in enumerate(inner.plugins) if hasattr(each, "syn_data"))
        inner.plugins.insert(place + 1, KeptCopies(inner.plugins[place]))
        return inner

    def _must_be_set(self, name: str) -> bool:
        parameter = inspect.signature(self.target.__init__).parameters[name]
        return parameter.default is inspect.Parameter.empty


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Avalanche's prints and warnings from the run's display."""
    # Recorded, not ignored: Avalanche sets the filters of its deprecations back to "always".
    with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()):
        yield
