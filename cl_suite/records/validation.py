"""Whether a record can be believed: ranges, shapes, metrics that follow from R, costs, dates. Never imports torch.

`parse_record` says whether a file is a record at all; this says whether what it tells fits together. It is asked before
records are handed on (`cl-bench submit`) and before those of somebody else are taken in (`cl-bench import`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeGuard

from cl_suite.core.scenario import Scenario, rows_are_tasks
from cl_suite.records.fields import CHECKS, PER_TASK
from cl_suite.records.metric_validation import metric_faults
from cl_suite.records.record import SCHEMA_VERSION, RunRecord

MAX_REASONS = 20  # told of one record
MAX_NAME = 200  # characters of a name that becomes a folder
MAX_STRING = 10_000  # characters of any other text
MAX_KEY = 500  # characters of a key
MAX_DEPTH = 40  # lists and dictionaries inside each other
MAX_WHOLE = 2**63  # whole numbers are smaller than this
AHEAD = timedelta(days=1)  # what a clock may be ahead of ours
NAMES = ("strategy", "stream", "scenario", "protocol")
# What all seeds of one configuration must have in common: read from a record, and what it is called.
COMMON: dict[str, Callable[[RunRecord], Any]] = {
    "cl_suite": lambda record: record.provenance.get("cl_suite"),
    "schema_version": lambda record: record.schema_version,
    "stream_version": lambda record: record.stream_version,
    "data_checksums": lambda record: record.provenance.get("data_checksums"),
}


def validate(record: RunRecord, *, now: datetime | None = None) -> list[str]:
    """Return what is wrong with a record, a reason each; an empty list if nothing is. Raises nothing.

    Of a failed run everything but complete rows and metrics is asked too. Metrics that are no function of R (a
    strategy's own, of found tasks, of preferences) are not judged. A record made before a metric existed may lack it.
    now: with a time zone; a run cannot have ended after it, give or take a day
    """
    # Each stage may rely on what the ones before it found in order.
    for stage in (_types, _limits, _shape):
        if reasons := first_of(stage(record)):
            return reasons
    late = (now or datetime.now(UTC)) + AHEAD
    return first_of(chain(metric_faults(record), _costs(record), _origin(record, late)))


def place_of(record: RunRecord) -> str:
    """Return where a record belongs below any folder of results, with forward slashes."""
    return record.path(Path()).as_posix()


def aside(place: str) -> str:
    """Return where a failed run lies that did not take the place of another: `seed_<n>.failed.json`."""
    return f"{place.removesuffix('.json')}.failed.json"


def misplaced(record: RunRecord, place: str) -> str | None:
    """Return why a record does not belong at `place` (below the folder of results), or None.

    A failed run may also lie aside, at `seed_<n>.failed.json`.
    """
    expected = place_of(record)
    allowed = {expected, *([aside(expected)] if record.status == "failed" else [])}
    if place in allowed:
        return None
    folder, right = Path(place).parent, Path(expected).parent
    if folder.parent == right.parent and folder != right:
        return f"its folder says configuration {folder.name}, but its configuration has the hash {right.name}"
    return f"it lies at {place}, but belongs at {expected}"


def mixed_versions(records: Iterable[RunRecord]) -> list[str]:
    """Return in what the seeds of one configuration, a row of the leaderboard, may not differ but do.

    They must be of one version of cl-suite, of the schema and of the stream, and have read the same data. Commits,
    devices and versions of torch may differ: they are told in the record and change no definition.
    """
    listed = sorted(records, key=lambda record: record.seed)
    reasons = []
    for name, value_of in COMMON.items():
        seeds_of: dict[str, list[int]] = {}
        for record in listed:
            seeds_of.setdefault(as_ascii(value_of(record)), []).append(record.seed)
        if len(seeds_of) > 1:
            examples = " and ".join(
                f"{value} (seed {', '.join(map(str, seeds))})" for value, seeds in islice(seeds_of.items(), 3)
            )
            reasons.append(f"seeds of one configuration have different {name}: {examples}")
    return reasons


def as_ascii(value: Any) -> str:
    """Return a foreign value in a few printable ASCII characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_of(reasons: Iterable[str]) -> list[str]:
    """Return the reasons, or the first of them and how many more there are."""
    waiting = iter(reasons)
    listed = list(islice(waiting, MAX_REASONS))
    more = sum(1 for _ in waiting)
    return [*listed, f"and {more} more"] if more else listed


def _types(record: RunRecord) -> Iterator[str]:
    for name, fits in CHECKS.items():
        value = getattr(record, name)
        try:
            right = fits(value)
        except (TypeError, OverflowError):  # e.g. a whole number beyond every float
            right = False
        if not right:
            precise = list(out_of_range({name: value}))
            yield from precise or [f"{name} cannot be {as_ascii(value)}"]


def out_of_range(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield each score outside [0, 1] among the fields of a record, whatever else is wrong with them."""
    places = [("baseline", values.get("baseline"))]
    for name in ("R", "R_task_aware"):
        rows = values.get(name)
        places += [(f"{name}[{row}]", scores) for row, scores in enumerate(rows if isinstance(rows, list) else [])]
    curve = values.get("curve")
    for number, point in enumerate(curve if isinstance(curve, list) else []):
        places.append((f"curve[{number}].scores", point.get("scores") if isinstance(point, Mapping) else None))
    for place, scores in places:
        for column, score in enumerate(scores if isinstance(scores, list) else []):
            if type(score) in (int, float) and (score < 0 or score > 1):
                yield f"{place}[{column}] is {as_ascii(score)}, outside [0, 1]"


def _limits(record: RunRecord) -> Iterator[str]:
    if record.schema_version > SCHEMA_VERSION:
        yield f"schema_version {record.schema_version} is newer than the {SCHEMA_VERSION} known here; update cl-suite"
    for name in NAMES:
        value = getattr(record, name)
        if not value or len(value) > MAX_NAME:
            yield f"{name} has {len(value)} characters; 1 to {MAX_NAME} are allowed"
    for field in CHECKS:
        yield from beyond_limits(getattr(record, field), field)


def beyond_limits(value: Any, where: str) -> Iterator[str]:
    """Yield what in a tree of JSON values is too long, too deep, not finite or not text."""
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if isinstance(each, (Mapping, list)):
            if depth > MAX_DEPTH:
                yield f"{where} is nested deeper than {MAX_DEPTH}"
                continue
            inner = each.values() if isinstance(each, Mapping) else each
            waiting.extend((entry, depth + 1) for entry in inner)
            for key in each if isinstance(each, Mapping) else ():
                if not isinstance(key, str) or len(key) > MAX_KEY or not _is_unicode(key):
                    yield f"{where} has the key {as_ascii(key)}; keys are texts of at most {MAX_KEY} characters"
        elif isinstance(each, str):
            if len(each) > MAX_STRING:
                yield f"{where} holds a text of {len(each)} characters; {MAX_STRING} are allowed"
            elif not _is_unicode(each):
                yield f"{where} holds a text that is not Unicode: {as_ascii(each)}"
        elif isinstance(each, float) and not math.isfinite(each):
            yield f"{where} holds {each}, which is not a number"
        elif isinstance(each, int) and not -MAX_WHOLE < each < MAX_WHOLE:
            yield f"{where} holds a whole number of more than 64 bits"


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which no file could keep."""
    return not any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else True


def _shape(record: RunRecord) -> Iterator[str]:
    tasks, complete = len(record.task_names), record.status == "complete"
    if record.scenario not in list(Scenario):
        yield f"scenario {as_ascii(record.scenario)} is none of {', '.join(Scenario)}"
        return
    if not tasks:
        yield "task_names is empty"
    for name in PER_TASK:
        width = len(getattr(record, name))
        if width != tasks and (complete or width):
            yield f"{name} has {width} entries for {tasks} tasks"
    for name in ("R", "R_task_aware"):
        widths = {len(row) for row in getattr(record, name) or []} - {tasks}
        if widths:
            yield f"{name} has {min(widths)} columns for {tasks} tasks"
    rows, most = len(record.R), tasks if rows_are_tasks(record.scenario) else math.inf
    if complete and not rows:
        yield "R is empty though the run is complete"
    elif rows > most or (complete and most != math.inf and rows != most):
        yield f"R has {rows} rows for {tasks} tasks in {record.scenario}"
    if record.R_task_aware is not None and len(record.R_task_aware) != rows:
        yield f"R_task_aware has {len(record.R_task_aware)} rows, R has {rows}"
    if any(type(count) is not int or count < 1 for count in record.test_samples):
        yield "test_samples holds something other than whole numbers from 1 on"
    yield from _curve(record, tasks, max(rows, 1) if complete else rows + 1)


def _curve(record: RunRecord, tasks: int, experiences: int) -> Iterator[str]:
    before, samples_before = 0, 0
    for number, point in enumerate(record.curve):
        experience, step, samples = (point.get(name) for name in ("experience", "step", "samples"))
        if not (_counts(experience) and _counts(step) and _counts(samples)):
            yield f"curve[{number}] lacks a whole number of experience, step or samples"
            return
        if len(point["scores"]) != tasks or experience >= experiences:
            yield f"curve[{number}] does not fit {tasks} tasks and {experiences} experiences"
        if experience < before or samples < samples_before:
            yield f"curve[{number}] goes back in experience or samples"
        before, samples_before = experience, samples


def _counts(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _costs(record: RunRecord) -> Iterator[str]:
    for name, value in record.costs.items():
        if value is not None and value < 0:
            yield f"costs.{name} is {value}, below 0"
    replayed, total = record.costs.get("samples_replayed"), record.costs.get("samples_drawn")
    if replayed is not None and total is not None and replayed > total:
        yield f"costs.samples_replayed is {replayed}, more than the {total} drawn"


def _origin(record: RunRecord, late: datetime) -> Iterator[str]:
    if (record.status == "failed") != (record.error is not None):
        yield f"status is {record.status}, but error is {as_ascii(record.error)}"
    for name in ("protocol", "scenario"):
        if name in record.config and record.config[name] != getattr(record, name):
            yield f"{name} is {as_ascii(getattr(record, name))}, but config says {as_ascii(record.config[name])}"
    seeds = record.config.get("seeds")
    for name, seed in record.seeds.items():
        choice = seeds.get(name) if isinstance(seeds, Mapping) else seed
        right = record.seed if choice is None else choice
        if seed != right:
            yield f"seeds.{name} is {as_ascii(seed)}, but config and seed say {as_ascii(right)}"
    for name in ("cl_suite", "stream_version"):
        if not isinstance(record.provenance.get(name), str) or not record.provenance[name]:
            yield f"provenance.{name} is missing"
    moments = []
    for name in ("started", "finished"):
        text = record.provenance.get(name)
        try:
            moment = datetime.fromisoformat(text)  # type: ignore[arg-type]
            if moment.tzinfo is None:
                raise ValueError("no time zone")
            moments.append(moment)
        except (TypeError, ValueError):
            yield f"provenance.{name} is {as_ascii(text)}, which is no date with a time zone"
    if len(moments) == 2 and moments[0] > moments[1]:
        yield f"provenance.finished is before started ({as_ascii(record.provenance['started'])})"
    if any(moment > late for moment in moments):
        yield f"provenance.finished is in the future ({as_ascii(record.provenance['finished'])})"
