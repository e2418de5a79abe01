"""One run, one file: `<results>/<stream>/<scenario>/<strategy>/<config hash>/seed_<n>.json`. Never imports torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_suite.core.errors import RunError, UsageError
from cl_suite.core.files import slug, write_atomic
from cl_suite.records.compatibility import without_unchanged
from cl_suite.records.fields import CHECKS, PER_TASK
from cl_suite.records.provenance import provenance, without_home, without_machine

__all__ = [
    "SCHEMA_VERSION",
    "RunRecord",
    "config_hash",
    "load_record",
    "parse_record",
    "provenance",
    "record_path",
    "save_record",
]

SCHEMA_VERSION = 1
Matrix = list[list[float | None]]

# Where and how a run is carried out, not what it computes; the seed is in the file's name.
NOT_HASHED = frozenset({"seed", "device", "threads", "results", "data", "data_root", "offline", "resume", "overwrite"})


@dataclass
class RunRecord:
    """Everything kept of one run. Fields and their JSON keys are the same; docs/reference/records.md explains them.

    R, R_task_aware: scores in [0, 1]; row i = after experience i, column j = task j; None where unanswered
    baseline:        score of the untrained network, per task
    test_samples:    samples behind each column of R
    curve:           evaluation points inside experiences: {experience, step, samples, scores}
    metrics:         what `cl_suite.metrics.matrix.summarise` returns
    model_selection: "none", "validation" or "oracle" (looked at test data)
    """

    strategy: str
    stream: str
    scenario: str
    protocol: str
    seed: int
    schema_version: int = SCHEMA_VERSION
    status: str = "complete"
    error: str | None = None
    seeds: dict[str, int] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    R: Matrix = field(default_factory=list)
    R_task_aware: Matrix | None = None
    baseline: list[float | None] = field(default_factory=list)
    test_samples: list[int] = field(default_factory=list)
    task_names: list[str] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    model_selection: str = "none"
    diagnostics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def stream_version(self) -> str:
        """Version of the stream's tasks; records of different versions are not compared."""
        return str(self.provenance.get("stream_version", "1"))

    @property
    def config_hash(self) -> str:
        """12 hex digits that say which configuration this is."""
        return config_hash(self.config, stream_version=self.stream_version)

    def path(self, results: Path) -> Path:
        """Return the file of this run below the folder of results."""
        return record_path(
            results,
            stream=self.stream,
            scenario=self.scenario,
            strategy=self.strategy,
            config_hash=self.config_hash,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values, in the order of the file.

        NaN and infinity become null, in the configuration the words "nan" and "inf". Raise RunError for a value JSON
        cannot keep.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {name: _plain(value, name, words=name == "config") for name, value in values.items()}
        plain["strategy"] = without_machine(self.strategy)
        plain["error"] = None if self.error is None else without_home(self.error)
        first = ("schema_version", "status", "error", "strategy", "stream", "scenario", "protocol", "seed")
        return {name: plain[name] for name in dict.fromkeys([*first, *plain])}

    def to_json(self) -> str:
        """Return the record as strict JSON, one field a line, one row of a matrix a line. Numbers keep every digit."""
        lines = [f"  {json.dumps(name)}: {_layout(value)}" for name, value in self.to_dict().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"


def config_hash(config: Mapping[str, Any], *, stream_version: str = "1") -> str:
    """Return the first 12 hex digits of the SHA-256 of the canonical JSON of a configuration.

    Left out, at the top level only: the keys NOT_HASHED (seed, device, places, how to resume). `seeds` counts as it
    was asked for (null = follow the run's seed), so pass it so, not resolved: then all seeds of a run share a hash.
    An option of VALUE_BEFORE does not count while it is what was done before it came.
    The stream's version counts: the same options on other tasks are another configuration.
    """
    counted = {str(key): value for key, value in without_unchanged(config).items() if key not in NOT_HASHED}
    content = {"config": _plain(counted, "config", words=True), "stream_version": str(stream_version)}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def record_path(results: Path, *, stream: str, scenario: str, strategy: str, config_hash: str, seed: int) -> Path:
    """Return `<results>/<stream>/<scenario>/<strategy>/<config hash>/seed_<n>.json`."""
    return Path(results) / slug(stream) / slug(scenario) / slug(strategy) / config_hash / f"seed_{seed}.json"


def save_record(record: RunRecord, path: Path) -> Path:
    """Write a record to `path` (see `record_path`) and return the file it went to.

    A failed record never replaces a complete one, nor a file that cannot be read: it goes to `seed_<n>.failed.json`
    beside it, which the next complete record of the same run removes.
    """
    aside = path.with_suffix(".failed.json")
    target = aside if record.status == "failed" and path.exists() and not _is_failed(path) else path
    write_atomic(target, record.to_json())
    if record.status == "complete":
        aside.unlink(missing_ok=True)
    return target


def load_record(path: Path) -> RunRecord:
    """Read a record. Raise UsageError if it is absent, damaged, or of a newer schema than this cl-suite knows."""
    try:
        return parse_record(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"record {path} cannot be read ({problem.strerror or problem}). Check --results.") from problem
    except ValueError as problem:
        raise UsageError(f"record {path} {problem}.") from problem


def parse_record(text: str) -> RunRecord:
    """Return the record that `to_json` wrote. Raise ValueError with the reason and the next move if it is not one."""
    try:
        values = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as problem:
        raise _damaged(f"not JSON at line {problem.lineno} ({problem.msg})") from problem
    except RecursionError as problem:
        raise _damaged("it is nested too deeply") from problem
    if not isinstance(values, dict):
        raise _damaged("not a JSON object")
    version = values.get("schema_version")
    if type(version) is not int:
        raise _damaged("it has no schema_version")
    if version > SCHEMA_VERSION:
        raise ValueError(f"has schema_version {version}, newer than the {SCHEMA_VERSION} known here. Update cl-suite")
    known = {}
    for each in dataclasses.fields(RunRecord):
        if each.name not in values:
            raise _damaged(f"{each.name} is missing")
        value = known[each.name] = values[each.name]
        if not CHECKS[each.name](value):
            raise _damaged(f"{each.name} cannot be {reprlib.repr(value)[:60]}")
    columns = {len(row) for row in known["R"]} | {len(known[name]) for name in PER_TASK if known[name]}
    if len(columns) > 1:
        raise _damaged(f"R, {' and '.join(PER_TASK)} differ in their number of tasks")
    return RunRecord(**known)


def _damaged(reason: str) -> ValueError:
    return ValueError(f"is damaged: {reason}. Restore it, or delete it and run again")


def _refuse(word: str) -> None:
    raise _damaged(f"it holds {word}, which is not a JSON number")


def _is_failed(path: Path) -> bool:
    try:
        return load_record(path).status == "failed"
    except UsageError:
        return False


def _plain(value: Any, where: str, *, words: bool = False) -> Any:
    """Return plain JSON values. `words`: write NaN and infinity as words, so that configurations stay apart."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else (str(float(value)) if words else None)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}", words=words) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, where, words=words) for entry in value]
    if hasattr(value, "tolist"):  # NumPy and torch, without importing them
        return _plain(value.tolist(), where, words=words)
    raise RunError(
        f"the record cannot keep {where}: it is a {type(value).__name__}. "
        "Give numbers, strings, lists and dictionaries of them."
    )


def _layout(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n    " + ",\n    ".join(map(_compact, value)) + "\n  ]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
