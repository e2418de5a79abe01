"""What records say of a strategy's costs: beside those of the lower bound, in the same table. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path

from cl_suite.core.errors import CLSuiteError, UsageError
from cl_suite.core.files import slug
from cl_suite.info.answer import plural
from cl_suite.info.streams import stream_card
from cl_suite.records.compatibility import GROUP_BEFORE, without_unchanged
from cl_suite.records.record import RunRecord, parse_record
from cl_suite.records.reference import REFERENCE, Stored, reference_files, stored_below
from cl_suite.report.tables.labels import flatten, identities
from cl_suite.report.tables.measures import FLOOR, ROLES, representative

Table = tuple[str, ...]
YOURS = "yours"  # what is told of records that lie in the folder of results


@dataclass(frozen=True)
class Cost:
    """What one configuration of a strategy cost in one table: means over seeds; None = not measured.

    options: of the stream and what its samples are made of, where they are not the default
    flops:   training operations, as a multiple of the lower bound's; memory: bytes kept beside the network
    whose:   "yours" or "reference"
    """

    stream: str
    scenario: str
    protocol: str
    options: Mapping[str, str]
    seeds: int
    flops: float | None
    memory: float | None
    whose: str

    def __str__(self) -> str:
        """Return it in a line."""
        measured = []
        if self.flops is not None:
            measured.append(f"FLOPs beside {floor()}'s {self.flops:.2f}")
        if self.memory is not None:
            measured.append(f"kept beside the network {self.memory / 1e6:.2f} MB")
        where = " ".join([self.stream, self.scenario, self.protocol, *map("=".join, self.options.items())])
        mark = f"{YOURS}, " if self.whose == YOURS else ""
        return f"{where}: {', '.join(measured)} ({mark}{plural(self.seeds, 'seed')})"


def floor() -> str:
    """Return the strategy that others' costs are held against."""
    return next(name for name, role in ROLES.items() if role == FLOOR)


def stored(results: Path) -> dict[str, list[Stored]]:
    """Return {whose: files of records}: those below a folder, and those that come with cl-suite, if there are any."""
    found = {YOURS: [*stored_below(results)] if results.is_dir() else []}
    try:
        found[REFERENCE] = [*reference_files()]
    except (UsageError, OSError):  # a copy without them, or a damaged one: nothing is known then
        found[REFERENCE] = []
    return found


def measured_costs(strategy: str, files: Mapping[str, Sequence[Stored]]) -> list[Cost]:
    """Return what a strategy cost in every table that records make. files: {whose: records}."""
    return [cost for whose, several in files.items() for cost in _costs(strategy, several, whose)]


def _costs(strategy: str, files: Sequence[Stored], whose: str) -> list[Cost]:
    mine = tables(records_of(files, strategy))
    bound = tables(records_of(files, floor())) if mine else {}
    found = []
    for key, rows in sorted(mine.items()):
        records = rows[representative(rows)]
        below = bound.get(key)
        flops = None
        if below is not None:
            own, lower = (_mean(each, "training_flops") for each in (records, below[representative(below)]))
            flops = own / lower if own and lower else None
        memory = _mean(records, "memory_bytes")
        if flops is not None or memory is not None:
            first = records[0]
            place = first.stream, first.scenario, first.protocol, _apart(first)
            found.append(Cost(*place, len(records), flops, memory, whose))
    return found


def _apart(record: RunRecord) -> dict[str, str]:
    """Return the options that set a record's tasks and samples apart from the stream's own by default."""
    try:
        usual = {option.name: option.default for option in stream_card(record.stream).options}
    except CLSuiteError:  # a stream that is not installed here: all its options are told
        usual = {}
    config = without_unchanged(record.config)
    mine = flatten({group: config.get(group) or {} for group in ("stream", "schedule")})
    usual_text = flatten(usual) | flatten({"schedule": GROUP_BEFORE["schedule"]})
    network = flatten({"features": config.get("features") or {}}).get("features.network")
    apart = {name: value for name, value in mine.items() if usual_text.get(name) != value}
    return apart | ({"features.network": network} if network else {})


def tables(records: Sequence[RunRecord]) -> dict[Table, dict[str, list[RunRecord]]]:
    """Return {table: {config hash: records}}, tables being those of the leaderboard."""
    found: dict[Table, dict[str, list[RunRecord]]] = {}
    for record, identity in zip(records, identities(records), strict=True):
        found.setdefault(identity.table, {}).setdefault(identity.config_hash, []).append(record)
    return found


def records_of(
    files: Iterable[Stored], strategy: str, stream: str | None = None, scenario: str | None = None
) -> list[RunRecord]:
    """Return the complete records of a strategy, of one stream and scenario where named.

    Files that cannot be read are passed over: nothing is known of those.
    """
    return [record for record in _read(files, strategy, stream, scenario) if record.status == "complete"]


def _read(files: Iterable[Stored], *place: str | None) -> Iterator[RunRecord]:
    strategy, stream, scenario = (None if each is None else slug(each) for each in place)
    for file in files:
        parts = file.name.split("/")[-5:]
        wanted = zip(parts, (stream, scenario, strategy), strict=False)
        if len(parts) < 5 or any(name not in (None, part) for part, name in wanted):
            continue
        try:
            yield parse_record(file.read())
        except (OSError, ValueError):
            continue


def _mean(records: Sequence[RunRecord], cost: str) -> float | None:
    values = [record.costs[cost] for record in records if record.costs.get(cost) is not None]
    return fsum(values) / len(values) if values and len(values) == len(records) else None
