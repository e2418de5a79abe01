"""The four scenarios and what each withholds (van de Ven et al. 2022; task-agnostic: no boundaries either).

And what a stream says of itself, its scenarios among it. Nothing here imports torch: `cl-bench list` reads it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any, Literal


class Requirement(Enum):
    """Something a strategy needs from a scenario."""

    TASK_ID_AT_TRAIN = "task_id at training"
    TASK_ID_AT_TEST = "task_id at test"
    BOUNDARIES = "task boundaries"
    NEW_CLASSES = "new classes in each task"


class Scenario(StrEnum):
    """How a stream is presented.

    task_incremental:   the task is known at training and at test; the answer is chosen within the task
    class_incremental:  boundaries and tasks are known at training; at test the answer is any class seen so far
    domain_incremental: all tasks share one set of classes; the task is not known at test
    task_agnostic:      neither ids nor boundaries, at training or at test, not even through the calling pattern
    """

    TASK_INCREMENTAL = "task_incremental"
    CLASS_INCREMENTAL = "class_incremental"
    DOMAIN_INCREMENTAL = "domain_incremental"
    TASK_AGNOSTIC = "task_agnostic"

    @property
    def provides(self) -> frozenset[Requirement]:
        """What a strategy may rely on in this scenario."""
        return _PROVIDES[self]


_AT_TRAIN = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES})
_PROVIDES = {
    Scenario.TASK_INCREMENTAL: _AT_TRAIN | {Requirement.NEW_CLASSES, Requirement.TASK_ID_AT_TEST},
    Scenario.CLASS_INCREMENTAL: _AT_TRAIN | {Requirement.NEW_CLASSES},
    Scenario.DOMAIN_INCREMENTAL: _AT_TRAIN,
    Scenario.TASK_AGNOSTIC: frozenset(),
}


def rows_are_tasks(scenario: str) -> bool:
    """Say whether row i of R is the state after task i, as it may be in an unknown scenario; else rows are times."""
    known = scenario in list(Scenario)
    return not known or Requirement.BOUNDARIES in Scenario(scenario).provides


@dataclass(frozen=True)
class StreamSizes:
    """How large a stream is at its default options; None = not known without its data.

    classes:          of all tasks together: what is answered among where the task is not told
    classes_per_task: the same in each, or (fewest, most); None too where nothing is classified
    train, test:      samples of all tasks together; of robots, moments of demonstrations
    episodes:         rollouts that one evaluation of all tasks takes, where a score is success
    input_shape:      of one sample as a network reads it, by name where there are several tensors; None for texts,
                      whose length a run decides
    """

    tasks: int | None = None
    classes: int | None = None
    classes_per_task: int | tuple[int, int] | None = None
    train: int | None = None
    test: int | None = None
    episodes: int | None = None
    input_shape: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class StreamFacts:
    """What a stream says of itself before its data is read.

    modality:            what its samples are, which decides the network; None = not said
    citation:            of the data; None = there is none, or it is not known
    source:              where the data comes from, beside what the citation says
    licence:             of the data, as its source states it
    version:             raise it when the tasks change: records of different versions are not compared
    embedded:            whether it needs no files
    prerequisites:       what it cannot do without; "" = its files, or nothing where it is embedded
    out_of_distribution: whether its data has samples of no task: `StreamData.ood`
    scenarios:           the first is the default
    """

    modality: Literal["images", "texts", "robots", "vectors"] | None = None
    citation: str | None = None
    source: str = ""
    licence: str = ""
    version: str = "1"
    embedded: bool = False
    prerequisites: str = ""
    out_of_distribution: bool = False
    scenarios: tuple[Scenario, ...] = tuple(Scenario)
    sizes: StreamSizes = field(default_factory=StreamSizes)

    @property
    def origin(self) -> str:
        """Citation and source in one line, as records and cards have it."""
        return "; ".join(part for part in (self.citation, self.source) if part)

    @property
    def needs(self) -> str:
        """What has to be there before it can be loaded."""
        return self.prerequisites or ("nothing" if self.embedded else "files")

    def class_variables(self) -> dict[str, Any]:
        """Return the facts that a `Stream` also has one by one: {class variable: value}."""
        return {
            "scenarios": self.scenarios,
            "version": self.version,
            "source": self.origin,
            "licence": self.licence,
            "embedded": self.embedded,
            "out_of_distribution": self.out_of_distribution,
        }

    def with_class_variables(self, stated: Mapping[str, Any]) -> StreamFacts:
        """Return the facts with some of `class_variables` in their place; a source holds the citation then."""
        values = self.class_variables()
        changed: dict[str, Any] = {name: value for name, value in stated.items() if value != values[name]}
        if "source" in changed:
            changed["citation"] = None
        return replace(self, **changed)
