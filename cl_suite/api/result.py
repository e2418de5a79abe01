"""What a run in Python returns: one object for all its seeds."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from cl_suite.core.errors import RunError, UsageError, nearest
from cl_suite.core.objective import restrict
from cl_suite.core.scenario_stream import EVALUATION_BATCH, Task
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.core.types import Inputs, count_samples, map_inputs
from cl_suite.records.record import RunRecord
from cl_suite.report.charts.style import to_png
from cl_suite.report.charts.which import run_charts
from cl_suite.runs.display import summary_rows, summary_table, summary_title

if TYPE_CHECKING:
    from cl_suite.runs.execute import Outcome, Run

WIDTH = 120  # columns of the table as text


@dataclass(frozen=True, repr=False)
class Result:
    """Runs of one strategy on one stream, one for each seed, in the order they were asked for.

    It is shown as the table that `cl-bench` prints. Numbers are shares in [0, 1], not percent.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def records(self) -> list[RunRecord]:
        """The records, complete and failed."""
        return [each.record for each in self.outcomes]

    @property
    def paths(self) -> list[Path]:
        """The files of the records."""
        return [each.path for each in self.outcomes]

    @property
    def seeds(self) -> list[int]:
        """One for each run."""
        return [record.seed for record in self.records]

    @property
    def tasks(self) -> list[str]:
        """Names of the columns of R."""
        return max((record.task_names for record in self.records), key=len)

    @property
    def failed(self) -> dict[int, str]:
        """{seed: why} of the runs that failed."""
        return {each.seed: each.error or "no reason given" for each in self.records if each.status == "failed"}

    @property
    def R(self) -> np.ndarray:
        """[seeds, experiences, tasks] float: score in [0, 1] on a task after an experience; NaN where unanswered."""
        rows = max(len(record.R) for record in self.records)
        scores = np.full((len(self.records), rows, len(self.tasks)), np.nan)
        for run, record in zip(scores, self.records, strict=True):
            for row, line in zip(run, record.R, strict=False):
                row[: len(line)] = [np.nan if score is None else score for score in line]
        return scores

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each seed, a column for each metric (acc, bwt, forgetting, ...); NaN where there is none."""
        return _frame(self.records, [record.metrics for record in self.records])

    @property
    def costs(self) -> pd.DataFrame:
        """A row for each seed, a column for each cost: seconds, samples, bytes, floating-point operations."""
        return _frame(self.records, [record.costs for record in self.records])

    def predictor(self, task: int | str | None = None, seed: int | None = None) -> TaskPredictor:
        """Return what the trained strategy answers with for a task.

        task: its number or name; None where the scenario tells no task at test
        seed: of which run; None = the first
        Raise UsageError for a run that was not trained by this call, UnseenTask if the strategy has no answer.
        """
        run = self._trained(seed)
        harness = run.harness
        tasks = harness.scenario_stream.tasks
        if task is None and tasks[0].answer_within_task and len(tasks) > 1:
            raise UsageError(f"{run.plan.scenario} tells the task at test: name one. {_known(tasks)}")
        chosen = tasks[0] if task is None else _task(tasks, task)
        names = [task.classes for task in run.loaded.data.tasks]
        in_order = [*tasks, chosen]  # of outputs that tasks share, the names are this task's
        classes = {
            output: name for each in in_order for output, name in zip(each.classes, names[each.index], strict=False)
        }
        so_far = harness.scenario_stream.seen_after(len(harness.results.R))
        return TaskPredictor(chosen, harness.strategy, chosen.answer_among(so_far), classes)

    def test_set(self, task: int | str, seed: int | None = None) -> tuple[Inputs, Tensor]:
        """Return (samples [N, ...] as the stream stores them, classes [N]) that a task was scored on.

        Classes are outputs of the whole stream, as a predictor answers them. Raise UsageError as `predictor` does.
        """
        test = _task(self._trained(seed).harness.scenario_stream.tasks, task).test
        inputs, targets = test.take(torch.arange(len(test), device=test.targets.device))
        return map_inputs(lambda tensor: tensor.cpu(), inputs), targets.cpu()

    def save(self, path: str | Path, seed: int | None = None) -> Path:
        """Write what answers after the last experience to a folder, for `cl_suite.load_predictor`; return it.

        Raise UsageError for a run that was not trained by this call.
        """
        from cl_suite.saved_models.save import save_model

        return save_model(self._trained(seed), Path(path))

    def plot(self, seed: int | None = None) -> Picture:
        """Return R as a picture, which a notebook shows. seed: of which run; None = the first."""
        record = self._of(seed).record
        charts = list(run_charts(record))
        if not charts:
            raise UsageError(f"seed {record.seed} has no row of R: nothing can be drawn. See result.failed.")
        return Picture(charts[0].title, to_png(charts[0].draw))

    def _of(self, seed: int | None) -> Outcome:
        if seed is None:
            return self.outcomes[0]
        for each in self.outcomes:
            if each.record.seed == seed:
                return each
        raise UsageError(f"there is no run with seed {seed}. Seeds: {', '.join(map(str, self.seeds))}.")

    def _trained(self, seed: int | None) -> Run:
        outcome = self._of(seed)
        if outcome.record.status == "failed":
            raise UsageError(f"seed {outcome.record.seed} failed and answers nothing: {outcome.record.error}")
        if outcome.run is None:
            raise UsageError(
                f"seed {outcome.record.seed} was found finished in {outcome.path}: the record keeps scores, not the "
                "network. Give overwrite=True to train it here; result.save(path) then keeps it."
            )
        return outcome.run

    def __repr__(self) -> str:
        complete = [record for record in self.records if record.status == "complete"]
        lines = []
        if complete:
            console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, color_system=None)
            console.print(summary_table(complete))
            text = console.file.getvalue()  # type: ignore[attr-defined]
            lines += [line.rstrip() for line in text.strip("\n").splitlines()]
        lines += [f"seed {seed} failed: {why}" for seed, why in self.failed.items()]
        return "\n".join([*lines, *(f"record: {path}" for path in self.paths)])

    def _repr_html_(self) -> str:
        complete = [record for record in self.records if record.status == "complete"]
        pieces = [f"<p><b>{html.escape(summary_title(self.records[0]))}</b></p>"]
        if complete:
            names, rows = summary_rows(complete)
            pieces.append(pd.DataFrame(rows, columns=names).to_html(index=False, border=0))
        pieces += [f"<p>seed {seed} failed: {html.escape(why)}</p>" for seed, why in self.failed.items()]
        return "\n".join([*pieces, f"<p>records: {', '.join(html.escape(str(path)) for path in self.paths)}</p>"])


class FailedRun(RunError):
    """A run failed. `result` has what was measured, of the other seeds too; the records are written."""

    def __init__(self, result: Result) -> None:
        self.result = result
        first, why = next((seed, reason.rstrip(".")) for seed, reason in result.failed.items())
        others = f" {len(result.failed)} of {len(result.seeds)} seeds failed." if len(result.seeds) > 1 else ""
        super().__init__(f"seed {first} failed: {why}.{others} raise_on_failure=False returns the result instead.")


class TaskPredictor:
    """Answers for one task as the run did at its end. Frozen: it does not learn, and two calls answer alike.

    classes: {output: the name of its class}, of the whole stream
    """

    def __init__(self, task: Task, strategy: Strategy, allowed: Tensor, classes: dict[int, str]) -> None:
        self.task, self.classes = task.name, classes
        self._prepare, self._allowed = task.prepare, allowed
        self._predictor: Predictor = task.predictor_of(strategy)

    def __call__(self, samples: Any) -> Tensor:
        """Return [B, C] logits over the classes of the whole stream, on the CPU.

        samples: [B, ...] as the stream stores them (images uint8 in 0..255): a tensor, an array, or a dictionary
        """
        device = self._allowed.device
        raw: Inputs = (
            {k: torch.as_tensor(v) for k, v in samples.items()}
            if isinstance(samples, dict)
            else (torch.as_tensor(samples))
        )
        raw = map_inputs(lambda tensor: tensor.to(device), raw)
        outputs = []
        with torch.no_grad():
            for start in range(0, count_samples(raw), EVALUATION_BATCH):
                part = map_inputs(lambda tensor, at=start: tensor[at : at + EVALUATION_BATCH], raw)  # type: ignore[misc]
                outputs.append(self._predictor(self._prepare(part)).cpu())
        return torch.cat(outputs)

    def answer(self, samples: Any) -> Tensor:
        """Return [B] int64, the class answered for each sample: the largest output among those that may be answered."""
        return restrict(self(samples), self._allowed.cpu()).argmax(1)

    def __repr__(self) -> str:
        return f"<predictor of task {self.task!r}: samples [B, ...] -> logits [B, {len(self._allowed)}]>"


@dataclass(frozen=True, repr=False)
class Picture:
    """A chart as PNG, which a notebook shows."""

    title: str
    png: bytes

    def save(self, path: str | Path) -> Path:
        """Write the PNG to a file; return it."""
        Path(path).write_bytes(self.png)
        return Path(path)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<picture: {self.title}, {len(self.png)} bytes; save(path) writes it>"


def _frame(records: Sequence[RunRecord], values: Sequence[dict[str, Any]]) -> pd.DataFrame:
    index = pd.Index([record.seed for record in records], name="seed")
    return pd.DataFrame(list(values), index=index).astype(float)


def _task(tasks: Sequence[Task], wanted: int | str) -> Task:
    for task in tasks:
        if wanted == task.name or (type(wanted) is int and wanted == task.index):
            return task
    raise UsageError(f"there is no task {wanted!r}. {_known(tasks, str(wanted))}")


def _known(tasks: Sequence[Task], wanted: str = "") -> str:
    return f"Tasks are 0 to {len(tasks) - 1}, or by name. {nearest(wanted, [task.name for task in tasks][:20])}"
