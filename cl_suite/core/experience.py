"""The unit handed to `learn`. Its loop is the harness's foot in the door: order, preparation, metering, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_suite.core.errors import ClosedExperience, NonFiniteLoss
from cl_suite.core.flops import LoopCost
from cl_suite.core.listener import Hooks, Progress
from cl_suite.core.samples import JoinedSources, Samples, Source
from cl_suite.core.seeding import Seeds, generator_for
from cl_suite.core.types import Batch, Inputs, Prepare, TrainSettings

READ_SECONDS = 0.3  # the loss is read from the device at most this often


@dataclass
class Step:
    """One step of a loop that is not `Experience.batches`: what it reports of itself while it lasts.

    drew: call it with how many samples were taken, before they are used
    loss, batch: of the step, for the display, the NaN check and whoever watches; None = there is none
    """

    drew: Callable[[int, int], None]  # (own samples, samples from a memory)
    loss: Tensor | None = None
    batch: Batch | None = None


class Experience:
    """What arrives at once: training samples, and what the scenario tells about them.

    index:     0, 1, ... in order of arrival
    task_id:   the task, or None where the scenario withholds it
    classes:   the entries of the global logit vector these samples belong to, or None where withheld
    n_samples: training samples; `n_validation`: samples held out of the training data
    own_drawn: how many of them batches have had so far, each pass counted
    """

    def __init__(
        self,
        *,
        index: int,
        source: Source,
        prepare: Prepare,
        train: TrainSettings,
        seeds: Seeds,
        device: torch.device,
        task_id: int | None = None,
        classes: tuple[int, ...] | None = None,
        validation: Samples | None = None,
        ordered: bool = False,
        hooks: Hooks | None = None,
    ) -> None:
        self.index = index
        self.task_id = task_id
        self.classes = classes
        self.n_samples = len(source)
        self.n_validation = 0 if validation is None else len(validation)
        self.epochs = 1 if ordered else train.epochs
        self.batch_size = train.batch_size
        self._source: Source | None = source
        self._validation = validation
        self._prepare = prepare
        self._train = train
        self._seeds = seeds
        self._device = device
        self._ordered = ordered
        self._hooks = hooks or Hooks()
        self._passes = 0
        self._steps = 0
        self.own_drawn = 0  # of its own samples, over all passes
        self._loss: Tensor | None = None
        self._next_reading = 0.0
        self._watchers: list[tuple[Callable[[Batch], None], Callable[[], None]]] = []
        self._costs: dict[str, LoopCost] = {}  # of the steps of each phase of a loop that is not `batches`

    def generator(self, *purpose: object, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator of the data seed for a purpose within this experience."""
        return generator_for(self._seeds.data, *purpose, self.index, device=device)

    def planned_steps(self, *, epochs: int | None = None, batch_size: int | None = None) -> int:
        """Return how many batches `batches` will yield for these settings."""
        per_epoch = -(-self.n_samples // (batch_size or self.batch_size))
        return per_epoch * (self.epochs if epochs is None else epochs)

    def batches(
        self,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        augment: bool | None = None,
        source: Source | None = None,
        beside: Source | None = None,
        phase: str = "",
        order: int | None = None,
        after_epoch: Callable[[int], bool] = lambda epoch: False,
    ) -> Iterator[Batch]:
        """Yield training batches, shuffled anew each epoch, prepared and on the device.

        epochs, batch_size, augment: default to the run's `train` settings
        source: draw from this (a buffer) instead of the experience's own samples; counted as replayed
        beside: draw from this (a buffer) too, shuffled among the experience's own samples; counted as replayed
        phase:  a word for the progress display, e.g. "masks"
        after_epoch: called with 1, 2, ... when an epoch has ended, its last step counted; true ends the loop
        order:  loops of one number have the same order and augmentation; None = each call has its own

        In the task-agnostic scenario the order is the stream's and repetition is part of the stream: `epochs` is 1.
        Raise ClosedExperience after `learn` has returned, NonFiniteLoss if a reported loss is not finite.
        """
        drawn_from = self._open() if source is None else source
        n_own = len(drawn_from) if source is None else 0  # positions below it are the experience's own
        if beside is not None and len(beside):
            drawn_from = JoinedSources(drawn_from, beside, self.task_id)
        size = batch_size or self.batch_size
        epochs = 1 if self._ordered and source is None else (self.epochs if epochs is None else epochs)
        augment = self._train.augment if augment is None else augment
        if order is None:
            self._passes += 1
        number = self._passes if order is None else order
        order_generator = self.generator("order", number)
        view_generator = self.generator("augment", number, device=self._device) if augment else None
        cost = LoopCost()
        for epoch in range(epochs):
            places = torch.arange(len(drawn_from))
            if not (self._ordered and source is None):
                places = torch.randperm(len(drawn_from), generator=order_generator)
            fresh = (places < n_own).split(size)
            for piece, positions in enumerate(places.to(self._device).split(size)):
                self._open()
                replayed = len(positions) - int(fresh[piece].sum())
                self._draw(len(positions) - replayed, replayed)
                batch = self._batch(drawn_from, positions, view_generator)
                with self._hooks.meter.step(cost, len(positions)):
                    yield batch
                if source is None:
                    self._batch_used(batch)
                self._after_batch(epoch, epochs, phase, of_stream=source is None)
            if source is None:
                self.end_epoch(phase)
            if after_epoch(epoch + 1):
                break
        self.check_finite()

    @contextmanager
    def step(self, *, epoch: int = 0, epochs: int = 0, phase: str = "", trains: bool = True) -> Iterator[Step]:
        """Within it a loop that is not `batches` takes one step, which is counted and watched as those of `batches`.

        epoch, epochs, phase: for the display; epochs = 0: as many as the run asks for
        trains: False = a pass over samples that does not train
        Raise BudgetExceeded when more is drawn than `train.max_samples`, NonFiniteLoss if the loss is not finite.
        """
        self._open()
        samples = 0

        def drew(fresh: int, replayed: int) -> None:
            nonlocal samples
            samples += fresh + replayed
            self._draw(fresh, replayed)

        step = Step(drew)
        with self._hooks.meter.step(self._costs.setdefault(phase, LoopCost()), lambda: samples):
            yield step
        if step.loss is not None:
            self.report(step.loss)
        if step.batch is not None:
            self._batch_used(step.batch)
        self._after_batch(epoch, epochs or self.epochs, phase, of_stream=trains)

    def end_epoch(self, phase: str = "") -> None:
        """Tell whoever watches that a pass over the own samples has ended; `batches` does so itself."""
        for _, epoch_passed in self._watchers:
            epoch_passed()
        self._hooks.on_epoch(self.index, phase)

    def validation(self, *, batch_size: int = 500) -> Iterator[Batch]:
        """Yield the samples held out of the training data, in order, not augmented; nothing if none are."""
        self._open()
        if self._validation is not None:
            positions = torch.arange(len(self._validation), device=self._device)
            for chunk in positions.split(batch_size):
                yield self._batch(self._validation, chunk, None)

    def first(self, count: int) -> Batch:
        """Return the first `count` samples (all, if there are fewer) as stored; not counted as drawn."""
        return self._batch(self._open(), torch.arange(min(count, self.n_samples), device=self._device), None)

    def stored(self) -> tuple[Inputs, Tensor]:
        """Return all own samples as stored, and their targets [N]; not counted as drawn.

        For a strategy whose loop is another library's; it tells what it draws of them to a `ForeignLoop`.
        """
        return self._open().take(torch.arange(self.n_samples, device=self._device))

    def watch(
        self, *, batch: Callable[[Batch], None] = lambda batch: None, epoch: Callable[[], None] = lambda: None
    ) -> None:
        """Call `batch` after each batch of own samples has been used, `epoch` after each pass over them.

        Also in passes that do not train (a Fisher information), and with the samples of `beside` among the own. For
        strategies that wrap another one: they see its batches without taking part in its loop.
        """
        self._watchers.append((batch, epoch))

    def report(self, loss: Tensor) -> None:
        """Tell the harness the loss of this step (a scalar on the device; it is not read at once)."""
        loss = loss.detach()
        # A running mean: one NaN stays in it for ever, so none is missed though it is read rarely.
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss

    def observe(self, *, loss: float, expert: int, threshold: float | None = None, shift: bool = False) -> None:
        """Tell the harness how the current batch was met; call it once for each batch of own samples, while it is used.

        For strategies that find tasks themselves; what is told is compared with the hidden truth in the record.
        loss, threshold: before training on the batch; expert: which one was trained on it; shift: a change was detected
        """
        self._hooks.on_observation(loss, threshold, expert, shift)

    def note(self, text: str) -> None:
        """Tell the user something worth knowing, in one line; say it once, not at every step."""
        self._hooks.on_note(text)

    def check_finite(self) -> float | None:
        """Read the running mean of the reported loss. Raise NonFiniteLoss if it is NaN or infinite."""
        if self._loss is None:
            return None
        value = float(self._loss)
        if value != value or value in (float("inf"), float("-inf")):
            raise NonFiniteLoss(
                f"the loss became {value} in experience {self.index}, at or before step {self._steps}. "
                "Lower the learning rate (strategy.lr=...), or look for a division by zero in the loss."
            )
        return value

    def close(self) -> None:
        """Called by the harness when `learn` has returned: the samples are no longer to be had."""
        self._source = None
        self._validation = None
        self._watchers = []

    def _open(self) -> Source:
        if self._source is None:
            raise ClosedExperience(
                f"experience {self.index} was read after learn() had returned. Keep samples in a buffer instead."
            )
        return self._source

    def _draw(self, fresh: int, replayed: int) -> None:
        self.own_drawn += fresh
        self._hooks.meter.draw(fresh)
        self._hooks.meter.draw(replayed, replayed=True)

    def _batch_used(self, batch: Batch) -> None:
        for batch_used, _ in self._watchers:
            batch_used(batch)

    def _batch(self, source: Source, positions: Tensor, generator: torch.Generator | None) -> Batch:
        raw, targets = source.take(positions)
        task_ids_at = getattr(source, "task_ids_at", None)
        task_ids = None if task_ids_at is None else task_ids_at(positions)
        if task_ids_at is None and self.task_id is not None:
            task_ids = torch.full((len(targets),), self.task_id, device=targets.device)
        extras = getattr(source, "extras_at", None)
        values = {} if extras is None else extras(positions)
        return Batch(self._prepare(raw, generator), targets, raw, task_ids, values)

    def _after_batch(self, epoch: int, epochs: int, phase: str, *, of_stream: bool) -> None:
        if of_stream:  # loops over a buffer may run inside a step of the stream, and are no place to evaluate
            self._steps += 1
            every = self._train.evaluate_every
            if every and self._steps % every == 0:
                self._hooks.on_evaluation_point(self.index, self._steps)
        now = time.monotonic()
        if now >= self._next_reading:
            self._next_reading = now + READ_SECONDS
            samples = self._hooks.meter.samples_drawn
            self._hooks.on_progress(
                Progress(self.index, self._steps, epoch, epochs, phase, self.check_finite(), samples)
            )


@dataclass
class ForeignLoop:
    """Counts the steps of a loop that another library runs: samples, operations, time, budget, evaluation points.

    The strategy asks for all samples at once (`Experience.stored`) and is trusted to report what it draws of them.
    """

    experience: Experience
    epochs: int = 0  # that will be made, for the display; 0 = as many as the run asks for
    epoch: int = 0  # passes so far

    def step(self, *, phase: str = "", trains: bool = True) -> AbstractContextManager[Step]:
        """Within it one step is taken, or one pass over samples that does not train: `Experience.step`."""
        return self.experience.step(epoch=self.epoch, epochs=self.epochs, phase=phase, trains=trains)

    def end_epoch(self, phase: str = "") -> None:
        """Report that a pass over the experience's samples has ended."""
        self.epoch += 1
        self.experience.end_epoch(phase)
