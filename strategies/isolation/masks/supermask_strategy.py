"""What supermask methods share: one network, a mask per task found by gradient descent on scores, predictors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    BestState,
    Experience,
    ModelPredictor,
    Predictor,
    StreamInfo,
    UnseenTask,
    UsageError,
    build_optimizer,
    generator_for,
    restrict,
)
from strategies.isolation.masks.held_weights import HeldWeights
from strategies.isolation.masks.initialisation import initialise_scores, initialise_weights
from strategies.isolation.masks.knn_transfer import mean_scores, transfer_sources
from strategies.isolation.masks.layers import MaskedLinear, MaskRule, to_masked
from strategies.isolation.masks.learning_rate import LearningRate
from strategies.isolation.masks.needs import SupermaskNeeds
from strategies.isolation.masks.options import check_options, head_rows
from strategies.isolation.masks.storage import storage
from strategies.isolation.masks.subnetworks import MaskedNetwork, Subnetwork
from strategies.isolation.masks.superposition import TaskInference, View


class SupermaskStrategy(SupermaskNeeds):
    """Base of SupSup, SSNeT and ExSSNeT. A subclass writes `learn` out of the steps below.

    begin -> search_masks -> keep_masks -> (train_weights) -> end
    Its Config has `SupermaskOptions` among its bases.
    """

    weights_from_seed = False  # whether the weights are never trained

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network and draw its weights. Raise UsageError for options that cannot be met."""
        check_options(self.config, info)
        self.info = info
        self.subnetworks: list[Subnetwork] = []
        self.current: Subnetwork | None = None  # while it is being learned
        c = self.config
        rule = MaskRule(c.density, c.mask_type, c.density_mode, c.er_scale, c.min_per_row)
        network: Any = build_model()
        width = network.heads.linear.in_features
        network.heads = MaskedLinear(width, self.head_outputs(info), rule=rule)
        to_masked(network, rule=rule, n_tasks=self.most_masks(), shared_norm=c.norm == "shared")
        initialise_weights(network, c.weight_init, generator_for(info.seeds.model, "supermask weights"))
        self.masked = MaskedNetwork(network.to(info.device))
        self.network = network
        self.union = self.masked.union([])

    def trained_network(self) -> nn.Module:
        """Return the network, its weights as they are stored."""
        return self.network

    def head_outputs(self, info: StreamInfo) -> int:
        """Return the output units of the head."""
        return head_rows(self.config, info)

    def most_masks(self) -> int:
        """Return how many masks there can be: one per experience."""
        return self.info.n_experiences

    # -- steps of learning ------------------------------------------------------------------------------------------

    def begin(self, experience: Experience) -> Subnetwork:
        """Open a new subnetwork: its statistics, its outputs, its first scores."""
        classes = experience.classes or tuple(range(self.info.n_outputs))
        number = len(self.subnetworks)
        opened = Subnetwork(number, experience.task_id, classes, self._rows_for(classes))
        self.train_as(opened)
        self.draw_scores(number)
        earlier = self.subnetworks
        if earlier and self.config.score_init.startswith("knn"):
            earlier = self._transfer_from(experience)
            opened.source = earlier[0].number if len(earlier) == 1 else -1
        if self.config.score_init != "random" and earlier:
            self.masked.start_scores(mean_scores([s.scores for s in earlier]))
        return opened

    def train_as(self, subnetwork: Subnetwork) -> None:
        """Let the network train as this subnetwork, its masks made from the scores."""
        self.current = subnetwork
        self.masked.bind(subnetwork)
        self._local = torch.zeros(self.info.n_outputs, dtype=torch.long, device=self.info.device)
        self._local[list(subnetwork.classes)] = torch.arange(len(subnetwork.classes), device=self.info.device)

    def draw_scores(self, number: int) -> None:
        """Draw the first scores of subnetwork `number`."""
        initialise_scores(self.network, generator_for(self.info.seeds.model, "supermask scores", number))

    def keeps_scores(self) -> bool:
        """Whether a later task may start from this one's scores."""
        return self.config.score_init != "random"

    @property
    def learning(self) -> Subnetwork:
        """The subnetwork between `begin` and `end`."""
        assert self.current is not None, "no subnetwork is being learned: call begin first"
        return self.current

    def search_masks(self, experience: Experience, *, epochs: int) -> None:
        """Phase 1: gradient descent on the scores alone; the weights are whatever they are."""
        c = self.config
        scores = [layer.scores for layer in self.masked.layers]
        self.train_phase(
            experience, scores, phase="masks", epochs=epochs, lr=c.lr_mask, weight_decay=c.weight_decay_mask
        )

    def keep_masks(self) -> list[Tensor]:
        """End the search: store the mask of the current subnetwork, and fix it; return it per layer, float."""
        masks = self.masked.store(self.learning, keep_scores=self.keeps_scores())
        self.masked.fix(masks)
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
        held = HeldWeights([layer.weight for layer in self.masked.layers], trainable, decay=weight_decay)
        self.train_phase(
            experience, held.weights, phase="weights", epochs=epochs, lr=lr, adjust=held.protect, penalty=penalty
        )
        held.close()

    def end(self) -> None:
        """Close the subnetwork: from now on its bits and statistics answer."""
        self.union = [before | mask for before, mask in zip(self.union, self.masked.spread(self.learning), strict=True)]
        self.subnetworks.append(self.learning)
        self.current = None

    def train_phase(
        self,
        experience: Experience,
        parameters: Sequence[Tensor],
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
        per_epoch = experience.planned_steps(epochs=1)
        rate = LearningRate(c.scheduler, optimizer, steps=per_epoch * epochs, epochs=epochs)
        best = BestState([*parameters, *self.masked.statistics_of(self.learning)])
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
            if c.reads_validation and step % per_epoch == 0:
                accuracy = self._validation_accuracy(experience)
                rate.after_epoch(accuracy)
                best.offer(accuracy)
        if c.select == "best_per_phase":
            best.restore()

    def loss(self, batch: Batch) -> Tensor:
        """Return the stream's loss of the current subnetwork; targets counted within its classes."""
        logits = self.network(batch.inputs)
        if self.config.mask_invalid_logits:
            valid = torch.arange(logits.shape[1], device=logits.device) < len(self.learning.classes)
            logits = restrict(logits, valid)
        return self.info.objective.loss(logits, self.own_targets(batch.targets)).mean()

    def own_targets(self, targets: Tensor) -> Tensor:
        """Return classes [B] counted within those of the subnetwork trained last; actions [B, A] as they are."""
        return targets if targets.is_floating_point() else self._local[targets]

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
        others = [s for s in self.subnetworks if s is not self.current]
        return others if self.current is None else [*others, self.current]

    def inference(self, subnetworks: Sequence[Subnetwork], *, objective: str = "") -> TaskInference:
        """Return what infers which of these subnetworks a sample belongs to; `objective` instead of the option's."""
        c = self.config
        return TaskInference(
            self.masked,
            [self._view(s) for s in subnetworks],
            method=c.infer,
            objective=objective or c.infer_objective,
            group=c.infer_batch if c.infer_per == "batch" else 0,
            images=c.infer_images,
            statistics=c.infer_norm,
        )

    def _view(self, subnetwork: Subnetwork) -> View:
        searching = subnetwork is self.current and self.masked.layers[0].mask is None
        masks = self.masked.searched_masks() if searching else self.masked.masks_of(subnetwork)
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
        """Return what is stored, exactly, and how the masks overlap; see `supermask_storage.storage`."""
        facts = storage(self.masked, self.subnetworks, weights_from_seed=self.weights_from_seed)
        if self.config.score_init.startswith("knn"):
            facts["transferred_from"] = [s.source for s in self.subnetworks]
        return facts

    def model_parameters(self) -> int:
        """Return the number of masked weights."""
        return self.masked.n_weights

    def _rows_for(self, classes: tuple[int, ...]) -> tuple[int, int] | None:
        """Return the head's rows for a new task. Raise UsageError if they do not suffice."""
        available = self.masked.layers[-1].weight.shape[0]
        if self.config.head == "per_task":
            first = sum(len(s.classes) for s in self.subnetworks)
            return first, first + len(classes)
        spare = int(self.config.infer in ("oneshot", "binary") and self.config.infer_objective == "G")
        if len(classes) + spare > available:
            raise UsageError(
                f"task {len(self.subnetworks)} needs {len(classes) + spare} outputs, the shared head has {available}. "
                f"Set strategy.outputs={len(classes) + spare} or more."
            )
        return None

    def _transfer_from(self, experience: Experience) -> list[Subnetwork]:
        """KKT: return the subnetworks whose features separate the new classes well, by the rule `score_init` names."""
        c = self.config
        count = math.ceil(c.knn_share * experience.planned_steps(epochs=1)) + 1
        batches = list(itertools.islice(experience.batches(epochs=1, phase="knn"), count))
        chosen = transfer_sources(
            [self._view(s).features for s in self.subnetworks],
            [batch.inputs for batch in batches],
            torch.cat([self._local[batch.targets] for batch in batches]),
            n_classes=len(self.learning.classes),
            neighbours=c.knn_neighbours,
            rule=c.score_init,
        )
        return [self.subnetworks[i] for i in chosen]

    @torch.no_grad()
    def _validation_accuracy(self, experience: Experience) -> float:
        """Return the current subnetwork's score on the samples held out of the training data."""
        visible = torch.ones(len(self.learning.classes), dtype=torch.bool, device=self.info.device)
        right = []
        self.network.eval()
        for batch in experience.validation():
            outputs = self.network(batch.inputs)[:, : len(visible)]
            right.append(self.info.objective.correct(outputs, self.own_targets(batch.targets), visible))
        self.network.train()
        return float(torch.cat(right).mean())
