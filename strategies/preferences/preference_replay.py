"""Rehearsal by preference: the loss of each task's memory weighs as much as the preference says. One training for each.

The preference-regularised rehearsal that IBCL is compared with (Lu et al., arXiv 2305.14782, "GEM-reg"): its program
adds the losses of all memories to that of the batch, without GEM's projection. With `strategy.project` the gradient of
the new task is projected instead, so as not to raise the weighted loss of the memories: A-GEM (Chaudhry et al. 2019,
arXiv 1812.00420, eq. 11) by preference. It is the gradient that is projected: with momentum a step carries older ones
too, and `strategy.momentum=0` is the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, GradientStrategy, StreamInfo, flatten, join_inputs, project_gradient
from strategies.preferences.one_per_preference import OnePerPreference
from strategies.preferences.task_memory import TaskMemory


class PreferenceReplay(OnePerPreference):
    """Rehearsal weighted by a preference, trained anew for each (baseline GEM-reg of Lu et al., arXiv 2305.14782)."""

    source = "Lu et al., arXiv 2305.14782 (baseline GEM-reg); Chaudhry et al. 2019, arXiv 1812.00420"
    costs = (
        "keeps memory_per_task samples of each task, all replayed in each step; one training for each preference "
        "asked for"
    )

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the memory, and of the step."""

        memory_per_task: int = 20  # samples of each earlier task, all replayed in each step (IBCL's program: 20)
        project: bool = False  # the new task's gradient (A-GEM's step if momentum=0) instead of adding their losses

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty memory."""
        super().setup(info, build_model)
        self.memory = TaskMemory(info, self.config.memory_per_task)
        self.parts["memory"] = self.memory
        self._measure_anew()

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self._measure_anew()

    def loss(self, batch: Batch) -> Tensor:
        """Return w_i L(batch) + sum over earlier k of w_k L(memory of k), each L a mean; with `project` w_i L(batch).

        One forward for all. A task that weighs nothing has no part in it, in batch statistics neither.
        """
        replay = None if self.config.project else self.replayed()
        if not self.preference[-1]:
            # With project nothing is left of the loss: zero, with a gradient of zeros.
            return self.remembered(replay) if replay else 0.0 * flatten(list(self.model.parameters())).sum()
        if replay is None:
            return self.weights[-1] * self.losses(batch).mean()
        own = (self.weights[-1] / len(batch)).expand(len(batch))
        both = Batch(
            join_inputs([batch.inputs, replay.inputs]),
            torch.cat([batch.targets, replay.targets]),
            raw=batch.raw,  # of the batch alone: nothing here reads it
            task_ids=None
            if batch.task_ids is None or replay.task_ids is None
            else torch.cat([batch.task_ids, replay.task_ids]),
        )
        return torch.cat([own, self.memory.shares(self.weights[:-1], replay)]) @ self.losses(both)

    def replayed(self) -> Batch | None:
        """Return the memories of all earlier tasks that weigh anything, as one batch; None if there are none."""
        wanted = [place for place, weight in enumerate(self.preference[:-1]) if weight]
        return self.memory.draw(wanted) if wanted else None

    def remembered(self, replay: Batch) -> Tensor:
        """Return sum over earlier k of w_k L(memory of k)."""
        return self.memory.shares(self.weights[:-1], replay) @ self.losses(replay)

    def adjust_gradients(self, batch: Batch) -> None:
        """With `project`: let the step not go against the gradient of the memories (A-GEM, eq. 11)."""
        replay = self.replayed() if self.config.project else None
        if replay is None:
            return
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        cosine, violated = project_gradient(parameters, self.remembered(replay))
        self._cosines += cosine
        self._violated += violated
        self._steps += 1

    def finish(self, experience: Experience) -> None:
        """Keep samples of this task."""
        self.memory.keep(experience)

    def constraints(self) -> dict[str, float]:
        """With `project`: the cosine of the gradient with that of the memories, before it, as the mean over steps."""
        if not self.config.project:
            return {}
        return {"cosine with the memories' gradient": float(self._cosines) / max(1, self._steps)}

    def diagnostics(self) -> dict[str, Any]:
        """Return trainings and memory; with `project` also in what share of the latest experience's steps it acted."""
        facts = super().diagnostics() | {
            "memory_samples": len(self.memory.samples),
            "memory_bytes": self.memory.bytes_stored(),
        }
        if self.config.project:
            facts["projected_share_of_steps"] = float(self._violated) / max(1, self._steps)
        return facts

    def expected_samples(self, info: StreamInfo) -> int:
        """Return, for one training a task: fresh samples, the memories in each step, and what fills them."""
        earlier = sum(range(info.n_experiences)) * self.config.memory_per_task
        steps = info.planned_steps / info.n_experiences  # of an experience
        return round(info.planned_samples + steps * earlier + info.n_experiences * self.config.memory_per_task)

    def _measure_anew(self) -> None:
        # On the device, so that no step waits for them.
        self._cosines = torch.zeros((), device=self.info.device)  # sum over steps
        self._violated = torch.zeros((), device=self.info.device)  # steps in which the projection acted
        self._steps = 0
