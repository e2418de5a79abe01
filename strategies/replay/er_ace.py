"""ER-ACE: what arrives competes only with what arrives beside it; replayed samples compete with every class met.

Caccia et al. 2022, "New Insights on Reducing Abrupt Representation Change in Online Continual Learning" (ICLR, arXiv
2104.05025): asymmetric cross entropy, L(incoming; classes in the incoming batch) + L(replayed; all classes met). New
samples then do not push old classes away. As in the code of the authors, each term has a forward pass of its own, and
the two means are added without weights. The authors wait for the second task before they treat the two differently;
here the rule holds from the first step, so that no boundary is needed. A batch of one class alone teaches nothing by
its own term.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    GradientStrategy,
    ReplayOptions,
    StreamInfo,
    UsageError,
    class_mask,
    restrict,
)


class ERACE(GradientStrategy):
    """ER with asymmetric cross entropy (Caccia et al. 2022): new samples compete only among their own classes."""

    source = "Caccia et al. 2022, arXiv 2104.05025"
    costs = "keeps buffer_size samples; one more forward and backward pass a step, over the replayed samples"

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        """Options of ER-ACE."""

        unmet_compete: bool = False  # whether classes not met yet compete as well, as in the code of the authors

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer. Raise UsageError where a sample has no single class."""
        if not isinstance(info.objective, Classification):
            raise UsageError(
                f"ER-ACE needs one class per sample; {info.stream} is trained by {info.objective.name}. "
                "Use --strategy er, or a stream for classification."
            )
        super().setup(info, build_model)
        self.buffer = self.config.build_buffer(info)
        self.parts["buffer"] = self.buffer
        self.met = class_mask((), info.n_outputs, info.device)  # classes, current ones included

    def loss(self, batch: Batch) -> Tensor:
        """Incoming samples among the classes of the batch, plus replayed ones among all classes met."""
        present = class_mask(batch.targets, self.info.n_outputs, self.info.device)
        self.met = self.met | present
        unmet = ~self.met if self.config.unmet_compete else torch.zeros_like(self.met)
        loss = self._loss_among(batch, present | unmet)
        if len(self.buffer):  # the first step has nothing to replay
            replay = self.buffer.draw(self.config.replayed(batch))
            loss = loss + self._loss_among(replay, self.met | unmet)
        return loss

    def _loss_among(self, batch: Batch, classes: Tensor) -> Tensor:
        """Return the mean loss of one forward pass in which only `classes` [C] compete, within the task if known."""
        _, outputs = self.both_outputs(batch.inputs, None)  # also of classes not opened yet: `classes` decides
        logits = restrict(self.restricted(outputs, batch.task_ids), classes)
        return self.info.objective.loss(logits, batch.targets).mean()

    def after_step(self, batch: Batch) -> None:
        """Insert the current samples only now, so that none is replayed beside itself."""
        self.buffer.add(batch)

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is, in samples and bytes."""
        return {"buffer_samples": len(self.buffer), "buffer_bytes": self.buffer.bytes_stored()}

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples and as many replayed ones."""
        return round(info.planned_samples * (1.0 + self.config.replay_share(info)))

    def state_dict(self) -> dict[str, Any]:
        """Return what every gradient strategy keeps, and the classes met."""
        return {**super().state_dict(), "classes_met": self.met}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.met = state["classes_met"].to(self.info.device)
