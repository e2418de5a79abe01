"""Counts what a run costs. The harness opens a meter; loops and buffers count into the open one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.flops import FlopCounter, LoopCost

_current: ContextVar[Meter | None] = ContextVar("cl_suite_meter", default=None)


@dataclass
class Meter:
    """Costs of one run. `samples_drawn` includes replayed samples; seconds are wall-clock time."""

    samples_drawn: int = 0
    samples_replayed: int = 0
    optimizer_steps: int = 0
    training_flops: float = 0.0  # floating-point operations, see cl_suite/core/flops.py
    wall_seconds: float = 0.0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    max_samples: int = 0  # 0 = no limit
    _steps: list[FlopCounter] = field(default_factory=list, repr=False)  # in progress, outermost first

    def draw(self, count: int, *, replayed: bool = False) -> None:
        """Count `count` samples handed to a strategy. Raise BudgetExceeded beyond `max_samples`."""
        self.samples_drawn += count
        if replayed:
            self.samples_replayed += count
        if self.max_samples and self.samples_drawn > self.max_samples:
            raise BudgetExceeded(
                f"the strategy drew {self.samples_drawn:,} samples, more than train.max_samples={self.max_samples:,}. "
                "Raise it, or train for fewer epochs."
            )

    @contextmanager
    def step(self, loop: LoopCost, samples: int | Callable[[], int]) -> Iterator[None]:
        """Within it one step of a loop over batches is taken, on `samples` samples; a function says so at its end.

        Loops may be nested (a finetuning inside a step): each step owns what is computed while it is the innermost.
        """
        counter = FlopCounter()
        counted = loop.is_counted()
        self._steps.append(counter)
        self._only_innermost_counts()
        if counted:
            counter.__enter__()
        try:
            yield
        finally:
            if counted:
                counter.stop()
            # By identity: a loop that was left in the middle may be closed after an inner one has begun.
            self._steps = [each for each in self._steps if each is not counter]
            self._only_innermost_counts()
            count = samples() if callable(samples) else samples
            self.training_flops += loop.add(count, counter.total if counted else None)

    def _only_innermost_counts(self) -> None:
        for each in self._steps:
            each.active = each is self._steps[-1]

    @contextmanager
    def metering(self) -> Iterator[Meter]:
        """Make this the open meter and count every optimiser step taken meanwhile."""

        def count_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            self.optimizer_steps += 1

        token = _current.set(self)
        hook = register_optimizer_step_post_hook(count_step)
        try:
            yield self
        finally:
            hook.remove()
            _current.reset(token)

    @contextmanager
    def timing(self, field: str) -> Iterator[None]:
        """Add the seconds spent inside to `field`, e.g. `train_seconds`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, field, getattr(self, field) + time.perf_counter() - started)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as plain numbers; the limit is a setting, not a count."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("max_samples", "_steps")}


def count_replayed(count: int) -> None:
    """Count samples drawn from a buffer into the open meter, if there is one."""
    meter = _current.get()
    if meter is not None:
        meter.draw(count, replayed=True)
