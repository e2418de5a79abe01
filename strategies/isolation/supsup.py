"""SupSup: a fixed random network, and for each task a binary mask of its weights. Nothing can be forgotten.

Wortsman et al. 2020, "Supermasks in Superposition" (NeurIPS, arXiv 2006.14769). The task may be given (GG), inferred
at test from the superposed masks (GN: `infer=oneshot`), or never be given at all (NN: `allocation=uncertainty`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cl_suite import (
    Experience,
    Inputs,
    ModelPredictor,
    Predictor,
    Requirement,
    StreamInfo,
    UnseenTask,
    UsageError,
    build_optimizer,
    count_samples,
)
from strategies.isolation.masks.options import SupermaskOptions
from strategies.isolation.masks.subnetworks import Subnetwork
from strategies.isolation.masks.supermask_strategy import SupermaskStrategy
from strategies.isolation.masks.task_inference import confidences, is_new_task


class SupSup(SupermaskStrategy):
    """Supermasks in Superposition (Wortsman et al. 2020): one mask per task, the weights never change."""

    source = "Wortsman et al. 2020, arXiv 2006.14769"
    costs = (
        "keeps 1 bit a weight and task, 8 bytes a normalised channel and task; the weights are a seed; in training "
        "a score for each weight"
    )
    weights_from_seed = True
    modes = ({"infer": "oneshot"}, {"allocation": "uncertainty", "infer": "oneshot"})

    @dataclass
    class Config(SupermaskOptions):
        """Options of SupSup; those after `allocation` are read with allocation=uncertainty, at a constant rate."""

        allocation: str = "task"  # task: a mask for every experience; uncertainty: where no mask claims a batch (NN)
        decide_every: int = 100  # batches between two decisions
        epsilon: float = 0.125  # a new mask if k max nu < 1 + epsilon (section 3.5)
        first_slots: int = 5  # masks that compete from the start, the untrained ones random
        max_masks: int = 50  # the budget; beyond it the mask that claims most is trained on

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """NN mode needs nothing: it finds its own tasks."""
        return frozenset() if config.allocation == "uncertainty" else super().requirements(config)

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network. Raise UsageError for options that cannot be met."""
        c = self.config
        if c.allocation not in ("task", "uncertainty"):
            raise UsageError(f"strategy.allocation={c.allocation} is not known. Use task or uncertainty.")
        self.finds_tasks = c.allocation == "uncertainty"
        if self.finds_tasks and (c.infer == "none" or c.head != "shared_masked" or c.score_init != "random"):
            raise UsageError(
                "strategy.allocation=uncertainty infers the task at test too. Set strategy.infer=oneshot, binary or "
                "min_entropy, and leave head=shared_masked and score_init=random."
            )
        if self.finds_tasks and c.reads_validation:
            raise UsageError("strategy.allocation=uncertainty has no phases to select in. Leave select=last.")
        if self.finds_tasks and c.infer_objective == "G" and c.outputs <= info.n_outputs:
            raise UsageError(f"objective G needs superfluous outputs. Set strategy.outputs above {info.n_outputs}.")
        if min(c.decide_every, c.max_masks) < 1:
            raise UsageError("strategy.decide_every and strategy.max_masks are counts. Use 1 or more.")
        super().setup(info, build_model)
        self.slot = -1  # number of the subnetwork in training (NN)
        self.batches_seen = 0
        self.task_ids: list[int] = []  # ids that came although none is asked for (NN)
        self.optimizer: Any = None

    def head_outputs(self, info: StreamInfo) -> int:
        """In NN mode no task is told, so that every mask answers for all classes."""
        return max(self.config.outputs, info.n_outputs) if self.finds_tasks else super().head_outputs(info)

    def most_masks(self) -> int:
        """Return how many masks there can be."""
        return self.config.max_masks if self.finds_tasks else super().most_masks()

    def keeps_scores(self) -> bool:
        """In NN mode the training of any mask may go on later."""
        return self.finds_tasks or super().keeps_scores()

    def learn(self, experience: Experience) -> None:
        """Spend the whole budget on the mask of this task."""
        if self.finds_tasks:
            self.learn_without_ids(experience)
            return
        self.begin(experience)
        self.search_masks(experience, epochs=experience.epochs)
        self.keep_masks()
        self.end()

    # NN: no ids, no boundaries (section 3.5)

    def learn_without_ids(self, experience: Experience) -> None:
        """Every `decide_every` batches ask which mask claims the data; train that one, or a new one if none does."""
        if experience.task_id is not None and experience.task_id not in self.task_ids:
            self.task_ids.append(experience.task_id)
        for batch in experience.batches(phase="masks"):
            if self.batches_seen % self.config.decide_every == 0:
                self.close_slot()
                self.open_slot(self.claimed_by(batch.inputs))
            elif self.current is None:  # an experience ended in between, which means nothing here
                self.open_slot(self.slot)
            self.network.train()
            loss = self.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.batches_seen += 1
            experience.report(loss)
        self.close_slot()

    def predictor(self, task_id: int | None = None) -> Predictor:
        """In NN mode the task is inferred even if an id is given; one that never came has no answer."""
        if not self.finds_tasks:
            return super().predictor(task_id)
        if task_id is not None and self.task_ids and task_id not in self.task_ids:
            raise UnseenTask(f"task {task_id} is not learned")
        return super().predictor(None)

    def claimed_by(self, inputs: Inputs) -> int:
        """Return the number of the mask to train on a batch: the most confident one, or the next unused one."""
        c = self.config
        used = len(self.subnetworks)
        untrained = [self.new_slot(number) for number in range(used, min(c.first_slots, c.max_masks))]
        slots = [*self.subnetworks, *untrained]
        if not slots:
            return 0
        inference = self.inference(slots, objective="H")  # nu is defined by the entropy
        everyone = torch.ones(count_samples(inputs), len(slots), dtype=torch.bool, device=self.info.device)
        gradients = ModelPredictor(self.network, lambda batch: inference.gradients(batch, everyone))(inputs)  # [B, k]
        nu = confidences(gradients.mean(dim=0))
        # Untrained masks are interchangeable: whichever claims the batch, the next unused one is taken.
        claim = used if is_new_task(nu, c.epsilon) else min(int(nu.argmax()), used)
        return claim if claim < c.max_masks else int(nu.argmax())

    def new_slot(self, number: int) -> Subnetwork:
        """Return an untrained subnetwork: the mask of its first scores."""
        slot = Subnetwork(number, None, tuple(range(self.info.n_outputs)))
        self.masked.bind(slot)
        self.draw_scores(number)
        self.masked.store(slot, keep_scores=True)
        return slot

    def open_slot(self, number: int) -> None:
        """Bind a subnetwork for training, with its scores. Another one than before gets a fresh optimiser."""
        if number == len(self.subnetworks):
            self.subnetworks.append(self.new_slot(number))
        self.train_as(self.subnetworks[number])
        self.masked.start_scores(self.subnetworks[number].scores)
        if number != self.slot or self.optimizer is None:
            self.slot, self.optimizer = number, self.score_optimizer()

    def close_slot(self) -> None:
        """Store the subnetwork in training, if there is one."""
        if self.current is not None:
            self.keep_masks()
            self.current = None

    def score_optimizer(self) -> Any:
        """Return an optimiser over the scores; its rate is constant, since no end is known."""
        c = self.config
        scores = [layer.scores for layer in self.masked.layers]
        return build_optimizer(c.optimizer, scores, lr=c.lr_mask, weight_decay=c.weight_decay_mask)

    def state_dict(self) -> dict[str, Any]:
        """Return masks and statistics; in NN mode also what the training of the open mask needs to go on."""
        own: dict[str, Any] = {
            "slot": self.slot,
            "batches_seen": self.batches_seen,
            "tasks_told": list(self.task_ids),
        }
        if self.optimizer is not None:
            own["optimizer"] = self.optimizer.state_dict()
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.slot, self.batches_seen = state["slot"], state["batches_seen"]
        self.task_ids = list(state["tasks_told"])
        if "optimizer" in state:
            self.optimizer = self.score_optimizer()
            self.optimizer.load_state_dict(state["optimizer"])
