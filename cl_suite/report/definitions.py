"""One run as every library would report it: as text and as JSON values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from cl_suite.core.errors import UsageError
from cl_suite.core.scenario import Scenario, rows_are_tasks
from cl_suite.metrics.definitions.catalogue import chosen, compute
from cl_suite.metrics.definitions.definition import Definition, Value
from cl_suite.metrics.definitions.explain import differences
from cl_suite.metrics.definitions.measured import Measured
from cl_suite.metrics.matrix import Matrix
from cl_suite.records.compatibility import with_values_before
from cl_suite.records.record import RunRecord

MISSING = "-"
WIDTH = 110
_CHOSEN_AMONG = {
    Scenario.TASK_INCREMENTAL: "the task's own classes",
    Scenario.CLASS_INCREMENTAL: "all classes seen so far",
    Scenario.DOMAIN_INCREMENTAL: "the classes that all tasks share",
    Scenario.TASK_AGNOSTIC: "all classes",
}
# Groups of options that say what the tasks are.
_TASKS = ("stream", "schedule", "features", "text")


def every_definition(record: RunRecord, reference: RunRecord | None, names: str) -> dict[str, Any]:
    """Return what `cl-bench metrics --json` prints: whose run, what was computed, where definitions differ.

    names: as `chosen` takes them. Raise UsageError for a run that failed, a name or a reference that does not fit.
    """
    definitions = chosen(names)
    _check_run(record, "RECORD")
    if reference is not None:
        _check_run(reference, "--reference")
        check_reference(record, reference)
    run = measured(record, reference)
    values = compute(run, definitions)
    return {
        "record": _whose(record),
        "reference": None if reference is None else _whose(reference),
        "tasks": len(record.R[0]),
        "rows": len(record.R),
        "rows_are_tasks": bool(run.tasks),
        "answer_among": _CHOSEN_AMONG[Scenario(record.scenario)] if record.scenario in list(Scenario) else None,
        "metrics": [_entry(each, values[each.name]) for each in definitions],
        "differences": differences(run, definitions, values),
    }


def check_reference(record: RunRecord, reference: RunRecord) -> None:
    """Raise UsageError, naming what differs, where two runs did not have the same tasks under the same rules."""
    mine, theirs = with_values_before(record.config), with_values_before(reference.config)
    facts: list[tuple[str, Any, Any]] = [
        ("stream", record.stream, reference.stream),
        ("stream version", record.stream_version, reference.stream_version),
        ("scenario", record.scenario, reference.scenario),
        ("tasks", len(record.R[0]), len(reference.R[0])),
        ("task names", record.task_names, reference.task_names),
        ("test samples", record.test_samples, reference.test_samples),
        *((f"{group}.{name}", *pair) for group in _TASKS for name, *pair in _options(mine, theirs, group)),
    ]
    for what, value, other in facts:
        if value != other:
            raise UsageError(
                f"--reference is a run with {what} {_short(other)}, the record one with {_short(value)}. "
                "Name a run on the same tasks in the same scenario."
            )


def as_text(computed: dict[str, Any]) -> str:
    """Return a report as text: a block for each family, `-` and the reason where there is no number."""
    rows = (
        "rows of R are the tasks in order"
        if computed["rows_are_tasks"]
        else f"{computed['rows']} rows of R, which are times"
    )
    lines = [f"{_title(computed['record'])}: {computed['tasks']} tasks, {rows}"]
    if computed["answer_among"] is not None:
        lines.append(f"the answer is chosen among {computed['answer_among']}")
    if computed["reference"] is not None:
        lines.append(f"reference: {_title(computed['reference'])}")
    for family in dict.fromkeys(entry["family"] for entry in computed["metrics"]):
        lines += ["", family]
        for entry in computed["metrics"]:
            if entry["family"] == family:
                lines += _lines(entry)
        sentences = computed["differences"].get(family, [])
        if sentences:
            lines.append("  why they differ:")
            for sentence in sentences:
                lines += textwrap.wrap(
                    sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
                )
    return "\n".join(lines)


def measured(record: RunRecord, reference: RunRecord | None = None) -> Measured:
    """Return what a record holds. Parts that a foreign record does not have in our form count as not measured."""
    width = len(record.R[0]) if record.R else 0
    learning = record.diagnostics.get("learning")
    return Measured(
        R=record.R,
        baseline=record.baseline if len(record.baseline) == width else [],
        counts=record.test_samples if all(record.test_samples) and len(record.test_samples) == width else [],
        curve=record.curve if all(_is_point(point, width) for point in record.curve) else [],
        R_task_aware=record.R_task_aware if _alike(record.R_task_aware, record.R) else None,
        points=_points(learning.get("points"), width) if isinstance(learning, Mapping) else [],
        rows_are_tasks=rows_are_tasks(record.scenario),
        metrics=record.metrics,
        reference=None if reference is None else measured(reference),
    )


def _lines(entry: dict[str, Any]) -> list[str]:
    number = MISSING if entry["value"] is None else f"{round(entry['value'], 4) + 0.0:.4f}"  # + 0.0: never -0.0
    what = entry["formula"] if entry["value"] is not None else entry["reason"]
    first = f"  {entry['name']:26} {number:>8}  {what}"
    if not entry["reported_by"] or entry["value"] is None:
        return [first]
    return [first, f"  {'':36} as in {', '.join(entry['reported_by'])}"]


def _entry(definition: Definition, value: Value) -> dict[str, Any]:
    return {
        "name": definition.name,
        "family": definition.family,
        "value": value.number,
        "reason": value.reason,
        "formula": definition.formula,
        "source": definition.source,
        "reported_by": list(definition.reported_by),
        "traits": dict(definition.traits),
    }


def _whose(record: RunRecord) -> dict[str, Any]:
    names = ("strategy", "stream", "scenario", "protocol", "seed")
    return {name: getattr(record, name) for name in names} | {"config_hash": record.config_hash}


def _title(whose: dict[str, Any]) -> str:
    title = f"{whose['strategy']} on {whose['stream']}, {whose['scenario']}, protocol {whose['protocol']}"
    return "".join(c if c.isprintable() else "?" for c in f"{title}, seed {whose['seed']}")


def _options(mine: dict[str, Any], theirs: dict[str, Any], group: str) -> list[tuple[str, Any, Any]]:
    one, other = (each.get(group) or {} for each in (mine, theirs))
    if not isinstance(one, dict) or not isinstance(other, dict):
        return [("options", one, other)]
    return [(name, one.get(name), other.get(name)) for name in sorted({*one, *other})]


def _check_run(record: RunRecord, what: str) -> None:
    if record.status != "complete":
        raise UsageError(f"{what} is a run that failed: {record.error}. Name one that is complete.")
    if not record.R or not record.R[0]:
        raise UsageError(f"{what} has no accuracies: its R is empty. Name another run.")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_row(value: Any, width: int) -> bool:
    return isinstance(value, list) and len(value) == width and all(_is_score(entry) for entry in value)


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _is_point(point: Mapping[str, Any], width: int) -> bool:
    return type(point.get("experience")) is int and len(point["scores"]) == width


def _points(value: Any, width: int) -> Matrix:
    """Return [T][P] scores, or [] if it is anything else."""
    if not isinstance(value, list) or not value or len(value) != width or not isinstance(value[0], list):
        return []
    return value if value[0] and all(_is_row(row, len(value[0])) for row in value) else []


def _alike(one: Matrix | None, other: Matrix) -> bool:
    return one is not None and [len(row) for row in one] == [len(row) for row in other]
