"""Learning-rate schedules by name: how the rate of one training rises and falls, step by step and epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from cl_suite.core.errors import UsageError, check_choices
from cl_suite.core.scenario import Requirement
from cl_suite.core.types import StreamInfo

SCHEDULES = ("auto", "constant", "cosine", "steps")


@dataclass
class RateDrops:
    """How the learning rate falls; it starts anew with each experience, so there must be boundaries."""

    lr_drops: list[int] = field(default_factory=list)  # epochs of an experience after which the rate is multiplied
    lr_drop: float = 0.1  # by this
    lr_schedule: str = "auto"  # constant, cosine, steps (at lr_drops); auto: steps where there are lr_drops
    lr_final: float = 0.0  # cosine: share of the rate that is left at the end of an experience, in [0, 1]
    lr_warmup_epochs: float = 0.0  # in which the rate first rises from 0, step by step; parts of an epoch count

    @property
    def rate_rule(self) -> str:
        """What happens to the rate: constant, cosine or steps."""
        if self.lr_schedule != "auto":
            return self.lr_schedule
        return "steps" if self.lr_drops else "constant"

    def check_schedule(self, info: StreamInfo) -> None:
        """Raise UsageError for a schedule that is not known, lacks what it needs, or does not fit the run."""
        check_choices(self, {"lr_schedule": SCHEDULES})
        if self.lr_schedule == "steps" and not self.lr_drops:
            raise UsageError(
                "strategy.lr_schedule=steps does not say where the rate falls. "
                "Give the epochs, e.g. strategy.lr_drops=[3,4]."
            )
        if self.lr_drops and self.rate_rule != "steps":
            raise UsageError(
                f"strategy.lr_drops={self.lr_drops} belongs to lr_schedule=steps, but "
                f"strategy.lr_schedule={self.lr_schedule}. Leave one of them out."
            )
        if self.lr_final and self.rate_rule != "cosine":
            raise UsageError(
                f"strategy.lr_final={self.lr_final} is where a cosine ends, and there is none. "
                "Add strategy.lr_schedule=cosine."
            )
        if not 0 <= self.lr_final <= 1:
            raise UsageError(f"strategy.lr_final={self.lr_final} is not a share of the rate. Use 0 to 1.")
        epochs = info.train.epochs
        if not 0 <= self.lr_warmup_epochs < epochs:
            raise UsageError(
                f"strategy.lr_warmup_epochs={self.lr_warmup_epochs} does not fit into train.epochs={epochs}. "
                "Use 0 or more, and less than that."
            )
        changes = self.rate_rule != "constant" or self.lr_warmup_epochs
        if changes and Requirement.BOUNDARIES not in info.scenario.provides:
            raise UsageError(
                f"a learning-rate schedule starts anew with each experience, and {info.scenario} tells no boundaries. "
                "Leave strategy.lr_schedule, lr_drops and lr_warmup_epochs out."
            )


def cosine_rate(share: float, final: float = 0.0) -> float:
    """Return the factor of the rate at `share` in [0, 1] of a training: half a cosine from 1 to `final`."""
    return final + (1 - final) * (0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class RateSchedule:
    """Sets the rate of one training of so many epochs, whichever optimiser it goes on with.

    Not torch's schedulers: these belong to one optimiser, and a method may go on with a fresh one (PackNet, after
    pruning). On one optimiser the rates are those of CosineAnnealingLR per step and MultiStepLR per epoch.
    """

    def __init__(self, options: RateDrops, *, steps_per_epoch: int, epochs: int) -> None:
        self._options, self._steps = options, steps_per_epoch * epochs
        self._rising = round(options.lr_warmup_epochs * steps_per_epoch)  # steps of the warm-up
        self._done, self._epochs = 0, 0
        self._optimizer: torch.optim.Optimizer | None = None
        self._start: list[float] = []  # of each group of parameters, the rate that factors are of

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the rate of the next step in this optimiser, whose rate now is the full one; nothing if it is known."""
        if optimizer is self._optimizer:
            return
        self._optimizer, self._start = optimizer, [group["lr"] for group in optimizer.param_groups]
        self._set()

    def after_step(self) -> None:
        """Set the rate of the next step: warm-up and cosine."""
        self._done += 1
        if self._options.rate_rule == "cosine" or self._done <= self._rising:
            self._set()

    def after_epoch(self) -> None:
        """Set the rate of the next epoch: the drops. They multiply what a method has made of the rate itself."""
        self._epochs += 1
        if self._epochs in self._options.lr_drops and self._optimizer is not None:
            self._start = [rate * self._options.lr_drop for rate in self._start]
            for group in self._optimizer.param_groups:
                group["lr"] *= self._options.lr_drop

    def _set(self) -> None:
        if self._optimizer is None or (factor := self._factor()) is None:
            return
        for group, rate in zip(self._optimizer.param_groups, self._start, strict=True):
            group["lr"] = rate * factor

    def _factor(self) -> float | None:
        """Return the factor of the next step's rate; None = it is left as it is."""
        if self._done < self._rising:
            return (self._done + 1) / self._rising
        if self._options.rate_rule == "cosine":
            return cosine_rate((self._done - self._rising) / max(1, self._steps - self._rising), self._options.lr_final)
        return 1.0 if self._rising and self._done == self._rising else None
