"""Records handed on: judged, bundled into one archive, and taken in from somebody else's. Never imports torch."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.files import slug, write_atomic
from cl_suite.records.archive import (
    FOLDER,
    MAX_FILES,
    MAX_TEXT,
    MAX_TOTAL,
    Archive,
    Listed,
    digest,
    manifest_of,
    pack,
)
from cl_suite.records.record import RunRecord, parse_record
from cl_suite.records.reference import own_paths
from cl_suite.records.strict_json import MAX_BYTES, read_record
from cl_suite.records.validation import aside, mixed_versions


@dataclass
class Survey:
    """Records that were read and judged, by where they lie: in order, or refused with the reasons."""

    sound: dict[Listed, RunRecord] = field(default_factory=dict)  # without what is large: R, curve, diagnostics
    refused: dict[str, list[str]] = field(default_factory=dict)

    def judge(self, listed: Listed, content: bytes) -> RunRecord | None:
        """Read one record, put it where it belongs, and return it if it is in order."""
        record, reasons = read_record(content, place=listed.place)
        if record is None or reasons:
            self.refused[listed.place] = reasons
            return None
        self.sound[listed] = _brief(record)
        return record

    def refuse_mixed(self, beside: Mapping[str, Sequence[RunRecord]] | None = None) -> None:
        """Refuse every record of a configuration whose seeds were not made alike.

        beside: further records, by the folder of their configuration, that will lie beside them
        """
        rows: dict[str, list[Listed]] = defaultdict(list)
        for listed in self.sound:
            rows[row_of(listed.place)].append(listed)
        for row, members in rows.items():
            if reasons := mixed_versions([*map(self.sound.__getitem__, members), *(beside or {}).get(row, ())]):
                for listed in members:
                    del self.sound[listed]
                    self.refused[listed.place] = reasons


def row_of(place: str) -> str:
    """Return the folder all seeds of a configuration share, below the folder of results."""
    return PurePosixPath(place).parent.as_posix()


def survey(results: Path, *, streams: Sequence[str] = (), strategies: Sequence[str] = ()) -> Survey:
    """Read and judge every record below a folder of results; of the streams and strategies named, if any are.

    Raise UsageError if there is none.
    """
    places = {path.relative_to(results).as_posix(): path for path in own_paths(results)}
    if not places:
        raise UsageError(f"there is no record below {results}. Name a folder of records with --results.")
    for depth, flag, names in ((0, "--stream", streams), (2, "--strategy", strategies)):
        there = {parts[depth] for place in places if len(parts := place.split("/")) > depth}
        for name in names:
            if slug(name) not in there:
                raise UsageError(f"there is no record of {flag} {name} below {results}. {nearest(name, there)}")
        slugs = set(map(slug, names))
        places = {
            place: path
            for place, path in places.items()
            if not slugs or place.split("/")[depth : depth + 1][0] in slugs
        }
    if len(places) > MAX_FILES:
        raise UsageError(f"{len(places)} records are more than the {MAX_FILES} of one archive. Choose with --stream.")
    result = Survey()
    for place, path in places.items():
        try:
            content = _read(path)
        except OSError as problem:
            result.refused[place] = [f"cannot be read ({problem.strerror or problem})"]
            continue
        result.judge(Listed(FOLDER + place, digest(content), len(content)), content)
    result.refuse_mixed()
    return result


def bundle(results: Path, records: Mapping[Listed, RunRecord], *, name: str = "", who: str = "") -> tuple[bytes, str]:
    """Return (the archive of these records, the SHA-256 of its manifest).

    Same records, name and sender: same manifest, and with the same zlib the same bytes. Raise UsageError if a file
    changed since it was judged, or if there is too much.
    """
    for flag, text in (("--name", name), ("--who", who)):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise UsageError(f"{flag} must be one line of at most {MAX_TEXT} characters. Shorten it.")
    listed = sorted(records, key=lambda each: each.name)
    total = sum(each.size for each in listed)
    if total > MAX_TOTAL:
        raise UsageError(f"the records have {total} bytes, more than the {MAX_TOTAL} of one archive. Use --stream.")
    sender = {key: text for key, text in (("name", name), ("who", who)) if text}
    manifest = manifest_of(listed, {**sender, **summary(records.values())})

    def contents() -> Iterable[tuple[Listed, bytes]]:
        for each in listed:
            content = _read(results / each.place)
            if digest(content) != each.sha256:
                raise UsageError(f"{results / each.place} was changed while it was bundled. Try again.")
            yield each, content

    return pack(contents(), manifest), digest(manifest)


def summary(records: Iterable[RunRecord]) -> dict[str, Any]:
    """Return what a manifest tells of its records: how many there are of what, and the versions that made them."""
    listed = list(records)
    status = Counter(record.status for record in listed)
    counts = {
        "records": len(listed),
        "complete": status["complete"],
        "failed": status["failed"],
        "streams": len({record.stream for record in listed}),
        "strategies": len({record.strategy for record in listed}),
    }
    return {"counts": counts, "cl_suite": sorted({record.provenance["cl_suite"] for record in listed})}


@dataclass
class Received:
    """What became of each file of an archive: the path it has below the folder of results, or why it was refused."""

    imported: list[Path] = field(default_factory=list)
    present: list[Path] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)


def receive(archive: Archive, results: Path, *, overwrite: bool = False, dry_run: bool = False) -> Received:
    """Take the records of an archive into a folder of results, each where `record_path` says.

    Everything is verified before anything is written: the archive as a whole (UsageError), then each record (refused
    with the reasons, the others are taken). A record that is there already is left alone; one that differs from what is
    there is refused, unless `overwrite`. A failed run never takes the place of a complete one. Each file is written
    whole or not at all.
    """
    incoming, outcome = Survey(), Received()
    targets: dict[Listed, Path] = {}
    there: set[Listed] = set()
    for listed in archive.files:
        record = incoming.judge(listed, content := archive.read(listed))
        if record is None:
            continue
        targets[listed] = target = _target(record, listed, results)
        lies = _lying(target)
        if lies is not None and (lies[0] == content or lies[1] == record):
            there.add(listed)
        elif lies is not None and not overwrite:
            del incoming.sound[listed]
            incoming.refused[listed.place] = [f"{target} is there and differs; --overwrite replaces it"]
    _check_summary(archive, incoming)
    rows = {row_of(listed.place) for listed in incoming.sound}
    replaced = {targets[listed] for listed in incoming.sound}
    incoming.refuse_mixed({row: _records_in(results / row, without=replaced) for row in rows})
    outcome.refused = incoming.refused
    for listed in incoming.sound:
        if listed in there:
            outcome.present.append(targets[listed])
            continue
        if not dry_run:
            try:
                write_atomic(targets[listed], archive.read(listed))
            except UsageError as problem:
                done = len(outcome.imported)
                raise UsageError(
                    f"{problem} {done} records were imported before; the same command goes on."
                ) from problem
        outcome.imported.append(targets[listed])
    return outcome


def _brief(record: RunRecord) -> RunRecord:
    return dataclasses.replace(record, R=[], R_task_aware=None, curve=[], diagnostics={}, config={})


def _read(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than a record may have."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _target(record: RunRecord, listed: Listed, results: Path) -> Path:
    """Return where a record goes: where it belongs, but a failed run aside if it lay there or would replace another."""
    path = record.path(results)
    if record.status == "failed":
        lies = _lying(path)
        taken = lies is not None and (lies[1] is None or lies[1].status != "failed")
        if taken or listed.place.endswith(".failed.json"):
            return path.with_name(aside(path.name))
    return path


def _lying(path: Path) -> tuple[bytes, RunRecord | None] | None:
    """Return the bytes at a path and the record they are, None if they are none; None if nothing is there."""
    if not path.exists():
        return None
    try:
        content = _read(path)
        return content, parse_record(content.decode("utf-8"))
    except (OSError, ValueError, OverflowError, RecursionError):
        return b"", None


def _records_in(folder: Path, *, without: set[Path]) -> list[RunRecord]:
    """Return the records of a folder that can be read."""
    lying = [_lying(path) for path in sorted(folder.glob("seed_*.json")) if path not in without]
    return [_brief(pair[1]) for pair in lying if pair is not None and pair[1] is not None]


def _check_summary(archive: Archive, incoming: Survey) -> None:
    """Hold what the manifest tells of its records against them, where all could be read."""
    manifest, right = archive.manifest, summary(incoming.sound.values())
    if not incoming.refused and any(manifest.get(name) != value for name, value in right.items()):
        raise archive.refusal(ValueError("has a manifest whose counts or versions are not those of its records"))
