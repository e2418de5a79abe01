"""Experience replay: each step also trains on samples of a small memory.

Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning" (arXiv 1902.10486); the update follows the
Mammoth library: one forward over current and replayed samples together, current samples inserted after the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, GradientStrategy, ReplayOptions, StreamInfo, join_inputs


class ER(GradientStrategy):
    """Experience replay (Chaudhry et al. 2019): rehearse a small memory beside every batch."""

    source = "Chaudhry et al. 2019, arXiv 1902.10486"
    costs = "keeps buffer_size samples; twice the operations of finetuning, as many samples replayed as fresh ones"

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        """Options of experience replay."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer."""
        super().setup(info, build_model)
        self.buffer = self.config.build_buffer(info, ends=True)
        self.parts["buffer"] = self.buffer

    def loss(self, batch: Batch) -> Tensor:
        """Mean over current and replayed samples of one joint forward pass."""
        if not len(self.buffer):  # the first step has nothing to replay
            return super().loss(batch)
        replay = self.buffer.draw(self.config.replayed(batch))
        task_ids = None
        if batch.task_ids is not None and replay.task_ids is not None:
            task_ids = torch.cat([batch.task_ids, replay.task_ids])
        logits = self.logits(join_inputs([batch.inputs, replay.inputs]), task_ids)
        return self.info.objective.loss(logits, torch.cat([batch.targets, replay.targets])).mean()

    def after_step(self, batch: Batch) -> None:
        """Insert the current samples only now, so that none is replayed beside itself."""
        self.buffer.add(batch)

    def finish(self, experience: Experience) -> None:
        """Let the buffer choose, if it does so when a task ends."""
        self.buffer.end_experience(experience)

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is, in samples and bytes."""
        return {"buffer_samples": len(self.buffer), "buffer_bytes": self.buffer.bytes_stored()}

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples and as many replayed ones."""
        return round(info.planned_samples * (1.0 + self.config.replay_share(info)))
