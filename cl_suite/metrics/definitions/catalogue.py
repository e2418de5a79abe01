"""Every definition of the metrics of continual learning that is in use, under versioned names. Never imports torch.

One run can be reported as each library or paper would, and it can be said where they differ: docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from cl_suite.core.errors import UsageError, nearest
from cl_suite.metrics.definitions.accuracies import ACCURACIES
from cl_suite.metrics.definitions.backward import BACKWARDS
from cl_suite.metrics.definitions.definition import Definition, Value
from cl_suite.metrics.definitions.forward import FORWARDS
from cl_suite.metrics.definitions.measured import Measured

__all__ = ["DEFINITIONS", "Definition", "Measured", "Value", "chosen", "compute"]

_ORDER = (
    "average accuracy",
    "accuracy over the stream",
    "backward transfer",
    "forgetting",
    "forward transfer",
    "learning a task",
    "stability gap",
    "calibration",
)
DEFINITIONS: dict[str, Definition] = {
    each.name: each for each in sorted([*ACCURACIES, *BACKWARDS, *FORWARDS], key=lambda each: _ORDER.index(each.family))
}


def chosen(names: str) -> list[Definition]:
    """Return what `all`, or names with commas between, stand for; `forgetting` is every `forgetting@...`.

    Raise UsageError for a name that is none, with the nearest that are.
    """
    if names.strip() == "all":
        return list(DEFINITIONS.values())
    selection: dict[str, Definition] = {}
    for name in (part.strip() for part in names.split(",")):
        matches = [each for each in DEFINITIONS.values() if name in (each.name, each.name.partition("@")[0])]
        if not matches:
            raise UsageError(f"--definitions: there is no {name or 'empty name'}. {nearest(name, DEFINITIONS)}")
        selection |= {each.name: each for each in matches}
    return list(selection.values())


def compute(run: Measured, definitions: Iterable[Definition] | None = None) -> dict[str, Value]:
    """Return {name: number, or the reason why there is none} of a run; of all definitions if none are named."""
    return {each.name: each.of(run) for each in (DEFINITIONS.values() if definitions is None else definitions)}
