"""Success rate: a policy acts in a simulator from fixed initial states; what counts is whether the task is solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cl_suite.core.errors import RunError
from cl_suite.core.objective import Score
from cl_suite.core.stream import ScoredTask
from cl_suite.core.types import Inputs
from cl_suite.core.version import warn
from cl_suite.robots.objectives import BehaviourCloning
from cl_suite.robots.pool import RobotPool, SimulatorLost, Worker
from cl_suite.robots.simulator import Array, Observation, RobotTask

LANES = 10  # episodes that one process steps side by side: their observations go through the network as one batch

Policy = Callable[[Observation], Array]
"""The latest moments of B robots, [B, H, ...] each -> actions [B, A]."""


@dataclass
class _Share:
    """The episodes of one process, and how far they are."""

    worker: Worker
    seeds: list[int]
    moments: Observation  # the latest moments of every lane, [L, H, ...]
    alive: list[int] = field(default_factory=list)  # lanes that neither succeeded nor ended
    solved: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class SuccessRate:
    """Scores a policy on a task: the share of episodes in which it is solved at any step before the horizon.

    seeds:   of the initial states, the same for every strategy and every evaluation
    history: moments H that the policy is shown; before the first step all are the first one
    """

    task: RobotTask
    seeds: tuple[int, ...]
    pool: RobotPool
    history: int = 1

    @property
    def count(self) -> int:
        """Episodes of an evaluation."""
        return len(self.seeds)

    def score(self, task: ScoredTask | Policy, predictor: Callable[[Inputs], Tensor] | None = None) -> Score:
        """Return the share of episodes that a predictor solves as the policy of a task."""
        if predictor is None:  # as it was called before it was handed the task
            warn("SuccessRate.score(policy)", "SuccessRate.rollout(policy)", level=3)
            return self.rollout(cast(Policy, task))
        return self.rollout(policy_of(cast(ScoredTask, task), predictor))

    def rollout(self, policy: Policy) -> Score:
        """Roll out and count. A simulator that is lost is started anew, once; then RunError: never a failed episode."""
        solved: list[bool] = []
        per_round = LANES * len(self.pool.workers)
        for start in range(0, len(self.seeds), per_round):
            solved += self._round(policy, self.seeds[start : start + per_round])
        return Score(sum(solved) / len(solved), len(solved))

    def _round(self, policy: Policy, seeds: Sequence[int]) -> list[bool]:
        workers = self.pool.workers
        parts = [part.tolist() for part in np.array_split(seeds, min(len(workers), len(seeds)))]
        try:
            return self._episodes(policy, [*zip(workers, parts, strict=False)])
        except SimulatorLost:
            for worker in workers:
                worker.restart()  # whichever it was, all episodes of this round start again
        try:
            return self._episodes(policy, [*zip(workers, parts, strict=False)])
        except SimulatorLost as again:
            self.pool.close()
            raise RunError(
                f"the simulator of {self.task.name} failed twice ({again}). Nothing was counted; try the task alone."
            ) from again

    def _episodes(self, policy: Policy, parts: Sequence[tuple[Worker, list[int]]]) -> list[bool]:
        """Run episodes to their ends, all processes side by side."""
        for worker, seeds in parts:
            worker.ask("begin", self.task, seeds)
        shares = [
            _Share(
                worker,
                seeds,
                first_moments(worker.answer(), self.history),
                list(range(len(seeds))),
                [False] * len(seeds),
            )
            for worker, seeds in parts
        ]
        for _ in range(self.task.horizon):
            going = [share for share in shares if share.alive]
            if not going:
                break
            actions = policy(_joined([{k: v[share.alive] for k, v in share.moments.items()} for share in going]))
            start = 0
            for share in going:
                share.worker.ask("step", share.alive, actions[start : start + len(share.alive)])
                start += len(share.alive)
            for share in going:
                observations, solved = share.worker.answer()
                for name, moments in next_moments(share.moments, observations, share.alive).items():
                    share.moments[name][share.alive] = moments
                for lane, done in zip(share.alive, solved, strict=True):
                    share.solved[lane] = done
                share.alive = [lane for lane in share.alive if not share.solved[lane]]
        return [done for share in shares for done in share.solved]


def policy_of(task: ScoredTask, predictor: Callable[[Inputs], Tensor]) -> Policy:
    """Return what acts on observations as a simulator gives them, through the task's transform and preparation."""
    assert isinstance(task.objective, BehaviourCloning)
    actions, device, transform = task.objective.actions, task.test.targets.device, task.test.transform

    def act(observations: Observation) -> Array:
        raw: Inputs = {name: torch.from_numpy(value).to(device) for name, value in observations.items()}
        with torch.no_grad():
            outputs = predictor(task.prepare(raw if transform is None else transform(raw)))
        if not bool(outputs.isfinite().all()):
            raise RunError(f"the policy answered what is no number in task {task.name!r}. Try a lower rate.")
        return actions(outputs).cpu().numpy()

    return act


def first_moments(observations: Observation, history: int) -> Observation:
    """[L, ...] -> [L, H, ...], all the same moment."""
    return {name: np.repeat(value[:, None], history, axis=1) for name, value in observations.items()}


def next_moments(moments: Observation, latest: Observation, lanes: Sequence[int]) -> Observation:
    """Return the moments [len(lanes), H, ...] of some lanes of `moments` [L, H, ...] with `latest` as the newest."""
    return {name: np.concatenate([moments[name][lanes, 1:], value[:, None]], axis=1) for name, value in latest.items()}


def _joined(parts: Sequence[Observation]) -> Observation:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
