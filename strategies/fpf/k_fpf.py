"""k-FPF: plain training on the stream, and k short finetunings of the modules that forget, on a small memory.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (ICML, arXiv 2304.04158). No step replays
anything; the k finetunings are spaced evenly over the stream, whatever its boundaries, the last at its end.
`strategy.kd_alpha` above 0 is k-FPF-KD: finetuning is also held to the logits stored with the samples. Rows of R before
the last are measured between finetunings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cl_suite import Batch, Experience, GradientStrategy, Requirement, StreamInfo, UsageError, build_buffer
from strategies.fpf.finetuning import Finetuning, FinetuningOptions


class KFPF(GradientStrategy):
    """k-FPF (Zhao et al. 2023): no replay in the steps, k short finetunings of sensitive modules on a small memory."""

    source = "Zhao et al. 2023, arXiv 2304.04158"
    costs = "keeps buffer_size samples; steps as finetuning, and k finetunings of fpf_epochs passes over the memory"

    @dataclass
    class Config(FinetuningOptions, GradientStrategy.Config):
        """Options of the memory, of the finetunings and when they come."""

        buffer_size: int = 500  # samples, whole stream
        buffer: str = "reservoir"  # reservoir, balanced, ring
        k: int = 10  # finetunings in the whole stream, the last at its end; 0 = none
        k_per_task: bool = False  # whether k is for each experience
        every_steps: int = 0  # instead of k: one every so many steps, and one at the end; 0 = by k
        align_to_task_end: bool = False  # whether they come at ends of experiences only (an ablation)
        fpf_epochs: int = 10  # passes over the buffer in one finetuning

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """Boundaries only where finetunings are to fall on them, or are counted by them."""
        by_task = config.align_to_task_end or config.k_per_task
        return frozenset({Requirement.BOUNDARIES}) if by_task else cls.requires

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """Its clock counts the planned steps."""
        return "its finetunings are spaced over the planned steps"

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network, an empty memory and the schedule. Raise UsageError for one that cannot be met."""
        super().setup(info, build_model)
        c = self.config
        self.buffer = build_buffer(c.buffer, c.buffer_size, info)
        self.finetuning = Finetuning(c, info, lambda: self.model, self.both_outputs)
        self.parts |= {"buffer": self.buffer, "finetuning": self.finetuning}
        self.steps = 0
        self.ends_left = 0
        self.experience: Experience | None = None  # only while it is learned
        self.schedule = trigger_steps(c, info)

    def start(self, experience: Experience) -> None:
        """Begin; measure how much modules move while they are still being chosen."""
        super().start(experience)
        self.experience = experience
        self.finetuning.measure(experience)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss on the current batch alone; its logits are kept for distillation."""
        logits, outputs = self.both_outputs(batch.inputs, batch.task_ids)
        self.step_logits = outputs.detach()
        return self.info.objective.loss(logits, batch.targets).mean()

    def after_step(self, batch: Batch) -> None:
        """Offer the batch to the memory; finetune when it is time."""
        if self.config.kd_alpha:
            self.buffer.add(batch, logits=self.step_logits)
        else:
            self.buffer.add(batch)
        self.steps += 1
        if self.steps in self.schedule:
            self.finetune(early=True)

    def finish(self, experience: Experience) -> None:
        """Choose the modules when enough is measured; finetune if a finetuning is due here."""
        self.finetuning.choose(experience)
        if experience.index in ends_with_trigger(self.config, self.info):
            self.finetune()
        self.experience = None

    def finetune(self, *, early: bool = False) -> None:
        """One trigger of FPF."""
        assert self.experience is not None
        self.finetuning.run(self.experience, self.buffer, self.info.objective.loss, early=early)

    def diagnostics(self) -> dict[str, Any]:
        """Return what was finetuned and how often, and how full the memory is."""
        memory = {"buffer_samples": len(self.buffer), "buffer_bytes": self.buffer.bytes_stored()}
        return self.finetuning.diagnostics() | memory

    def state_dict(self) -> dict[str, Any]:
        """Return network, memory and the step clock."""
        return super().state_dict() | {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.steps = state["steps"]

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples and those of the finetunings."""
        c = self.config
        triggers = len(trigger_steps(c, info)) + len(ends_with_trigger(c, info))
        return info.planned_samples + triggers * c.fpf_epochs * min(c.buffer_size, info.planned_samples)


def triggers_in_all(config: KFPF.Config, info: StreamInfo) -> int:
    """Return k for the whole stream."""
    return config.k * (info.n_experiences if config.k_per_task else 1)


def trigger_steps(config: KFPF.Config, info: StreamInfo) -> frozenset[int]:
    """Return the steps (from 1) after which to finetune; the one at the end of the stream is not among them.

    k triggers: every tau = floor(steps / k) steps, the last at the end. Raise UsageError if that cannot be.
    """
    c, steps = config, info.planned_steps
    for name in ("k", "every_steps"):
        if getattr(c, name) < 0:
            raise UsageError(f"strategy.{name}={getattr(c, name)} is too small. Use 0 or more.")
    if c.align_to_task_end:
        if not 0 < c.k <= info.n_experiences or c.k_per_task or c.every_steps:
            raise UsageError(
                f"strategy.align_to_task_end spreads k over the ends of {info.n_experiences} experiences. "
                f"Use strategy.k=1 to {info.n_experiences}, without k_per_task or every_steps."
            )
        return frozenset()
    if c.every_steps and c.k_per_task:
        raise UsageError("strategy.every_steps takes the place of k. Use it without strategy.k_per_task.")
    if c.every_steps:
        if c.every_steps > steps:
            raise UsageError(f"strategy.every_steps={c.every_steps} is more than the {steps} steps of the stream.")
        return frozenset(range(c.every_steps, steps, c.every_steps))
    k = triggers_in_all(c, info)
    if k > steps:
        raise UsageError(
            f"strategy.k={c.k} asks for {k} finetunings, but the stream has {steps} steps. Use {steps} or fewer."
        )
    return frozenset((steps // k) * number for number in range(1, k)) if k else frozenset()


def ends_with_trigger(config: KFPF.Config, info: StreamInfo) -> frozenset[int]:
    """Return the experiences at whose end to finetune: the last one, or k evenly spread ones."""
    c, count = config, info.n_experiences
    if c.align_to_task_end:
        return frozenset(round(count * number / c.k) - 1 for number in range(1, c.k + 1))
    return frozenset({count - 1}) if c.k or c.every_steps else frozenset()
