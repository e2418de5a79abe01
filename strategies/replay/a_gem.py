"""A-GEM: a step never goes against the gradient of a batch from memory.

Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM" (ICLR, arXiv 1812.00420), eq. 11: where <g, g_ref> < 0,
g is replaced by its projection onto the half space, g - (<g, g_ref> / <g_ref, g_ref>) g_ref.

The memory is filled at the end of each task, so boundaries must be known. The memory of the paper takes an equal share
per task; the Mammoth library inserts one single batch per task: `agem_fill` has both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cl_suite import (
    Batch,
    Experience,
    GradientStrategy,
    RateDrops,
    ReplayOptions,
    Requirement,
    StreamInfo,
    UsageError,
    check_choices,
    project_gradient,
)


class AGEM(GradientStrategy):
    """Averaged GEM (Chaudhry et al. 2019): project a gradient that would raise the loss of a batch from memory."""

    source = "Chaudhry et al. 2019, arXiv 1812.00420"
    costs = (
        "keeps buffer_size samples; from the second task on one more forward and backward pass a step, and a second "
        "gradient of P numbers"
    )
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(ReplayOptions, RateDrops):
        """Options of A-GEM, which trains by plain SGD.

        What is projected is the gradient of one step. With momentum the step would also carry older gradients, and with
        weight decay a pull to zero, which no one has compared with the memory; so they are no options.
        """

        lr: float = 0.1  # as the other strategies' 0.01 with momentum 0.9; the paper uses 0.03 to 0.1
        agem_fill: str = "quota"  # per task: quota = buffer_size / tasks; one_batch = one training batch, the library

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer. Raise UsageError for options that leave a task without samples."""
        check_choices(self.config, {"agem_fill": ("quota", "one_batch")})
        super().setup(info, build_model)
        self.buffer = self.config.build_buffer(info, ends=True)
        self.parts["buffer"] = self.buffer
        if not self._samples_per_task(info):
            raise UsageError(
                f"strategy.buffer_size={self.config.buffer_size} leaves nothing for each of {info.n_experiences} "
                f"tasks. Use {info.n_experiences} or more."
            )
        self.projected_share: list[float] = []  # of the steps, per experience
        self._measure_anew()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD, see `Config`."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self._measure_anew()

    def adjust_gradients(self, batch: Batch) -> None:
        """Project the gradient onto those that do not raise the loss of a batch from memory (eq. 11)."""
        if not len(self.buffer):  # the first task is free
            return
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        replay = self.buffer.draw(self.config.replayed(batch))
        cosine, violated = project_gradient(parameters, self.loss(replay))
        self._cosines += cosine
        self._violated += violated
        self._steps += 1

    def finish(self, experience: Experience) -> None:
        """Put samples of this task, drawn at random, into the memory; or its first ones, with strategy.buffer=first."""
        self.projected_share.append(float(self._violated) / max(1, self._steps))
        if self.config.buffer == "first":
            self.buffer.end_experience(experience)
            return
        size = self._samples_per_task(self.info)
        batches = experience.batches(epochs=1, batch_size=size, augment=False, phase="memory")
        self.buffer.add(next(iter(batches)))

    def constraints(self) -> dict[str, float]:
        """Return the cosine of the gradient with that of the memory, before the projection, as the mean over steps.

        Where it is never negative, nothing is projected; `projected_share_of_steps` tells how often it was.
        """
        return {"cosine with the memory's gradient": float(self._cosines) / max(1, self._steps)}

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is, and how often the projection acted in each experience."""
        return {
            "buffer_samples": len(self.buffer),
            "buffer_bytes": self.buffer.bytes_stored(),
            "projected_share_of_steps": list(self.projected_share),
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples, as many replayed ones from the second task on, and those that fill the memory."""
        later = info.planned_samples * (1.0 - 1.0 / info.n_experiences)
        filling = self._samples_per_task(info) * info.n_experiences
        return round(info.planned_samples + later * self.config.replay_share(info) + filling)

    def state_dict(self) -> dict[str, Any]:
        """Return what every gradient strategy keeps, and how often the projection acted."""
        return {**super().state_dict(), "projected_share": list(self.projected_share)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.projected_share = list(state["projected_share"])

    def _samples_per_task(self, info: StreamInfo) -> int:
        if self.config.agem_fill == "one_batch":
            return info.train.batch_size
        return self.config.buffer_size // info.n_experiences

    def _measure_anew(self) -> None:
        # On the device, so that no step waits for them.
        self._cosines = torch.zeros((), device=self.info.device)  # sum over steps
        self._violated = torch.zeros((), device=self.info.device)  # steps in which the projection acted
        self._steps = 0
