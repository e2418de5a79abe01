"""What each field of a record may hold, as predicates over what JSON gives. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

STATUSES = ("complete", "failed")
LONGEST_NAME = 1000  # characters of a strategy, a stream; a path is one too
LARGEST = 10**300  # whole numbers beyond every float are none that was measured
DEEPEST = 40  # levels of dictionaries and lists
SELECTIONS = ("none", "validation", "oracle")


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < LARGEST
    return isinstance(value, float) and math.isfinite(value)


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and all(entry is None or _is_number(entry) for entry in value)


def _is_scores(value: Any) -> bool:
    return isinstance(value, list) and all(
        entry is None or ((type(entry) is float or type(entry) is int) and 0 <= entry <= 1) for entry in value
    )


def _is_matrix(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_scores, value)) and len(set(map(len, value))) <= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    """Say whether this is a dictionary, not nested deeper than anyone would."""
    level: list[Any] = [value] if isinstance(value, dict) else []
    for _ in range(DEEPEST):
        if not level:
            return isinstance(value, dict)
        inner = [each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer)]
        level = [each for each in inner if isinstance(each, (dict, list))]
    return False


def _is_numbers(value: Any) -> bool:
    return isinstance(value, dict) and _is_row(list(value.values()))


def _is_curve(value: Any) -> bool:
    return isinstance(value, list) and all(_is_object(point) and _is_scores(point.get("scores")) for point in value)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


PER_TASK = ("baseline", "test_samples", "task_names")
CHECKS: dict[str, Callable[[Any], bool]] = {
    "schema_version": _is_whole,
    "status": STATUSES.__contains__,
    "error": lambda value: value is None or _is_text(value),
    "strategy": _is_name,
    "stream": _is_name,
    "scenario": _is_name,
    "protocol": _is_name,
    "seed": _is_whole,
    "seeds": _is_object,
    "config": _is_object,
    "R": _is_matrix,
    "R_task_aware": lambda value: value is None or _is_matrix(value),
    "baseline": _is_scores,
    "test_samples": _is_row,
    "task_names": _is_texts,
    "curve": _is_curve,
    "metrics": _is_numbers,
    "costs": _is_numbers,
    "model_selection": SELECTIONS.__contains__,
    "diagnostics": _is_object,
    "provenance": _is_object,
}
