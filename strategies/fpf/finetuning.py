"""FPF, forgetting-prioritised finetuning: train only the modules that forget, on the samples of a buffer.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (ICML, arXiv 2304.04158). Defaults are ours:
the paper's own could not be read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    NORMS,
    SCORES,
    Batch,
    Buffer,
    Experience,
    Inputs,
    ModuleChanges,
    Source,
    StreamInfo,
    UsageError,
    check_choices,
    module_groups,
    parameter_count,
    snapshot,
)
from strategies.fpf.choose_modules import parse_modules, preset, select


@dataclass
class FinetuningOptions:
    """What is finetuned, how long, and how modules are chosen by measurement."""

    modules: str = "preset"  # preset (by network and scenario), auto (measured), all, or names: fc+bn+conv1
    fpf_epochs: int = 30  # passes over the buffer in one finetuning
    fpf_batch: int = 32  # samples
    fpf_lr: float = 0.03  # of plain SGD: momentum of frozen modules would move them
    fpf_schedule: str = "constant"  # constant, cosine (to zero)
    fpf_balanced: bool = False  # whether every class in the buffer is drawn equally often
    kd_alpha: float = 0.0  # weight of the mean squared distance to stored logits (distillation); 0 = none
    auto_experiences: int = 2  # auto: the first so many are measured; until then the preset serves
    auto_score: str = "raw"  # auto: raw, boundary, ratio; see docs/methods/fpf.md
    auto_pick: str = "most"  # auto: the most sensitive modules; least: the control
    auto_budget: float = 0.05  # auto: share of all parameters that may be chosen, in (0, 1]
    auto_top: int = 0  # auto: instead of the share, so many modules
    auto_threshold: float = 0.0  # auto: instead of the share, all with a score above this

    def check(self) -> None:
        """Raise UsageError for a value outside its range."""
        check_choices(
            self,
            {"fpf_schedule": ("constant", "cosine"), "auto_score": SCORES, "auto_pick": ("most", "least")},
        )
        for name in ("fpf_epochs", "fpf_batch", "auto_experiences"):
            if getattr(self, name) < 1:
                raise UsageError(f"strategy.{name}={getattr(self, name)} is too small. Use 1 or more.")
        if not 0 < self.fpf_lr < math.inf:
            raise UsageError(f"strategy.fpf_lr={self.fpf_lr} is not a learning rate. Use more than 0.")
        for name in ("kd_alpha", "auto_top", "auto_threshold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"strategy.{name}={getattr(self, name)} is too small. Use 0 or more.")
        if not 0 < self.auto_budget <= 1:
            raise UsageError(f"strategy.auto_budget={self.auto_budget} is not a share. Use more than 0, at most 1.")


class Finetuning:
    """Finetunes chosen modules of a network. A part of its strategy: what it has measured is saved with it.

    network: returns the strategy's network (a function, since some strategies build it anew)
    outputs: (inputs, task ids) -> (logits [B, C] as the loss takes them, outputs [B, C] of the head without -inf)
    """

    def __init__(
        self,
        options: FinetuningOptions,
        info: StreamInfo,
        network: Callable[[], nn.Module],
        outputs: Callable[[Inputs, Tensor | None], tuple[Tensor, Tensor]],
    ) -> None:
        options.check()
        if options.modules == "auto" and options.auto_experiences > info.n_experiences:
            raise UsageError(
                f"strategy.auto_experiences={options.auto_experiences} is more than the stream has: "
                f"{info.n_experiences}. Use fewer."
            )
        self._options, self._network, self._outputs = options, network, outputs
        self._groups = module_groups(network())
        self.chosen = preset(self._groups, info.scenario)  # names of modules
        if options.modules not in ("preset", "auto"):
            self.chosen = parse_modules(options.modules, self._groups)
        self.changes = ModuleChanges()
        self.runs = 0  # finetunings so far
        self.skipped = 0  # triggers that found fewer samples than one batch

    # -- choosing modules -------------------------------------------------------------------------------------------

    def measure(self, experience: Experience) -> None:
        """Follow the network through this experience, if modules are still being chosen."""
        if self._options.modules != "auto" or experience.index >= self._options.auto_experiences:
            return
        if not self.changes.has_begun:
            self.changes.begin(self._network())
        experience.watch(epoch=lambda: self.changes.observe(experience.index, self._network()))

    def choose(self, experience: Experience) -> None:
        """At the end of the last measured experience choose the modules."""
        o = self._options
        if not self.changes.has_begun or experience.index != o.auto_experiences - 1:
            return
        self.changes.end()
        if not self.changes.epochs:
            experience.note("the network was not trained while modules were measured: the preset is finetuned")
            return
        self.chosen = select(
            self.changes.scores(o.auto_score),
            self._network(),
            top=o.auto_top,
            threshold=o.auto_threshold,
            budget=o.auto_budget,
            most=o.auto_pick == "most",
        )
        experience.note(f"modules chosen to be finetuned: {', '.join(self.chosen)}")

    # -- finetuning -------------------------------------------------------------------------------------------------

    def run(
        self,
        experience: Experience,
        buffer: Buffer,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        early: bool = False,
    ) -> None:
        """Train the chosen modules on the buffer.

        loss:  (logits [B, C], targets [B]) -> [B]
        early: whether more is to come: then a buffer with less than a batch is passed over, unless it is that small
        """
        o = self._options
        if not len(buffer) or (early and len(buffer) < min(o.fpf_batch, buffer.capacity)):
            self.skipped += 1
            return
        before = snapshot(self._network()) if self.changes.has_begun else {}
        source: Source = Balanced(buffer) if o.fpf_balanced else buffer
        steps = o.fpf_epochs * -(-len(source) // o.fpf_batch)
        with self._only_chosen() as trained:
            optimizer = torch.optim.SGD(trained, lr=o.fpf_lr) if trained else None  # new: no state of the host's
            batches = experience.batches(source=source, epochs=o.fpf_epochs, batch_size=o.fpf_batch, phase="finetuning")
            for step, batch in enumerate(batches):
                value = self._loss(batch, loss)
                if optimizer is None:  # only running statistics were chosen: the forward pass has refreshed them
                    continue
                if o.fpf_schedule == "cosine":
                    optimizer.param_groups[0]["lr"] = o.fpf_lr * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
                experience.report(value)
        self.runs += 1
        if before:  # what is measured is training on the stream
            self.changes.discount(before, snapshot(self._network()))

    def _loss(self, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        logits, outputs = self._outputs(batch.inputs, batch.task_ids)
        value = loss(logits, batch.targets).mean()
        if self._options.kd_alpha:
            # As in DER: the mean over the batch and over all outputs.
            value = value + self._options.kd_alpha * (outputs - batch.extras["logits"]).square().mean()
        return value

    @contextmanager
    def _only_chosen(self) -> Iterator[list[nn.Parameter]]:
        """Freeze all but the chosen modules; running statistics follow the buffer only if they were chosen."""
        network = self._network()
        names = {tensor for module in self.chosen for tensor in self._groups[module]}
        parameters = dict(network.named_parameters())
        required = {name: parameter.requires_grad for name, parameter in parameters.items()}
        modes = {module: module.training for module in network.modules()}
        network.train()
        if "bn_statistics" not in self.chosen:
            for module in network.modules():
                # Without running statistics a layer has nothing to freeze, and no other way to work.
                if isinstance(module, NORMS) and getattr(module, "running_mean", None) is not None:
                    module.eval()
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in names)
        try:
            yield [parameter for name, parameter in parameters.items() if name in names]
        finally:
            for name, parameter in parameters.items():
                parameter.requires_grad_(required[name])
                parameter.grad = None
            for module, mode in modes.items():
                module.training = mode

    # -- what is told and kept ---------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, Any]:
        """Return what was finetuned and how often; if it was measured, each module's sensitivity."""
        network = self._network()
        names = [tensor for module in self.chosen for tensor in self._groups[module]]
        total = sum(parameter.numel() for parameter in network.parameters())
        facts: dict[str, Any] = {
            "modules": list(self.chosen),
            "parameters_share": parameter_count(network, names) / total,
            "finetunings": self.runs,
            "skipped": self.skipped,
        }
        if self.changes.epochs:
            facts["sensitivity"] = self.changes.scores(self._options.auto_score)
        return facts

    def state_dict(self) -> dict[str, Any]:
        """Return the choice, what it rests on, and the counts."""
        return {
            "chosen": list(self.chosen),
            "changes": self.changes.state_dict(),
            "runs": self.runs,
            "skipped": self.skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.chosen = list(state["chosen"])
        device = next(self._network().parameters()).device
        self.changes.load_state_dict(state["changes"], device)
        self.runs, self.skipped = state["runs"], state["skipped"]


class Balanced:
    """A buffer in which every class comes equally often: samples of rarer ones are repeated in turn."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        targets = buffer.targets[: len(buffer)].cpu()
        if targets.dim() > 1:
            raise UsageError("strategy.fpf_balanced needs one class per sample. Set strategy.fpf_balanced=false.")
        places = [(targets == label).nonzero().squeeze(1) for label in targets.unique()]
        most = max(map(len, places))
        self._index = torch.cat([own.repeat(-(-most // len(own)))[:most] for own in places]).to(buffer.targets.device)

    def __len__(self) -> int:
        return len(self._index)

    def take(self, positions: Tensor) -> tuple[Inputs, Tensor]:
        """Return (raw inputs, targets) at `positions` [B]."""
        return self._buffer.take(self._index[positions])

    def task_ids_at(self, positions: Tensor) -> Tensor | None:
        """Return the tasks [B], or None where they are withheld."""
        return self._buffer.task_ids_at(self._index[positions])

    def extras_at(self, positions: Tensor) -> dict[str, Tensor]:
        """Return what is kept beside the samples."""
        return self._buffer.extras_at(self._index[positions])
