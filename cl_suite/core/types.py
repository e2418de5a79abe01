"""Small frozen types that cross the line between harness, strategies and streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.scenario import Scenario
from cl_suite.core.seeding import Seeds, generator_for

if TYPE_CHECKING:
    from cl_suite.core.objective import Objective

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""What a model reads: one tensor [B, ...], or a dictionary of tensors that share their first axis."""


def map_inputs(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply `function` to every tensor of `inputs`, keeping its structure."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(value) for name, value in inputs.items()}


def join_inputs(parts: list[Inputs]) -> Inputs:
    """Concatenate inputs of the same structure along the first axis.

    Of dictionaries, entries [B, L, ...] of several L (tokens of batches cut to their longest text) become as long as
    the longest, with zeros.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)  # type: ignore[arg-type]
    return {name: torch.cat(_alike([part[name] for part in parts])) for name in first}  # type: ignore[index]


def _alike(parts: list[Tensor]) -> list[Tensor]:
    """Return tensors [B, L, ...] with zeros up to the largest L."""
    if parts[0].dim() < 2 or len({part.shape[1] for part in parts}) == 1:
        return parts
    longest = max(part.shape[1] for part in parts)
    return [
        torch.cat([part, part.new_zeros((len(part), longest - part.shape[1], *part.shape[2:]))], dim=1)
        for part in parts
    ]


def choose_inputs(first: Tensor, one: Inputs, other: Inputs) -> Inputs:
    """Return the samples of `one` where `first` [B] is true, else those of `other`; both [B, ...]."""
    if isinstance(one, Tensor):
        return torch.where(first.view(-1, *[1] * (one.dim() - 1)), one, other)  # type: ignore[arg-type]
    return {name: choose_inputs(first, value, other[name]) for name, value in one.items()}  # type: ignore


def count_samples(inputs: Inputs) -> int:
    """Return B, the length of the first axis."""
    return len(inputs) if isinstance(inputs, Tensor) else len(next(iter(inputs.values())))


@dataclass(frozen=True)
class Batch:
    """One training batch, on the device.

    inputs:   [B, ...] prepared for the model: float, normalised, augmented
    targets:  [B] int64 class indices into the global logit vector (or what the objective needs)
    raw:      [B, ...] the same samples as a buffer should keep them: not augmented, images as uint8
    task_ids: [B] int64, or None where the scenario withholds the task
    extras:   what a strategy stored beside a sample in a buffer, e.g. `logits` [B, C]
    """

    inputs: Inputs
    targets: Tensor
    raw: Inputs
    task_ids: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)


class Prepare(Protocol):
    """Turns stored samples into model inputs, on their device; augments when a generator is given."""

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> Inputs:
        """[B, ...] as stored -> [B, ...] as the model reads it."""
        ...


@dataclass
class TrainSettings:
    """How much and in what pieces a strategy trains: the overrides `train.<field>=...`.

    The same for every strategy of a comparison; one with several phases (ExSSNeT) divides `epochs` between them.
    Not frozen, because Hydra fills it in.
    """

    epochs: int = 5  # passes over each experience
    batch_size: int = 64  # samples
    augment: bool = True  # random crop and flip where the stream defines them
    validation: float = 0.0  # share of the training data held out for model selection, in [0, 1)
    evaluate_every: int = 0  # steps between evaluation points inside an experience; 0 = only after each experience
    max_samples: int = 0  # samples drawn in the whole run, replay included; 0 = no limit
    # epochs without a lower validation loss after which an experience ends, with its best state; 0 = never
    early_stopping: int = 0
    segments: int = 0  # task_agnostic: number of evenly spaced evaluation points; 0 = 13, whatever the stream

    def check(self) -> None:
        """Raise UsageError for a value outside its range."""
        lowest = {"epochs": 1, "batch_size": 1}
        for name in ("epochs", "batch_size", "evaluate_every", "max_samples", "early_stopping", "segments"):
            low = lowest.get(name, 0)
            value = getattr(self, name)
            if value < low:
                raise UsageError(f"train.{name}={value} is too small. Use {low} or more.")
        if not 0.0 <= self.validation < 1.0:
            raise UsageError(f"train.validation={self.validation} is not a share. Use 0 or more, and less than 1.")
        if self.early_stopping and not self.validation:
            raise UsageError(
                f"train.early_stopping={self.early_stopping} watches the loss of held-out samples, and none are held "
                "out. Add train.validation=0.1."
            )


@dataclass(frozen=True)
class StreamInfo:
    """What a strategy is told before the stream begins. What the scenario withholds is None here.

    n_experiences: number of `learn` calls that will follow
    input_shape:   shape of one sample, e.g. (3, 32, 32); for dictionaries, of each entry
    n_outputs:     size C of the global logit vector (all classes of the whole stream: shapes stay static)
    task_classes:  per task, its entries of the logit vector; only where the task is known at test
    planned_samples: samples the whole stream will hand over at the default epochs
    planned_steps:   batches they come in
    vocabulary:      number of token ids, padding (0) included; None where samples are not token ids
    """

    stream: str
    scenario: Scenario
    n_experiences: int
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    n_outputs: int
    objective: Objective
    prepare: Prepare
    train: TrainSettings
    seeds: Seeds
    device: torch.device
    task_classes: tuple[tuple[int, ...], ...] | None = None
    planned_samples: int = 0
    planned_steps: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)  # public facts of the stream: source, licence, version
    vocabulary: int | None = None

    def generator(self, *purpose: object, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator of the data seed for a named purpose, e.g. `info.generator("buffer")`."""
        return generator_for(self.seeds.data, *purpose, device=device)
