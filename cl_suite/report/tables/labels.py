"""Which options a run had, in words: what sets a row apart from the others, and what makes a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_suite.records.compatibility import with_values_before, without_unchanged
from cl_suite.records.record import NOT_HASHED, RunRecord

Row = tuple[str, str, str]  # strategy, config hash, origin
LABEL_OPTIONS = 4  # a row that differs in more options than this is told by its hash


@dataclass(frozen=True)
class Identity:
    """What of a record's configuration decides where it stands.

    table:       values of TABLE_KEY
    config_hash: of the row
    options:     those that rows of one table may differ in, as one writes them on the command line
    """

    table: tuple[str, ...]
    config_hash: str
    options: Mapping[str, str]


def identities(records: Sequence[RunRecord]) -> list[Identity]:
    """Return the identity of each record; seeds of one configuration share one, which is worked out once."""
    known: dict[tuple[str, ...], Identity] = {}
    result = []
    for record in records:
        words = (record.stream, record.stream_version, record.scenario, record.protocol, record.strategy)
        counted = {key: value for key, value in record.config.items() if key not in NOT_HASHED}
        key = (*words, json.dumps(counted, default=str))
        if key not in known:
            table = (record.stream, record.stream_version, as_words(_stream_options(record)), *words[2:4])
            known[key] = Identity(table, record.config_hash, _comparable(record))
        result.append(known[key])
    return result


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return {"strategy.lr": "0.1", ...}: options as one writes them on the command line."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return flat


def as_words(options: Mapping[str, str]) -> str:
    """Return "a=1, b=2"."""
    return ", ".join(f"{key}={value}" for key, value in sorted(options.items()))


def labels(options: Mapping[Row, Mapping[str, str]]) -> dict[Row, str]:
    """Return {(strategy, config hash, origin): the options that set a row apart} for the rows of one table.

    A strategy's own options are shown where its configurations in this table differ in them; options that all
    strategies share (train, model, seeds) also where a row departs from what most rows of the table have.
    """
    shared = {key for flat in options.values() for key in flat if not key.startswith("strategy.")}
    usual = {key: Counter(flat.get(key, "") for flat in options.values()).most_common(1)[0][0] for key in shared}
    siblings: dict[str, list[Mapping[str, str]]] = {}
    for (strategy, *_), flat in options.items():
        siblings.setdefault(strategy, []).append(flat)
    varied = {strategy: _varied(several) for strategy, several in siblings.items()}
    texts = {}
    for row, flat in options.items():
        strategy, config, _ = row
        apart = varied[strategy]
        visible = {key: value for key, value in flat.items() if key in apart or usual.get(key, value) != value}
        ambiguous = len({other for name, other, _ in options if name == strategy}) > 1 and not visible
        texts[row] = f"config {config}" if ambiguous or len(visible) > LABEL_OPTIONS else as_words(visible)
    return texts


def _varied(several: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the options that have more than one value among those that have them."""
    values: dict[str, set[str]] = {}
    for flat in several:
        for key, value in flat.items():
            values.setdefault(key, set()).add(value)
    return {key for key, different in values.items() if len(different) > 1}


def _comparable(record: RunRecord) -> dict[str, str]:
    """Return the options that rows of one table may differ in; a plugin's file counts as `strategy.source`."""
    source = f"{record.strategy}_source"
    ignored = {*NOT_HASHED, "stream", "scenario", "protocol", source, f"{record.stream}_source"}
    flat = flatten({key: value for key, value in with_values_before(record.config).items() if key not in ignored})
    return flat | ({"strategy.source": str(record.config[source])} if source in record.config else {})


def _stream_options(record: RunRecord) -> dict[str, str]:
    """Return what makes the tasks; the digest of a plugin's file too: an edited stream is another stream."""
    source = f"{record.stream}_source"
    config = without_unchanged(record.config)
    flat = flatten(config.get("stream") or {})
    flat |= flatten({group: config.get(group) or {} for group in ("schedule", "features")})
    return flat | ({"source": str(record.config[source])} if source in record.config else {})
