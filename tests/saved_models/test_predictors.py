"""A saved model answers bit for bit as its run did at its end, whatever the strategy keeps, whatever the stream."""

import pytest
import torch

import cl_suite
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.saved_models.save import save_model
from tests.helpers.places import ROOT
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
            with pytest.raises(UsageError, match=r"no answer"):
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


@pytest.mark.parametrize("name", slow_but({"hat", "icarl"}, sorted(installed(STRATEGY))))
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


IMAGES = ("train.epochs=1", "schedule.stop_after=3", "model.name=conv_small", "model.width=4")


@pytest.mark.parametrize("name", slow_but({"packnet"}, ["packnet", "exssnet", "er"]))
def test_batch_norm_of_each_task_is_kept(name, tmp_path):
    assert_answers_alike(trained(tmp_path, name, "split_digits", *IMAGES), tmp_path / "model.safetensors")


@pytest.mark.parametrize("tokenizer", slow_but({"words"}, ["words", "hashed", "characters"]))
def test_texts_are_answered_by_the_vocabulary_of_the_run(tokenizer, tmp_path):
    options = ["train.epochs=1", "stream.n_tasks=2", "stream.n_train=20", "stream.n_test=20", "model.width=8"]
    run = trained(tmp_path, "er", "toy_text", *options, f"text.tokenizer={tokenizer}", scenario="class_incremental")
    saved = assert_answers_alike(run, tmp_path / "model.safetensors")
    assert set(saved.predict(["muba dede fi", "never met"])) <= set(saved.classes)


def test_a_task_s_own_transform_and_preparation_are_made_again(tmp_path):
    spec = f"{ROOT / 'tests/helpers/saved_streams.py'}:ShuffledStripes"
    run = trained(tmp_path, "er", spec, "train.epochs=1", "model.hidden=[8]")
    saved = cl_suite.load_predictor(save_model(run, tmp_path / "model.safetensors"), stream=spec)
    for task, stored in zip(run.harness.scenario_stream.tasks, stored_tests(run), strict=True):
        assert torch.equal(saved(stored, task.name), live_answers(run, task))
    with pytest.raises(UsageError, match=r"in different ways: say of which these are, task 0 \(order 0\), 1"):
        saved(stored)


def test_actions_of_a_robot_are_answered_for_the_task_s_instruction(tmp_path):
    options = ["train.epochs=1", "stream.n_tasks=2", "stream.demonstrations=3", "stream.episodes=1", "model.hidden=[8]"]
    run = trained(tmp_path, "er", "toy_reach", *options)
    saved = assert_answers_alike(run, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"answers behaviour cloning, not one class per sample"):
        saved.predict(stored_tests(run)[0], 0)


@pytest.mark.parametrize("weights", slow_but({"first_task"}, ["first_task", "random"]))
def test_a_frozen_network_in_front_is_part_of_the_model(weights, tmp_path):
    options = ["features.network=conv_small", f"features.weights={weights}", "features.epochs=1", "model.hidden=[8]"]
    run = trained(tmp_path, "er", "split_digits", "train.epochs=1", "schedule.stop_after=2", *options)
    assert_answers_alike(run, tmp_path / "model.safetensors")


def test_a_preference_is_answered_by_the_model_of_that_preference(tmp_path):
    run = trained(tmp_path, "ibcl", "toy_gaussians", *TINY, scenario="domain_incremental")
    uneven = (0.7, 0.2, 0.1)
    saved = assert_answers_alike(run, tmp_path / "model.safetensors", preference=uneven)
    stored = stored_tests(run)[0]
    assert not torch.equal(saved(stored, preference=uneven), saved(stored))
    with pytest.raises(UsageError, match=r"a preference of 2 weights does not fit 3 learned tasks"):
        saved(stored, preference=(0.5, 0.5))


@pytest.mark.parametrize("name", slow_but({"preference_replay"}, ["preference_replay", "vcl"]))
def test_models_trained_for_a_preference_are_kept(name, tmp_path):
    told = ["preferences.evaluate=true", "preferences.count=2"]
    options = ["strategy.per_preference=true"] if name == "vcl" else []
    run = trained(tmp_path, name, "toy_gaussians", *TINY, *told, *options, scenario="domain_incremental")
    preference, _ = run.harness.strategy.models.results[0]
    assert_answers_alike(run, tmp_path / "model.safetensors", preference=preference)
