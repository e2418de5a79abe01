"""A loop over an experience's samples that is not `Experience.batches`: it tells each step, and is counted alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from cl_suite.core.experience import Experience
from cl_suite.core.flops import LoopCost
from cl_suite.core.types import Batch


@dataclass
class Step:
    """What one step of a foreign loop tells while it lasts.

    drew: call it with how many samples were taken, before they are used
    loss, batch: of the step, for the display, the NaN check and whoever watches; None = there is none
    """

    drew: Callable[[int, int], None]  # (own samples, samples from a memory)
    loss: Tensor | None = None
    batch: Batch | None = None


@dataclass
class ForeignLoop:
    """Counts the steps of a loop that another library runs: samples, operations, time, budget, evaluation points.

    The strategy asks for all samples at once (`Experience.stored`) and is trusted to tell what it draws of them.
    """

    experience: Experience
    epochs: int = 0  # that will be made, for the display; 0 = as many as the run asks for
    epoch: int = 0  # passes so far
    _costs: dict[str, LoopCost] = field(default_factory=dict)

    @contextmanager
    def step(self, *, phase: str = "", trains: bool = True) -> Iterator[Step]:
        """Within it one step is taken, or one pass over samples that does not train (`trains` = False).

        Raise BudgetExceeded when more is drawn than `train.max_samples`, NonFiniteLoss if the loss told is not finite.
        """
        own = self.experience
        own._open()
        cost = self._costs.setdefault(phase, LoopCost())
        drawn = 0

        def drew(fresh: int, replayed: int) -> None:
            nonlocal drawn
            drawn += fresh + replayed
            own.own_drawn += fresh
            own._hooks.meter.draw(fresh)
            own._hooks.meter.draw(replayed, replayed=True)

        step = Step(drew)
        with own._hooks.meter.step(cost, lambda: drawn):
            yield step
        if step.loss is not None:
            own.report(step.loss)
        if step.batch is not None:
            for seen, _ in own._watchers:
                seen(step.batch)
        own._after_batch(self.epoch, self.epochs or own.epochs, phase, own=trains)

    def end_epoch(self, phase: str = "") -> None:
        """Tell that a pass over the experience's samples has ended."""
        self.epoch += 1
        for _, passed in self.experience._watchers:
            passed()
        self.experience._hooks.on_epoch(self.experience.index, phase)
