"""Two plugins around all others: what an Avalanche loop does is told to the harness. Imports Avalanche."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from cl_suite.avalanche.datasets import SampleCount
from cl_suite.avalanche.networks import PreparedView
from cl_suite.core.experience import ForeignLoop, Step
from cl_suite.core.types import Batch


class FirstPlugin(SupervisedPlugin):
    """First of all plugins: opens a step before anyone acts.

    view, generator: what augments the samples of a step; None = nothing is augmented
    rows:    how many samples the strategy takes in a step from tensors of its own, which no data set sees
    """

    def __init__(
        self,
        loop: ForeignLoop,
        count: SampleCount,
        view: PreparedView,
        generator: torch.Generator | None,
        rows: Callable[[Any], int],
    ) -> None:
        super().__init__()
        self._loop, self._count, self._rows = loop, count, rows
        self._view, self._generator = view, generator
        self._open = ExitStack()
        self._step: Step | None = None
        self._before: Tensor | None = None  # the loss of the batch alone
        self._penalty: Tensor | None = None  # what plugins added to it, summed over steps
        self._steps = 0

    def begin(self, *, phase: str = "", trains: bool = True) -> None:
        """Open a step."""
        self._step = self._open.enter_context(self._loop.step(phase=phase, trains=trains))

    def end(self) -> None:
        """Tell what was read since, and close the step."""
        if self._step is None:
            return
        self._step.drew(*self._count.take())
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
        fresh, earlier = self._count.take()
        # What no data set of ours has read comes from a memory that the strategy keeps as tensors.
        beside = max(0, count - fresh - earlier) + self._rows(strategy)
        self._step.drew(fresh, earlier + beside)
        self._step.batch = Batch(strategy.mbatch[0], strategy.mbatch[1], strategy.mbatch[0])
        self._view.augment(self._generator)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the loss before other plugins add penalties to it."""
        self._before = strategy.loss.detach().clone()

    def close_loss(self, strategy: Any) -> None:
        """See what they added."""
        if self._before is not None:
            penalty = (strategy.loss.detach() - self._before).sum()
            self._penalty = penalty if self._penalty is None else self._penalty + penalty
            self._steps += 1

    def mean_penalty(self) -> float:
        """Return what plugins added to the loss, as the mean over the steps of the experience."""
        return 0.0 if self._penalty is None else float(self._penalty) / self._steps

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


class LastPlugin(SupervisedPlugin):
    """Last of all plugins: closes what the first one opened."""

    def __init__(self, first: FirstPlugin) -> None:
        super().__init__()
        self._first = first

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """See what others added to the loss."""
        self._first.close_loss(strategy)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Close the step."""
        self._first.close_iteration(strategy)

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Tell that a pass has ended."""
        self._first.end_epoch()
