"""The promises of the strategy interface, each a function that raises Broken where it is not kept."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cl_suite.checkpoint import save_state
from cl_suite.conformance import (
    CLASSES,
    N_TASKS,
    TRAIN,
    copy_state,
    harness_for,
    inputs_of,
    predictors,
    present,
    run,
    states_equal,
)
from cl_suite.errors import UnseenTask, UsageError
from cl_suite.experience import Experience, Hooks
from cl_suite.networks import build_network
from cl_suite.planning import check_requirements
from cl_suite.presentation import Presentation
from cl_suite.registry import Chosen
from cl_suite.scenario import Requirement, Scenario
from cl_suite.strategy import Strategy

ABOVE_CHANCE = 0.1  # by how much the newest task, or the mean of the last row, must beat a guess


class Broken(Exception):
    """A promise that is not kept; its text says what was seen."""


class Skipped(Exception):
    """A promise that does not apply; its text says why."""


def refusals(chosen: Chosen, config: Any, scenario: None) -> str | None:
    """Raise Broken unless every scenario that withholds what the strategy needs is refused."""
    needed = chosen.cls.requirements(config)
    excluded = [each for each in Scenario if not needed <= each.provides]
    for each in excluded:
        try:
            check_requirements(chosen, config, each)
        except UsageError:
            continue
        raise Broken(f"{each} is not refused")
    return ", ".join(excluded) or "it needs nothing"


def _learns(chosen: Chosen, config: Any, scenario: Scenario) -> str:
    """In each scenario the last row of R beats a guess; where that may be forgetting, the newest task does."""
    results, _ = run(chosen, config, scenario)
    last = results.R[-1]
    if any(score is None for score in last):
        raise Broken("after the last experience some task has no answer")
    best = max(score for score in last if score is not None)
    among_own = scenario in (Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL)
    chance = 1.0 / (CLASSES if among_own else N_TASKS * CLASSES)
    if best < chance + ABOVE_CHANCE:
        raise Broken(f"the best task scores {best:.2f}, chance is {chance:.2f}")
    return f"{best:.2f}, chance {chance:.2f}"


def _deterministic(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    first, strategy = run(chosen, config, scenario)
    # Other random numbers drawn in between must not matter.
    torch.rand(7)
    second, again = run(chosen, config, scenario)
    if first.R != second.R:
        raise Broken("the same seed gave another R: use info.generator(...) or experience.generator(...)")
    _require_same(strategy.state_dict(), again.state_dict(), "the same seed gave another state")
    _, other = run(chosen, config, scenario, seed=1)
    if states_equal(strategy.state_dict(), other.state_dict()):
        raise Broken("another seed changed nothing")
    return None


def _evaluation_is_harmless(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    presentation = present(scenario)
    harness = harness_for(chosen, config, presentation)
    harness.run()
    before = copy_state(harness.strategy.state_dict())
    random_state = torch.get_rng_state()
    inputs = inputs_of(presentation, 9)
    for task, predictor in predictors(harness.strategy, presentation):
        with torch.no_grad():
            first, second = predictor(inputs), predictor(inputs)
        if not torch.equal(first, second):
            raise Broken(f"the predictor of task {task} answered the same inputs differently")
    if not torch.equal(random_state, torch.get_rng_state()):
        raise Broken("a predictor draws from torch's global generator")
    _require_same(before, harness.strategy.state_dict(), "predicting changed the state")
    points = present(scenario, train=dataclasses.replace(TRAIN, evaluate_every=2))
    if harness_for(chosen, config, points).run().R != harness.results.R:
        raise Broken("evaluation points inside experiences changed R")
    return None


def _resumes(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    straight, _ = run(chosen, config, scenario)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state.safetensors"
        n_experiences = present(scenario).n_experiences
        for stop in sorted({1, 2, n_experiences - 1}):
            stopped = harness_for(chosen, config, present(scenario), checkpoint=checkpoint, listener=_StopAfter(stop))
            with suppress(_Stop):
                stopped.run(resume=False)
            resumed = harness_for(chosen, config, present(scenario), checkpoint=checkpoint)
            if resumed.run().R != straight.R:
                raise Broken(f"stopped after {stop} experiences and continued, it ends with another R")
    return None


class _Stop(Exception):
    """Ends a run from within, like an interruption."""


class _StopAfter:
    """Stops a run when so many experiences are saved."""

    def __init__(self, experiences: int) -> None:
        self.experiences = experiences

    def resumed(self, experiences_done: int) -> None:
        """Nothing to do."""

    def progress(self, progress: Any, meter: Any) -> None:
        """Nothing to do."""

    def row(self, experience: int, scores: Any) -> None:
        """Stop after the row of the last experience that may be learned."""
        if experience + 1 == self.experiences:
            raise _Stop


def _state_can_be_saved(chosen: Chosen, config: Any, scenario: Scenario) -> str:
    _, strategy = run(chosen, config, scenario)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(path, strategy.state_dict())
        return f"{path.stat().st_size / 1000:.0f} kB"


def _closed_experiences(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    """The harness closes each experience; a strategy that reads one later raises ClosedExperience, and fails here."""
    presentation = present(scenario)
    harness = harness_for(chosen, config, presentation)
    harness.run()
    inputs = inputs_of(presentation, 3)
    for _, predictor in predictors(harness.strategy, presentation):
        predictor(inputs)
    harness.strategy.state_dict()
    return None


def _ids_withheld(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    """What is not asked for is taken away; what is hidden makes no difference."""
    if Requirement.TASK_ID_AT_TRAIN in chosen.cls.requirements(config):
        raise Skipped("it asks for the task in training")
    if Requirement.TASK_ID_AT_TRAIN in scenario.provides:
        without = present(scenario, kind=_WithoutIds)
        if any(score is None for score in harness_for(chosen, config, without).run().R[-1]):
            raise Broken("without task ids in training, which it does not ask for, it does not answer")
        return None
    straight, _ = run(chosen, config, scenario)
    presentation = present(scenario)
    presentation.tasks = tuple(
        dataclasses.replace(task, index=97 - task.index, name=f"scrambled {task.index}") for task in presentation.tasks
    )
    if harness_for(chosen, config, presentation).run().R != straight.R:
        raise Broken("R depends on ids it should not know")
    return None


class _WithoutIds(Presentation):
    """Hands over the same experiences, without their task ids."""

    def experiences(self, hooks: Hooks, *, start: int = 0) -> Iterator[Experience]:
        """Yield experiences whose task_id is None."""
        for experience in super().experiences(hooks, start=start):
            experience.task_id = None
            yield experience


def _constraints_act(chosen: Chosen, config: Any, scenario: Scenario) -> str:
    names: list[list[str]] = []
    values: list[dict[str, float]] = []
    presentation = present(scenario)
    harness = harness_for(chosen, config, presentation)

    class Watch(_StopAfter):
        def row(self, experience: int, scores: Any) -> None:
            found = dict(harness.strategy.constraints())
            names.append(sorted(found))
            values.append(found)

    harness.listener = Watch(0)
    harness.run()
    if not any(names):
        raise Skipped("none is declared")
    for number, found in enumerate(values[1:], start=1):
        for name, value in found.items():
            if not value or value != value or abs(value) == float("inf"):
                raise Broken(f"{name} is {value} in experience {number}: it does nothing there")
    return ", ".join(f"{name} {value:.3g}" for name, value in values[-1].items())


def _unseen(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    presentation = present(scenario)
    harness = harness_for(chosen, config, presentation)
    strategy, info = harness.strategy, presentation.info
    assert isinstance(info.input_shape, tuple)
    shape = info.input_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        strategy.setup(info, lambda: build_network("mlp", shape, info.n_outputs, hidden=(32,)))
    tells = Requirement.TASK_ID_AT_TEST in scenario.provides
    if _answers(strategy, 0 if tells else None):
        raise Broken("predictor() answers before anything is learned; raise UnseenTask")
    results = harness_for(chosen, config, present(scenario)).run()
    if tells and any(score is not None for i, row in enumerate(results.R) for score in row[i + 1 :]):
        raise Broken("predictor() answers for a task that has not been learned; raise UnseenTask")
    return None


def _answers(strategy: Strategy, task_id: int | None) -> bool:
    try:
        strategy.predictor(task_id)
    except UnseenTask:
        return False
    return True


def _logits(chosen: Chosen, config: Any, scenario: Scenario) -> str | None:
    presentation = present(scenario)
    harness = harness_for(chosen, config, presentation)
    harness.run()
    for size in (1, 5):
        inputs = inputs_of(presentation, size)
        for task, predictor in predictors(harness.strategy, presentation):
            with torch.no_grad():
                logits = predictor(inputs)
            expected = (size, presentation.info.n_outputs)
            if tuple(logits.shape) != expected:
                raise Broken(f"logits have shape {tuple(logits.shape)} where {expected} = [B, n_outputs] is expected")
            if torch.isnan(logits).any() or not torch.isfinite(logits).any(dim=1).all():
                raise Broken(f"logits for task {task} hold NaN, or a row without any finite entry")
    return None


PROMISES: dict[str, Callable[..., str | None]] = {
    "learns above chance": _learns,
    "same seed same R, another seed another state": _deterministic,
    "evaluation changes nothing": _evaluation_is_harmless,
    "logits are [B, n_outputs], also for one sample": _logits,
    "state can be saved without pickle": _state_can_be_saved,
    "saved, loaded and continued equals a straight run": _resumes,
    "ids it does not ask for are not read": _ids_withheld,
    "no experience is read after learn has returned": _closed_experiences,
    "declared penalties and projections act": _constraints_act,
    "no answer for what is not learned": _unseen,
}


def _require_same(a: Any, b: Any, complaint: str) -> None:
    if not states_equal(a, b):
        raise Broken(complaint)
