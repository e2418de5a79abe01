"""From the bytes of somebody else's file to a record, or to the reasons why it is none. Never imports torch."""

from __future__ import annotations

import json
from typing import Any

from cl_suite.records.record import RunRecord, parse_record
from cl_suite.records.validation import as_ascii, beyond_limits, first_of, misplaced, out_of_range, validate

MAX_BYTES = 16 * 2**20  # of one record


def read_record(content: bytes, *, place: str | None = None) -> tuple[RunRecord | None, list[str]]:
    """Return (record, reasons why it cannot be believed); (None, reasons) where it cannot even be read.

    place: where the file lies below its folder of results, with forward slashes; compared with where it belongs
    """
    values = None
    try:
        values = read_json(content, most=MAX_BYTES)
        record = parse_record(content.decode("utf-8"))
    except (ValueError, OverflowError) as problem:
        precise = first_of(out_of_range(values)) if isinstance(values, dict) else []
        return None, precise or [str(problem).partition(". Restore")[0]]
    reasons = list(beyond_limits(values, "the file"))[:1] or validate(record)
    if not reasons and place is not None and (elsewhere := misplaced(record, place)):
        reasons = [elsewhere]
    return record, reasons


def read_json(content: bytes, *, most: int) -> Any:
    """Return what strict JSON in UTF-8 says. Raise ValueError with the reason.

    NaN and infinity are refused, and so is a key that stands twice: another reader may take the other one.
    """
    if len(content) > most:
        raise ValueError(f"has {len(content)} bytes; {most} are allowed")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as problem:
        raise ValueError(f"is not UTF-8 at byte {problem.start}") from problem
    except json.JSONDecodeError as problem:
        raise ValueError(f"is not JSON at line {problem.lineno} ({problem.msg})") from problem
    except RecursionError as problem:
        raise ValueError("is nested too deeply") from problem


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"names {as_ascii(name)} twice")
            names.add(name)
    return values


def _no_constant(word: str) -> None:
    raise ValueError(f"holds {word}, which is not a JSON number")
