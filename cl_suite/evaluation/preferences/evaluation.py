"""Asks a strategy for trade-offs after each experience and scores the models it answers with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from cl_suite.core.checkpoint import tensor_bytes
from cl_suite.core.errors import RunError
from cl_suite.core.experience import Experience
from cl_suite.core.metering import Meter
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.evaluation.preferences.protocols import PreferenceConditioned, PreferenceSampled, PreferenceTrained
from cl_suite.evaluation.preferences.settings import PreferenceSettings
from cl_suite.evaluation.protocol import PerExperience
from cl_suite.metrics.matrix import Matrix, Row
from cl_suite.metrics.trade_offs import backward_transfer, hypervolume, per_task, weighted

SHOWN = 100  # preferences whose scores are kept in the record, per experience
CHOICES: dict[str, Callable[[Sequence[float]], float]] = {"best": max, "mean": fmean, "worst": min}


class PreferenceEvaluation(PerExperience):
    """One entry for each experience: what was asked, how the answers score, what they cost.

    An entry holds preferences [P][T]; for best, mean and worst of the models drawn for a preference: `scores`
    {choice: [P][T]}, `weighted` {choice: mean over preferences of sum_l w_l a_l}, `per_task` {choice: c [T]}; costs.
    """

    def __init__(self, settings: PreferenceSettings, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        assert isinstance(strategy, PreferenceConditioned)  # the settings have refused the others
        self._answerer: PreferenceConditioned = strategy
        self._before = (0, 0, 0.0)

    def _preferences(self, experience: int) -> list[tuple[float, ...]]:
        return self.settings.preferences_for(experience + 1, self.scenario_stream.info.seeds.data)

    def announce(self, experience: Experience, meter: Meter) -> None:
        """Before an experience: tell those that train a model for each preference which ones will be asked for."""
        self._before = _counts(meter)
        if isinstance(self._answerer, PreferenceTrained):
            self._answerer.announce(self._preferences(experience.index))

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """After an experience: ask for each preference, score the models on every task learned so far."""
        samples, steps, seconds = (now - then for now, then in zip(_counts(meter), self._before, strict=True))
        steps_before = meter.optimizer_steps
        preferences = self._preferences(experience)
        tasks = self.scenario_stream.tasks[: experience + 1]
        classes = self.scenario_stream.seen_after(experience + 1)
        answering = 0.0
        answers: dict[str, list[list[float]]] = {name: [] for name in CHOICES}
        sums: dict[str, list[float]] = {name: [] for name in CHOICES}
        for preference in preferences:
            started = time.perf_counter()
            models = self._models(preference)
            answering += time.perf_counter() - started
            table = [[task.score(model, classes).value for task in tasks] for model in models]  # [S][T]
            for name, choose in CHOICES.items():
                answers[name].append([choose(column) for column in zip(*table, strict=True)])
                sums[name].append(choose([weighted(row, preference) for row in table]))
        budget = self.scenario_stream.training_samples(experience) * self.scenario_stream.info.train.epochs
        self.entries.append(
            {
                "preferences": [list(preference) for preference in preferences[:SHOWN]],
                "asked": len(preferences),
                "scores": {name: rows[:SHOWN] for name, rows in answers.items()},
                "weighted": {name: fmean(values) for name, values in sums.items()},
                "per_task": {name: per_task(rows, preferences) for name, rows in answers.items()},
                "passes": samples / budget,  # over the experience, replayed samples counted
                "steps": steps,
                "train_seconds": seconds,
                "steps_in_answering": meter.optimizer_steps - steps_before,
                "answer_seconds": answering,
                "state_bytes": tensor_bytes(self.strategy.state_dict()),
            }
        )

    def _models(self, preference: Sequence[float]) -> Sequence[Predictor]:
        if isinstance(self._answerer, PreferenceSampled):
            models = self._answerer.predictors_for(preference)
            if not models:
                raise RunError("predictors_for(preference) returned no predictor. Return one or more.")
            return models
        return [self._answerer.predictor_for(preference)]

    def metrics(self, R: Matrix) -> dict[str, float | None]:
        """Return the figures of the last experience for tables, and of the second for the curve between two tasks."""
        if not self.entries:
            return {}
        last = self.entries[-1]
        transfer = backward_transfer([entry["per_task"]["mean"] for entry in self.entries])
        points = self._points()
        return {
            "preference_best": last["weighted"]["best"],
            "preference_mean": last["weighted"]["mean"],
            "preference_average": fmean(last["per_task"]["mean"]),
            "preference_peak": max(last["per_task"]["mean"]),
            "preference_bwt": fmean(transfer) if transfer else None,
            "preference_hypervolume": hypervolume(points) if points else None,
            "preference_passes": last["passes"],
            "preference_passes_each": last["passes"] / last["asked"],
            "preferences_asked": float(last["asked"]),
            "preference_seconds": last["train_seconds"] + last["answer_seconds"],
        }

    def _points(self) -> list[list[float]]:
        """Return [P][2], the mean scores on the first two tasks, where they are a grid."""
        if len(self.entries) < 2 or not self.settings.grid:
            return []
        points: list[list[float]] = self.entries[1]["scores"]["mean"]
        return points

    def record(self) -> dict[str, Any]:
        """Return what was measured for the record's diagnostics."""
        transfer = backward_transfer([entry["per_task"]["mean"] for entry in self.entries])
        return {"experiences": self.entries, "front": self._points(), "backward_transfer": transfer}


def _counts(meter: Meter) -> tuple[int, int, float]:
    """Return (samples drawn, optimiser steps, seconds of training) so far."""
    return meter.samples_drawn, meter.optimizer_steps, meter.train_seconds
