"""What a run in Python returns: one object for all its seeds."""

from __future__ import annotations

import html
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from torch import Tensor

from cl_suite.core.errors import RunError, UsageError, nearest
from cl_suite.core.stream import Stream
from cl_suite.core.types import Inputs, map_inputs
from cl_suite.records.record import RunRecord
from cl_suite.report.charts.style import to_png
from cl_suite.report.charts.which import run_charts
from cl_suite.runs.display import summary_rows, summary_table, summary_title
from cl_suite.runs.load import first_tasks
from cl_suite.saved_models.live import live_predictor
from cl_suite.saved_models.load import load_predictor
from cl_suite.saved_models.save import save_model

if TYPE_CHECKING:
    from cl_suite.runs.execute import Outcome, Run
    from cl_suite.runs.plan import Plan
    from cl_suite.saved_models.predictor import SavedPredictor

WIDTH = 120  # columns of the table as text


@dataclass(frozen=True, repr=False)
class Result:
    """Runs of one strategy on one stream, one for each seed, in the order they were asked for.

    It is shown as the table that `cl-bench` prints. Numbers are shares in [0, 1], not percent.
    """

    outcomes: tuple[Outcome, ...]
    plans: tuple[Plan, ...]  # what each was asked for

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
        """Return what the trained strategy answers with for a task, as the run did at its end.

        task: its number or name; None where the scenario tells no task at test
        seed: of which run; None = the first
        Raise UsageError for a run that was neither trained by this call nor kept its model, or if there is no answer.
        """
        place = self._place(seed)
        plan = self.plans[place]
        if self.outcomes[place].run is None and plan.model_path.exists():
            classes = {"strategy": plan.strategy.cls, "stream": plan.stream.cls}
            return TaskPredictor(load_predictor(plan.model_path, str(plan.device), **classes), task)
        return TaskPredictor(live_predictor(self._trained(place)), task)

    def test_set(self, task: int | str, seed: int | None = None) -> tuple[Inputs, list[str]]:
        """Return (samples [N, ...] as the stream stores them, the names of their classes) that a task is scored on.

        Read anew from the stream. Raise UsageError for a task that is not there, and where samples have no class.
        """
        plan = self.plans[self._place(seed)]
        stream: Stream = plan.stream.cls(plan.composed.run.stream)
        data = first_tasks(stream.load(plan.request.data_root, plan.seeds), plan.composed.run.schedule.stop_after)
        chosen = data.tasks[_number([each.name for each in data.tasks], task)]
        test = chosen.test
        if test.targets.dim() != 1 or test.targets.is_floating_point():
            raise UsageError(f"samples of {plan.stream.name} have no class each. Read them from its data.")
        inputs = test.inputs if test.index is None else map_inputs(lambda tensor: tensor[test.index], test.inputs)
        return inputs, [chosen.classes[target] for target in test.targets.tolist()]

    def save(self, path: str | Path, seed: int | None = None) -> Path:
        """Write what answers after the last experience to a file, for `cl_suite.load_predictor`; return it.

        Raise UsageError for a run that was neither trained by this call nor kept its model.
        """
        place = self._place(seed)
        kept = self.plans[place].model_path
        if self.outcomes[place].run is None and kept.exists():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copyfile(kept, path))
        return save_model(self._trained(place), Path(path))

    def plot(self, seed: int | None = None) -> Picture:
        """Return R as a picture, which a notebook shows. seed: of which run; None = the first."""
        record = self.records[self._place(seed)]
        charts = list(run_charts(record))
        if not charts:
            raise UsageError(f"seed {record.seed} has no row of R: nothing can be drawn. See result.failed.")
        return Picture(charts[0].title, to_png(charts[0].draw))

    def _place(self, seed: int | None) -> int:
        if seed is None:
            return 0
        if seed not in self.seeds:
            raise UsageError(f"there is no run with seed {seed}. Seeds: {', '.join(map(str, self.seeds))}.")
        return self.seeds.index(seed)

    def _trained(self, place: int) -> Run:
        outcome = self.outcomes[place]
        if outcome.record.status == "failed":
            raise UsageError(f"seed {outcome.record.seed} failed and answers nothing: {outcome.record.error}")
        if outcome.run is None:
            raise UsageError(
                f"seed {outcome.record.seed} was found finished in {outcome.path}: the record keeps scores, not the "
                "network. Give overwrite=True to train it here, with save_model=True to keep it beside its record."
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
    """Answers for one task as the run did at its end. It does not learn, and two calls answer alike.

    classes: names of the classes it may answer
    """

    def __init__(self, predictor: SavedPredictor, task: int | str | None) -> None:
        known = predictor.task(task)
        predictor.answering(known, None)  # refuse here what could not be answered
        self._predictor, self._task = predictor, None if known is None else known.index
        names, allowed = predictor.names(known), predictor.allowed(known).tolist()
        self.classes = tuple(name for name, may_be in zip(names, allowed, strict=True) if may_be)

    def __call__(self, samples: Any) -> Tensor:
        """Return [B, C] logits over the outputs of the whole stream.

        samples: [B, ...] as the stream stores them (images uint8 in 0..255), a tensor or an array; texts as a list; a
            robot's observations as a dictionary
        """
        return self._predictor(samples, self._task).cpu()

    def predict(self, samples: Any) -> list[Any]:
        """Return the name of the class answered for each sample. Raise UsageError where answers are no classes."""
        return self._predictor.predict(samples, self._task)

    def __repr__(self) -> str:
        where = "" if self._task is None else f" for task {self._predictor.tasks[self._task].name!r}"
        return f"<what {self._predictor.info['strategy']} answers{where}: {len(self.classes)} classes>"


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


def _number(names: Sequence[str], wanted: int | str) -> int:
    if type(wanted) is int and 0 <= wanted < len(names):
        return wanted
    if wanted in names:
        return names.index(str(wanted))
    raise UsageError(
        f"there is no task {wanted!r}. Tasks are 0 to {len(names) - 1}, or by name. {nearest(str(wanted), names[:20])}"
    )
