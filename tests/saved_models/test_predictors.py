"""A saved model answers bit for bit as its run did at its end, whatever the strategy keeps and the stream is made of."""


import pytest
import torch

import cl_suite
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.saved_models.save import save_model
from tests.helpers.saved_runs import live_answers, stored_tests, trained
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but

TINY = ("train.epochs=2", "stream.n_tasks=3", "stream.n_train=20", "stream.n_test=30", "model.hidden=[12]")
OPTIONS = {
    "gdumb": ["strategy.epochs=2"],
    "fpf": ["strategy.fpf_epochs=1"],
    "k_fpf": ["strategy.fpf_epochs=1", "strategy.k=4"],
    "tame": ["strategy.window=5", "strategy.selector_epochs=2"],
}
TOLD_LEAST = [
    Scenario.TASK_AGNOSTIC,
    Scenario.CLASS_INCREMENTAL,
    Scenario.DOMAIN_INCREMENTAL,
    Scenario.TASK_INCREMENTAL,
]
FAMILIES = ONE_OF_EACH_FAMILY | {"icarl", "ibcl", "joint", "single_task"}


def scenarios_of(name):
    needed = (cls := choose(STRATEGY, name).cls).requirements(cls.config_for({})())
    return [scenario for scenario in TOLD_LEAST if needed <= scenario.provides]


def assert_answers_alike(run, path, *, preference=None):
    """Save, load, and hold every task's logits on the stored test samples against those of the run."""
    saved = cl_suite.load_predictor(save_model(run, path))
    answered = 0
    for task, stored in zip(run.harness.scenario_stream.tasks, stored_tests(run), strict=True):
        expected = live_answers(run, task, preference)
        if expected is None:
            with pytest.raises(UsageError, match="no answer"):
                saved(stored, task.index, preference=preference)
            continue
        found = saved(stored, task.index, preference=preference)
        assert found.dtype == expected.dtype and torch.equal(found, expected)
        answered += 1
    assert answered
    return saved


@pytest.mark.parametrize("name", slow_but(FAMILIES, sorted(installed(STRATEGY))))
def test_every_strategy_answers_as_its_run_did_where_it_is_told_least(name, tmp_path):
    run = trained(
        tmp_path, name, "toy_gaussians", *TINY, *OPTIONS.get(name, []), scenario=str(scenarios_of(name)[0].value)
    )
    assert_answers_alike(run, tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", slow_but({"icarl", "supsup", "trgp", "hat", "ibcl"}, sorted(installed(STRATEGY))))
def test_every_strategy_answers_as_its_run_did_where_task_ids_are_told(name, tmp_path):
    last = str(scenarios_of(name)[-1].value)
    run = trained(tmp_path, name, "toy_gaussians", *TINY, *OPTIONS.get(name, []), scenario=last)
    assert_answers_alike(run, tmp_path / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(installed(STRATEGY)))
def test_every_strategy_answers_as_its_run_did_in_the_scenarios_between(name, tmp_path):
    for scenario in scenarios_of(name)[1:-1]:
        run = trained(tmp_path, name, "toy_gaussians", *TINY, *OPTIONS.get(name, []), scenario=str(scenario.value))
        assert_answers_alike(run, tmp_path / "model.safetensors")
