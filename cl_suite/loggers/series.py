"""What is drawn: names and values of curves, as pure functions of what a run measured. None is left out, never 0."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cl_suite.metrics.matrix import forgetting

Row = Sequence[float | None]
Values = dict[str, float]


def row_values(R: Sequence[Row], begun: Sequence[int], *, rows_are_tasks: bool) -> Values:
    """Return the curves after an experience, the last row of R: each task's score, ACC and forgetting so far.

    begun: the tasks of which the stream has shown something
    ACC so far is the mean over them; forgetting so far that of `metrics.matrix` with the experiences so far as the
    whole stream. Both are left out while they need a score that is not there.
    """
    values = {"after/acc_so_far": _mean(R[-1], begun)}
    if rows_are_tasks:
        values["after/forgetting_so_far"] = forgetting([row[: len(R)] for row in R])
    return finite_values({**values, **_by_task("after", R[-1])})


def point_values(scores: Row, begun: Sequence[int]) -> Values:
    """Return the curves at an evaluation point inside an experience: each task's score and their mean so far."""
    return finite_values({"during/acc_so_far": _mean(scores, begun), **_by_task("during", scores)})


def final_values(metrics: Mapping[str, float | None], costs: Mapping[str, float | None]) -> Values:
    """Return the metrics and costs of a record under `final/` and `costs/`."""
    return finite_values({f"final/{name}": value for name, value in metrics.items()}) | finite_values(
        {f"costs/{name}": value for name, value in costs.items()}
    )


def finite_values(values: Mapping[str, float | None]) -> Values:
    """Return the values that are finite numbers, as floats."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def flat(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return a configuration in one level: {"train": {"epochs": 5}} -> {"train.epochs": 5}; lists and null as text."""
    return dict(_leaves(config, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, bool | int | float | str) else str(value)


def _mean(scores: Row, tasks: Sequence[int]) -> float | None:
    chosen = [scores[task] for task in tasks]
    answered = [score for score in chosen if score is not None]
    return math.fsum(answered) / len(answered) if answered and len(answered) == len(chosen) else None


def _by_task(prefix: str, scores: Row) -> dict[str, float | None]:
    return {f"{prefix}/task_{number:02d}": score for number, score in enumerate(scores)}
