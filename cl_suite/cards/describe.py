"""What is on a card of a stream's data: its tasks, samples and files in numbers and words."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.cards.stream_card import FileRow, TaskRow
from cl_suite.cards.typical_words import count_words, example_texts, typical_words
from cl_suite.core.data_root import DataRoot
from cl_suite.core.scenario_stream import ScenarioStream, Task
from cl_suite.core.stream import StreamData, TaskOutline
from cl_suite.data.texts import PrepareTexts
from cl_suite.robots.simulator import RobotTask
from cl_suite.runs.load import Loaded


@dataclass(frozen=True)
class LoadedStream:
    """A stream whose data was asked for.

    data:     as the stream has it; None where it could not be read
    run_data: as a run learns it, with what was made of it
    outline:  what is known of the tasks where the data could not be read
    missing:  why it could not; "" if it could
    """

    data: StreamData | None
    run_data: Loaded | None
    outline: tuple[TaskOutline, ...]
    missing: str


def chance_of(task: Task, scenario_stream: ScenarioStream) -> float | None:
    """Return what guessing gives after the last task, in [0, 1]; None where the objective does not say."""
    chance = getattr(task.objective, "chance", None)
    if chance is None or task.scorer is not None:
        return None
    classes = scenario_stream.seen_after(len(scenario_stream.tasks))
    return float(chance(len(task.classes if task.answer_within_task else classes)))


def task_rows(loaded: LoadedStream, scenario_stream: ScenarioStream | None) -> list[TaskRow]:
    """Return the tasks under the card's scenario; what is known of them where the data could not be read."""
    if loaded.data is None or scenario_stream is None:
        return [
            TaskRow(
                each.name,
                each.classes,
                test=each.episodes,
                trials="episodes" if each.episodes else "",
                horizon=each.robot.horizon if isinstance(each.robot, RobotTask) else None,
            )
            for each in loaded.outline
        ]
    rows = []
    for number, (task, data) in enumerate(zip(scenario_stream.tasks, loaded.data.tasks, strict=True)):
        robot = _robot(task.scorer)
        train = scenario_stream.training_samples(number)
        chance = chance_of(task, scenario_stream)
        rows.append(
            TaskRow(
                data.name,
                data.classes,
                train=train,
                validation=len(data.train) - train,
                test=task.count,
                trials="" if task.scorer is None else "episodes" if robot else "trials",
                horizon=robot.horizon if robot else None,
                chance=chance,
                most_frequent=None if chance is None else _most_frequent(data.test.targets),
            )
        )
    return _with_words(rows, loaded.data) if isinstance(loaded.data.prepare, PrepareTexts) else rows


def _with_words(rows: list[TaskRow], data: StreamData) -> list[TaskRow]:
    counts_and_means = [count_words(task.train) for task in data.tasks]
    typical = typical_words([counts for counts, _ in counts_and_means])
    return [
        dataclasses.replace(row, words=mean, typical=words, examples=example_texts(task))
        for row, task, words, (_, mean) in zip(rows, data.tasks, typical, counts_and_means, strict=True)
    ]


def _most_frequent(targets: Tensor) -> float | None:
    if targets.dim() != 1 or targets.is_floating_point() or not len(targets):
        return None
    return int(targets.bincount().max()) / len(targets)


def _robot(scorer: Any) -> RobotTask | None:
    task = getattr(scorer, "task", None)
    return task if isinstance(task, RobotTask) else None


def robot_tasks(loaded: LoadedStream) -> list[RobotTask]:
    """Return the robots' tasks, each once."""
    data = loaded.data
    robots = [_robot(task.scorer) for task in data.tasks] if data else [each.robot for each in loaded.outline]
    return list({robot.name: robot for robot in robots if isinstance(robot, RobotTask)}.values())


def file_rows(checksums: Mapping[str, str], root: DataRoot) -> tuple[FileRow, ...]:
    """Return files with their SHA-256: the one published, else that of the file, if it is there."""
    rows = []
    for name, checksum in checksums.items():
        algorithm, _, digest = checksum.partition(":")
        if algorithm == "sha256":
            rows.append(FileRow(name, digest))
            continue
        path, sha256 = root.path / name, ""
        if path.is_file():
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        rows.append(FileRow(name, sha256, checksum))
    return tuple(rows)


def sample_summary(data: StreamData | None) -> str:
    """Return what one sample is, as a task hands it over."""
    if data is None:
        return ""
    if isinstance(data.prepare, PrepareTexts):
        return "a text, stored as UTF-8 bytes"
    sample, _ = data.tasks[0].train.take(torch.zeros(1, dtype=torch.long))
    if isinstance(sample, Tensor):
        return _shape(sample[0])
    return "; ".join(f"{name} {_shape(value[0])}" for name, value in sample.items())


def _shape(sample: Tensor) -> str:
    return f"{' x '.join(map(str, sample.shape)) or 'one number'}, {str(sample.dtype).removeprefix('torch.')}"


def encoding_summary(run_data: Loaded | None) -> str:
    """Return what is made of the samples before a run, without what differs from one machine to another."""
    encoding = run_data.encoding if run_data else {}
    parts = []
    if text := encoding.get("text"):
        parts.append(
            f"{text['tokenizer']} tokens out of {text['vocabulary']:,}, {text['mean_tokens']:.1f} a text and at most "
            f"{text['length']}; {100 * text['share_cut']:.1f} % of the texts are cut, "
            f"{100 * text['share_unknown']:.1f} % of the tokens unknown"
        )
    if features := encoding.get("features"):
        parts.append(f"{features['dimensions']} frozen features of {features['network']} ({features['weights']})")
    return "; ".join(parts)


def score_summary(scenario_stream: ScenarioStream | None, loaded: LoadedStream) -> str:
    """Return what a score means."""
    success = "share of solved episodes"
    if scenario_stream is None:
        return success if any(each.episodes for each in loaded.outline) else ""
    task = scenario_stream.tasks[0]
    if _robot(task.scorer):
        return success
    return {"classification": "share of right answers"}.get(task.objective.name, task.objective.name.replace("_", " "))


def short_facts(data: StreamData | None) -> dict[str, str]:
    """Return how made data came to be, as far as it is short: entries that are words, or dictionaries of them."""
    facts = {}
    for name, entry in (data.facts if data else {}).items():
        if isinstance(entry, str):
            facts[as_title(name)] = entry
        elif isinstance(entry, Mapping) and entry and all(isinstance(value, str) for value in entry.values()):
            facts[as_title(name)] = ", ".join(f"{key} {value}" for key, value in entry.items())
    return facts


def as_title(name: str) -> str:
    """Return the name of a fact as a card has it: `expert_success` -> Expert success."""
    return name.replace("_", " ").capitalize()
