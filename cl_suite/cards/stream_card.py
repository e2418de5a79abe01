"""What a card says, as plain values: no layout, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ceiling:
    """What the upper bound reached, from records of the same tasks.

    configuration: the options by which it differs from others of the same scenario; "" if there is no other
    acc, spread:   mean over seeds and sample standard deviation, in [0, 1]; None for one seed
    per_task:      of the last row of R, mean over seeds; empty where the seeds saw other tasks
    """

    strategy: str
    protocol: str
    configuration: str
    seeds: tuple[int, ...]
    acc: float
    spread: float | None
    per_task: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class ScenarioRow:
    """One way to present the stream.

    told:   what a strategy may rely on
    chance: mean over tasks of what guessing gives after the last task, in [0, 1]; None where that is not defined
    """

    name: str
    told: tuple[str, ...]
    chance: float | None
    ceilings: tuple[Ceiling, ...] = ()


@dataclass(frozen=True)
class TaskRow:
    """One task under the card's scenario. None = not known, or not defined.

    train, validation: samples
    test, trials:      samples behind a score, or what they are where a task has a measure of its own: "episodes"
    most_frequent:     share of the test samples that the most frequent class has, in [0, 1]
    told:              what the stream itself says of the task, by the title of a column
    words:             mean number of a text
    """

    name: str
    classes: tuple[str, ...] = ()
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    trials: str = ""
    horizon: int | None = None
    chance: float | None = None
    most_frequent: float | None = None
    ceiling: float | None = None
    told: Mapping[str, float | str] = field(default_factory=dict)
    words: float | None = None
    typical: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()  # (class, text)


@dataclass(frozen=True)
class FileRow:
    """A file (or what stands for one) and its checksums; `published` is empty where that is the SHA-256."""

    name: str
    sha256: str
    published: str = ""


@dataclass(frozen=True)
class StreamCard:
    """All that a card says but its picture.

    command:  what makes this card
    options:  of the stream, then those of features, texts and the schedule that are not the usual ones
    changed:  of them, those not at their default
    elsewhere: what the upper bound reached on other tasks of the stream, by the options that make them
    samples:  what one sample is; learned: what is made of it before a run, "" if nothing
    score:    what a score means; outside: number of samples that belong to no task
    facts:    what else the stream says of itself, by title; pairs: of two tasks, {title: {task: {task: share}}}
    missing:  why the data could not be read; "" if it could
    picture:  its file beside the card, "" if there is none; caption: what it shows, or why there is none
    """

    name: str
    command: str
    summary: str
    notes: tuple[str, ...]
    source: str
    licence: str
    version: str
    embedded: bool
    scenario: str
    options: Mapping[str, str]
    changed: tuple[str, ...]
    scenarios: tuple[ScenarioRow, ...]
    tasks: tuple[TaskRow, ...]
    files: tuple[FileRow, ...]
    elsewhere: Mapping[str, tuple[Ceiling, ...]] = field(default_factory=dict)
    samples: str = ""
    learned: str = ""
    score: str = ""
    outside: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, Mapping[str, float | str]]] = field(default_factory=dict)
    missing: str = ""
    picture: str = ""
    caption: str = ""

    @property
    def row(self) -> ScenarioRow:
        """The card's own scenario."""
        return next(row for row in self.scenarios if row.name == self.scenario)
