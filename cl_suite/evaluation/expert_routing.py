"""Strategies that choose an expert for each sample, and how well they choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cl_suite.core.errors import UnseenTask
from cl_suite.core.objective import class_mask
from cl_suite.core.scenario_stream import EVALUATION_BATCH, ScenarioStream, Task
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.core.types import Inputs
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.metrics.matrix import Matrix
from cl_suite.metrics.task_shifts import ShiftLog, expert_use


@runtime_checkable
class Routing(Protocol):
    """A strategy that answers each sample by one of its experts."""

    def route(self, inputs: Inputs) -> Tensor:
        """Return [B] int64, the expert that would answer each sample; no side effects."""
        ...

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the predictor."""
        ...


class ExpertRouting(Evaluation):
    """How well a strategy chooses experts after the last experience; asked where tasks are hidden."""

    def __init__(self, settings: None, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        self.scores: dict[str, float] = {}

    @classmethod
    def applies(cls, strategy: Strategy, scenario_stream: ScenarioStream) -> bool:
        """Where the scenario hides the tasks and the strategy has experts."""
        return not scenario_stream.has_boundaries and isinstance(strategy, Routing)

    def finish(self, shift_log: ShiftLog, note: Callable[[str], None]) -> None:
        """Score the choice, if the strategy said which expert learned what."""
        strategy: Any = self.strategy
        stream = self.scenario_stream
        if shift_log.samples:
            owners = expert_use(stream.visits, shift_log)["task_of_expert"]
            self.scores = score_routing(strategy, stream.tasks, owners, stream.seen_after(stream.n_experiences))

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return selector_accuracy and acc_global."""
        return dict(self.scores)


def score_routing(
    strategy: Routing, tasks: Sequence[Task], task_of_expert: Mapping[str, int], classes: frozenset[int]
) -> dict[str, float]:
    """Return {selector_accuracy, acc_global}: means over tasks, in [0, 1]; {} if the strategy has no answer.

    selector_accuracy: share of test samples whose expert is one of their task's (each expert is the task's it was
                       trained on most)
    acc_global:        share that is answered right by such an expert. Where labels are local to tasks, a right label
                       from another task's expert counts in R but not here
    """
    hits, both = [], []
    try:
        predictor = strategy.predictor(None)
        for task in tasks:
            device = task.test.targets.device
            allowed = class_mask(classes, task.n_outputs, device)
            right = [expert for expert, owner in task_of_expert.items() if owner == task.index]
            right_experts = torch.tensor([int(expert) for expert in right], dtype=torch.long, device=device)
            hit = correct = torch.zeros((), device=device)
            for raw, targets in task.test.chunks(EVALUATION_BATCH):
                inputs = task.prepare(raw)
                routed = torch.isin(strategy.route(inputs), right_experts)
                hit = hit + routed.sum()
                correct = correct + (routed * task.objective.correct(predictor(inputs), targets, allowed)).sum()
            hits.append(hit.item() / len(task.test))
            both.append(correct.item() / len(task.test))
    except UnseenTask:
        return {}
    return {"selector_accuracy": sum(hits) / len(hits), "acc_global": sum(both) / len(both)}
