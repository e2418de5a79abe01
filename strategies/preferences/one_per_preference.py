"""What strategies share that answer for a preference by a training of its own: they must be told before learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    check_preference,
)

SAME = 1e-6  # two preferences are one if no weight differs by more

Preference = tuple[float, ...]


def even(tasks: int) -> Preference:
    """Return the preference that weighs all tasks alike."""
    return (1.0 / tasks,) * tasks


class PreferenceModels:
    """The preferences announced, and what was trained for each of them in the latest experience. A part of a strategy.

    The even preference is always trained, first, so that its model, the strategy's own, is the same whatever is asked
    for; it is not kept here.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.announced: list[Preference] = []
        self.results: list[tuple[Preference, dict[str, Tensor]]] = []
        self.trainings: list[int] = []  # run in each experience

    def plan(self, tasks: int) -> list[Preference]:
        """Begin an experience: forget the models of the one before; return what to train for, each once, even first.

        tasks: learned after this experience. Raise UsageError for something announced that is no preference over them.
        """
        distinct: list[Preference] = []
        for preference in (check_preference(each, tasks) for each in self.announced):
            if not any(_same(preference, other) for other in [*distinct, even(tasks)]):
                distinct.append(preference)
        self.announced, self.results = [], []
        self.trainings.append(len(distinct) + 1)
        return [even(tasks), *distinct]

    def keep(self, preference: Preference, tensors: dict[str, Tensor]) -> None:
        """Keep the result of a training; tensors that no later training changes."""
        self.results.append((preference, tensors))

    def of(self, preference: Sequence[float]) -> dict[str, Tensor] | None:
        """Return what was trained for a preference over the tasks learned; None = even: the strategy's own model.

        Raise UnseenTask before the first experience, UsageError for what is no preference or was not announced.
        """
        if not self.trainings:
            raise UnseenTask("nothing has been learned yet")
        wanted = check_preference(preference, len(self.trainings))
        if _same(wanted, even(len(wanted))):
            return None
        for announced, tensors in self.results:
            if _same(wanted, announced):
                return tensors
        weights = ", ".join(f"{weight:.4g}" for weight in wanted)
        raise UsageError(
            f"there is no model for the preference ({weights}): this strategy trains one for each, and was not told of "
            f"it. Announce it before experience {len(wanted) - 1} is learned."
        )

    def diagnostics(self) -> dict[str, Any]:
        """Return how many trainings each experience took, and how many models are kept now."""
        return {"trainings": list(self.trainings), "models_kept": len(self.results) + bool(self.trainings)}

    def state_dict(self) -> dict[str, Any]:
        """Return the models with their preferences, and the trainings so far."""
        kept = [{"preference": list(preference), "tensors": tensors} for preference, tensors in self.results]
        return {"kept": kept, "trainings": list(self.trainings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.trainings = list(state["trainings"])
        self.results = [
            (tuple(each["preference"]), {name: value.to(self._device) for name, value in each["tensors"].items()})
            for each in state["kept"]
        ]


# A third level of inheritance, on purpose: the three methods differ in loss and memory alone. By composition each would
# repeat announce, train, predictor_for and diagnostics, and the parts would have to read each other's preference.
class OnePerPreference(GradientStrategy):
    """One training for each preference announced, all from the same weights; the even one's result is passed on.

    A subclass weighs the terms of its `loss` by the preference in force and fills its memory in `finish`, once.
    weights:    [tasks] float, on the device: the preference in force, over the tasks learned and the one being learned
    preference: the same as numbers, to be compared with zero without waiting for the device
    Nothing announced (a run that asks for no preference): one training, with even weights.
    """

    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; no preference is announced."""
        super().setup(info, build_model)
        self.models = PreferenceModels(info.device)
        self.parts["models"] = self.models
        self.preference: Preference = (1.0,)
        self.weights = torch.ones(1, device=info.device)

    def announce(self, preferences: Sequence[Preference]) -> None:
        """Hear which preferences will be asked for after the coming experience."""
        self.models.announced = list(preferences)

    def train(self, experience: Experience) -> None:
        """Train once for each preference; the network ends as trained for the even one."""
        trunk = self.beginning()
        own, *others = plan = self.models.plan(len(self.models.trainings) + 1)
        self.model.load_state_dict(trunk)
        self.train_for(own, experience, phase=f"preference 1 of {len(plan)}")
        result = copy_of(self.model)
        for number, preference in enumerate(others, start=2):
            self.model.load_state_dict(trunk)
            self.train_for(preference, experience, phase=f"preference {number} of {len(plan)}")
            self.models.keep(preference, copy_of(self.model))
        self.model.load_state_dict(result)
        self.prefer(own)

    def beginning(self) -> dict[str, Tensor]:
        """Return the state of the network from which each training of this experience starts; a copy."""
        return copy_of(self.model)

    def prefer(self, preference: Preference) -> None:
        """Put a preference in force."""
        self.preference = preference
        self.weights = torch.tensor(preference, device=self.info.device)

    def train_for(self, preference: Preference, experience: Experience, *, phase: str) -> None:
        """Train the network for one preference, with an optimiser of its own."""
        self.prefer(preference)
        self.renew_optimizer()
        self.train_on(experience, self.batches(experience, phase))

    def batches(self, experience: Experience, phase: str) -> Iterator[Batch]:
        """Yield the batches of one training, in the same order for each."""
        return experience.batches(phase=phase, order=1)

    def predictor_for(self, preference: Sequence[float]) -> Predictor:
        """Return the model that was trained for `preference`; even weights are always trained for.

        Raise UnseenTask before anything is learned, UsageError for what is no preference or was not announced.
        """
        tensors = self.models.of(preference)
        if tensors is None:
            return ModelPredictor(self.model)
        return ModelPredictor(self.model, lambda inputs: functional_call(self.model, tensors, (inputs,)))

    def losses(self, batch: Batch) -> Tensor:
        """Return the objective's loss of each sample, [B]."""
        return self.info.objective.loss(self.logits(batch.inputs, batch.task_ids), batch.targets)

    def diagnostics(self) -> dict[str, Any]:
        """Return how many trainings each experience took, and how many models are kept now."""
        return self.models.diagnostics()


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters and buffers by name, as they are now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _same(one: Preference, other: Preference) -> bool:
    return all(abs(a - b) <= SAME for a, b in zip(one, other, strict=True))
