"""The selector: a classifier from inputs to experts, trained on a small uniform sample of the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cl_suite import Experience, HeadBank, UsageError
from strategies.tame.expert import Expert, check_positive, check_share
from strategies.tame.expert_memory import ExpertMemory
from strategies.tame.loss_detector import LossDetector


@dataclass
class SelectorOptions:
    """How the selector is trained, mixed into a strategy's `Config`."""

    max_experts: int = 20  # beyond it a change goes to the expert that fits best
    buffer: str = "global"  # uniform sample: global, per_expert, per_class (by the labels that training shows)
    selector_memory: int = 5000  # samples of the stream it is trained on
    selector_every: int = 4  # evaluation points between its trainings, and where there is a new expert; 0: at the end
    selector_epochs: int = 10  # passes over the memory; paper: 200
    selector_batch: int = 128  # samples
    selector_lr: float = 0.1  # of SGD
    prune_selector: float = 0.5  # share of its weights removed after its last training; 0 = keep all

    def check_selector(self) -> None:
        """Raise UsageError for a value outside its range."""
        for name, low in (("max_experts", 1), ("selector_epochs", 1), ("selector_batch", 1), ("selector_every", 0)):
            if getattr(self, name) < low:
                raise UsageError(f"strategy.{name}={getattr(self, name)} is too small. Use {low} or more.")
        check_positive(self, "selector_lr")
        check_share(self, "prune_selector")


class Selector(Expert):
    """A network with one output per expert; open those it has samples of."""

    def __init__(self, build_model: Callable[[], Any], config: Any, *, outputs: int) -> None:
        """config: the options of experts, of their detector and `SelectorOptions` in one."""
        network = build_model()
        linear = network.heads.linear
        network.heads = HeadBank(linear.in_features, outputs).to(linear.weight.device)
        super().__init__(network, config, LossDetector(config, uniform=0.0, warmup=0))
        self.options: SelectorOptions = config

    @property
    def experts(self) -> int:
        """How many experts it tells apart."""
        return int(self.network.heads.opened.sum())

    def fit(self, experience: Experience, memory: ExpertMemory, *, prune: bool) -> None:
        """Train on a memory of (inputs, expert); `prune`: then remove weights, and finetune the others."""
        o = self.options
        optimizer = torch.optim.SGD(self.network.parameters(), lr=o.selector_lr, momentum=0.9, weight_decay=5e-4)
        batches = experience.batches(
            source=memory, epochs=o.selector_epochs, batch_size=o.selector_batch, phase="selector"
        )
        for batch in batches:
            experience.report(self.train_on(batch, optimizer))
        if prune and o.prune_selector:
            rate = 0.01 * self.config.prune_lr
            self.prune(experience, memory, share=o.prune_selector, lr=rate, phase="pruning the selector")
