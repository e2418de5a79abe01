"""Our figures beside published ones: `configs/reproduce/` holds the settings and the figures. Never imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from math import fsum
from typing import Any

from cl_suite.records.compatibility import with_values_before
from cl_suite.records.record import RunRecord
from cl_suite.report.tables.labels import flatten, identities
from cl_suite.report.tables.statistics import half_width

PERCENT = 100.0


@dataclass(frozen=True)
class Published:
    """A published setting and its figure, and the runs of ours that come nearest to it.

    value:       as published, percent; reported: the words it stands in
    differences: {option: (ours, published)}; empty = the published setting; None = no record of this strategy there
    known:       deviations that the setting's file states
    mean, half:  of ours, percent, and half the width of its 95 % t-interval (None for one seed)
    """

    strategy: str
    stream: str
    scenario: str
    metric: str
    value: float
    reported: str
    source: str
    known: tuple[str, ...]
    config_hash: str | None = None
    seeds: int = 0
    mean: float | None = None
    half: float | None = None
    differences: Mapping[str, tuple[str, str]] | None = None

    @property
    def deviation(self) -> float | None:
        """Ours minus the published figure, points."""
        return None if self.mean is None else self.mean - self.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"deviation": self.deviation}


def beside_published(records: Sequence[RunRecord], names: Mapping[str, tuple[str, str]]) -> list[Published]:
    """Return every published figure with our nearest runs: fewest options that differ, then most seeds.

    names: {file name without .yaml: (strategy, stream)} of the settings to look at
    """
    groups: dict[tuple[str, str, str], dict[str, list[RunRecord]]] = {}
    for record, identity in zip(records, identities(records), strict=True):
        if record.status == "complete" and record.metrics.get("acc") is not None:
            place = (record.strategy, record.stream, record.scenario)
            groups.setdefault(place, {}).setdefault(identity.config_hash, []).append(record)
    figures = []
    for name, (strategy, stream) in sorted(names.items()):
        settings, target, known = read_setting(name)
        if target:
            scenario = str(settings.get("scenario", ""))
            base = Published(
                strategy=strategy,
                stream=stream,
                scenario=scenario,
                metric=str(target["metric"]),
                value=_leading_number(target["value"]),
                reported=str(target["value"]),
                source=str(target["source"]),
                known=known,
            )
            figures.append(_with_ours(base, settings, groups.get((strategy, stream, scenario), {})))
    return figures


def setting_names(strategies: Sequence[str], streams: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return {file name without .yaml: (strategy, stream)} of all published settings for these names."""
    there = {entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml")}
    pairs = {f"{strategy}_{stream}": (strategy, stream) for strategy in strategies for stream in streams}
    return {name: pairs[name] for name in sorted(there & pairs.keys())}


def read_setting(name: str) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """Return (settings, target or {}, deviations that the file's comments state)."""
    from omegaconf import OmegaConf

    text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    settings: Any = OmegaConf.to_container(OmegaConf.create(text))
    target = settings.pop("target", {})
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    known = tuple(sentence.strip() for sentence in re.findall(r"Deviations?: (.*?\.)(?= [A-Z]|$)", comment))
    return settings, target, known


def _with_ours(base: Published, settings: Mapping[str, Any], runs: Mapping[str, Sequence[RunRecord]]) -> Published:
    if not runs:
        return base
    wanted = flatten({group: value for group, value in settings.items() if isinstance(value, Mapping)})
    differences = {config: _differences(records[0], wanted) for config, records in runs.items()}
    nearest = min(runs, key=lambda config: (len(differences[config]), -len(runs[config]), config))
    scores = [PERCENT * record.metrics["acc"] for record in runs[nearest] if record.metrics["acc"] is not None]
    mean = fsum(scores) / len(scores)
    several = len(scores) > 1
    spread = (fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5 if several else 0.0
    half = float(half_width(spread, len(scores))) if several else None
    ours = {
        "config_hash": nearest,
        "seeds": len(scores),
        "mean": mean,
        "half": half,
        "differences": differences[nearest],
    }
    return Published(**{**{name: getattr(base, name) for name in base.__dataclass_fields__}, **ours})


def _differences(record: RunRecord, wanted: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    ours = flatten(with_values_before(record.config))
    return {key: (ours.get(key, "-"), value) for key, value in wanted.items() if not _same(ours.get(key), value)}


def _same(ours: str | None, published: str) -> bool:
    if ours == published:
        return True
    try:
        return ours is not None and float(ours) == float(published)
    except ValueError:
        return False


def _leading_number(value: Any) -> float:
    match = re.match(r"\s*(-?\d+(\.\d+)?)", str(value))
    if match is None:
        raise ValueError(f"a published figure must begin with a number, not {value!r}")
    return float(match.group(1))


def _folder() -> Any:
    return files("configs") / "reproduce"
