"""Two plugins around all others: what an Avalanche loop does is told to the harness. Imports Avalanche."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin

from cl_suite.avalanche.datasets import Tally
from cl_suite.avalanche.networks import View
from cl_suite.foreign_loop import ForeignLoop, Step
from cl_suite.types import Batch


class Opening(SupervisedPlugin):
    """First of all plugins: opens a step before anyone acts.

    view, generator: what augments the samples of a step; None = nothing is augmented
    rows:    how many samples the strategy takes in a step from tensors of its own, which no data set sees
    """

    def __init__(
        self,
        loop: ForeignLoop,
        tally: Tally,
        view: View,
        generator: torch.Generator | None,
        rows: Callable[[Any], int],
    ) -> None:
        super().__init__()
        self._loop, self._tally, self._rows = loop, tally, rows
        self._view, self._generator = view, generator
        self._open = ExitStack()
        self._step: Step | None = None

    def begin(self, *, phase: str = "", trains: bool = True) -> None:
        """Open a step."""
        self._step = self._open.enter_context(self._loop.step(phase=phase, trains=trains))

    def end(self) -> None:
        """Tell what was read since, and close the step."""
        if self._step is None:
            return
        self._step.drew(*self._tally.take())
        self._step = None
        self._open.close()

    def abandon(self) -> None:
        """Close a step that an error has ended."""
        self._view.augment(None)
        self._step = None
        self._open.close()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Tell what was read while the experience was made ready."""
        self.begin(phase="preparation", trains=False)
        self.end()

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Open the step, and tell what its batch took."""
        self.begin()
        assert self._step is not None
        count = len(strategy.mbatch[0])
        fresh, earlier = self._tally.take()
        # What no data set of ours has read comes from a memory that the strategy keeps as tensors.
        beside = max(0, count - fresh - earlier) + self._rows(strategy)
        self._step.drew(fresh, earlier + beside)
        self._step.batch = Batch(strategy.mbatch[0], strategy.mbatch[1], strategy.mbatch[0])
        self._view.augment(self._generator)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Open a step for what is done at the end: importances, exemplars. It lasts until `train` returns."""
        self.begin(phase="consolidation", trains=False)

    def close_iteration(self, strategy: Any) -> None:
        """Tell the loss, and close the step of an iteration."""
        assert self._step is not None
        self._view.augment(None)
        self._step.loss = strategy.loss.detach().mean()
        self.end()

    def end_epoch(self) -> None:
        """Tell that a pass has ended."""
        self._loop.end_epoch()


class Closing(SupervisedPlugin):
    """Last of all plugins: closes what the first one opened."""

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self._opening = opening

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Close the step."""
        self._opening.close_iteration(strategy)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Tell that a pass has ended."""
        self._opening.end_epoch()
