"""One definition of a metric: its versioned name, formula, source, needs and function. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cl_suite.metrics.definitions.measured import Measured, Need

SIGNED = (-1.0, 1.0)  # bounds of a difference of scores


@dataclass(frozen=True)
class Value:
    """What a definition gives for a run: a number, or None and the reason."""

    number: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Definition:
    """A metric under a versioned name, `what@whose`; a name never changes its formula.

    family:      definitions that answer one question and can be confused
    formula:     in one line; T tasks, n_j test samples, b_j the untrained score, r another run's matrix
    source:      the paper or code it stands in
    needs:       what a run must have, the first that is missing is the reason given
    function:    a run's measured things -> the number
    traits:      what sets it apart from the others of its family: {"divided by": "T - 1", ...}
    reported_by: libraries that report it, and under which name
    bounds:      (lowest, highest) that it can be, where scores are in [0, 1]
    better:      "higher" or "lower"
    """

    name: str
    family: str
    formula: str
    source: str
    needs: tuple[Need, ...]
    function: Callable[[Measured], float | None]
    traits: Mapping[str, str] = field(default_factory=dict)
    reported_by: tuple[str, ...] = ()
    bounds: tuple[float, float] = (0.0, 1.0)
    better: str = "higher"

    def of(self, run: Measured) -> Value:
        """Return the number for a run, or why there is none."""
        for need in self.needs:
            if not need.held(run):
                return Value(None, need.reason)
        number = self.function(run)
        return Value(number, None if number is not None else "it is not defined for this run")
