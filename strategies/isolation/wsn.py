"""WSN: train weights and scores together; the strongest scores select a subnetwork, which no later task writes.

Kang et al. 2022, "Forget-free Continual Learning with Winning Subnetworks" (ICML). One score tensor per layer serves
all tasks and is not drawn anew. Linear and convolution layers below the heads are masked; as in the published networks
they have no biases, and batch norm no scale or shift. The learning-rate schedule of the paper (halved where the
validation loss stalls, up to 200 epochs) is not part of this file: the rate is constant.
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
    RateDrops,
    Requirement,
    StreamInfo,
    TrainSettings,
    UnseenTask,
    UsageError,
    build_optimizer,
    check_choices,
    generator_for,
    restrict,
)
from strategies.isolation.masks.initialisation import initialise_scores
from strategies.isolation.masks.layers import MaskRule, to_masked
from strategies.isolation.masks.subnetworks import MaskedNetwork, Subnetwork
from strategies.isolation.task_parameters import TaskParameters

HUFFMAN_SAVING = 0.78  # share of the masks' bits that a 7-bit Huffman code saves, as the paper reports


def threshold_rank(size: int, density: float) -> int:
    """Return the rank, from 1 upwards, of the threshold among `size` magnitudes: 1 + round((1 - c)(n - 1))."""
    return 1 + round((1 - density) * (size - 1))


def capacity(used_share: float, n_tasks: int) -> float:
    """Return CAP, in networks of 32 bits a weight: the share in use, and the coded masks of `n_tasks` tasks."""
    return used_share + (1 - HUFFMAN_SAVING) * n_tasks / 32


class WinningTickets(MaskRule):
    """1 where |score| reaches the threshold of its layer; ties with it are all kept."""

    def mask(self, scores: Tensor) -> Tensor:
        """Return the mask, 0.0 or 1.0 like `scores`; straight through: d mask / d |score| = 1 for every score."""
        strength = scores.abs()
        rank = threshold_rank(scores.numel(), self.density)
        threshold = strength.detach().flatten().kthvalue(rank).values
        return (strength >= threshold).to(scores.dtype) + (strength - strength.detach())


class WSN(GradientStrategy):
    """Winning SubNetworks (Kang et al. 2022): weights and one set of scores together, selected weights are frozen."""

    source = "Kang et al. 2022, ICML"
    costs = "keeps 1 bit a weight and task, a head and statistics a task, and one score a weight, which is trained too"
    requires = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TEST})

    @dataclass
    class Config(RateDrops):
        """Options of the masks and of training. There is no weight decay: it would move weights of earlier tasks."""

        optimizer: str = "adam"  # for weights and scores together; adam, sgd, rmsprop
        lr: float = 0.001  # of weights and scores, constant
        density: float = 0.5  # c: share of each layer's weights that a task selects, in (0, 1]
        reset_scores: bool = False  # whether each task draws its scores anew (an ablation of the paper)
        norm: str = "per_task"  # statistics: per_task; frozen_after_first; batch_stats: the batch's, also at test
        select: str = "last"  # last; best: epoch with the best validation accuracy (the paper)

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network, with the weights it was built with. Raise UsageError for options that cannot be met."""
        c = self.config
        check_choices(c, {"norm": ("per_task", "frozen_after_first", "batch_stats"), "select": ("last", "best")})
        if c.select == "best" and not info.train.validation:
            raise UsageError("strategy.select=best reads validation data. Set train.validation=0.05.")
        rule = WinningTickets(c.density)
        super().setup(info, build_model)
        built = {name: value.detach().clone() for name, value in self.model.backbone.named_parameters()}
        to_masked(self.model.backbone, rule=rule, n_tasks=info.n_experiences, shared_norm=c.norm != "per_task")
        self.masked = MaskedNetwork(self.model.to(info.device))
        if not self.masked.layers:
            raise UsageError("no layer to mask: this network has only its heads. Use e.g. model.name=mlp.")
        with torch.no_grad():
            for name, value in self.model.backbone.named_parameters():
                if not name.endswith("scores"):
                    value.copy_(built[name])
        self.draw_scores(0)
        assert info.task_classes is not None  # the id is given at test
        self.subnetworks: list[Subnetwork] = []
        self.heads = self.parts["heads"] = TaskParameters(self.model, [], info.task_classes)
        self.current: int | None = None  # the task in training
        self.used = self.masked.union([])  # per layer, which weights any finished task selects
        self.norms_seen = torch.zeros(2, device=info.device)  # squared norms: gradients blocked, and all
        self.best: tuple[float, list[Tensor]] = (-1.0, [])  # validation accuracy, and the state that had it

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return a fresh optimiser of weights and scores, without momentum or weight decay."""
        c = self.config
        return build_optimizer(c.optimizer, self.model.parameters(), lr=c.lr, weight_decay=0.0)

    def draw_scores(self, number: int) -> None:
        """Draw the scores, Kaiming-uniformly with a = sqrt 5."""
        initialise_scores(self.model, generator_for(self.info.seeds.model, "winning subnetworks", number))

    def statistics(self, number: int) -> int | None:
        """Return which batch-norm statistics subnetwork `number` reads; None = those of the batch."""
        return None if self.config.norm == "batch_stats" else number

    def start(self, experience: Experience) -> None:
        """Protect what earlier tasks select: M = m_1 OR ... OR m_{t-1}."""
        super().start(experience)
        assert experience.task_id is not None
        self.current = experience.task_id
        self.masked.use_statistics(self.statistics(self.experiences_learned))
        if self.config.reset_scores:
            self.draw_scores(self.experiences_learned)
        self.used = self.masked.union(self.subnetworks)
        self.heads.begin(self.current)
        self.norms_seen.zero_()
        self.best = (-1.0, [])
        if self.config.select == "best":
            experience.watch(epoch=lambda: self.offer(experience))

    def enter_training(self) -> None:
        """Training mode; with norm=frozen_after_first, running statistics stay as the first task left them."""
        super().enter_training()
        if self.experiences_learned and self.config.norm == "frozen_after_first":
            for norm in self.masked.norms:
                norm.eval()

    def logits(self, inputs: Any, task_ids: Tensor | None) -> Tensor:
        """Return [B, C], finite for the current task alone."""
        assert self.task_masks is not None and self.current is not None
        return restrict(self.model(inputs), self.task_masks[self.current])

    @torch.no_grad()
    def adjust_gradients(self, batch: Batch) -> None:
        """g <- g (1 - M) for the weights; every score gets its gradient. Zero keeps the others exactly."""
        before, after = [], []
        for layer, used in zip(self.masked.layers, self.used, strict=True):
            gradient = layer.weight.grad
            assert gradient is not None
            before.append(gradient.square().sum())
            gradient.masked_fill_(used, 0.0)
            after.append(gradient.square().sum())
        total = torch.stack(before).sum()
        self.norms_seen += torch.stack([total - torch.stack(after).sum(), total])

    @torch.no_grad()
    def offer(self, experience: Experience) -> None:
        """After an epoch: keep the network if none did better on validation data; of equal epochs the latest."""
        self.model.eval()
        visible = torch.ones(self.info.n_outputs, dtype=torch.bool, device=self.info.device)
        scores = [
            self.info.objective.correct(self.logits(batch.inputs, None), batch.targets, visible)
            for batch in experience.validation()
        ]
        self.enter_training()
        accuracy = float(torch.cat(scores).mean())
        if accuracy >= self.best[0]:
            self.best = (accuracy, [tensor.detach().clone() for tensor in self.tensors()])

    def tensors(self) -> list[Tensor]:
        """Return all that training moves, as views."""
        return [*self.model.parameters(), *self.model.buffers()]

    @torch.no_grad()
    def finish(self, experience: Experience) -> None:
        """Store the mask that the scores give, after the best state is back: the two always belong together."""
        assert self.current is not None
        for tensor, kept in zip(self.tensors(), self.best[1], strict=False):
            tensor.copy_(kept)
        self.best = (-1.0, [])
        subnetwork = Subnetwork(self.experiences_learned, self.current, tuple(experience.classes or ()))
        self.masked.store(subnetwork, keep_scores=False)
        self.subnetworks.append(subnetwork)
        self.heads.keep(self.current)
        self.current = None

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the task's subnetwork: theta * m_t, its statistics and its head."""
        number, masks = -1, []
        if task_id is not None and task_id == self.current:  # an evaluation point: the mask of now
            number, masks = self.experiences_learned, self.masked.searched_masks()
        for known in self.subnetworks:
            if task_id is not None and known.task_id == task_id:
                number, masks = known.number, [mask.float() for mask in self.masked.masks_of(known)]
        if number < 0 or task_id is None or self.task_masks is None:
            raise UnseenTask("WSN must be told the task" if task_id is None else f"task {task_id} is not learned")
        head, visible = self.heads.of(task_id), self.task_masks[task_id]

        def answer(inputs: Any) -> Tensor:
            with self.masked.bound(masks, self.statistics(number), None):  # type: ignore[arg-type]
                return restrict(functional_call(self.model, head, (inputs,)), visible)

        return ModelPredictor(self.model, answer)

    def state_dict(self) -> dict[str, Any]:
        """Return the network with its scores, the heads, and the bits of every task's mask."""
        return super().state_dict() | {"subnetworks": [known.state_dict() for known in self.subnetworks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.subnetworks = [Subnetwork.from_state(entry, self.info.device) for entry in state["subnetworks"]]

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Where the best epoch is chosen by it, or training is stopped early."""
        return config.select == "best" or super().uses_validation(config, train)

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """Where the best epoch is chosen by validation accuracy, that is the rule."""
        return "strategy.select=best chooses the epoch already" if config.select == "best" else ""

    def model_selection(self) -> str:
        """Return "validation" where the epoch is chosen by it."""
        return "validation" if self.config.select == "best" else super().model_selection()

    def model_parameters(self) -> int:
        """Return the number of weights, masked or of the heads; scores are needed in training only."""
        return super().model_parameters() - self.masked.n_weights

    def constraints(self) -> dict[str, float]:
        """Return which share of the weights' gradient, by norm, was blocked in the latest experience."""
        blocked, total = self.norms_seen.tolist()
        return {"share of the gradient blocked": math.sqrt(max(blocked, 0.0) / total) if total else 0.0}

    def diagnostics(self) -> dict[str, Any]:
        """Return the capacity in use, and how much of each mask earlier tasks had selected."""
        size, tasks = self.masked.n_weights, len(self.subnetworks)
        counts, reused = [], []
        for number, known in enumerate(self.subnetworks):
            masks, before = self.masked.masks_of(known), self.masked.union(self.subnetworks[:number])
            counts.append(sum(int(mask.sum()) for mask in masks))
            reused.append(sum(int((mask & old).sum()) for mask, old in zip(masks, before, strict=True)))
        used = sum(int(mask.sum()) for mask in self.masked.union(self.subnetworks)) / size
        return {
            "selected_share": [count / size for count in counts],
            "reused_share": [old / count for old, count in zip(reused, counts, strict=True)],
            "used_share": used,
            "capacity": capacity(used, tasks),
            "bytes_weights_used": round(4 * used * size),
            "bytes_masks": tasks * math.ceil(size / 8),
            "bytes_masks_coded": math.ceil((1 - HUFFMAN_SAVING) * tasks * size / 8),
        }
