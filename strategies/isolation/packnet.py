"""PackNet: train, prune, fine-tune; what pruning frees is all that the next task may write. Nothing is forgotten.

Mallya & Lazebnik 2018, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning" (CVPR, arXiv
1711.05769). Every weight of a linear or convolution layer below the heads has an owner: 0 = free, i = the i-th task.
Task i reads what tasks 1 to i own. Equal shares of each layer (`prune=equal`) are the setting of Kang et al. 2022
(WSN) for training from scratch; the authors' own, a fixed share of what a task claimed, is `prune=fixed`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_suite import (
    Batch,
    Experience,
    GradientStrategy,
    ModelPredictor,
    Predictor,
    Requirement,
    StreamInfo,
    UnseenTask,
    UsageError,
    VectorTable,
    build_optimizer,
    check_choices,
    freeze_token_vectors,
    restrict,
)
from strategies.isolation.task_parameters import TaskParameters

PER_TASK, FROZEN = "per_task", "frozen_after_first"
MOST_TASKS = 255  # an owner is kept in 8 bits


def pruned_count(claimed: int, size: int, *, keep: float, share: float) -> int:
    """Return how many of the `claimed` weights of a layer with `size` weights a task gives back, 0 to `claimed`.

    keep:  > 0: the task keeps this share of the layer (c n weights); 0: it gives back the `share` of its claim
    """
    # p_t = 1 - c n / free_t, times free_t; below 0 where less than c n is free.
    wanted = claimed - keep * size if keep else share * claimed
    return min(max(round(wanted), 0), claimed)


def weakest(weight: Tensor, owned: Tensor, count: int) -> Tensor:
    """Return which `count` of the `owned` weights have the smallest magnitudes, bool like `weight`.

    Of equal magnitudes the earlier positions go, so that the count is exact; but weights of zero do nothing for their
    task and go all. With a count of 0 there is no such magnitude: nothing goes.
    """
    chosen = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    if count:
        magnitude = weight.abs().masked_fill(~owned, torch.inf).flatten()
        chosen[magnitude.argsort(stable=True)[:count]] = True
    chosen = chosen.view(weight.shape)
    return chosen | (owned & (weight == 0)) if count else chosen


def steps_before_pruning(steps: int, finetune_share: float) -> int:
    """Divide the steps of an experience: return how many train; at least one, and one is left where there are two."""
    return min(max(round((1 - finetune_share) * steps), 1), max(steps - 1, 1))


def readable(owners: Tensor, number: int) -> Tensor:
    """Return which weights task `number` reads: its own and those of the tasks before it, not the free ones."""
    return (owners > 0) & (owners <= number)


def trunk_of(model: nn.Module) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Return the weights below the heads that have owners, and the names of those layers' biases and of all the rest.

    The rest are scale, shift and running statistics of normalisation. Tables of token vectors are left out: they are
    frozen. Raise UsageError for other parameters.
    """
    weights: dict[str, Tensor] = {}
    biases: list[str] = []
    rest: list[str] = []
    for place, module in model.named_modules():
        if isinstance(module, VectorTable):
            continue
        has_owners = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        tensors = [*module.named_parameters(place, False), *module.named_buffers(place, False)]
        for name, value in tensors if place.split(".")[0] != "heads" else []:
            if has_owners and name.endswith("weight"):
                weights[name] = value
            elif isinstance(value, nn.Parameter) and value.dim() > 1:
                raise UsageError(
                    f"{type(module).__name__} has parameters ({name}) that no task can own. "
                    "Use a network of linear, convolution and normalisation layers."
                )
            elif value.is_floating_point():
                (biases if has_owners else rest).append(name)
    if not weights:
        raise UsageError("no weight to share out: this network has only its heads. Use e.g. model.name=mlp.")
    return weights, biases, rest


class PackNet(GradientStrategy):
    """PackNet (Mallya & Lazebnik 2018): prune each task's weights, give the freed ones to the next task."""

    source = "Mallya & Lazebnik 2018, arXiv 1711.05769"
    costs = (
        "keeps an owner for each weight (stored in 8 bits), and a head and normalisation a task; steps as finetuning"
    )
    requires = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TEST})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of pruning, and of what each task has to itself. Weight decay never reaches other tasks' weights."""

        optimizer: str = "adam"  # adam, sgd, rmsprop
        lr: float = (
            0.001  # Adam at 1e-3, as Kang et al. ran PackNet from scratch; the paper: SGD on a pretrained network
        )
        prune: str = "equal"  # equal: every task keeps the same share of a layer; fixed: it frees a share of its claim
        keep: float = 0.0  # prune=equal: share of each layer per task, up to 1; 0 = 1 / number of tasks
        prune_share: float = 0.75  # prune=fixed: share of the claimed weights that is freed (the paper: 0.5 and 0.75)
        finetune_share: float = 1 / 3  # share of an experience's steps after pruning (the paper: 10 of 30 epochs)
        lr_finetune: float = 0.0  # rate after pruning; 0 = lr (the paper: a tenth)
        norm: str = PER_TASK  # per_task: statistics, scale and shift; frozen_after_first: those of the first task
        biases: str = FROZEN  # frozen_after_first: the first task's, as in the paper; per_task

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; all weights are free. Raise UsageError for options that cannot be met."""
        c = self.config
        check_choices(c, {"prune": ("equal", "fixed"), "norm": (PER_TASK, FROZEN), "biases": (PER_TASK, FROZEN)})
        for name, most in (("keep", 1.0), ("prune_share", 0.99), ("finetune_share", 0.99)):
            if not 0.0 <= getattr(c, name) <= most:
                raise UsageError(f"strategy.{name}={getattr(c, name)} is a share. Use a number from 0 to {most:g}.")
        if info.n_experiences > MOST_TASKS:
            raise UsageError(f"an owner has 8 bits, for {MOST_TASKS} tasks, but there are {info.n_experiences}.")
        super().setup(info, build_model)
        freeze_token_vectors(self.model)
        self.weights, biases, norms = trunk_of(self.model)
        self.frozen = (norms if c.norm == FROZEN else []) + (biases if c.biases == FROZEN else [])
        own = (norms if c.norm == PER_TASK else []) + (biases if c.biases == PER_TASK else [])
        self.keep = (c.keep or 1 / info.n_experiences) if c.prune == "equal" else 0.0
        for name, size in ((name, weight.numel()) for name, weight in self.weights.items()):
            if pruned_count(size, size, keep=self.keep, share=c.prune_share) == size:
                raise UsageError(
                    f"pruning leaves the first task none of the {size} weights of {name}. Use a wider network, "
                    "a larger strategy.keep (prune=equal) or a smaller strategy.prune_share (prune=fixed)."
                )
        assert info.task_classes is not None  # the id is given at test
        self.owners = {name: torch.zeros_like(weight, dtype=torch.uint8) for name, weight in self.weights.items()}
        self.own = self.parts["task_tensors"] = TaskParameters(self.model, own, info.task_classes)
        self.current: int | None = None  # the task in training; `number` is its place, from 1
        self.blocked: dict[str, Tensor] = {}  # what it may not write
        self.norms_seen = torch.zeros(2, device=info.device)  # squared norms: gradients blocked, and all

    def make_optimizer(self, lr: float = 0.0) -> torch.optim.Optimizer:
        """Return a fresh optimiser; the decay of owned weights is added in `adjust_gradients`, before the blocking."""
        c = self.config
        owned, _, _ = trunk_of(self.model)
        others = [parameter for name, parameter in self.model.named_parameters() if name not in owned]
        groups = [{"params": list(owned.values()), "weight_decay": 0.0}, {"params": others}]
        return build_optimizer(c.optimizer, groups, lr=lr or c.lr, weight_decay=c.weight_decay, momentum=c.momentum)

    def start(self, experience: Experience) -> None:
        """Claim every free weight."""
        assert experience.task_id is not None
        self.current, self.number = experience.task_id, self.experiences_learned + 1
        if self.experiences_learned:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name not in self.frozen)
        super().start(experience)
        self.own.begin(self.current)
        self.norms_seen.zero_()
        free = {name: owners == 0 for name, owners in self.owners.items()}
        for name, owners in self.owners.items():
            owners[free[name]] = self.number
        self.claimed = {name: int(weights.sum()) for name, weights in free.items()}
        self.block()
        if not any(self.claimed.values()):
            experience.note(f"task {self.current}: no weight is free any more, so only its head is trained")

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """Its steps are divided between training and fine-tuning after pruning."""
        return "its steps are divided before and after pruning"

    def block(self) -> None:
        """Note which weights the current task does not own."""
        self.blocked = {name: owners != self.number for name, owners in self.owners.items()}

    def enter_training(self) -> None:
        """Training mode; with norm=frozen_after_first, running statistics stay as the first task left them."""
        super().enter_training()
        if self.experiences_learned and self.config.norm == FROZEN:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train(self, experience: Experience) -> None:
        """Train, prune, fine-tune, within one budget of steps. The last task has no one to free weights for."""
        if self.number == self.info.n_experiences or not any(self.claimed.values()):
            super().train(experience)
            return
        batches = experience.batches()
        first = steps_before_pruning(experience.planned_steps(), self.config.finetune_share)
        self.train_on(experience, islice(batches, first))
        self.prune()
        # Moments of the first phase would move weights that have just become zero.
        self.optimizer = self.make_optimizer(self.config.lr_finetune)
        self.train_on(experience, batches)

    @torch.no_grad()
    def prune(self) -> None:
        """Free the weakest weights of the current task, layer by layer, and set them to zero."""
        for name, weight in self.weights.items():
            share = self.config.prune_share
            count = pruned_count(self.claimed[name], weight.numel(), keep=self.keep, share=share)
            freed = weakest(weight, self.owners[name] == self.number, count)
            self.owners[name][freed] = 0
            weight.masked_fill_(freed, 0.0)
        self.block()

    def logits(self, inputs: Any, task_ids: Tensor | None) -> Tensor:
        """Return [B, C], finite for the current task alone."""
        assert self.task_masks is not None and self.current is not None
        return restrict(self.model(inputs), self.task_masks[self.current])

    @torch.no_grad()
    def adjust_gradients(self, batch: Batch) -> None:
        """Leave only the gradients of the task's own weights: zero keeps the others exactly, also under momentum."""
        before, after = [], []
        for name, weight in self.weights.items():
            gradient = weight.grad
            assert gradient is not None
            if self.config.weight_decay:
                gradient.add_(weight, alpha=self.config.weight_decay)
            before.append(gradient.square().sum())
            gradient.masked_fill_(self.blocked[name], 0.0)
            after.append(gradient.square().sum())
        total = torch.stack(before).sum()
        self.norms_seen += torch.stack([total - torch.stack(after).sum(), total])

    def finish(self, experience: Experience) -> None:
        """Keep the task's head and normalisation."""
        assert self.current is not None
        self.own.keep(self.current)
        self.current = None

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network as the task reads it: a copy of the weights, without those of later tasks."""
        begun = self.tasks_learned if self.current is None else [*self.tasks_learned, self.current]
        if task_id not in begun or self.task_masks is None:
            raise UnseenTask("PackNet must be told the task" if task_id is None else f"task {task_id} is not learned")
        number = begun.index(task_id) + 1
        tensors = {n: weight.detach() * readable(self.owners[n], number) for n, weight in self.weights.items()}
        tensors |= self.own.of(task_id)
        visible = self.task_masks[task_id]
        return ModelPredictor(
            self.model, lambda inputs: restrict(functional_call(self.model, tensors, (inputs,)), visible)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the network, who owns its weights, and what tasks have to themselves."""
        return super().state_dict() | {"owners": dict(self.owners)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        for name, owners in self.owners.items():
            owners.copy_(state["owners"][name])

    def constraints(self) -> dict[str, float]:
        """Return which share of the weights' gradient, by norm, was blocked in the latest experience."""
        blocked, total = self.norms_seen.tolist()
        return {"share of the gradient blocked": math.sqrt(max(blocked, 0.0) / total) if total else 0.0}

    def diagnostics(self) -> dict[str, Any]:
        """Return who owns the weights, and what is stored: an owner takes ceil(log2(T + 1)) bits, masks are nested."""
        flat = torch.cat([owners.flatten() for owners in self.owners.values()]).long()
        free, *owned = torch.bincount(flat, minlength=self.info.n_experiences + 1).tolist()
        size = len(flat)
        bits = math.ceil(math.log2(self.info.n_experiences + 1))
        return {
            "owned_share": [count / size for count in owned],
            "free_share": free / size,
            "free_share_per_layer": {n: float((owners == 0).float().mean()) for n, owners in self.owners.items()},
            "owner_bits_per_weight": bits,
            "bytes_owners": math.ceil(size * bits / 8),
            "bytes_weights": 4 * size,
            "bytes_task_tensors": sum(v.nbytes for kept in self.own.tasks.values() for v in kept.values()),
        }
