"""One expert: a small network, its optimiser and clock, the losses it is watched by, and what pruning leaves of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import Batch, Experience, Inputs, UsageError, check_choices, map_inputs
from strategies.tame.loss_detector import LossDetector
from strategies.tame.sparse import Pruning, is_compact, load_network, stored_parameters

SQUASH: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,  # then the loss is bounded: no spike of early training passes for a new task
    "none": lambda outputs: outputs,
    "tanh_scale": lambda outputs: 5.0 * torch.tanh(outputs / 5.0),
}
FLOOR = {"sigmoid": 0.0, "none": -10.0, "tanh_scale": -5.0}  # of an output, for a class that was never met


@dataclass
class ExpertOptions:
    """How an expert is trained and pruned, mixed into a strategy's `Config`."""

    lr: float = 0.1  # of the experts: SGD
    momentum: float = 0.9  # of the experts
    nesterov: bool = False  # paper: True; released: False
    weight_decay: float = 5e-4  # of the experts
    lr_warmup: int = 0  # first steps of an expert, over which its rate rises from 0
    lr_drop_steps: list[int] = field(default_factory=list)  # steps of an expert after which its rate is multiplied
    lr_drop: float = 0.2  # what the rate is multiplied by after each of lr_drop_steps
    squash: str = "sigmoid"  # sigmoid (paper), none, tanh_scale
    prune_experts: float = 0.98  # share of convolution and linear weights removed; 0 = keep all
    prune_when: str = "on_switch"  # on_switch: when an expert is left; end: with the selector's samples
    prune_memory: int = 2000  # samples of the latest expert, emptied at each switch; paper: 200 to 6000
    prune_epochs: int = 20  # passes over that memory after pruning; paper: 200
    prune_batch: int = 128  # samples in a step of that finetuning
    prune_lr: float = 0.1  # of the experts; the selector's is 1 % of it
    remeasure: bool = True  # ours: after pruning the threshold is taken anew, on the pruning memory

    def check_expert(self) -> None:
        """Raise UsageError for a value outside its range."""
        check_choices(self, {"squash": (*SQUASH,), "prune_when": ("on_switch", "end")})
        for name in ("prune_epochs", "prune_batch", "prune_memory"):
            if getattr(self, name) < 1:
                raise UsageError(f"strategy.{name}={getattr(self, name)} is too small. Use 1 or more.")
        check_share(self, "prune_experts")
        for name in ("lr", "prune_lr", "lr_drop"):
            check_positive(self, name)
        if not 0 <= self.momentum < 1:
            raise UsageError(f"strategy.momentum={self.momentum} is not possible. Use 0 or more, and less than 1.")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"strategy.weight_decay={self.weight_decay} is not possible. Use 0 or more.")
        if self.nesterov and not self.momentum:
            raise UsageError("strategy.nesterov=true has no meaning without strategy.momentum. Use a momentum above 0.")
        if self.lr_warmup < 0:
            raise UsageError(f"strategy.lr_warmup={self.lr_warmup} is not a number of steps. Use 0 (none) or more.")


def check_positive(options: Any, name: str) -> None:
    """Raise UsageError if a rate is none."""
    if not 0 < getattr(options, name) < math.inf:
        raise UsageError(f"strategy.{name}={getattr(options, name)} is not possible. Use a number above 0.")


def check_share(options: Any, name: str) -> None:
    """Raise UsageError if a share of weights to remove is none."""
    if not 0 <= getattr(options, name) < 1:
        raise UsageError(f"strategy.{name}={getattr(options, name)} is not a share. Use 0 or more, and less than 1.")


class Expert:
    """A network for one task, its optimiser, the losses it is watched by, and what is left of it after pruning."""

    def __init__(self, network: nn.Module, config: ExpertOptions, detector: LossDetector) -> None:
        self.config, self.detector = config, detector
        self.steps = 0  # its own clock of the learning rate
        self.size = stored_parameters(network)  # before pruning
        self.pruning: Pruning | None = None
        self.hold(network)

    def hold(self, network: nn.Module) -> None:
        """Train this network from now on."""
        self.network: Any = network
        c = self.config
        self.optimizer = torch.optim.SGD(
            [*network.parameters()] or [torch.zeros(1)],
            lr=c.lr,
            momentum=c.momentum,
            nesterov=c.nesterov,
            weight_decay=c.weight_decay,
        )

    def outputs(self, inputs: Inputs) -> Tensor:
        """Return [B, C], squashed: fed to softmax as if they were logits."""
        network = self.network
        return network.heads.shown(SQUASH[self.config.squash](network.heads.linear(network.features(inputs))))

    @torch.no_grad()
    def surprise(self, batch: Batch) -> Tensor:
        """Return the loss on a batch in evaluation mode; a class never trained on has the lowest output there is.

        In training only classes that have been met compete: with sigmoid outputs, absent ones would drive all the
        others to 1 alike, where nothing is learned any more. (In the paper every task has all local labels.)
        """
        self.network.eval()
        heads = self.network.heads
        raw = heads.linear(self.network.features(batch.inputs))
        outputs = SQUASH[self.config.squash](raw).masked_fill(~heads.opened, FLOOR[self.config.squash])
        return nn.functional.cross_entropy(outputs, batch.targets)

    def train_on(self, batch: Batch, optimizer: torch.optim.Optimizer) -> Tensor:
        """Take one step; weights that were pruned stay zero. Return the loss."""
        self.network.train()
        loss = nn.functional.cross_entropy(self.outputs(batch.inputs), batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if self.pruning is not None:
            self.pruning.apply(self.network)
        return loss

    def learn(self, batch: Batch) -> Tensor:
        """Take one step at the rate of its own clock, which stands still while others are active."""
        drops = sum(self.steps >= drop for drop in self.config.lr_drop_steps)
        self.steps += 1
        rise = min(1.0, self.steps / max(1, self.config.lr_warmup))
        self.optimizer.param_groups[0]["lr"] = self.config.lr * rise * self.config.lr_drop**drops
        self.network.heads.opened[batch.targets] = True
        return self.train_on(batch, self.optimizer)

    def prune(self, experience: Experience, source: Any, *, share: float, lr: float, phase: str) -> None:
        """Remove weights by magnitude, finetune the others on `source`, and keep only what is left."""
        c = self.config
        if self.pruning is None:
            with torch.no_grad():  # outputs never used are the first to go
                self.network.heads.linear.weight[~self.network.heads.opened] = 0.0
            self.pruning = Pruning.by_magnitude(self.network, share)
        self.pruning.apply(self.network)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
        half = max(1, c.prune_epochs // 2)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [half, max(half + 1, c.prune_epochs * 3 // 4)])
        for _ in range(c.prune_epochs if len(source) else 0):
            for batch in experience.batches(source=source, epochs=1, batch_size=c.prune_batch, phase=phase):
                experience.report(self.train_on(batch, optimizer))
            schedule.step()
        self.network.eval()
        self.pruning.compact(self.network)
        self.pruning = None
        self.hold(self.network)

    def remeasure(self, experience: Experience, source: Any) -> None:
        """Take the losses it is judged by anew, on `source`: they were those of the network before pruning."""
        batches = experience.batches(source=source, epochs=1, phase="measuring")
        losses = [self.surprise(batch) for batch in batches]
        if losses:
            self.detector.restart(torch.stack(losses).tolist())

    def answers(self, inputs: Inputs) -> Tensor:
        """Return what it answers in evaluation mode, [B, C]."""
        self.network.eval()
        return self.outputs(inputs)

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser, losses and masks."""
        compact = is_compact(self.network)
        return {
            "network": self.network.state_dict(),
            "compact": compact,
            "optimizer": {} if compact else self.optimizer.state_dict(),
            "detector": self.detector.state_dict(),
            "steps": self.steps,
            "masks": {} if self.pruning is None or compact else self.pruning.masks,
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned."""
        load_network(self.network, state["network"], compact=state["compact"])
        self.hold(self.network)
        if not state["compact"]:
            self.optimizer.load_state_dict(state["optimizer"])
        self.detector.load_state_dict(state["detector"])
        self.steps = state["steps"]
        if state["masks"]:
            self.pruning = Pruning({name: mask.to(device) for name, mask in state["masks"].items()})


def entropy(outputs: Tensor) -> Tensor:
    """[B, C] logits -> [B] entropy of their softmax."""
    logs = outputs.log_softmax(1)
    return -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(1)


def routed_answers(experts: Sequence[Expert], routed: Tensor, inputs: Inputs, *, outputs: int) -> Tensor:
    """Return [B, outputs], each sample answered by the expert that routed, [B] int64, names."""
    answers = torch.zeros(len(routed), outputs, device=routed.device)
    for number in routed.unique().tolist():
        rows = routed == number
        answers[rows] = experts[number].answers(map_inputs(itemgetter(rows), inputs))
    return answers
