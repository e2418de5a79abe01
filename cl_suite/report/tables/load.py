"""Find and read records, of one folder or of two beside each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cl_suite.core.errors import UsageError
from cl_suite.records.record import RunRecord, config_hash, parse_record
from cl_suite.records.reference import REFERENCE, Stored, reference_files, stored_below

GROUPS = ("stream", "strategy", "schedule", "features", "train", "model")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a pair, as JSON writes it
YOURS, OURS = "yours", "cl-suite"  # whose a row is, where the reference stands beside it


@dataclass(frozen=True)
class Loaded:
    """Records in the order of their files, and a note for each file that does not count.

    origins: whose each record is; "" where all are of one folder
    """

    records: list[RunRecord]
    notes: list[str]
    origins: list[str] = field(default_factory=list)

    def only(self, wanted: Callable[[RunRecord], bool]) -> Loaded:
        """Return it with the records that are `wanted`."""
        pairs = [pair for pair in zip(self.records, self.origins, strict=True) if wanted(pair[0])]
        return Loaded([record for record, _ in pairs], self.notes, [origin for _, origin in pairs])


def load_results(results: Path, beside: str | None = None) -> Loaded:
    """Read every `seed_*.json` below `results`, complete and failed; one that is damaged becomes a note.

    beside: "reference", the records that come with cl-suite, or another folder. Records of both are told apart by
    `origins`. The reference below a folder of results (`results/reference` of a checkout) is not read with it.

    Raise UsageError if `beside` is no folder, or there is no reference.
    """
    own = _read(stored_below(results), YOURS if beside else "")
    if beside is None:
        return own
    if beside == REFERENCE:
        other = _read(reference_files(), OURS)
    elif Path(beside).is_dir():
        other = _read(stored_below(Path(beside)), Path(beside).resolve().name)
    else:
        raise UsageError(f"--beside {beside} is no folder of records. Use --beside {REFERENCE}, or name a folder.")
    return Loaded([*own.records, *other.records], [*own.notes, *other.notes], [*own.origins, *other.origins])


def _read(files: Iterable[Stored], origin: str) -> Loaded:
    """Read records, each once."""
    records: dict[tuple[object, ...], RunRecord] = {}
    notes = []
    for file in files:
        name = f"{file.name} ({origin})" if origin else file.name
        try:
            text = file.read()
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
    return Loaded(list(records.values()), notes, [origin] * len(records))


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
