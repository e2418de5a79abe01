"""Which classes are known and which are taken for which, after each experience. `--evaluate classes`.

A row of R tells how much of a task is right; the confusion matrix tells what the rest was answered as.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import UnseenTask
from cl_suite.core.metering import Meter
from cl_suite.core.objective import restrict
from cl_suite.core.scenario_stream import EVALUATION_BATCH, ScenarioStream, Task
from cl_suite.core.strategy import Strategy
from cl_suite.evaluation.protocol import PerExperience, Settings, require_classes
from cl_suite.metrics.matrix import Row

MOST_DRAWN = 200  # classes of a confusion matrix that is drawn; larger ones are in the record alone


@dataclass
class ClassesSettings(Settings):
    """Whether answers are counted class by class after each experience: `classes.evaluate`."""


class ClassesEvaluation(PerExperience):
    """An entry for each experience, over the test samples of all tasks begun so far.

    The answer is the scenario's: the argmax within the task where it is named at test, else among the classes so far.
    A class is an entry of the logit vector, so that tasks which share labels count together. An entry has
    accuracy:   of each class, share of its samples that are right; null = none so far, or no answer to some of them
    of_tasks:   where tasks share classes, the same of each task's own samples: [task][class of the task], null likewise
    unanswered: tasks to which the strategy has no answer; their samples are in no matrix, and never right
    confusion:  {"true", "answered", "count"}: the entries of the matrix that are not zero, in order of class
    """

    def __init__(self, settings: Any, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        require_classes(scenario_stream, "--evaluate classes counts answers class by class")
        every = [label for task in scenario_stream.tasks for label in task.classes]
        self._shared = len(set(every)) < len(every)

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """Count the answers to the test samples of the tasks begun so far."""
        stream = self.scenario_stream
        begun, classes = stream.begun(experience), stream.seen_after(experience + 1)
        found = {number: self._confusion(stream.tasks[number], classes) for number in begun}
        answered = [matrix for matrix in found.values() if matrix is not None]
        C = stream.info.n_outputs
        total = torch.stack(answered).sum(dim=0) if answered else torch.zeros(C, C, dtype=torch.long)
        unanswered = [number for number, matrix in found.items() if matrix is None]
        open_ = {label for number in unanswered for label in stream.tasks[number].test.targets.unique().tolist()}
        accuracy = [None if label in open_ else share for label, share in enumerate(_accuracies(total))]
        entry: dict[str, Any] = {"accuracy": accuracy, "unanswered": unanswered, "confusion": sparse(total)}
        if self._shared:
            entry["of_tasks"] = [self._of_task(task, found.get(task.index)) for task in stream.tasks]
        self.entries.append(entry)

    def _of_task(self, task: Task, matrix: Tensor | None) -> list[float | None]:
        shares = [None] * self.scenario_stream.info.n_outputs if matrix is None else _accuracies(matrix)
        return [shares[label] for label in task.classes]

    def _confusion(self, task: Task, classes_so_far: frozenset[int]) -> Tensor | None:
        """Return [C, C] int64 on the CPU: samples of each class (rows) by what is answered; None without an answer."""
        C = task.n_outputs
        counts = torch.zeros(C * C, dtype=torch.long, device=task.test.targets.device)
        try:
            predictor, allowed = task.predictor_of(self.strategy), task.answer_among(classes_so_far)
            with torch.no_grad():
                for raw, targets in task.test.chunks(EVALUATION_BATCH):
                    answers = restrict(predictor(task.prepare(raw)), allowed).argmax(dim=1)
                    counts += torch.bincount(targets * C + answers, minlength=C * C)
        except UnseenTask:
            return None
        return counts.view(C, C).cpu()

    def record(self) -> dict[str, Any]:
        """Return the classes' names and test samples, and the entries."""
        stream = self.scenario_stream
        samples = torch.zeros(stream.info.n_outputs, dtype=torch.long)
        for task in stream.tasks:
            samples += torch.bincount(task.test.targets.cpu(), minlength=len(samples))
        return {"names": stream.class_names(), "test_samples": samples.tolist(), "experiences": self.entries}

    def figures(self) -> dict[str, Any]:
        """Return the accuracy of each class over the experiences, and the last confusion matrix."""
        if not self.entries:
            return {}
        names = self.scenario_stream.class_names()
        columns = zip(*[entry["accuracy"] for entry in self.entries], strict=True)
        look = {"kind": "map", "range": [0, 100], "numbers": True}
        figures = {
            "class_accuracy": look
            | {
                "title": "accuracy of each class (%)",
                "row_label": "class",
                "column_label": "after experience",
                "panels": [""],
                "rows": names,
                "columns": [str(number) for number in range(len(self.entries))],
                "values": [[[_percent(share) for share in row] for row in columns]],
            }
        }
        if len(names) <= MOST_DRAWN:
            figures["confusion"] = look | {
                "pale": True,
                "title": "answers to each class at the end (%)",
                "row_label": "class",
                "column_label": "answered as",
                "panels": [""],
                "rows": names,
                "columns": names,
                "values": [_row_shares(self.entries[-1]["confusion"], len(names))],
            }
        return figures


def sparse(matrix: Tensor) -> dict[str, list[int]]:
    """Return the entries of a confusion matrix [C, C] int64 that are not zero: rows, columns and counts."""
    true, answered = matrix.nonzero(as_tuple=True)
    return {"true": true.tolist(), "answered": answered.tolist(), "count": matrix[true, answered].tolist()}


def _accuracies(matrix: Tensor) -> list[float | None]:
    """Return the share of each row [C] on the diagonal; None for a row without samples."""
    pairs = zip(matrix.diagonal().tolist(), matrix.sum(dim=1).tolist(), strict=True)
    return [right / count if count else None for right, count in pairs]


def _row_shares(confusion: dict[str, list[int]], size: int) -> list[list[float | None]]:
    """Return [C, C] percent of each row, None in rows without samples."""
    counts: list[list[int]] = [[0] * size for _ in range(size)]
    for row, column, count in zip(confusion["true"], confusion["answered"], confusion["count"], strict=True):
        counts[row][column] = count
    return [[_percent(count / sum(row)) if sum(row) else None for count in row] for row in counts]


def _percent(share: float | None) -> float | None:
    """Return percent with one digit, as a whole number where it is one: shorter in the record."""
    if share is None:
        return None
    value = round(100 * share, 1)
    return int(value) if value == int(value) else value
