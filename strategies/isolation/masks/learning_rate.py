"""The learning rate of a training phase with a planned length."""

from __future__ import annotations

import torch

from cl_suite import UsageError, cosine_rate

SCHEDULES = ("cosine", "constant", "released")


class LearningRate:
    """The learning rate of one phase.

    "cosine":   from lr to 0 over the phase, per step: lr/2 (1 + cos(pi step / steps))
    "constant": lr
    "released": as in ExSSNeT's program: cosine per epoch, and a reduce-on-plateau rule (factor 0.1, patience 10) that
                is told to wait for the validation accuracy to fall, so that it fires about every eleventh epoch
    """

    def __init__(self, kind: str, optimizer: torch.optim.Optimizer, *, steps: int, epochs: int) -> None:
        if kind not in SCHEDULES:
            raise UsageError(f"strategy.scheduler={kind} is not known. Use {', '.join(SCHEDULES)}.")
        self._kind, self._optimizer, self._steps, self._done = kind, optimizer, max(1, steps), 0
        self._start = [group["lr"] for group in optimizer.param_groups]
        if kind == "released":
            self._cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=10, mode="min")

    def after_step(self) -> None:
        """Set the rate of the next step."""
        self._done += 1
        if self._kind == "cosine":
            share = self._done / self._steps
            for group, start in zip(self._optimizer.param_groups, self._start, strict=True):
                group["lr"] = start * cosine_rate(share)

    def after_epoch(self, accuracy: float) -> None:
        """Set the rate of the next epoch from the validation accuracy, where the schedule reads it."""
        if self._kind == "released":
            self._cosine.step()
            self._plateau.step(accuracy)
