"""Find and read records."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cl_suite.records.record import RunRecord, config_hash, parse_record

GROUPS = ("stream", "strategy", "schedule", "features", "train", "model")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a pair, as JSON writes it
LARGEST = 64 * 2**20  # bytes of a record


@dataclass(frozen=True)
class Loaded:
    """Records in the order of their files, and a note for each file that does not count; the files of the records."""

    records: list[RunRecord]
    notes: list[str]
    paths: list[Path] = field(default_factory=list)


def load_results(results: Path) -> Loaded:
    """Read every `seed_*.json` below `results`, complete and failed; one that is damaged becomes a note."""
    records: dict[tuple[object, ...], RunRecord] = {}
    notes, paths = [], []
    for path in sorted(results.rglob("seed_*.json")):
        name = path.relative_to(results).as_posix()
        try:
            if path.stat().st_size > LARGEST:
                notes.append(f"{name} is larger than {LARGEST // 2**20} MiB, more than any record")
                continue
            text = path.read_text(encoding="utf-8")
            record = parse_record(text)
        except OSError as problem:
            notes.append(f"{name} cannot be read ({problem.strerror or problem})")
            continue
        except ValueError as problem:  # also text that is not UTF-8
            reason = f"is damaged: {problem.reason}" if isinstance(problem, UnicodeDecodeError) else str(problem)
            notes.append(f"{name} {reason}")
            continue
        if unfit := _unfit(record, text):
            notes.append(f"{name} {unfit}")
            continue
        identity = (
            record.stream,
            record.scenario,
            record.strategy,
            _hash(json.dumps(record.config), record.stream_version),
            record.seed,
            record.status,
        )
        if identity in records:
            same = records[identity].R == record.R
            verdict = (
                "repeats a run that is already there" if same else "is a run that is there already, with other scores,"
            )
            notes.append(f"{name} {verdict} and is not counted again")
            continue
        records[identity] = record
        paths.append(path)
    return Loaded(list(records.values()), notes, paths)


def _unfit(record: RunRecord, text: str) -> str | None:
    """Return why a record cannot stand in a table although it is one, or None."""
    groups = [name for name in GROUPS if not isinstance(record.config.get(name) or {}, dict)]
    if groups:
        return f"is damaged: config.{groups[0]} is not a group of options"
    if SURROGATE.search(text):  # rare, so the costly look is too
        try:
            record.to_json().encode("utf-8")
        except UnicodeEncodeError:
            return "is damaged: it holds a text that is not Unicode"
    return None


@lru_cache(maxsize=100_000)
def _hash(config: str, version: str) -> str:
    """Return the hash of a configuration, worked out once for all its seeds."""
    return config_hash(json.loads(config), stream_version=version)
