"""Whether a strategy knows what it does not know: samples of no task must be less certain. `--evaluate open_set`.

Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks"
(arXiv 1610.02136): the score is the largest softmax probability, measured as a detector by the area under its ROC
curve, which needs no threshold, and by how many samples of no task pass where 95 % of those of the tasks do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import RunError, UnseenTask
from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.core.scenario_stream import EVALUATION_BATCH, ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.core.stream import Samples
from cl_suite.core.types import Inputs
from cl_suite.metrics.matrix import Matrix, Row

PASS = 0.95  # of the tasks' samples, where those of no task are counted


class OpenSetEvaluation:
    """An entry for each experience: {"auroc", "fpr95"}, both in [0, 1], None where the strategy has no answer.

    auroc: chance that a test sample of a task begun so far is more certain than one of no task; 0.5 = cannot tell
    fpr95: share of the samples of no task that are as certain as the 95 % most certain samples of the tasks
    """

    def __init__(self, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        self._strategy, self._shown = strategy, scenario_stream
        self.entries: list[dict[str, Any]] = []

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Nothing has to be known before."""

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """Score test samples of all tasks begun so far, and those of no task."""
        shown, outside = self._shown, self._shown.ood
        assert outside is not None  # planning has refused the streams without
        tasks = [shown.tasks[number] for number in shown.begun(experience)]
        allowed = torch.zeros(shown.info.n_outputs, dtype=torch.bool)
        allowed[list(shown.seen_after(experience + 1))] = True
        try:
            predictor = self._strategy.predictor(None)
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
                logits = predictor(self._shown.info.prepare(raw))
                closed = logits.masked_fill(~allowed.to(logits.device), -torch.inf)
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
        return {"experiences": self.entries, "samples": len(self._shown.ood or ())}

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the entries so far."""
        return self.entries

    def load_state_dict(self, entries: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        self.entries = entries


def separation(inside: Tensor, outside: Tensor) -> dict[str, Any]:
    """Return {"auroc", "fpr95"} of certainties [N] of what belongs to a task and [M] of what does not."""
    from sklearn.metrics import roc_auc_score, roc_curve  # takes a second, and most runs have no use for it

    truth = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).numpy()
    certainty = torch.cat([inside, outside]).numpy()
    false, true, _ = roc_curve(truth, certainty, drop_intermediate=False)
    return {"auroc": float(roc_auc_score(truth, certainty)), "fpr95": float(false[(true >= PASS).argmax()])}
