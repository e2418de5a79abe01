"""Training until the validation loss no longer falls: the schedule that GPM, TRGP and CUBER share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cl_suite import GradientStrategy, Patience, TrainSettings


class PlateauSchedule:
    """After `patience` epochs without a lower validation loss the rate is divided by `factor`; below `lr_min` it ends.

    The patience is full again after each lower loss and each division. tensors: what the training moves
    """

    def __init__(self, tensors: Iterable[Tensor], *, patience: int, factor: float, lr_min: float) -> None:
        self._patience = Patience(tensors, patience)
        self._factor, self._lr_min = factor, lr_min

    def after_epoch(self, loss: float, optimizer: torch.optim.Optimizer) -> bool:
        """Keep the state if its validation `loss` is the lowest, else lower the rate in time. Return whether to end."""
        if not self._patience.is_used_up(loss):
            return False
        for group in optimizer.param_groups:
            group["lr"] /= self._factor
        return any(group["lr"] < self._lr_min for group in optimizer.param_groups)

    def restore(self) -> None:
        """Put back the state with the lowest loss; where none was measured, the last one stays."""
        self._patience.restore()


class PlateauStrategy(GradientStrategy):
    """Base of what may follow the schedule; its Config is a `ProjectionOptions`."""

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Where the plateau is followed, or training is stopped early."""
        return config.follows_plateau(train) or super().uses_validation(config, train)

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """The plateau's rule ends training already."""
        return "strategy.plateau=true follows the validation loss already" if config.plateau else ""
