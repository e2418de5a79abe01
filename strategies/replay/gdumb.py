"""GDumb: fill a balanced memory while the stream passes, and train a fresh network on that memory alone.

Prabhu, Torr & Dokania 2020, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning" (ECCV).
Schedule, clipping and CutMix are those of the authors' release. It reports the best epoch on the test samples; here the
last epoch counts. Where a stream without boundaries repeats its samples, they are offered again and may be kept twice.
The balanced sampler takes no more of a class that is the largest: where all tasks share their classes, it keeps the
first tasks only. There `strategy.buffer=reservoir` serves better.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import cos, isfinite, pi, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    Experience,
    GradientStrategy,
    Predictor,
    ReplayOptions,
    Requirement,
    StreamInfo,
    UnseenTask,
    UsageError,
    check_choices,
)

WARM_UP = 0.1  # of the highest rate, in the first epoch (the release)
Box = tuple[int, int, int, int]  # top, bottom, left, right, in pixels


def learning_rate(epoch: int, *, high: float, low: float) -> float:
    """Return the rate of an epoch (0, 1, ...): a warm-up, then cosines from `high` to `low` over 1, 2, 4, ... epochs.

    Loshchilov & Hutter 2017, eq. 5, with T_0 = 1 and T_mult = 2. After 2^n epochs the last of them has come to its end.
    """
    if epoch == 0:
        return WARM_UP * high
    length = 1 << (epoch.bit_length() - 1)  # of the cosine that holds this epoch; it began at epoch `length`
    return low + (high - low) * (1 + cos(pi * (epoch - length) / length)) / 2


def cut_box(share: float, row: int, column: int, height: int, width: int) -> Box:
    """Return a box of `share` in [0, 1] of an image's area around (row, column), as far as it lies in the image.

    Yun et al. 2019 (CutMix), eq. 2: both sides are sqrt(share) of the image's.
    """
    half_height, half_width = int(height * sqrt(share)) // 2, int(width * sqrt(share)) // 2
    top, bottom = max(0, row - half_height), min(height, row + half_height)
    left, right = max(0, column - half_width), min(width, column + half_width)
    return top, bottom, left, right


def paste(images: Tensor, order: Tensor, box: Box) -> tuple[Tensor, float]:
    """Put the box of image order[i] into image i; return (images [B, C, H, W], the share of pixels that stayed)."""
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])


class GDumb(GradientStrategy):
    """GDumb (Prabhu et al. 2020): train a fresh network on a balanced memory alone, once the stream has passed.

    By default it answers only after the last experience; earlier rows of R are null.
    """

    source = "Prabhu, Torr & Dokania 2020, ECCV"
    costs = "keeps buffer_size samples; trains on them alone, `epochs` passes, whatever the length of the stream"

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        """Options of the memory, and of the training on it."""

        buffer: str = "balanced"  # balanced (the paper's greedy sampler), reservoir (the Mammoth library), ring
        replay_batch: int = 32  # samples in a step on the memory (Mammoth: 32; the release: 16); 0 = train.batch_size
        epochs: int = (
            32  # passes over the memory (published: 256, on MNIST 128); best a power of two, see learning_rate
        )
        lr: float = 0.05  # the highest rate
        lr_low: float = 5e-4  # the lowest rate, at the end of each cosine
        weight_decay: float = 1e-6
        clip: float = 10.0  # largest norm of a gradient; 0 = not clipped
        cutmix: float = 1.0  # alpha of CutMix on images; 0 = off (published: 1, off on MNIST); vectors are never mixed
        cutmix_share: float = 0.5  # of the steps that mix, in [0, 1] (the release; the Mammoth library: 1)
        train_at: str = "end"  # end: one network after the last experience; each: a fresh one after every experience

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty memory. Raise UsageError for an option outside its range."""
        super().setup(info, build_model)
        self._check_options(info)
        self._build_model = build_model
        self.buffer = self.config.build_buffer(info)
        self.parts["buffer"] = self.buffer
        self.networks_trained = 0
        self._mixes = self.config.cutmix > 0 and len(info.input_shape) == 3
        self._random = np.random.default_rng(0)  # of CutMix; seeded anew for each network

    def _check_options(self, info: StreamInfo) -> None:
        c = self.config
        check_choices(c, {"train_at": ("end", "each")})
        if c.rate_rule != "constant" or c.lr_warmup_epochs:
            raise UsageError(
                "gdumb has a schedule of its own: a warm-up, then cosines from strategy.lr to strategy.lr_low. "
                "Leave strategy.lr_schedule, lr_drops and lr_warmup_epochs out."
            )
        if c.epochs < 1:
            raise UsageError(f"strategy.epochs={c.epochs} is too small. Use 1 or more.")
        if not 0 <= c.lr_low <= c.lr:
            raise UsageError(
                f"strategy.lr_low={c.lr_low} is no lowest rate. Use 0 or more, at most strategy.lr={c.lr}."
            )
        for name in ("clip", "cutmix"):
            if not (isfinite(getattr(c, name)) and getattr(c, name) >= 0):
                raise UsageError(f"strategy.{name}={getattr(c, name)} is not possible. Use 0 (off) or more.")
        if not 0 <= c.cutmix_share <= 1:
            raise UsageError(f"strategy.cutmix_share={c.cutmix_share} is not a share. Use a value in [0, 1].")
        if c.buffer != "balanced":
            return
        if not isinstance(info.objective, Classification):
            raise UsageError("strategy.buffer=balanced needs one class per sample. Use strategy.buffer=reservoir.")
        if c.buffer_size < info.n_outputs:
            raise UsageError(
                f"strategy.buffer_size={c.buffer_size} cannot hold one sample of each of the {info.n_outputs} classes. "
                f"Use {info.n_outputs} or more, or strategy.buffer=reservoir."
            )

    def start(self, experience: Experience) -> None:
        """Offer every sample to the memory, once."""
        for batch in experience.batches(epochs=1, augment=False, phase="store"):
            self.buffer.add(batch)
        super().start(experience)

    def train(self, experience: Experience) -> None:
        """Train a fresh network on the memory, if it is time to."""
        if self.config.train_at == "each" or experience.index == self.info.n_experiences - 1:
            self.train_afresh(experience)

    def train_afresh(self, experience: Experience) -> None:
        """Replace the network by a new one, and train it on the memory alone."""
        c = self.config
        opened = self.model.heads.opened
        self.model = self._build_model()  # type: ignore[assignment]
        self.model.heads.opened.copy_(opened)
        self.optimizer = self.make_optimizer()
        self.networks_trained += 1
        # NumPy, since torch draws from a beta distribution with global generators only; all of it on the CPU.
        self._random = np.random.default_rng(experience.generator("cutmix").initial_seed())
        size = c.replay_batch or experience.batch_size
        batches = experience.batches(source=self.buffer, epochs=c.epochs, batch_size=size, phase="memory")
        self.train_on(experience, self._scheduled(batches, -(-len(self.buffer) // size)))

    def _scheduled(self, batches: Iterable[Batch], per_epoch: int) -> Iterator[Batch]:
        """Yield `batches`, and set the rate of each epoch before its first."""
        for step, batch in enumerate(batches):
            if step % per_epoch == 0:
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(step // per_epoch, high=self.config.lr, low=self.config.lr_low)
            yield batch

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy; in some steps with a box of another image pasted, for both targets by their share (CutMix)."""
        c, random = self.config, self._random
        if not self._mixes or random.random() >= c.cutmix_share:
            return super().loss(batch)
        images = batch.inputs
        assert isinstance(images, Tensor)
        height, width = images.shape[2:]
        share, row, column = random.beta(c.cutmix, c.cutmix), random.integers(height), random.integers(width)
        box = cut_box(1 - share, int(row), int(column), height, width)
        order = torch.from_numpy(random.permutation(len(batch))).to(images.device)
        mixed, kept = paste(images, order, box)
        outputs, objective = self.model(mixed), self.info.objective
        # Each target competes within its own image's task, where tasks are known at test.
        others = None if batch.task_ids is None else batch.task_ids[order]
        own = objective.loss(self.restricted(outputs, batch.task_ids), batch.targets)
        pasted = objective.loss(self.restricted(outputs, others), batch.targets[order])
        return (kept * own + (1 - kept) * pasted).mean()

    def adjust_gradients(self, batch: Batch) -> None:
        """Clip the norm of the gradient."""
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network trained on the memory. Raise UnseenTask before there is one."""
        if not self.networks_trained:
            raise UnseenTask("gdumb has not trained yet; with strategy.train_at=each it does after every experience")
        return super().predictor(task_id)

    def state_dict(self) -> dict[str, Any]:
        """Return network, memory and progress."""
        return super().state_dict() | {"networks_trained": self.networks_trained}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.networks_trained = state["networks_trained"]

    def diagnostics(self) -> dict[str, Any]:
        """Return what the memory holds, and how many networks were trained on it."""
        facts = {"buffer_samples": len(self.buffer), "buffer_bytes": self.buffer.bytes_stored()}
        if len(self.buffer) and self.buffer.targets.dim() == 1:
            classes, counts = self.buffer.targets[: len(self.buffer)].unique(return_counts=True)
            facts["samples_of_class"] = dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True))
        return facts | {"networks_trained": self.networks_trained}

    def expected_samples(self, info: StreamInfo) -> int:
        """Return one pass over the stream, and the passes over the memory."""
        c, n = self.config, info.n_experiences
        repeats = info.train.epochs if Requirement.BOUNDARIES in info.scenario.provides else 1
        stream = info.planned_samples // repeats
        experiences = range(1, n + 1) if c.train_at == "each" else (n,)
        return stream + c.epochs * sum(min(c.buffer_size, stream * k // n) for k in experiences)
