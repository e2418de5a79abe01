"""When has the task changed? A smoothed loss above mean + m standard deviations of the recent ones.

Zhu et al. 2024 (TAME, arXiv 2210.03869), section on detecting task switches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cl_suite import UsageError


@dataclass
class DetectorOptions:
    """Options of the detector, mixed into a strategy's `Config`. Losses are measured before a batch is trained on."""

    alpha: float = 0.2  # weight of the newest loss in the smoothed one, in (0, 1]; 1 = no smoothing
    window: int = 100  # losses the mean and the deviation are taken of
    deviations: float = 3.0  # how many of them above the mean is a change
    std_floor: float = 0.005  # lowest standard deviation: a converged expert must not alarm on noise (released program)
    stat_lag: int = 10  # newest losses left out of mean and deviation, so that a jump does not hide itself; paper: 0
    warmup: int = -1  # batches of a new expert unchecked; -1: lag + 10, or 0 without lag and bounded

    def check_detector(self) -> None:
        """Raise UsageError for a value outside its range."""
        if not 0 < self.alpha <= 1:
            raise UsageError(f"strategy.alpha={self.alpha} is not a weight. Use more than 0, and at most 1.")
        if self.window < 2:
            raise UsageError(f"strategy.window={self.window} has no deviation. Use 2 or more losses.")
        if not 0 < self.deviations < math.inf or not 0 <= self.std_floor < math.inf:
            raise UsageError("strategy.deviations must be above 0 and strategy.std_floor must be 0 or more.")
        if self.stat_lag < 0 or self.warmup < -1:
            raise UsageError("strategy.stat_lag must be 0 or more, strategy.warmup -1 (automatic) or more.")


class LossDetector:
    """The losses of one expert.

    losses:       those seen while active, newest last, at most window + lag; begins with the loss of a uniform guess
    smoothed:     over the batches it was active in; None before the first
    smoothed_all: over every batch it was asked about; what is compared with the threshold
    """

    def __init__(self, options: DetectorOptions, *, uniform: float, warmup: int) -> None:
        self._o, self._warmup = options, warmup
        self.losses = [uniform]
        self.smoothed: float | None = None
        self.smoothed_all: float | None = None
        self.checked = 0  # batches while active

    @property
    def threshold(self) -> float:
        """Mean + deviations * max(std, floor) of the window as it stands; frozen while the expert is inactive."""
        mean, deviation = self._statistics()
        return mean + self._o.deviations * deviation

    def _statistics(self) -> tuple[float, float]:
        kept = self.losses[: max(1, len(self.losses) - self._o.stat_lag)][-self._o.window :]
        return statistics.fmean(kept), max(statistics.pstdev(kept), self._o.std_floor)

    def alarms(self, loss: float) -> bool:
        """Take the loss of the next batch; return whether the active expert no longer explains what comes."""
        self.smoothed_all = self._smooth(self.smoothed_all, loss)
        return self.checked >= self._warmup and self.smoothed_all > self.threshold

    def passed_over(self, loss: float) -> None:
        """Take the loss of a batch this expert is not active in."""
        self.smoothed_all = self._smooth(self.smoothed_all, loss)

    def margin(self, loss: float, *, smoothed: bool = True) -> float:
        """Return by how many deviations the loss, smoothed if so, is below the threshold; negative: not explained."""
        mean, deviation = self._statistics()
        distance = mean + self._o.deviations * deviation - (self._smooth(self.smoothed, loss) if smoothed else loss)
        return distance / (deviation or 1.0)

    def activate(self, *, reset: bool) -> None:
        """Become the active expert; `reset`: forget the high losses of the time between."""
        if reset:
            self.smoothed_all = self.smoothed

    def learned(self, loss: float) -> None:
        """After training on a batch: its loss, measured before, joins the window."""
        self.smoothed = self._smooth(self.smoothed, loss)
        if self.smoothed_all is None:
            self.smoothed_all = self.smoothed
        self.losses = [*self.losses, loss][-(self._o.window + self._o.stat_lag) :]
        self.checked += 1

    def restart(self, losses: Sequence[float]) -> None:
        """Forget what was seen of another network: these are the losses from now on, their mean the smoothed one.

        None of them hides a jump, so the lag, whose place their mean takes, leaves none of them out.
        """
        kept = list(losses)[-self._o.window :]
        self.smoothed = self.smoothed_all = mean = statistics.fmean(kept)
        self.losses = kept + [mean] * self._o.stat_lag

    def _smooth(self, before: float | None, loss: float) -> float:
        return loss if before is None else self._o.alpha * loss + (1.0 - self._o.alpha) * before

    def state_dict(self) -> dict[str, Any]:
        """Return the losses and counts; a value that is not there yet as NaN."""
        absent = math.nan
        return {
            "losses": list(self.losses),
            "smoothed": absent if self.smoothed is None else self.smoothed,
            "smoothed_all": absent if self.smoothed_all is None else self.smoothed_all,
            "checked": self.checked,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.losses, self.checked = list(state["losses"]), state["checked"]
        self.smoothed = None if math.isnan(state["smoothed"]) else state["smoothed"]
        self.smoothed_all = None if math.isnan(state["smoothed_all"]) else state["smoothed_all"]
