"""Runs on which preferences are announced before each experience, and what is asked of strategies that heed them."""

import dataclasses

import pytest
import torch

from cl_suite import Samples
from cl_suite.conformance.case import states_equal
from cl_suite.conformance.promises import _Stop, _StopAfter
from cl_suite.core.checkpoint import load_state, save_state
from tests.helpers.conflicting_streams import conflicting_stream
from tests.helpers.projection_streams import harness_of

ENDS = [(1.0, 0.0), (0.0, 1.0)]


def told_run(cls, *, preferences=ENDS, plain=False, **options):
    """Run a strategy on two tasks in conflict; `preferences` are announced before the second. Return the harness."""
    defaults = {"data": conflicting_stream(), "scenario": "domain_incremental"}
    harness = harness_of(cls, **defaults | options)
    if not plain:
        announce_to(harness.strategy, preferences)
    harness.run()
    return harness


def announce_to(strategy, preferences):
    """Let the strategy hear (1.0) before the first experience, and `preferences` before the second."""
    learn = strategy.learn

    def told(experience):
        strategy.announce([(1.0,)] if not experience.index else preferences)
        learn(experience)

    strategy.learn = told


def another_second_task(data):
    """Return the stream with other training samples, as many, in the second task."""
    generator = torch.Generator().manual_seed(5)
    first, second = data.tasks
    inputs = torch.randn(second.train.inputs.shape, generator=generator)
    other = dataclasses.replace(second, train=Samples(inputs, second.train.targets.flip(0)))
    return dataclasses.replace(data, tasks=(first, other))


def accuracy(harness, preference, task):
    """Return the score of a preference's model on a task."""
    seen = harness.scenario_stream.seen_after(len(preference))
    return harness.scenario_stream.tasks[task].score(harness.strategy.predictor_for(preference), seen).value


def answers(strategy, preference):
    """Return a preference's logits for fixed inputs, [9, C]."""
    inputs = torch.randn(9, *strategy.info.input_shape, generator=torch.Generator().manual_seed(2))
    return strategy.predictor_for(preference)(inputs)


def reloaded(harness, path, cls, **options):
    """Return a fresh strategy of the same kind with the saved and loaded state of the harness's."""
    save_state(path, harness.strategy.state_dict())
    fresh = harness_of(cls, **{"data": conflicting_stream(), "scenario": "domain_incremental"} | options)
    fresh.strategy.setup(fresh.scenario_stream.info, fresh._factory)
    fresh.strategy.load_state_dict(load_state(path))
    return fresh.strategy


def assert_resumes_alike(cls, folder, *, asked, announced=ENDS, **options):
    """Stop a run after its first experience, go on, and ask both it and a reloaded one: all bitwise as never stopped.

    asked: preferences whose models are compared; announced: before the second experience, None = nothing is told
    """
    straight = told_run(cls, preferences=announced, plain=announced is None, **options)
    strategy = reloaded(straight, folder / "state", cls, **options)
    for preference in asked:
        assert torch.equal(answers(strategy, preference), answers(straight.strategy, preference))
    for stop in (True, False):
        harness = harness_of(cls, data=conflicting_stream(), scenario="domain_incremental", **options)
        harness._checkpoint = folder / "checkpoint"
        if announced is not None:
            announce_to(harness.strategy, announced)
        if stop:
            harness.listener = _StopAfter(1)
            with pytest.raises(_Stop):
                harness.run()
        else:
            assert harness.run().R == straight.results.R
    assert states_equal(harness.strategy.state_dict(), straight.strategy.state_dict())
