"""The promises of the strategy interface, each a function that raises Broken where it is not kept."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_suite.conformance.case import (
    CLASSES,
    TRAIN,
    Case,
    copy_state,
    inputs_of,
    predictors,
    random_states,
    states_equal,
    training_modes,
)
from cl_suite.core.checkpoint import save_state
from cl_suite.core.devices import forked_rng
from cl_suite.core.errors import UnseenTask, UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.listener import Hooks, Silent
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from cl_suite.runs.plan import check_requirements

ABOVE_CHANCE = 0.1  # by how much the best task must beat an answer that does not depend on the training labels


class Broken(Exception):
    """A promise that is not kept; its text says what was seen."""


class Skipped(Exception):
    """A promise that does not apply; its text says why."""


def refusals(chosen: Chosen, config: Any) -> str | None:
    """Raise Broken unless every scenario that withholds what the strategy needs is refused."""
    needed = chosen.cls.requirements(config)
    if not isinstance(needed, frozenset) or not all(isinstance(each, Requirement) for each in needed):
        raise Broken(f"requirements(config) is {needed!r}; return a frozenset of Requirement")
    excluded = [each for each in Scenario if not needed <= each.provides]
    for each in excluded:
        try:
            check_requirements(chosen, config, each)
        except UsageError:
            continue
        raise Broken(f"{each} is not refused")
    return ", ".join(excluded) or "it needs nothing"


def _learns(case: Case) -> str:
    """Score the stream and its twin with exchanged labels, and take the mean of the two.

    Answers that do not depend on the training labels are right in the one where they are wrong in the other: at most
    one half together, however well a random network happens to separate two clusters. The best task counts, since the
    others may be forgotten.
    """
    rows = case.straight.R[-1], case.run(exchanged=True)[0].R[-1]
    means = [(a + b) / 2 for a, b in zip(*rows, strict=True) if a is not None and b is not None]
    if len(means) < len(rows[0]):
        raise Broken("after the last experience some task has no answer")
    if max(means) < 1 / CLASSES + ABOVE_CHANCE:
        raise Broken(f"the best task scores {max(means):.2f}; {1 / CLASSES:.2f} needs no learning")
    return f"{max(means):.2f}; {1 / CLASSES:.2f} needs no learning"


def _deterministic(case: Case) -> str | None:
    straight = case.straight
    # Other random numbers drawn in between must not matter.
    torch.rand(7)
    second, again = case.run()
    if straight.R != second.R:
        raise Broken("the same seed gave another R: use info.generator(...) or experience.generator(...)")
    _require_same(straight.state, again, "the same seed gave another state: use info.generator(...)")
    _, other = case.run(seed=1)
    # Without a network there may be nothing that a seed decides.
    if again.model_parameters() and states_equal(straight.state, other.state_dict()):
        raise Broken("another seed changed nothing")
    return None


def _evaluation_is_harmless(case: Case) -> str | None:
    harness = case.straight.harness
    strategy, scenario_stream = harness.strategy, harness.scenario_stream
    before, generators = copy_state(strategy.state_dict()), random_states()
    inputs = inputs_of(scenario_stream, 9)
    for task, predictor in predictors(strategy, scenario_stream):
        with torch.no_grad():
            first, second = predictor(inputs), predictor(inputs)
        if not torch.equal(first, second):
            raise Broken(f"the predictor of task {task} answered the same inputs differently")
    for library, state in random_states().items():
        if not states_equal(generators[library], state):
            raise Broken(f"a predictor draws from the global generator of {library}")
    if not states_equal(before, strategy.state_dict()):
        raise Broken("predicting changed the state")
    often = case.present(train=dataclasses.replace(TRAIN, evaluate_every=2))
    points = case.harness(often, kind=_WatchModes)
    if points.run().R != case.straight.R:
        raise Broken("evaluation points inside experiences changed R")
    _require_same(case.straight.state, points.strategy, "evaluation points inside experiences changed the state")
    return None


class _WatchModes(Harness):
    """At evaluation points, in the middle of training, networks must stay in training mode."""

    def _on_evaluation_point(self, experience: int, step: int) -> None:
        before = training_modes(self.strategy)
        super()._on_evaluation_point(experience, step)
        if training_modes(self.strategy) != before:
            raise Broken("a predictor leaves a network in another mode (train or eval): use ModelPredictor")


def _order_is_free(case: Case) -> str | None:
    """Where the task is hidden, it must not be guessed from the order in which predictors are asked for either."""
    scenario_stream = case.present()
    scenario_stream.tasks = scenario_stream.tasks[::-1]
    backward = case.harness(scenario_stream).run()
    if [row[::-1] for row in backward.R] != case.straight.R:
        raise Broken("scored in another order, the tasks have other scores")
    return None


def _resumes(case: Case) -> str | None:
    """Stop after every experience, each time going on with a fresh strategy from what was saved."""
    if not case.chosen.cls.resumable:
        raise Skipped("it says that its runs start anew")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state.safetensors"
        for stop in range(1, case.present().n_experiences):
            stopped = case.harness(checkpoint=checkpoint, listener=_StopAfter(stop))
            with suppress(_Stop):
                stopped.run()
        resumed = case.harness(checkpoint=checkpoint)
        place = "stopped after each experience and continued"
        if resumed.run().R != case.straight.R:
            raise Broken(f"{place}, it ends with another R: state_dict leaves something out")
        _require_same(
            case.straight.state, resumed.strategy, f"{place}, it ends in another state: state_dict is incomplete"
        )
    return None


class _Stop(Exception):
    """Ends a run from within, like an interruption."""


class _StopAfter(Silent):
    """Stops a run when so many experiences are saved."""

    def __init__(self, experiences: int) -> None:
        self.experiences = experiences

    def row(self, experience: int, scores: Any) -> None:
        """Stop after the row of the last experience that may be learned."""
        if experience + 1 == self.experiences:
            raise _Stop


def _state_can_be_saved(case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(path, case.straight.harness.strategy.state_dict())
        return f"{path.stat().st_size / 1000:.0f} kB"


def _closed_experiences(case: Case) -> str | None:
    """The harness closes each experience; a strategy that reads one later raises ClosedExperience, and fails here."""
    harness = case.straight.harness
    inputs = inputs_of(harness.scenario_stream, 3)
    for _, predictor in predictors(harness.strategy, harness.scenario_stream):
        predictor(inputs)
    harness.strategy.state_dict()
    return None


def _ids_withheld(case: Case) -> str | None:
    """What is not asked for is taken away, and it answers all the same."""
    if Requirement.TASK_ID_AT_TRAIN in case.chosen.cls.requirements(case.config):
        raise Skipped("it asks for the task in training")
    if any(score is None for score in case.run(kind=_WithoutIds)[0].R[-1]):
        raise Broken("without task ids in training, which it does not ask for, it does not answer")
    return None


class _WithoutIds(ScenarioStream):
    """Hands over the same experiences, without their task ids and classes."""

    def experiences(self, hooks: Hooks, *, start: int = 0) -> Iterator[Experience]:
        """Yield experiences that do not tell what they are."""
        for experience in super().experiences(hooks, start=start):
            experience.task_id = experience.classes = None
            yield experience


class _Constraints(Silent):
    """Asks for the constraints after each experience."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.values: list[dict[str, float]] = []

    def row(self, experience: int, scores: Any) -> None:
        """Keep what is declared now."""
        self.values.append(dict(self.strategy.constraints()))


def _constraints_act(case: Case) -> str:
    harness = case.harness()
    harness.listener = listener = _Constraints(harness.strategy)
    harness.run()
    names = sorted({name for values in listener.values for name in values})
    if not names:
        raise Skipped("none is declared")
    for number, values in enumerate(listener.values[1:], start=1):
        for name in names:
            # One that is missing does as little as one that is zero.
            value = values.get(name, 0.0)
            if not value or not isfinite(value):
                raise Broken(f"{name} is {value} in experience {number}: it does nothing there")
    return ", ".join(f"{name} {listener.values[-1][name]:.3g}" for name in names)


def _unseen(case: Case) -> str | None:
    scenario_stream = case.present()
    harness = case.harness(scenario_stream)
    strategy, info = harness.strategy, scenario_stream.info
    assert isinstance(info.input_shape, tuple)
    shape, inputs = info.input_shape, inputs_of(scenario_stream, 3)
    with forked_rng():
        torch.manual_seed(0)
        strategy.setup(info, lambda: build_network("mlp", shape, info.n_outputs, hidden=(32,)))
    tells = Requirement.TASK_ID_AT_TEST in case.scenario.provides
    if _answers(strategy, 0 if tells else None, inputs):
        raise Broken("predictor() answers before anything is learned; raise UnseenTask")
    if not tells:
        return None
    # The harness itself does not ask for a task that has no head yet, so ask the strategy.
    begun = case.harness(listener=_StopAfter(1))
    with suppress(_Stop):
        begun.run()
    unlearned = [task.index for task in scenario_stream.tasks[1:] if _answers(begun.strategy, task.index, inputs)]
    if unlearned:
        raise Broken(f"predictor({unlearned[0]}) answers for a task that has not been learned; raise UnseenTask")
    return None


def _answers(strategy: Strategy, task_id: int | None, inputs: Tensor) -> bool:
    try:
        with torch.no_grad():
            strategy.predictor(task_id)(inputs)
    except UnseenTask:
        return False
    return True


def _logits(case: Case) -> str | None:
    harness = case.straight.harness
    scenario_stream = harness.scenario_stream
    for size in (1, 5):
        inputs = inputs_of(scenario_stream, size)
        for task, predictor in predictors(harness.strategy, scenario_stream):
            with torch.no_grad():
                logits = predictor(inputs)
            expected = (size, scenario_stream.info.n_outputs)
            if tuple(logits.shape) != expected:
                raise Broken(f"logits have shape {tuple(logits.shape)} where {expected} = [B, n_outputs] is expected")
            if torch.isnan(logits).any() or not torch.isfinite(logits).any(dim=1).all():
                raise Broken(f"logits for task {task} hold NaN, or a row without any finite entry")
    return None


PROMISES: dict[str, Callable[[Case], str | None]] = {
    "learns above chance": _learns,
    "same seed same R, another seed another state": _deterministic,
    "evaluation changes nothing": _evaluation_is_harmless,
    "the order of scoring does not matter": _order_is_free,
    "logits are [B, n_outputs], also for one sample": _logits,
    "state can be saved without pickle": _state_can_be_saved,
    "saved, loaded and continued equals a straight run": _resumes,
    "ids it does not ask for are not read": _ids_withheld,
    "no experience is read after learn has returned": _closed_experiences,
    "declared penalties and projections act": _constraints_act,
    "no answer for what is not learned": _unseen,
}


def _require_same(state: dict[str, Any], strategy: Strategy, complaint: str) -> None:
    if not states_equal(state, strategy.state_dict()):
        raise Broken(complaint)
