"""What an earlier run left, and how a longer one goes on from it: rows of R, costs, and the strategy's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cl_suite.core.errors import CLSuiteError, UsageError
from cl_suite.core.listener import Row
from cl_suite.runs.harness import Harness

SAME = 0.01  # by how much a score may differ when it is measured again: more outputs round sums differently


@dataclass(frozen=True)
class Beginning:
    """The end of an earlier run on the first tasks of a stream.

    identity:      of its record, for that of the run that goes on: hash, seed, experiences, digest; no paths
    configuration: what the configuration of the run that goes on says of it, alike for all seeds
    fits:          (a plan, its loaded data) -> nothing; raises UsageError where they begin otherwise than that run did
    state:         (the harness, its strategy set up) -> the earlier state; raises UsageError where it does not fit
    """

    identity: Mapping[str, Any]
    configuration: Mapping[str, Any]
    experiences: int
    R: list[Row]
    R_task_aware: list[Row] | None
    curve: list[dict[str, Any]]
    meter: Mapping[str, Any]
    peak_memory_bytes: float
    models_built: int
    fits: Callable[[Any, Any], None]
    state: Callable[[Harness], dict[str, Any]]

    def resume(self, harness: Harness) -> int:
        """Put the earlier run's state into a strategy that is set up; return how many experiences that is.

        Rows of R keep what was measured. Columns of tasks that were not there then are null: the states behind those
        rows are gone. But for the last row, whose state this is: there they are measured now.
        Raise UsageError where the earlier state does not fit, or does not answer as it did.
        """
        state = self.state(harness)
        results, width = harness.results, len(harness.scenario_stream.tasks)
        results.baseline = harness.score_untrained()
        try:
            harness.strategy.load_state_dict(state)
            harness.restore_progress(self.models_built, self.meter)
            scores, task_aware = harness.evaluate(self.experiences)
        except CLSuiteError:
            raise
        except Exception as problem:  # a state of other sizes, in whichever way the strategy finds out
            raise self._refusal(f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}") from problem
        for task, (then, now) in enumerate(zip(self.R[-1], scores, strict=False)):
            if (then is None) != (now is None) or (then is not None and now is not None and abs(then - now) > SAME):
                raise self._refusal(f"task {task} scored {then}, and scores {now} now")
        results.R = _longer(self.R, scores, width)
        if harness.has_two_rules():  # of a single task both rules are one
            before = self.R if self.R_task_aware is None else self.R_task_aware
            results.R_task_aware = _longer(before, task_aware, width)
        results.curve = [{**point, "scores": _wide(point["scores"], width)} for point in self.curve]
        return self.experiences

    def _refusal(self, reason: str) -> UsageError:
        return UsageError(
            f"--continue-from: the saved state does not fit the longer stream ({reason}). Train it from the beginning."
        )


def _longer(rows: list[Row], latest: Row, width: int) -> list[Row]:
    """Return rows of `width` tasks; the last has the `latest` scores of tasks that it does not know."""
    return [*(_wide(row, width) for row in rows[:-1]), [*rows[-1], *latest[len(rows[-1]) :]]]


def _wide(row: Row, width: int) -> Row:
    """Return a row of scores with null for the tasks it does not know."""
    return [*row, *[None] * (width - len(row))]
