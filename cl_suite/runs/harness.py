"""The only outer loop: learn an experience, score every task, save, go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cl_suite.core.checkpoint import load_state, save_state, tensor_bytes
from cl_suite.core.devices import forked_rng, peak_memory
from cl_suite.core.errors import RunError, UnseenTask, UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.listener import Hooks, Listener, Row, Silent
from cl_suite.core.metering import Meter
from cl_suite.core.scenario import Requirement
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.seeding import seed_for
from cl_suite.core.strategy import ModelPredictor, Strategy
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.metrics.task_shifts import ShiftLog
from cl_suite.networks.network import Network


@dataclass
class Results:
    """What a run measured so far. R[i][j] in [0, 1]: score on task j after experience i; None where unanswered.

    R_task_aware: from the same logits, argmax within the task; None where R already is that
    baseline:     score of the untrained network per task
    shift_log:    what the strategy reported of its batches (`experience.observe`)
    """

    R: list[Row] = field(default_factory=list)
    R_task_aware: list[Row] | None = None
    baseline: Row = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    shift_log: ShiftLog = field(default_factory=ShiftLog.none)


class ModelFactory:
    """Makes networks; the n-th is always the same for one model seed, also after a resume."""

    def __init__(self, build: Callable[[], nn.Module], seed: int, device: torch.device) -> None:
        self._build, self._seed, self._device = build, seed, device
        self.built = 0

    def __call__(self) -> nn.Module:
        """Return the next network, on the run's device."""
        model = self.make(self.built)
        self.built += 1
        return model

    def make(self, number: int) -> nn.Module:
        """Return network number `number` without counting it."""
        with forked_rng():
            torch.manual_seed(seed_for(self._seed, "network", number))
            return self._build().to(self._device)


class Harness:
    """One run of a strategy on a stream under a scenario.

    checkpoint:  file for the state between experiences; None = not saved
    fingerprint: says what run a checkpoint belongs to; another one is not resumed
    evaluations: what else is asked after each experience, by name
    """

    def __init__(
        self,
        strategy: Strategy,
        scenario_stream: ScenarioStream,
        build_model: Callable[[], nn.Module],
        *,
        listener: Listener | None = None,
        checkpoint: Path | None = None,
        fingerprint: str = "",
        evaluations: Mapping[str, Evaluation] | None = None,
    ) -> None:
        self.strategy = strategy
        self.scenario_stream = scenario_stream
        self.listener = listener or Silent()
        self.meter = Meter(max_samples=scenario_stream.info.train.max_samples)
        self.results = Results()
        self.evaluations = dict(evaluations or {})
        self._checkpoint, self._fingerprint = checkpoint, fingerprint
        self._device = scenario_stream.info.device
        self._factory = ModelFactory(build_model, scenario_stream.info.seeds.model, self._device)

    def run(self, *, resume: bool = True) -> Results:
        """Run to the end of the stream, from the checkpoint if there is one, and return what was measured."""
        info = self.scenario_stream.info
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        with forked_rng(self._device), self.meter.metering():
            started = time.perf_counter()
            self._seed_everything("setup", seed=info.seeds.model)
            self.strategy.setup(info, self._factory)
            done = self._restore() if resume else 0
            if done:
                self.listener.resumed(done)
            elif not self.results.baseline:
                self.results.baseline = self._baseline()
            for each in self.evaluations.values():
                each.start()
            before = self.meter.wall_seconds
            for experience in self.scenario_stream.experiences(self._hooks(), start=done):
                self._seed_everything("experience", experience.index, seed=info.seeds.data)
                self._learn(experience)
                self._score(experience.index)
                self.meter.wall_seconds = before + time.perf_counter() - started
                self._save(experience.index + 1)
                self.listener.row(experience.index, self.results.R[-1])
            self._finish()
        return self.results

    def _finish(self) -> None:
        for each in self.evaluations.values():
            try:
                with self._asking():
                    each.finish(self.results.shift_log, self.listener.note)
            except UsageError as problem:  # a request is refused before it trains; now the run has failed
                raise RunError(str(problem)) from problem

    def _learn(self, experience: Experience) -> None:
        for each in self.evaluations.values():
            each.announce(experience, self.meter)
        evaluated = self.meter.eval_seconds
        with self.meter.timing("train_seconds"):
            self.strategy.learn(experience)
            experience.close()
            experience.check_finite()
        # Evaluation points inside the experience are not training.
        self.meter.train_seconds -= self.meter.eval_seconds - evaluated

    def _score(self, experience: int) -> None:
        """Add a row to R, and ask what else is to be asked after an experience."""
        scores, task_aware = self._evaluate(experience + 1)
        self.results.R.append(scores)
        if self._two_rules():
            self.results.R_task_aware = [*(self.results.R_task_aware or []), task_aware]
        for each in self.evaluations.values():
            with self._asking():
                each.observe(experience, self.meter, scores)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Within it time is evaluation's, and random numbers are given back."""
        with forked_rng(self._device), self.meter.timing("eval_seconds"):
            yield

    def costs(self) -> dict[str, float]:
        """Return what a finished run cost, in the record's words."""
        costs = self.counted()
        memory = peak_memory(self.scenario_stream.info.device)
        if memory is not None:  # a platform may have no answer; nothing is better than a wrong number
            costs["peak_memory_bytes"] = memory
        costs["model_parameters"] = self.strategy.model_parameters()
        state, network = self.strategy.state_dict(), self.strategy.trained_network()
        costs["state_bytes"] = tensor_bytes(state)
        costs["memory_bytes"] = tensor_bytes(state, without=None if network is None else network.state_dict())
        return costs

    def state_bytes(self) -> dict[str, int]:
        """Return the bytes of each part of the strategy's state that has any: the network, a buffer, importances."""
        sizes = {str(name): tensor_bytes(value) for name, value in self.strategy.state_dict().items()}
        return {name: size for name, size in sizes.items() if size}

    def counted(self) -> dict[str, float]:
        """Return what was counted and timed so far; asks nothing of the strategy, which may have failed."""
        return self.meter.state_dict()

    def test_samples(self) -> list[int]:
        """Return the number of test samples, or episodes, of each task."""
        return [task.count for task in self.scenario_stream.tasks]

    def _two_rules(self) -> bool:
        within = Requirement.TASK_ID_AT_TEST in self.scenario_stream.scenario.provides
        return not within and any(len(task.classes) < task.n_outputs for task in self.scenario_stream.tasks)

    def _evaluate(self, n_experiences: int) -> tuple[Row, Row]:
        """Score every task that can be answered; None where there is no head or the strategy has no answer."""
        scores: Row = []
        task_aware: Row = []
        classes = self.scenario_stream.seen_after(n_experiences)
        with self._asking():
            for task in self.scenario_stream.tasks:
                score = None
                if self.scenario_stream.answerable(task, n_experiences):
                    try:
                        score = task.score(task.predictor_of(self.strategy), classes)
                    except UnseenTask:
                        score = None
                scores.append(None if score is None else score.value)
                task_aware.append(None if score is None else score.task_aware)
        return scores, task_aware

    def _baseline(self) -> Row:
        """Score the untrained network with all heads in place, before anything is learned."""
        model = self._factory.make(0)
        assert isinstance(model, Network)
        model.heads.open()
        everything = self.scenario_stream.seen_after(self.scenario_stream.n_experiences)
        with self.meter.timing("eval_seconds"):
            return [task.score(ModelPredictor(model), everything).value for task in self.scenario_stream.tasks]

    def _hooks(self) -> Hooks:
        return Hooks(
            meter=self.meter,
            on_progress=lambda progress: self.listener.progress(progress, self.meter),
            on_evaluation_point=self._on_evaluation_point,
            on_note=self.listener.note,
            on_epoch=self._on_epoch,
            on_observation=self._on_observation,
        )

    def _on_epoch(self, experience: int, phase: str) -> None:
        for each in self.evaluations.values():
            each.epoch_passed(experience)

    def _on_observation(self, loss: float, threshold: float | None, expert: int, shift: bool) -> None:
        samples = self.meter.samples_drawn - self.meter.samples_replayed
        self.results.shift_log.add(samples, loss, threshold, expert, shift)

    def _on_evaluation_point(self, experience: int, step: int) -> None:
        scores, _ = self._evaluate(experience + 1)
        self.results.curve.append(
            {"experience": experience, "step": step, "samples": self.meter.samples_drawn, "scores": scores}
        )
        self.listener.point(self.results.curve[-1])

    def _seed_everything(self, *purpose: object, seed: int) -> None:
        """Seed the global generators (dropout, a plugin's own draws). Same at a resume as in a straight run."""
        value = seed_for(seed, *purpose)
        torch.manual_seed(value)
        random.seed(value)
        np.random.seed(value % 2**32)

    def _save(self, experiences_done: int) -> None:
        if self._checkpoint is None or not self.strategy.resumable:
            return
        state = {
            "fingerprint": self._fingerprint,
            "experiences_done": experiences_done,
            "models_built": self._factory.built,
            "strategy": self.strategy.state_dict(),
            "R": self.results.R,
            "R_task_aware": self.results.R_task_aware,
            "baseline": self.results.baseline,
            "curve": self.results.curve,
            "seen": self.results.shift_log.state_dict(),
            "meter": self.meter.state_dict(),
            "evaluations": {name: each.state_dict() for name, each in self.evaluations.items()},
        }
        save_state(self._checkpoint, state)

    def _restore(self) -> int:
        """Load the checkpoint if it belongs to this run; return the number of experiences already learned."""
        if self._checkpoint is None or not self.strategy.resumable or not self._checkpoint.exists():
            return 0
        state = load_state(self._checkpoint)
        if state["fingerprint"] != self._fingerprint:
            return 0
        self.strategy.load_state_dict(state["strategy"])  # may build networks, which are not counted
        self._factory.built = state["models_built"]
        log = ShiftLog(**state["seen"])
        self.results = Results(state["R"], state["R_task_aware"], state["baseline"], state["curve"], log)
        # Before it was an evaluation like the others, the report on modules stood beside them.
        states = {"modules": state.get("report"), **state["evaluations"]}
        for name, each in self.evaluations.items():
            if name in states:
                each.load_state_dict(states[name])
        for name, value in state["meter"].items():
            setattr(self.meter, name, value)
        return state["experiences_done"]
