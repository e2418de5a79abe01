"""Piggyback: a trunk whose weights never change, and for each task a mask of them found by gradient descent.

Mallya, Davis & Lazebnik 2018, "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask Weights"
(ECCV, arXiv 1801.06519). The paper's trunk is pretrained on ImageNet; in a stream from scratch `trunk=first_task`
trains it normally on the first task, whose network it stays, and every later task is a mask of it. Later tasks do not
know of each other, so that their order never matters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
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
    check_choices,
    restrict,
)
from strategies.isolation.masks.subnetworks import pack_bits, unpack_bits
from strategies.isolation.task_parameters import TaskParameters

PER_TASK, FROZEN = "per_task", "frozen_after_first"


def binary(scores: Tensor, threshold: float) -> Tensor:
    """Return 1 where a score is above the threshold, else 0."""
    return (scores > threshold).to(scores.dtype)


def ternary(scores: Tensor, threshold: float) -> Tensor:
    """Return 1 above the threshold, -1 below zero, else 0."""
    return (scores > threshold).to(scores.dtype) - (scores < 0).to(scores.dtype)


MASKS = {"binary": binary, "ternary": ternary}


def masked_weight(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return W * mask; straight through, so that dL/dscores = dL/d(W * mask) * W, without a sign or magnitude."""
    return weight.detach() * (mask.detach() + (scores - scores.detach()))


class Piggyback(GradientStrategy):
    """Piggyback (Mallya et al. 2018): the first task trains the weights, every later one only masks them."""

    source = "Mallya, Davis & Lazebnik 2018, arXiv 1801.06519"
    costs = "keeps 1 bit a weight and task, and a head and statistics a task; in training a score for each weight"
    requires = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TEST})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the masks. GradientStrategy's are for the trunk: masks and heads train by Adam, undecayed."""

        trunk: str = "first_task"  # first_task: trained on it, then frozen; random: never trained, all tasks are masks
        mask: str = "binary"  # binary: W or 0; ternary: W, 0 or -W
        mask_init: str = "constant"  # of the scores: constant, mask_scale; uniform, U(-mask_scale, mask_scale)
        mask_scale: float = 0.01  # of the scores when they are drawn, see mask_init
        threshold: float = 0.005  # of the scores
        lr_mask: float = 0.001  # a weight is off after 5 steps one way; at the paper's 1e-4 (30 epochs) after 50
        lr_head: float = 0.001  # 1e-4 in the paper
        drop_at: float = 0.5  # share of an experience after which both rates are a tenth; 1 = never
        norm: str = PER_TASK  # running statistics: per_task; frozen_after_first: the trunk's, as in the paper

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network. Raise UsageError for options that cannot be met."""
        c = self.config
        check_choices(c, {"trunk": ("first_task", "random"), "mask": tuple(MASKS), "norm": (PER_TASK, FROZEN)})
        check_choices(c, {"mask_init": ("constant", "uniform")})
        if not 0.0 <= c.threshold < c.mask_scale:
            raise UsageError(
                f"strategy.threshold={c.threshold} must be 0 or more, and below strategy.mask_scale={c.mask_scale}: "
                "else a first mask selects nothing."
            )
        if not 0.0 < c.drop_at <= 1.0:
            raise UsageError(f"strategy.drop_at={c.drop_at} is a share of an experience. Use above 0 and up to 1.")
        if c.drop_at < 1 and (c.rate_rule == "cosine" or c.lr_warmup_epochs):
            raise UsageError(
                f"strategy.drop_at={c.drop_at} lowers the rates of masks and heads already. "
                "Set strategy.drop_at=1 beside another schedule."
            )
        self.scores: dict[str, Tensor] = {}  # of the mask in training, by weight
        super().setup(info, build_model)
        self.weights: dict[str, Tensor] = {
            f"{name}.weight": layer.weight
            for name, layer in self.model.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and name.split(".")[0] != "heads"
        }
        if not self.weights:
            raise UsageError("no weight to mask: this network has only its heads. Use e.g. model.name=mlp.")
        tables = {name for name, module in self.model.named_modules() if isinstance(module, VectorTable)}
        statistics = [
            name
            for name, value in self.model.named_buffers()
            if value.is_floating_point() and name.rpartition(".")[0] not in tables
        ]
        assert info.task_classes is not None  # the id is given at test
        own = statistics if c.norm == PER_TASK else []
        self.own = self.parts["task_tensors"] = TaskParameters(self.model, own, info.task_classes)
        self.bits: dict[int, dict[str, list[Tensor]]] = {}  # {task: {weight: its mask; where it is -1}}, packed
        self.current: int | None = None  # the task in training
        self.steps_left = 0  # before the rates drop

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return a fresh optimiser: of the whole network for the trunk, else of scores and heads."""
        if not self.scores:
            return super().make_optimizer()
        groups = [
            {"params": list(self.scores.values()), "lr": self.config.lr_mask},
            {"params": list(self.model.heads.parameters()), "lr": self.config.lr_head},
        ]
        return torch.optim.Adam(groups)

    def start(self, experience: Experience) -> None:
        """Train the trunk if it is the first task's turn; else freeze it and begin a mask."""
        assert experience.task_id is not None
        self.current = experience.task_id
        c = self.config
        if c.trunk == "random" or self.experiences_learned:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith("heads."))
                parameter.grad = None
            trunk = self.own.first if c.trunk == "random" else self.own.tasks[self.tasks_learned[0]]
            self.own.begin(self.current, trunk)
            self.scores = {name: self.first_scores(name, experience) for name in self.weights}
            self.steps_left = math.ceil(c.drop_at * experience.planned_steps())
        super().start(experience)

    def first_scores(self, name: str, experience: Experience) -> Tensor:
        """Return the scores that the mask of a weight starts from."""
        weight, scale = self.weights[name], self.config.mask_scale
        scores = torch.full(weight.shape, scale)
        if self.config.mask_init == "uniform":
            scores = (2 * torch.rand(weight.shape, generator=experience.generator("mask", name)) - 1) * scale
        return scores.to(weight.device).requires_grad_()

    def enter_training(self) -> None:
        """Training mode; with norm=frozen_after_first, running statistics stay as the first task left them."""
        super().enter_training()
        if self.experiences_learned and self.config.norm == FROZEN:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def trained_tensors(self) -> list[Tensor]:
        """Return the network's, and the scores of the mask in training."""
        return [*super().trained_tensors(), *self.scores.values()]

    def mask(self, scores: Tensor) -> Tensor:
        """Return the mask that scores give: 1, 0 and, if ternary, -1."""
        return MASKS[self.config.mask](scores, self.config.threshold)

    def logits(self, inputs: Any, task_ids: Tensor | None) -> Tensor:
        """Return [B, C], finite for the current task alone, of the trunk as it is trained or masked."""
        assert self.task_masks is not None and self.current is not None
        weights = {n: masked_weight(self.weights[n], scores, self.mask(scores)) for n, scores in self.scores.items()}
        return restrict(functional_call(self.model, weights, (inputs,)), self.task_masks[self.current])

    def after_step(self, batch: Batch) -> None:
        """Lower the rates of masks and heads once."""
        if not self.scores:
            return
        self.steps_left -= 1
        if not self.steps_left:
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.1

    def finish(self, experience: Experience) -> None:
        """Keep the mask as bits, and what else the task has to itself."""
        assert self.current is not None
        if self.scores:
            assert all(weight.grad is None for weight in self.weights.values()), "the trunk was trained"
            masks = {name: self.mask(scores.detach()) for name, scores in self.scores.items()}
            if all(bool((mask == 1).all()) for mask in masks.values()):
                experience.note(f"task {self.current}: no weight was switched off; raise strategy.lr_mask")
            planes = (1, -1) if self.config.mask == "ternary" else (1,)
            self.bits[self.current] = {n: [pack_bits(mask == sign) for sign in planes] for n, mask in masks.items()}
        self.scores = {}
        self.own.keep(self.current)
        self.current = None

    def stored_mask(self, task: int, name: str) -> Tensor:
        """Return a finished task's mask of a weight, float; ones for the task that trained the trunk."""
        weight = self.weights[name]
        if task not in self.bits:
            return torch.ones_like(weight)
        planes = [unpack_bits(bits, weight.shape).to(weight.dtype) for bits in self.bits[task][name]]
        return planes[0] if len(planes) == 1 else planes[0] - planes[1]

    @torch.no_grad()
    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the trunk behind the task's mask, with its statistics and its head."""
        begun = self.tasks_learned if self.current is None else [*self.tasks_learned, self.current]
        if task_id not in begun or self.task_masks is None:
            raise UnseenTask("Piggyback must be told the task" if task_id is None else f"task {task_id} is not learned")
        if task_id == self.current:  # an evaluation point: the mask of now
            masks = {name: self.mask(scores) for name, scores in self.scores.items()}
        else:
            masks = {name: self.stored_mask(task_id, name) for name in self.weights}
        tensors = self.own.of(task_id) | {name: self.weights[name].detach() * mask for name, mask in masks.items()}
        visible = self.task_masks[task_id]
        return ModelPredictor(
            self.model, lambda inputs: restrict(functional_call(self.model, tensors, (inputs,)), visible)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the trunk, what tasks have to themselves, and the bits of their masks."""
        return super().state_dict() | {"masks": {task: dict(bits) for task, bits in self.bits.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.bits = {
            task: {name: [plane.to(self.info.device) for plane in planes] for name, planes in bits.items()}
            for task, bits in state["masks"].items()
        }

    def diagnostics(self) -> dict[str, Any]:
        """Return what the trunk is, what each mask keeps of it, and bytes: 1 bit per weight, or log2 3 if ternary."""
        size = sum(weight.numel() for weight in self.weights.values())
        shares = {}
        for task in self.bits:
            mask = torch.cat([self.stored_mask(task, name).flatten() for name in self.weights])
            shares[str(task)] = {str(value): float((mask == value).float().mean()) for value in (-1, 0, 1)}
        bits = math.log2(3) if self.config.mask == "ternary" else 1
        return {
            "trunk": self.config.trunk,
            "mask_shares": shares,
            "bytes_weights": 4 * size,
            "bytes_masks": math.ceil(len(self.bits) * size * bits / 8),
            "bytes_task_tensors": sum(v.nbytes for kept in self.own.tasks.values() for v in kept.values()),
        }
