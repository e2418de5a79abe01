"""The four scenarios and what each withholds (van de Ven et al. 2022; task-agnostic: no boundaries either)."""

from enum import Enum, StrEnum


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
