"""Scripted demonstrations: made once in the simulator, kept below the data root with how they came to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cl_suite.core.errors import DataError, RunError, UsageError
from cl_suite.core.files import write_atomic
from cl_suite.robots.pool import RobotPool
from cl_suite.robots.simulator import RobotTask

FORMAT = 1  # raise it when the same key gives other demonstrations
ATTEMPTS = 5  # times as many episodes as demonstrations are tried before the expert is given up
PREFIX = "observations."  # before the names of observations in a file
SEEDS = 100_000  # the first seed of a demonstration: evaluation seeds are below
_KEPT_ALONE: ContextVar[bool] = ContextVar("kept_alone", default=False)


@dataclass(frozen=True)
class Demonstrations:
    """Successful episodes of an expert, one after another.

    observations: {"states": [N, D] float32, cameras: [N, 3, H, W] uint8}, before the action
    actions:      [N, A] float32 in [-1, 1], the expert's clean ones
    lengths:      [E] int64, steps of each episode
    facts:        what made them: versions, seeds, noise, episodes tried and how many of them succeeded
    """

    observations: Mapping[str, Tensor]
    actions: Tensor
    lengths: Tensor
    facts: Mapping[str, Any]

    @property
    def checksum(self) -> str:
        """Of the numbers, as a record has it."""
        return f"sha256:{digest(self.tensors())}"

    def tensors(self) -> dict[str, Tensor]:
        """Return everything under one name each, as a file holds it."""
        observations = {f"{PREFIX}{name}": value for name, value in self.observations.items()}
        return {**observations, "actions": self.actions, "lengths": self.lengths}

    def first(self, episodes: int) -> int:
        """Return how many steps the first so many episodes have."""
        return int(self.lengths[:episodes].sum())


@contextmanager
def kept_alone() -> Iterator[None]:
    """Within it demonstrations are read from disk, and where they are not kept, which takes minutes, DataError says so.

    Those that are never kept are made all the same: they take seconds.
    """
    before = _KEPT_ALONE.set(True)
    try:
        yield
    finally:
        _KEPT_ALONE.reset(before)


def demonstrations(
    task: RobotTask, *, count: int, noise: float, made_by: Mapping[str, str], root: Path | None, pool: RobotPool
) -> Demonstrations:
    """Return `count` successful episodes, every second one carried out with noise; read from disk if they were kept.

    noise:   standard deviation of the noise on the actions of every second episode; the labels are without
    made_by: versions of what decides them
    root:    data root; they are below robots/. None: they are made anew each time

    Raise RunError where the expert succeeds too seldom, or a simulator fails; DataError within `kept_alone`.
    """
    identity = {
        "format": FORMAT,
        "task": task.name,
        "factory": task.kind or task.factory,
        "options": task.options,
        "horizon": task.horizon,
        **({"steps_after_success": task.steps_after_success} if task.steps_after_success else {}),
        "count": count,
        "noise": noise,
        **made_by,
    }
    if root is None:
        return _make(task, count, noise, identity, pool)
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    file = root / "robots" / f"{task.name}-{key[:16]}.safetensors"
    result = _read(file, key)
    if result is None:
        if _KEPT_ALONE.get():
            raise DataError(
                f"{task.name}: its demonstrations are not kept in {file.parent}. `cl-bench data` with the stream's "
                "name makes them, and so does the first run; it takes minutes."
            )
        result = _make(task, count, noise, identity, pool)
        _keep(file, key, result)
    return result


def _make(task: RobotTask, count: int, noise: float, identity: Mapping[str, Any], pool: RobotPool) -> Demonstrations:
    tried = solved = clean_tried = clean_solved = 0
    episodes = []
    for number, (observations, actions, success) in enumerate(pool.map(_requests(task, count, noise))):
        clean = not number % 2
        tried, solved = tried + 1, solved + success
        clean_tried, clean_solved = clean_tried + clean, clean_solved + (success and clean)
        if success:
            episodes.append((observations, torch.from_numpy(actions)))
        if len(episodes) == count:
            break
    if len(episodes) < count:
        raise RunError(
            f"the expert of {task.name} succeeded in {solved} of {tried} episodes; {count} demonstrations are wanted. "
            "Ask for fewer, or for less noise."
        )
    facts = {
        **identity,
        "seeds_from": SEEDS,
        "episodes_tried": tried,
        "episodes_solved": solved,
        "expert_success": clean_solved / max(1, clean_tried),
    }
    lengths = torch.tensor([len(actions) for _, actions in episodes])
    tensors = {name: torch.cat([torch.from_numpy(o[name]) for o, _ in episodes]) for name in episodes[0][0]}
    return Demonstrations(tensors, torch.cat([a for _, a in episodes]), lengths, facts)


def _requests(task: RobotTask, count: int, noise: float) -> Iterator[tuple[Any, ...]]:
    """Ask for episodes: as many as are wanted, then more, in rounds; their order alone decides which count."""
    for number in range(ATTEMPTS * count):
        yield "demonstrate", task, SEEDS + number, noise if number % 2 else 0.0


def _read(file: Path, key: str) -> Demonstrations | None:
    """Return what a file holds if it is whole and of this key, else None."""
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as content:
            facts: Mapping[str, str] = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError):
        return None
    if facts.get("key") != key or facts.get("sha256") != digest(tensors):
        return None
    observations = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    return Demonstrations(observations, tensors["actions"], tensors["lengths"], json.loads(facts["facts"]))


def _keep(file: Path, key: str, result: Demonstrations) -> None:
    tensors = result.tensors()
    facts = {"key": key, "sha256": digest(tensors), "facts": json.dumps(dict(result.facts))}
    try:
        write_atomic(file, save(tensors, metadata=facts), flag="--data-root")
    except UsageError:  # a data root one may only read: they are made again next time
        return


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors, in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()
