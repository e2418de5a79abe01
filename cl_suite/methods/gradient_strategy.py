"""The common case of a strategy: one network trained by gradient steps, in a loop one can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UnseenTask
from cl_suite.core.experience import Experience
from cl_suite.core.objective import class_mask, restrict
from cl_suite.core.samples import Source
from cl_suite.core.scenario import Requirement
from cl_suite.core.strategy import ModelPredictor, Predictor, Strategy, build_optimizer
from cl_suite.core.types import Batch, Inputs, StreamInfo, TrainSettings
from cl_suite.core.version import renamed_class_variable
from cl_suite.methods.early_stopping import EarlyStopping
from cl_suite.methods.rate_schedule import RateDrops, RateSchedule
from cl_suite.networks.network import Network


class Stateful(Protocol):
    """What a gradient strategy keeps beside its network: a buffer, bases. It is saved and restored with the network."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that learning changes."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


@dataclass
class OptimizerOptions:
    """The optimiser. A fresh one is built for each experience, where there are boundaries."""

    optimizer: str = "sgd"  # sgd, adam, rmsprop
    lr: float = 0.01  # goes with momentum 0.9; 0.05 forgot far more on Split CIFAR-100 in batches of 16
    momentum: float = 0.9  # of sgd and rmsprop; adam has its own
    weight_decay: float = 0.0  # added to the gradient, times the weight


class GradientStrategy(Strategy):
    """One network, a loop one can read. Override the smallest piece that differs; as it stands it is finetuning.

    learn:    start -> train -> finish
    train:    train_on the experience's batches, with after_epoch and early stopping between epochs
    train_on: for each batch: loss -> backward -> adjust_gradients -> step -> after_step
    parts: {name: what is saved and restored beside the network}; a subclass adds its own in `setup`
    buffer_extras: names of what it keeps beside each sample in its buffer, e.g. "logits"
    """

    buffer_extras: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        renamed_class_variable(cls, "kept_beside_samples", "buffer_extras")

    @dataclass
    class Config(RateDrops, OptimizerOptions):
        """Options of the optimiser and of its rate. A method without some of them takes the other group alone."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and keep what is known of the stream."""
        self.info = info
        if isinstance(self.config, RateDrops):
            self.config.check_schedule(info)
        self.parts: dict[str, Stateful] = {}
        self.early_stopping: EarlyStopping | None = None
        if info.train.early_stopping:
            self.early_stopping = self.parts["early_stopping"] = EarlyStopping(info.train.early_stopping)
        self.model: Network = build_model()  # type: ignore[assignment]
        self.experiences_learned = 0
        self.tasks_learned: list[int] = []
        self.task_masks = _task_masks(info)  # [T, C] bool, or None where the task is not known at test
        self.optimizer = self.make_optimizer()
        self.rate: RateSchedule | None = None  # of the training that goes on

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return a fresh optimiser over the network's parameters."""
        c = self.config
        return build_optimizer(
            c.optimizer, self.model.parameters(), lr=c.lr, weight_decay=c.weight_decay, momentum=c.momentum
        )

    def learn(self, experience: Experience) -> None:
        """Train on one experience."""
        self.start(experience)
        self.train(experience)
        self.finish(experience)
        self.experiences_learned += 1
        if experience.task_id is not None and experience.task_id not in self.tasks_learned:
            self.tasks_learned.append(experience.task_id)

    def train(self, experience: Experience) -> None:
        """Between start and finish: by default one training on the experience's batches, stopped early if asked for."""
        if self.early_stopping is not None:
            self.early_stopping.begin(self.trained_tensors())
        self.train_on(
            experience,
            experience.batches(beside=self.beside(), after_epoch=lambda epoch: self._epoch_ends(experience, epoch)),
        )
        if self.early_stopping is not None:
            experience.check_finite()  # before a better state hides it
            self.early_stopping.end()

    def beside(self) -> Source | None:
        """Return what is shuffled among the experience's own samples in `train`: a buffer; by default nothing."""
        return None

    def _epoch_ends(self, experience: Experience, epoch: int) -> bool:
        ends = self.after_epoch(experience, epoch)
        if self.early_stopping is not None:
            ends = self.early_stopping.after_epoch(self.validation_loss(experience)) or ends
        if not ends:
            self.enter_training()  # the hook may have looked at validation samples
        return ends

    @torch.no_grad()
    def validation_loss(self, experience: Experience) -> float:
        """Return the objective's mean loss of what the strategy would answer now to the experience's held-out samples.

        As all looking at validation samples, it takes training time, but counts as no sample drawn and no operation.
        """
        predictor = self.predictor(experience.task_id)
        losses = [
            self.info.objective.loss(predictor(batch.inputs), batch.targets).sum() for batch in experience.validation()
        ]
        return float(torch.stack(losses).sum()) / experience.n_validation

    def trained_tensors(self) -> list[Tensor]:
        """Return all that training moves and that early stopping goes back to, as views; beside it memories stay."""
        return [*self.model.parameters(), *self.model.buffers()]

    def train_on(self, experience: Experience, batches: Iterable[Batch]) -> None:
        """Take one gradient step per batch: the order of a step, which no method changes."""
        self.enter_training()
        rate = self._schedule(experience)
        for batch in batches:
            loss = self.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.adjust_gradients(batch)
            self.optimizer.step()
            experience.report(loss)
            self.after_step(batch)
            if rate is not None:
                rate.after_step()

    def enter_training(self) -> None:
        """Put the network in training mode; override where parts of it stay in evaluation mode."""
        self.model.train()

    def start(self, experience: Experience) -> None:
        """Before the first batch: open the head's new outputs; rebuild the optimiser at a known boundary."""
        self.model.heads.open(experience.classes)
        if not self.experiences_learned:
            for part in self.parts.values():
                if advice := getattr(part, "advice", ""):
                    experience.note(advice)
        if Requirement.BOUNDARIES in self.info.scenario.provides:
            self.renew_optimizer()

    def renew_optimizer(self) -> None:
        """Begin a training: a fresh optimiser, whose learning-rate schedule starts with the next step."""
        self.optimizer = self.make_optimizer()
        self.rate = None

    def _schedule(self, experience: Experience) -> RateSchedule | None:
        """Return the schedule of this training, told of the optimiser in use; None where the rate is constant."""
        c = self.config
        if not isinstance(c, RateDrops) or (c.rate_rule == "constant" and not c.lr_warmup_epochs):
            return None
        if self.rate is None:
            per_epoch = self.epoch_steps(experience)
            self.rate = RateSchedule(c, steps_per_epoch=per_epoch, epochs=experience.epochs)
            experience.watch(epoch=self.rate.after_epoch)
        self.rate.follow(self.optimizer)
        return self.rate

    def epoch_steps(self, experience: Experience) -> int:
        """Return the steps of an epoch of this experience's training, for schedules."""
        beside = self.beside()
        samples = experience.n_samples + (0 if beside is None else len(beside))
        return -(-samples // experience.batch_size)

    def logits(self, inputs: Inputs, task_ids: Tensor | None) -> Tensor:
        """Return [B, C]; where the task is known at test, only its own outputs are finite."""
        return self.restricted(self.model(inputs), task_ids)

    def both_outputs(self, inputs: Inputs, task_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (`logits` [B, C], what the head's linear layer gives for all C outputs, none of them -inf)."""
        outputs = self.model.heads.linear(self.model.features(inputs))
        return self.restricted(self.model.heads.shown(outputs), task_ids), outputs

    def restricted(self, outputs: Tensor, task_ids: Tensor | None) -> Tensor:
        """Return logits [B, C] with -inf beyond each sample's own task, where the task is known at test."""
        if self.task_masks is None or task_ids is None:
            return outputs
        return restrict(outputs, self.task_masks[task_ids])

    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar to minimise; by default the objective's mean over the batch."""
        return self.info.objective.loss(self.logits(batch.inputs, batch.task_ids), batch.targets).mean()

    def adjust_gradients(self, batch: Batch) -> None:
        """After backward, before the step: project, mask or clip `parameter.grad` in place."""

    def after_step(self, batch: Batch) -> None:
        """After the optimiser's step: fill a buffer, advance a clock."""

    def after_epoch(self, experience: Experience, epoch: int) -> bool:
        """After epoch number 1, 2, ... of the experience: keep the best state, lower a rate. Return whether to stop.

        Called by `train` as it stands here; one that makes batches of its own passes it to `Experience.batches`.
        """
        return False

    def finish(self, experience: Experience) -> None:
        """After the last batch, while the samples can still be read: importance, exemplars, bases."""

    def network_changed(self, experience: Experience) -> None:
        """After a wrapper (FPF) has trained the network further: compute anew what depends on it, e.g. class means."""

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network in evaluation mode; only the task's outputs are finite if the id is given."""
        if not self.experiences_learned and not self.model.heads.is_open:
            raise UnseenTask("nothing has been learned yet")
        if task_id is None or self.task_masks is None:
            return ModelPredictor(self.model)
        visible = self.task_masks[task_id]
        if not bool((visible & self.model.heads.opened).any()):
            raise UnseenTask(f"task {task_id} has not been learned")
        return ModelPredictor(self.model, lambda inputs: restrict(self.model(inputs), visible))

    def state_dict(self) -> dict[str, Any]:
        """Return network, progress, parts and, where there are no boundaries, the optimiser."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "experiences_learned": self.experiences_learned,
            "tasks_learned": list(self.tasks_learned),
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        if Requirement.BOUNDARIES not in self.info.scenario.provides:
            state["optimizer"] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.experiences_learned = state["experiences_learned"]
        self.tasks_learned = list(state["tasks_learned"])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Whether training is stopped early."""
        return train.early_stopping > 0

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """By default it is for those that train by the loop as it stands here."""
        loop = ("learn", "train", "train_on")
        as_here = all(getattr(cls, name) is getattr(GradientStrategy, name) for name in loop)
        return "" if as_here else "it trains in a loop of its own"

    def model_selection(self) -> str:
        """Return "validation" where training is stopped early: the state with the lowest validation loss is kept."""
        return "none" if self.early_stopping is None else "validation"

    def training_facts(self) -> dict[str, Any]:
        """Return when each experience was stopped."""
        if self.early_stopping is None:
            return {}
        return {"early_stopping": {"experiences": [dict(each) for each in self.early_stopping.experiences]}}

    def trained_network(self) -> nn.Module:
        """Return the network."""
        return self.model

    def model_parameters(self) -> int:
        """Return the number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def _task_masks(info: StreamInfo) -> Tensor | None:
    if info.task_classes is None:
        return None
    return torch.stack([class_mask(classes, info.n_outputs, info.device) for classes in info.task_classes])
