"""What supermask methods share: one network, a mask per task found by gradient descent on scores, predictors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.errors import UnseenTask, UsageError, nearest
from cl_suite.experience import Experience
from cl_suite.knn_transfer import knn_accuracy, mean_scores, sources
from cl_suite.masked_layers import MaskedLinear, MaskRule, initialise_scores, initialise_weights, to_masked
from cl_suite.objective import Classification, restrict
from cl_suite.phases import SCHEDULES, BestState, LearningRate
from cl_suite.scenario import Requirement, Scenario
from cl_suite.seeding import generator_for
from cl_suite.strategy import ModelPredictor, Predictor, Strategy, build_optimizer
from cl_suite.subnetworks import MaskedNetwork, Subnetwork, pack_bits, storage
from cl_suite.superposition import TaskInference, View
from cl_suite.types import Batch, StreamInfo

_AT_TRAIN = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES})

CHOICES = {
    "score_init": ("random", "knn_best", "knn_always", "knn_all", "running_mean"),
    "head": ("shared_masked", "per_task"),
    "norm": ("per_task", "shared"),
    "scheduler": SCHEDULES,
    "select": ("last", "best_per_phase"),
    "infer": ("none", "oneshot", "binary", "min_entropy"),
    "infer_objective": ("H", "G"),
    "infer_per": ("sample", "batch"),
    "infer_norm": ("averaged", "batch"),
}


class SupermaskStrategy(Strategy):
    """Base of SupSup, SSNeT and ExSSNeT. A subclass writes `learn` out of the steps below.

    begin -> search_masks -> keep_masks -> (train_weights) -> end
    """

    requires = _AT_TRAIN | {Requirement.TASK_ID_AT_TEST}
    weights_from_seed = False  # whether the weights are never trained

    @dataclass
    class Config:
        """Options of the mask search, of what is stored, and of inference without a task id."""

        density: float = 0.1  # share of each layer's weights kept, in (0, 1]
        density_mode: str = "uniform"  # uniform; erdos_renyi: k = min(0.5, er_scale (out + in) / (out in kh kw))
        er_scale: float = 16.0
        mask_type: str = "top_k"  # top_k of |score|; threshold: score >= 0, density free
        min_per_row: int = 0  # weights kept for every output unit at least; 0 = no such rule
        weight_init: str = "signed_constant"  # signed_constant, unsigned_constant, kaiming_normal, xavier_normal
        score_init: str = "random"  # random, knn_best, knn_always, knn_all (KKT), running_mean
        knn_neighbours: int = 200  # voters of KKT, clamped to the samples at hand
        knn_share: float = 0.2  # share of the new task's batches KKT looks at
        head: str = "shared_masked"  # shared_masked: outputs 0, 1, ... serve every task; per_task: rows of its own
        outputs: int = 0  # of the shared head; 0 = classes of the largest task, or all where tasks are not announced
        mask_invalid_logits: bool = False  # whether outputs beyond a task's classes are left out of the training loss
        norm: str = "per_task"  # per_task; shared: one set of statistics, which later tasks move
        optimizer: str = "adam"  # adam, rmsprop, sgd; a fresh one for every phase
        lr_mask: float = 0.01
        weight_decay_mask: float = 0.0
        scheduler: str = "cosine"  # cosine, constant, released
        select: str = "last"  # last; best_per_phase: epoch with the best validation accuracy, restored after each phase
        infer: str = "none"  # none: the task id is given at test; oneshot, binary, min_entropy: it is inferred
        infer_objective: str = "H"  # H: entropy; G: energy of superfluous outputs (needs outputs > classes of a task)
        infer_per: str = "sample"  # sample; batch: the published protocol, which assumes batches of one task
        infer_batch: int = 128  # samples in a row taken to be of one task (infer_per=batch)
        infer_images: int = 1  # of them, the first so many are judged; 0 = all (infer_per=batch)
        infer_norm: str = "averaged"  # statistics of a superposed network: averaged over the candidates, or the batch's

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """The task id at test is needed only where it is not inferred."""
        return cls.requires if config.infer == "none" else _AT_TRAIN

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network and draw its weights. Raise UsageError for options that cannot be met."""
        self._check(info)
        self.info = info
        self.subnetworks: list[Subnetwork] = []
        self.current: Subnetwork | None = None  # while it is being learned
        c = self.config
        rule = MaskRule(c.density, c.mask_type, c.density_mode, c.er_scale, c.min_per_row)
        network: Any = build_model()
        width = network.heads.linear.in_features
        network.heads = MaskedLinear(width, self._head_rows(info), rule=rule)
        to_masked(network, rule=rule, n_tasks=self.most_masks(), shared_norm=c.norm == "shared")
        initialise_weights(network, c.weight_init, generator_for(info.seeds.model, "supermask weights"))
        self.masked = MaskedNetwork(network.to(info.device))
        self.network = network
        self.union = self.masked.union([])

    def most_masks(self) -> int:
        """Return how many masks there can be: one per experience."""
        return self.info.n_experiences

    # -- steps of learning ------------------------------------------------------------------------------------------

    def begin(self, experience: Experience) -> Subnetwork:
        """Open a new subnetwork: its statistics, its outputs, its first scores."""
        classes = experience.classes or tuple(range(self.info.n_outputs))
        number = len(self.subnetworks)
        self.current = Subnetwork(number, experience.task_id, classes, self._rows_for(classes))
        self.bind(self.current)
        initialise_scores(self.network, generator_for(self.info.seeds.model, "supermask scores", number))
        if self.config.score_init == "running_mean":
            self._start_scores([s.scores for s in self.subnetworks])
        elif self.config.score_init != "random" and self.subnetworks:
            chosen = self._transfer_sources(experience)
            self.current.source = chosen[0] if len(chosen) == 1 else -1
            self._start_scores([self.subnetworks[i].scores for i in chosen])
        return self.current

    def bind(self, subnetwork: Subnetwork) -> None:
        """Let the network train as this subnetwork, its masks made from the scores."""
        self.masked.use_statistics(subnetwork.number)
        self.masked.layers[-1].rows = subnetwork.rows
        for layer in self.masked.layers:
            layer.mask = None
            layer.weight.requires_grad_(False)
            layer.scores.requires_grad_(True)
        self._local = torch.zeros(self.info.n_outputs, dtype=torch.long, device=self.info.device)
        self._local[list(subnetwork.classes)] = torch.arange(len(subnetwork.classes), device=self.info.device)

    def search_masks(self, experience: Experience, *, epochs: int) -> None:
        """Phase 1: gradient descent on the scores alone; the weights are whatever they are."""
        c = self.config
        scores = [layer.scores for layer in self.masked.layers]
        self.train_phase(
            experience, scores, phase="masks", epochs=epochs, lr=c.lr_mask, weight_decay=c.weight_decay_mask
        )

    @torch.no_grad()
    def keep_masks(self) -> list[Tensor]:
        """Store the bits of the mask the final scores give, and fix it; return it per layer, float."""
        assert self.current is not None
        layers = self.masked.layers
        masks = [layer.searched_mask() for layer in layers]
        self.current.bits = [pack_bits(mask) for mask in masks]
        if self.config.score_init != "random":
            # The rows of a head of its own mean nothing to another task.
            kept = layers if self.current.rows is None else layers[:-1]
            self.current.scores = [layer.scores.detach().clone() for layer in kept]
        for layer, mask in zip(layers, masks, strict=True):
            layer.mask = mask
            layer.scores.requires_grad_(False)
            layer.scores.grad = None
        return masks

    def train_weights(
        self,
        experience: Experience,
        trainable: Sequence[Tensor],
        *,
        epochs: int,
        lr: float,
        weight_decay: float = 0.0,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        """Phase 2: gradient descent on the weights where `trainable` (bool, full shape, per layer) says so.

        Nothing else moves: the optimiser is fresh (no moments), and decay is applied to trainable weights only.
        """
        layers = self.masked.layers
        weights = [layer.weight.requires_grad_(True) for layer in layers]
        # A gradient of exactly zero leaves Adam, RMSProp and SGD without decay exactly where they are.
        owned = [free.to(weight.dtype) for free, weight in zip(trainable, weights, strict=True)]

        def protect() -> None:
            for weight, free in zip(weights, owned, strict=True):
                assert weight.grad is not None
                if weight_decay:
                    weight.grad.add_(weight.detach(), alpha=weight_decay)
                weight.grad.mul_(free)

        self.train_phase(
            experience, weights, phase="weights", epochs=epochs, lr=lr, adjust=protect, penalty=penalty
        )
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None

    def end(self) -> None:
        """Close the subnetwork: from now on its bits and statistics answer."""
        assert self.current is not None
        masks = self.masked.spread(self.masked.masks_of(self.current), self.current.rows)
        self.union = [before | mask for before, mask in zip(self.union, masks, strict=True)]
        self.subnetworks.append(self.current)
        self.current = None

    def train_phase(
        self,
        experience: Experience,
        parameters: Sequence[nn.Parameter],
        *,
        phase: str,
        epochs: int,
        lr: float,
        weight_decay: float = 0.0,
        adjust: Callable[[], None] | None = None,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        """Train `parameters` for some epochs with a fresh optimiser."""
        c = self.config
        optimizer = build_optimizer(c.optimizer, parameters, lr=lr, weight_decay=weight_decay)
        per_epoch = math.ceil(experience.n_samples / experience.batch_size)
        rate = LearningRate(c.scheduler, optimizer, steps=per_epoch * epochs, epochs=epochs)
        needs_validation = c.select != "last" or c.scheduler == "released"
        best = BestState([*parameters, *self._statistics()])
        self.network.train()
        for step, batch in enumerate(experience.batches(epochs=epochs, phase=phase), start=1):
            loss = self.loss(batch)
            if penalty is not None:
                loss = loss + penalty()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if adjust is not None:
                adjust()
            optimizer.step()
            experience.report(loss)
            rate.after_step()
            if needs_validation and step % per_epoch == 0:
                accuracy = self._validation_accuracy(experience)
                rate.after_epoch(accuracy)
                best.offer(accuracy)
        if c.select == "best_per_phase":
            best.restore()

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the current subnetwork; targets counted within its classes."""
        assert self.current is not None
        logits = self.network(batch.inputs)
        if self.config.mask_invalid_logits:
            valid = torch.arange(logits.shape[1], device=logits.device) < len(self.current.classes)
            logits = restrict(logits, valid)
        return self.info.objective.loss(logits, self._local[batch.targets]).mean()

    # -- answers ----------------------------------------------------------------------------------------------------

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the task's subnetwork, or where no id is given the inference that `infer` names."""
        n_outputs = self.info.n_outputs
        known = self.answering()
        if task_id is not None:
            known = [s for s in known if s.task_id == task_id]
        if not known:
            raise UnseenTask("nothing has been learned yet" if task_id is None else f"task {task_id} is not learned")
        if task_id is not None:
            view = self._view(known[0])
            return ModelPredictor(self.network, lambda inputs: view.answer(inputs, n_outputs))
        if self.config.infer == "none":
            raise UnseenTask("no task id is given: set strategy.infer=oneshot, binary or min_entropy")
        inference = self.inference(known)
        return ModelPredictor(self.network, lambda inputs: inference.answer(inputs, n_outputs))

    def answering(self) -> list[Subnetwork]:
        """Return the subnetworks that can answer; the one being learned included (evaluation points)."""
        return self.subnetworks if self.current is None else [*self.subnetworks, self.current]

    def inference(self, subnetworks: Sequence[Subnetwork]) -> TaskInference:
        """Return what infers which of these subnetworks a sample belongs to."""
        c = self.config
        return TaskInference(
            self.masked,
            [self._view(s) for s in subnetworks],
            method=c.infer,
            objective=c.infer_objective,
            group=c.infer_batch if c.infer_per == "batch" else 0,
            images=c.infer_images,
            statistics=c.infer_norm,
        )

    @torch.no_grad()
    def _view(self, subnetwork: Subnetwork) -> View:
        if subnetwork.bits:
            masks = self.masked.masks_of(subnetwork)
        else:
            masks = [layer.searched_mask() for layer in self.masked.layers]
        s = subnetwork
        return View(self.masked, number=s.number, masks=masks, classes=s.classes, rows=s.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return weights, statistics and the bits of every task; scores only where a later task starts from them."""
        weights = {name: value for name, value in self.network.state_dict().items() if not name.endswith("scores")}
        return {"network": weights, "subnetworks": [s.state_dict() for s in self.subnetworks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(self.network.state_dict() | state["network"])
        self.subnetworks = [Subnetwork.from_state(entry, self.info.device) for entry in state["subnetworks"]]
        self.union = self.masked.union(self.subnetworks)

    def model_selection(self) -> str:
        """Return "validation" where epochs are chosen by it."""
        return "validation" if self.config.select == "best_per_phase" else "none"

    def diagnostics(self) -> dict[str, Any]:
        """Return what is stored, exactly, and how the masks overlap; see `subnetworks.storage`."""
        facts = storage(self.masked, self.subnetworks, weights_from_seed=self.weights_from_seed)
        if self.config.score_init.startswith("knn"):
            facts["transferred_from"] = [s.source for s in self.subnetworks]
        return facts

    def model_parameters(self) -> int:
        """Return the number of masked weights."""
        return self.masked.n_weights

    # -- inside -----------------------------------------------------------------------------------------------------

    def _check(self, info: StreamInfo) -> None:
        c = self.config
        for name, known in CHOICES.items():
            value = getattr(c, name)
            if value not in known:
                raise UsageError(f"strategy.{name}={value} is not known. {nearest(value, known)}")
        if not isinstance(info.objective, Classification):
            raise UsageError(f"supermasks need one class per sample, not the {info.objective.name} objective of {info.stream}.")
        if (c.select != "last" or c.scheduler == "released") and not info.train.validation:
            raise UsageError("select=best_per_phase and scheduler=released read validation data. Set train.validation=0.1.")
        if c.head == "per_task" and c.infer in ("oneshot", "binary"):
            raise UsageError(f"infer={c.infer} superposes one head. Use strategy.head=shared_masked, or infer=min_entropy.")
