"""What a strategy may offer to whoever prefers some tasks to others. A preference: one weight per task learned."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Protocol, runtime_checkable

from cl_suite.core.errors import UsageError
from cl_suite.core.strategy import Predictor

TOLERANCE = 1e-3  # by how much the weights may miss 1 (IBCL's program)


@runtime_checkable
class PreferenceConditioned(Protocol):
    """A strategy that answers for any trade-off between the tasks it has learned (IBCL)."""

    def predictor_for(self, preference: Sequence[float]) -> Predictor:
        """Return the predictor for `preference`: one weight in [0, 1] per task learned, summing to 1.

        Raise UsageError for a preference that is not one (`check_preference`).
        """
        ...


@runtime_checkable
class PreferenceSampled(PreferenceConditioned, Protocol):
    """One that has not one model for a preference but a region of them, of which it draws some."""

    def predictors_for(self, preference: Sequence[float]) -> Sequence[Predictor]:
        """Return as many predictors as the strategy draws, for one preference. Raise as `predictor_for`."""
        ...


@runtime_checkable
class PreferenceTrained(PreferenceConditioned, Protocol):
    """One that must know the preferences before it learns, as it trains a model for each."""

    def announce(self, preferences: Sequence[tuple[float, ...]]) -> None:
        """Hear, before each `learn`, the preferences that will be asked for after it, over all tasks up to its own."""
        ...


def check_preference(preference: Sequence[float], learned: int) -> tuple[float, ...]:
    """Return a preference over `learned` tasks as a tuple that sums to 1 exactly as closely as floats can.

    Raise UsageError for one of another length, with a weight that is negative or not a number, or not summing to 1
    within TOLERANCE.
    """
    weights = tuple(float(weight) for weight in preference)
    if len(weights) != learned:
        unseen = f" Tasks {learned} and later are not learned yet." if len(weights) > learned else ""
        raise UsageError(
            f"a preference of {len(weights)} weights does not fit {learned} learned tasks.{unseen} "
            f"Give {learned}, in the order in which they were learned."
        )
    if not all(isfinite(weight) and weight >= 0 for weight in weights):
        raise UsageError(
            f"the preference {_as_text(weights)} has a weight below 0 or none. Use 0 or more for each task."
        )
    total = sum(weights)
    if abs(total - 1.0) > TOLERANCE:
        raise UsageError(
            f"the preference {_as_text(weights)} sums to {total:.4g}, not 1. Divide each weight by the sum."
        )
    return tuple(weight / total for weight in weights)


def _as_text(weights: tuple[float, ...]) -> str:
    return f"({', '.join(f'{weight:.4g}' for weight in weights)})"
