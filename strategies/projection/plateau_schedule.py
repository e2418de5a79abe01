"""Training until the validation loss no longer falls: the schedule that GPM, TRGP and CUBER share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from cl_suite import Batch, BestState, Experience


@dataclass
class PlateauSchedule:
    """After `patience` epochs without a lower validation loss the rate is divided by `factor`; below `lr_min` it ends.

    The patience is full again after each lower loss and each division.
    """

    patience: int
    factor: float
    lr_min: float
    follow: bool = True

    def run(
        self,
        experience: Experience,
        batches: Iterator[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        take_steps: Callable[[Iterable[Batch]], None],
        validation_loss: Callable[[], float],
        tensors: Iterable[Tensor],
        after_epoch: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        """Train for at most `experience.epochs` epochs and leave `tensors` as they were at the lowest validation loss.

        Without validation samples, or where `follow` is off, the rate is constant, all epochs are used and the last
        state stays.

        take_steps:  one gradient step per batch of an epoch
        after_epoch: told the number of epochs done
        """
        per_epoch = experience.planned_steps(epochs=1)
        best, lowest, patience = BestState(tensors), float("inf"), self.patience
        for epoch in range(experience.epochs):
            take_steps(islice(batches, per_epoch))
            after_epoch(epoch + 1)
            if not (self.follow and experience.n_validation):
                continue
            loss = validation_loss()
            if loss < lowest:
                lowest, patience = loss, self.patience
                best.offer(-loss)
                continue
            patience -= 1
            if patience <= 0:
                patience = self.patience
                for group in optimizer.param_groups:
                    group["lr"] /= self.factor
                if any(group["lr"] < self.lr_min for group in optimizer.param_groups):
                    break
        else:
            next(batches, None)  # let the loop over batches end
        experience.check_finite()  # before a better state hides it
        best.restore()
