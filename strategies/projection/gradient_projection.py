"""What GPM, TRGP and CUBER keep between tasks, and what they do with it in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cl_suite import Batch, Experience, GradientStrategy, RunError, StreamInfo, UsageError
from strategies.projection.options import ProjectionOptions
from strategies.projection.plateau_schedule import PlateauSchedule
from strategies.projection.projected_network import ProjectedNetwork
from strategies.projection.subspaces import InputSpace, Projector


class GradientProjection:
    """The parts of a gradient-projection method, for one strategy's network.

    network: the network as matrices; spaces: {layer: what its earlier inputs span}
    Heads are projected like any layer where tasks share outputs or are not told apart at test.
    Raise UsageError for options that do not fit.
    """

    def __init__(self, strategy: GradientStrategy, info: StreamInfo, options: ProjectionOptions) -> None:
        self.options = options
        self._strategy, self._n_tasks = strategy, info.n_experiences
        self.network = ProjectedNetwork(strategy.model, heads=_outputs_are_shared(info))
        self.layers = self.network.layers
        if not self.layers:
            raise UsageError("no layer to project: this network has only its heads. Use e.g. model.name=mlp.")
        options.check(list(self.layers))
        self.network.track_statistics(options.bn_mode == "first_task_running")
        self.spaces = {name: InputSpace.empty(d, info.device) for name, d in self.network.dimensions().items()}
        self.projectors: dict[str, Projector] = {}
        self._exhausted: set[str] = set()  # layers the user has been told have nothing, or all, left free
        self._removed = torch.zeros(2, device=info.device)  # squared norms of what was removed, and of everything
        self.samples_used: list[int] = []  # behind the representation matrices, per task

    @property
    def tasks_done(self) -> int:
        """Return the number of tasks whose inputs are remembered."""
        return len(self.samples_used)

    # Training

    @property
    def freezes_norms(self) -> bool:
        """Whether scale and shift of batch normalisation stay after the first task."""
        return self.options.freeze_bn_after_first

    def protect(self, experience: Experience, *, free: Mapping[str, set[int]] | None = None) -> None:
        """Make the projectors of a new task and freeze what must not move after the first.

        free: {layer: tasks whose directions may move}; None = none
        """
        self._removed.zero_()
        self.make_projectors(free or {})
        if self.tasks_done:
            self.network.freeze(norms=self.freezes_norms)
        for name, space in self.spaces.items():
            if name in self._exhausted or not self.tasks_done:
                continue
            if space.is_full or not space.rank:
                self._exhausted.add(name)
                full = f"all {space.dimension} input directions are in use, none is free"
                experience.note(
                    f"{name}: {full if space.is_full else 'no input direction is kept, nothing is protected'}"
                )

    def make_projectors(self, free: Mapping[str, set[int]]) -> None:
        """Protect the directions of all tasks but those that are `free` in a layer."""
        everything = set(range(self.tasks_done))
        self.projectors = {
            name: Projector(space.protected(everything - free.get(name, set()))) for name, space in self.spaces.items()
        }

    def enter_training(self) -> None:
        """Training mode; running statistics that belong to the first task stay as they are."""
        self._strategy.model.train()
        if self.tasks_done and self.options.bn_mode == "first_task_running":
            for norm in self.network.norms:
                norm.eval()

    @torch.no_grad()
    def project(self) -> None:
        """Project every layer's gradient in place: right before the step, after all else that changes gradients."""
        if not self.tasks_done:
            return
        removed, total = [], []
        for name, layer in self.layers.items():
            if layer.weight.grad is not None:
                gradient = layer.weight.grad.flatten(1)
                projected = self.projectors[name](gradient)
                removed.append((gradient - projected).norm())
                total.append(gradient.norm())
                layer.weight.grad.copy_(projected.view(layer.weight.shape))
        self._removed += torch.stack([torch.stack(removed).square().sum(), torch.stack(total).square().sum()])

    def constraints(self) -> dict[str, float]:
        """Return which share of the gradients' norm the projection removed in the latest task, in [0, 1]."""
        removed, total = self._removed.tolist()
        return {"share of the gradient removed": (removed / total) ** 0.5 if total else 0.0}

    def model_selection(self) -> str:
        """Return "validation" where training data is held out: the state with its lowest loss is kept."""
        train = self._strategy.info.train
        return "validation" if self.options.follows_plateau(train) or train.early_stopping else "none"

    def begin_training(self) -> None:
        """Before the first step: follow the validation loss from here on."""
        o = self.options
        self.schedule = PlateauSchedule(
            self.trained_tensors(), patience=o.patience, factor=o.lr_factor, lr_min=o.lr_min
        )

    def trained_tensors(self) -> list[Tensor]:
        """Return all that training moves, as views."""
        return [*self._strategy.model.parameters(), *self._strategy.model.buffers()]

    def after_epoch(self, experience: Experience) -> bool:
        """Return whether training is to end: never without validation samples, or where `plateau` is off."""
        if not (self.options.plateau and experience.n_validation):
            return False
        return self.schedule.after_epoch(self._validation_loss(experience), self._strategy.optimizer)

    def end_training(self, experience: Experience) -> None:
        """After the last step: the state with the lowest validation loss comes back."""
        experience.check_finite()  # before a better state hides it
        self.schedule.restore()

    @torch.no_grad()
    def _validation_loss(self, experience: Experience) -> float:
        self._strategy.model.eval()
        losses = [(self._strategy.loss(batch) * len(batch), len(batch)) for batch in experience.validation()]
        return float(torch.stack([loss for loss, _ in losses]).sum()) / sum(count for _, count in losses)

    # After and before a task

    def sample(self, experience: Experience, *, count: int = 0) -> Batch:
        """Return `count` (0 = `options.samples`) training samples, or all if there are fewer; they count as drawn."""
        size = count or self.options.samples
        batches = experience.batches(epochs=1, batch_size=size, augment=False, phase="representation")
        return next(iter(batches))

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Return the gradient [out, d] of the strategy's loss on `batch` per layer, in evaluation mode."""
        self._strategy.model.eval()
        return self.network.gradients(self._strategy.loss(batch))

    def remember(self, batch: Batch, grow: Callable[[InputSpace, Tensor, float], None]) -> None:
        """Let each layer's space take in what the layer reads on `batch`.

        grow: called with the space, the representation matrix R [d, n] and the layer's threshold
        Raise RunError, naming the layer, if its inputs are not finite.
        """
        samples = dict(zip(self.layers, self.options.samples_per_layer, strict=False))
        matrices = self.network.input_vectors(batch.inputs, samples, self.options.columns)
        for number, (name, R) in enumerate(matrices.items()):
            threshold = self.options.threshold_of(number, self.tasks_done, self._n_tasks)
            try:
                grow(self.spaces[name], R, threshold)
            except RunError as problem:
                raise RunError(f"{name}: {problem}") from problem
        self.samples_used.append(len(batch))

    # The record

    def state_dict(self) -> dict[str, Any]:
        """Return the spaces, and what has been told and counted."""
        return {
            "spaces": {name: space.state_dict() for name, space in self.spaces.items()},
            "samples_used": list(self.samples_used),
            "told": sorted(self._exhausted),
            "removed": self._removed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, space in self.spaces.items():
            space.load_state_dict(state["spaces"][name])
        self.samples_used = list(state["samples_used"])
        self._exhausted = set(state["told"])
        self._removed = state["removed"].to(self._removed.device)

    def diagnostics(self) -> dict[str, Any]:
        """Return, per layer, what the bases hold: directions after each task, share of the input space, bytes."""
        growth = {name: _growth(space) for name, space in self.spaces.items()}
        layers = {
            name: {
                "input_size": space.dimension,
                "directions_after_task": growth[name],
                "task_basis_sizes": [len(columns) for columns in space.tasks],
                "share_of_input_space": space.rank / space.dimension,
                "bytes": space.directions.nbytes + sum(columns.nbytes for columns in space.tasks),
            }
            for name, space in self.spaces.items()
        }
        capacity = {
            "kind": "lines",
            "title": "share of each layer's input space in use",
            "x_label": "tasks learned",
            "y_label": "directions kept / size of the input",
            "x": list(range(1, self.tasks_done + 1)),
            "series": {name: [r / self.spaces[name].dimension for r in ranks] for name, ranks in growth.items()},
        }
        return {
            "bases": layers,
            "bases_bytes": sum(layer["bytes"] for layer in layers.values()),
            "full_layers": [name for name, space in self.spaces.items() if space.is_full],
            "samples_behind_bases": list(self.samples_used),
            "figures": {"capacity": capacity},
        }


def _growth(space: InputSpace) -> list[int]:
    """Return the number of protected directions after each task."""
    known: set[int] = set()
    sizes = []
    for columns in space.tasks:
        known |= set(columns.tolist()) - set(space.unprotected)
        sizes.append(len(known))
    return sizes


def _outputs_are_shared(info: StreamInfo) -> bool:
    """Whether some output serves several tasks, or which task is asked is not told at test."""
    if info.task_classes is None:
        return True
    outputs = [output for classes in info.task_classes for output in classes]
    return len(set(outputs)) < len(outputs)
