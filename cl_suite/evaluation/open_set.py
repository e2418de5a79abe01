"""Whether a strategy knows what it does not know: samples of no task must be less certain. `--evaluate open_set`.

Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks"
(arXiv 1610.02136): the score is the largest softmax probability, measured as a detector by the area under its ROC
curve, which needs no threshold, and by how many samples of no task pass where 95 % of those of the tasks do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import RunError, UnseenTask, UsageError
from cl_suite.core.metering import Meter
from cl_suite.core.objective import class_mask, restrict
from cl_suite.core.registry import Chosen
from cl_suite.core.samples import Samples
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import EVALUATION_BATCH
from cl_suite.core.types import Inputs
from cl_suite.evaluation.protocol import PerExperience, Settings
from cl_suite.metrics.matrix import Matrix, Row

PASS = 0.95  # of the tasks' samples, where those of no task are counted


@dataclass
class OpenSetSettings(Settings):
    """Whether samples that belong to no task are shown after each experience: `open_set.<field>=...`."""

    def refuse(self, strategy: Chosen, stream: Chosen, scenario: Scenario) -> None:
        """Raise UsageError where the stream has no such samples, or the scenario tells a task that they do not have."""
        if not stream.cls.out_of_distribution:
            raise UsageError(
                f"--evaluate open_set shows samples of no task, and {stream.name} has none. "
                "Use a stream that has, e.g. clinc150."
            )
        if Requirement.TASK_ID_AT_TEST in scenario.provides:
            raise UsageError(
                f"--evaluate open_set shows samples of no task, and {scenario} tells the task of each. "
                f"Use --scenario {Scenario.CLASS_INCREMENTAL}."
            )


class OpenSetEvaluation(PerExperience):
    """An entry for each experience: {"auroc", "fpr95"}, both in [0, 1], None where the strategy has no answer.

    auroc: chance that a test sample of a task begun so far is more certain than one of no task; 0.5 = cannot tell
    fpr95: share of the samples of no task that are as certain as the 95 % most certain samples of the tasks
    """

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """Score test samples of all tasks begun so far, and those of no task."""
        stream, outside = self.scenario_stream, self.scenario_stream.ood
        assert outside is not None  # the settings have refused the streams without
        tasks = [stream.tasks[number] for number in stream.begun(experience)]
        allowed = class_mask(stream.seen_after(experience + 1), stream.info.n_outputs, outside.targets.device)
        try:
            predictor = self.strategy.predictor(None)
            inside = torch.cat([self._certainty(predictor, task.test, allowed) for task in tasks])
            beyond = self._certainty(predictor, outside, allowed)
        except UnseenTask:
            self.entries.append({"auroc": None, "fpr95": None})
            return
        self.entries.append(separation(inside, beyond))

    def _certainty(self, predictor: Callable[[Inputs], Tensor], samples: Samples, allowed: Tensor) -> Tensor:
        """Return the largest softmax probability over the allowed classes, [N] on the CPU."""
        parts = []
        with torch.no_grad():
            for raw, _ in samples.chunks(EVALUATION_BATCH):
                logits = predictor(self.scenario_stream.info.prepare(raw))
                closed = restrict(logits, allowed)
                parts.append(closed.float().softmax(dim=1).amax(dim=1))
        certainty = torch.cat(parts).cpu()
        if bool(certainty.isnan().any()):
            raise RunError("the predictor answered NaN. Look for a division by zero, or a lower rate.")
        return certainty

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return both figures after the last experience."""
        return {f"open_set_{name}": value for name, value in self.entries[-1].items()} if self.entries else {}

    def record(self) -> dict[str, Any]:
        """Return the entries, and how many samples belong to no task."""
        return {"experiences": self.entries, "samples": len(self.scenario_stream.ood or ())}


def separation(inside: Tensor, outside: Tensor) -> dict[str, Any]:
    """Return {"auroc", "fpr95"} of certainties [N] of what belongs to a task and [M] of what does not."""
    from sklearn.metrics import roc_auc_score, roc_curve  # takes a second, and most runs have no use for it

    truth = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).numpy()
    certainty = torch.cat([inside, outside]).numpy()
    false, true, _ = roc_curve(truth, certainty, drop_intermediate=False)
    return {"auroc": float(roc_auc_score(truth, certainty)), "fpr95": float(false[(true >= PASS).argmax()])}
