"""DER and DER++: each step also keeps the logits of remembered samples near those they were stored with.

Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline" (NeurIPS, arXiv
2004.07211), eq. 6 (DER) and 7 (DER++). In the text left open by the paper they follow the Mammoth library of the
authors: one forward pass per term (batch statistics are never shared between current and replayed samples), the mean
of the squared differences over samples and classes, and logits as they were computed for the augmented view, in
training mode, before the update. The vector is that of the whole stream: outputs of classes still to come have values
too, and what an old sample says about them is kept as well. In the paper those compete in the cross entropy from the
beginning, and are low when their time comes: `model.future=true`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite import Batch, Buffer, Experience, GradientStrategy, ReplayOptions, StreamInfo, UsageError


class DarkExperience:
    """What both methods do: keep samples with their logits, and compare with them.

    It reads the strategy's `model` and `config`, and has no state of its own that outlives an experience.
    """

    def __init__(self, strategy: GradientStrategy, buffer: Buffer) -> None:
        self._strategy, self._buffer = strategy, buffer
        self._outputs: Tensor | None = None  # [B, C], of the current batch
        self._measure_anew()

    def start(self, experience: Experience) -> None:
        """Begin to measure the distillation of an experience; before the first, say what the stored logits hold."""
        self._measure_anew()
        heads = self._strategy.model.heads
        # Where the task is known at test, outputs of other tasks never compete with its own.
        closed = self._strategy.task_masks is None and not heads.future
        if experience.index == 0 and closed and not bool(heads.opened.all()):
            experience.note(
                "stored logits of classes still to come are untrained; model.future=true trains them, as in the paper."
            )

    def _measure_anew(self) -> None:
        self._sum = torch.zeros((), device=self._strategy.info.device)  # on the device, so that no step waits for it
        self._steps = 0

    def current_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the current batch, a scalar, and keep its logits for `insert`."""
        logits, outputs = self._strategy.both_outputs(batch.inputs, batch.task_ids)
        self._outputs = outputs.detach()
        return self._strategy.info.objective.loss(logits, batch.targets).mean()

    def distillation(self, batch: Batch) -> Tensor:
        """Return alpha times the mean squared change of stored logits, for as many samples as go beside `batch`."""
        config = self._strategy.config
        replay = self._buffer.draw(config.replayed(batch))
        _, outputs = self._strategy.both_outputs(replay.inputs, replay.task_ids)
        loss = config.alpha * F.mse_loss(outputs, replay.extras["logits"])
        self._sum += loss.detach()
        self._steps += 1
        return loss

    def insert(self, batch: Batch) -> None:
        """Offer the current samples to the buffer, with the logits that `current_loss` computed."""
        assert self._outputs is not None
        self._buffer.add(batch, logits=self._outputs)

    def constraints(self) -> dict[str, float]:
        """Return the mean of the distillation, weight included, in the latest experience."""
        return {"logit distillation": float(self._sum) / max(1, self._steps)}

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is, in samples and bytes, logits included."""
        return {"buffer_samples": len(self._buffer), "buffer_bytes": self._buffer.bytes_stored()}


def check_weight(name: str, value: float) -> None:
    """Raise UsageError if a weight of the loss is negative or not finite."""
    if not (isfinite(value) and value >= 0):
        raise UsageError(f"strategy.{name}={value} is a weight of the loss. Use 0 or more.")


class DER(GradientStrategy):
    """Dark experience replay (Buzzega et al. 2020): stay near the logits that remembered samples once had."""

    source = "Buzzega et al. 2020, arXiv 2004.07211"
    costs = (
        "keeps buffer_size samples, each with its logits; one more forward and backward pass a step, over replayed "
        "samples"
    )
    buffer_extras = frozenset({"logits"})

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        """Options of dark experience replay."""

        alpha: float = 1.0  # weight of the distillation; 0.1 to 1 in the paper, 0.3 on Seq-CIFAR-10

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer. Raise UsageError for a weight outside its range."""
        check_weight("alpha", self.config.alpha)
        super().setup(info, build_model)
        self.buffer = self.config.build_buffer(info)
        self.parts["buffer"] = self.buffer
        self.dark = DarkExperience(self, self.buffer)

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self.dark.start(experience)

    def loss(self, batch: Batch) -> Tensor:
        """Current batch, and alpha times the squared distance of replayed logits to the stored ones (eq. 6)."""
        loss = self.dark.current_loss(batch)
        if len(self.buffer):  # the first step has nothing to replay
            loss = loss + self.dark.distillation(batch)
        return loss

    def after_step(self, batch: Batch) -> None:
        """Insert the current samples only now, so that none is replayed beside itself."""
        self.dark.insert(batch)

    def constraints(self) -> dict[str, float]:
        """Return the mean of the distillation in the latest experience."""
        return self.dark.constraints()

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is."""
        return self.dark.diagnostics()

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples and as many replayed ones."""
        return round(info.planned_samples * (1.0 + self.config.replay_share(info)))


class DERPlusPlus(GradientStrategy):
    """Dark experience replay with labels (DER++, Buzzega et al. 2020): replay stored logits, and labels beside them."""

    source = "Buzzega et al. 2020, arXiv 2004.07211"
    costs = (
        "keeps buffer_size samples, each with its logits; two more forward and backward passes a step, over "
        "replayed samples"
    )
    buffer_extras = frozenset({"logits"})

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        """Options of dark experience replay with labels."""

        alpha: float = 0.5  # weight of the distillation; 0.1 to 1 in the paper, 0.2 on Seq-CIFAR-10 with 500 samples
        beta: float = 0.5  # weight of the replayed labels; 0.5 to 1 in the paper

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer. Raise UsageError for a weight outside its range."""
        check_weight("alpha", self.config.alpha)
        check_weight("beta", self.config.beta)
        super().setup(info, build_model)
        self.buffer = self.config.build_buffer(info)
        self.parts["buffer"] = self.buffer
        self.dark = DarkExperience(self, self.buffer)

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self.dark.start(experience)

    def loss(self, batch: Batch) -> Tensor:
        """DER's loss, and beta times the loss of a second replayed batch, drawn independently (eq. 7)."""
        loss = self.dark.current_loss(batch)
        if len(self.buffer):
            loss = loss + self.dark.distillation(batch)
            replay = self.buffer.draw(self.config.replayed(batch))
            loss = loss + self.config.beta * super().loss(replay)
        return loss

    def after_step(self, batch: Batch) -> None:
        """Insert the current samples only now, so that none is replayed beside itself."""
        self.dark.insert(batch)

    def constraints(self) -> dict[str, float]:
        """Return the mean of the distillation in the latest experience."""
        return self.dark.constraints()

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is."""
        return self.dark.diagnostics()

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples and two replayed batches beside each."""
        return round(info.planned_samples * (1.0 + 2 * self.config.replay_share(info)))
