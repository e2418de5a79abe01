"""Streams: tasks as tensors, with the files they came from. No training code, no scenario."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import PluginError
from cl_suite.core.objective import Classification, Objective, Score
from cl_suite.core.samples import Samples
from cl_suite.core.scenario import Scenario, StreamFacts
from cl_suite.core.seeding import Seeds
from cl_suite.core.types import Inputs, Prepare, map_inputs
from cl_suite.core.version import renamed, renamed_class_variable


class ScoredTask(Protocol):
    """What a scorer is handed of its task: how inputs are prepared, what outputs mean, and its held-out samples."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def objective(self) -> Objective:
        """What outputs mean."""
        ...

    @property
    def prepare(self) -> Prepare:
        """Makes a network's inputs of stored samples."""
        ...

    @property
    def test(self) -> Samples:
        """Held-out samples, whose transform is that of all the task's samples."""
        ...


class Scorer(Protocol):
    """A task's own way to be scored, in place of counting right answers on its test samples.

    count: trials behind a score, e.g. episodes
    """

    @property
    def count(self) -> int:
        """How many there are in every evaluation."""
        ...

    def score(self, task: ScoredTask, predictor: Callable[[Inputs], Tensor]) -> Score:
        """Return the score of `predictor`, inputs -> outputs [B, C], on a task."""
        ...


@renamed(measure="scorer")
@dataclass(frozen=True)
class TaskData:
    """One task as a stream defines it: its samples with targets 0..len(classes)-1, local to the task.

    scorer: how it is scored where that is not by its test samples, e.g. by success in a simulator
    """

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]  # names of the local classes; of the actions where there are no classes
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        """Raise PluginError for a scorer that is not handed its task."""
        score = getattr(self.scorer, "score", None)
        if score is None:
            return
        try:
            inspect.signature(score).bind(self, None)
        except TypeError as problem:
            raise PluginError(
                f"task {self.name!r}: score() of its {type(self.scorer).__name__} must take (task, predictor). "
                "cl_suite.robots.policy_of(task, predictor) gives what acts on observations."
            ) from problem


class SampleEncoder(Protocol):
    """What stored samples went through before a run: tokens of texts, features of a frozen network."""

    def __call__(self, raw: Inputs) -> Inputs:
        """[B, ...] as stored, after the task's transform -> [B, ...] as the stream has them since."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that it can be made from again: tensors, numbers, strings, lists and dictionaries of them."""
        ...


@dataclass(frozen=True)
class TaskOutline:
    """What is known of a task without its data: some streams have to make theirs, for minutes.

    classes:  as of TaskData
    episodes: what a score is a mean of; None = test samples
    robot:    a `RobotTask`, which any process can build the simulator from; None = there is none, or it is not at hand
    """

    name: str
    classes: tuple[str, ...] = ()
    episodes: int | None = None
    robot: object | None = None


@renamed(one_head="single_head", outside="ood")
@dataclass(frozen=True)
class StreamData:
    """All tasks of a stream, loaded.

    labels: "disjoint" (each task brings new classes: Split CIFAR-100) or "shared" (every task has the same
            classes: Permuted MNIST). Says what a label means where no task id is given.
    single_head: the tasks share their outputs also where task ids are told (Permuted MNIST in GPM, TRGP and CUBER)
    vocabulary: number of token ids, padding (0) included; None where samples are not token ids
    ood:        samples that belong to no task and are never learned, whose targets mean nothing; None = there are none
    facts:      how the data came to be where it was made, for the record: numbers, strings, lists, dictionaries
    encoders:   what its samples went through since they were loaded, in order; () = they are as stored
    """

    tasks: tuple[TaskData, ...]
    prepare: Prepare
    labels: str = "disjoint"
    checksums: Mapping[str, str] = field(default_factory=dict)  # file -> "algorithm:hex", as verified
    objective: Objective = field(default_factory=Classification)
    single_head: bool = False
    vocabulary: int | None = None
    ood: Samples | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    encoders: tuple[SampleEncoder, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """Shape of one prepared sample; of token ids at their longest, though a batch of shorter texts is cut."""
        raw, _ = self.tasks[0].train.take(torch.zeros(1, dtype=torch.long))
        sample = self.prepare(raw) if self.vocabulary is None else raw
        if isinstance(sample, Tensor):
            return tuple(sample.shape[1:])
        return {name: tuple(value.shape[1:]) for name, value in sample.items()}

    def to(self, device: torch.device) -> StreamData:
        """Return the stream with every tensor on `device`; shared storage is moved once, a memory map never."""
        moved: dict[int, Tensor] = {}

        def move(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
            return moved[id(tensor)]

        def place(samples: Samples) -> Samples:
            return dataclasses.replace(
                samples,
                inputs=samples.inputs if samples.on_disk else map_inputs(move, samples.inputs),
                targets=move(samples.targets),
                index=None if samples.index is None else move(samples.index),
                transform=None if samples.transform is None else samples.transform.to(device),
            )

        return self.with_samples(place)

    def with_samples(self, change: Callable[[Samples], Samples]) -> StreamData:
        """Return the stream with `change` of all its samples: training, test and those of no task."""
        tasks = tuple(dataclasses.replace(t, train=change(t.train), test=change(t.test)) for t in self.tasks)
        return dataclasses.replace(self, tasks=tasks, ood=None if self.ood is None else change(self.ood))

    def without_training_inputs(self) -> StreamData:
        """Return the stream without what is trained on, but for number, shape and targets."""
        return dataclasses.replace(
            self, tasks=tuple(dataclasses.replace(task, train=task.train.hollow()) for task in self.tasks)
        )


class Stream(ABC):
    """A family of task sequences: where the data comes from and how it is cut into tasks.

    A plugin defines `Config` (its Hydra schema), `facts`, and `load`.
    """

    facts: ClassVar[StreamFacts] = StreamFacts()
    # Some of the facts one by one, filled in from them. A stream may state these instead: facts are then made of them.
    scenarios: ClassVar[tuple[Scenario, ...]] = facts.scenarios
    version: ClassVar[str] = facts.version
    source: ClassVar[str] = facts.origin
    licence: ClassVar[str] = facts.licence
    embedded: ClassVar[bool] = facts.embedded
    out_of_distribution: ClassVar[bool] = facts.out_of_distribution

    @dataclass
    class Config:
        """Options of a stream; every field is an override `stream.<field>=...`."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        renamed_class_variable(cls, "open_set", "out_of_distribution")
        if not isinstance(cls.facts, StreamFacts):
            raise PluginError(f"{cls.__name__}.facts is no StreamFacts. Give StreamFacts(...), or use another name.")
        names = cls.facts.class_variables()
        if "facts" in vars(cls):
            for name in names.keys() - vars(cls).keys():
                setattr(cls, name, names[name])
        cls.facts = cls.facts.with_class_variables({name: getattr(cls, name) for name in names})

    @abstractmethod
    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read (or make) the data and cut it into tasks, on the CPU.

        Raise DataError where files are absent or wrong, UsageError where the configuration cannot be met.
        """

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Make sure every file is there and intact; return {file: checksum}. Embedded streams return {}."""
        return {}

    def checksums(self) -> Mapping[str, str]:
        """Return {file: "algorithm:hex"} of what `load` will ask for, as far as it is published; looks at no disk."""
        return {}

    def content_digest(self, root: DataRoot) -> str:
        """Return hex digits that change with data that no version and no checksum pins: a user's own files; "" = none.

        They are part of a configuration, as a plugin's file is: other data is another configuration, wherever it lies.
        Raise DataError where the data cannot be read, UsageError where the options cannot be met.
        """
        return ""

    def recorded_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options as a record keeps them: no place on this machine, nothing that changes no result."""
        return dict(options)

    def outline(self, root: DataRoot) -> tuple[TaskOutline, ...]:
        """Return what is known of the tasks without their data, at once; () = nothing."""
        return ()

    def card(self) -> dict[str, Any]:
        """Return the public facts of this stream, for strategies and for `cl-bench card`.

        Besides source, licence, version and embedded, any others. A text stands on the card as it is. A dictionary by
        the names of tasks is a column of its tasks: texts, or shares in [0, 1] such as `expert_success`. A dictionary
        of such dictionaries is a table of tasks by tasks.
        """
        return {"source": self.source, "licence": self.licence, "version": self.version, "embedded": self.embedded}
