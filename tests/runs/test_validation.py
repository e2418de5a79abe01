"""Who looks at held-out samples says so, and no one else: notes, refusals and `model_selection` rest on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cl_suite import DataRoot, TrainSettings, UsageError
from cl_suite.conformance.case import harness_for, present
from cl_suite.core.experience import Experience
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.runs.execute import run_all
from cl_suite.runs.plan import Request, plan
from cl_suite.runs.validation import check_early_stopping, unused_validation
from tests.helpers.slow import slow_but

TRAIN = TrainSettings(epochs=2, batch_size=16, validation=0.25)
STOPPING = replace(TRAIN, early_stopping=1)
SHORT = {"gdumb": {"epochs": 2}, "fpf": {"fpf_epochs": 2}, "k_fpf": {"fpf_epochs": 2, "k": 2}}
HERE = {"er", "fpf", "packnet", "joint", "vcl"}
CASES = [*((name, {}) for name in sorted(HERE)), ("gpm", {}), ("gpm", {"plateau": False}), ("wsn", {"select": "best"})]
CASES += [("exssnet", {"select": "best_per_phase"}), ("exssnet", {"scheduler": "released"})]


def chosen_with(name, options):
    chosen = choose(STRATEGY, name)
    return chosen, chosen.cls.config_for(options)(**SHORT.get(name, {}), **options)


def looked_at(monkeypatch, chosen, config, train):
    """Run on the conformance stream; return (whether held-out samples were asked for, the strategy); skip agnostics."""
    needed = chosen.cls.requirements(config)
    scenarios = [Scenario.TASK_INCREMENTAL, Scenario.CLASS_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL]
    scenario = next(each for each in scenarios if needed <= each.provides)
    asked, validation = [], Experience.validation

    def watched(self, **options):
        asked.append(self.index)
        return validation(self, **options)

    monkeypatch.setattr(Experience, "validation", watched)
    harness = harness_for(chosen, config, present(scenario, train=train))
    harness.run()
    return bool(asked), harness.strategy


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_strategy_looks_at_held_out_samples_if_and_only_if_it_says_so(monkeypatch, name, options):
    assert_true_to_its_word(monkeypatch, name, options)


@pytest.mark.parametrize("name", slow_but((), sorted(set(installed(STRATEGY)) - HERE)))
def test_so_do_all_others(monkeypatch, name):
    assert_true_to_its_word(monkeypatch, name, {})


def assert_true_to_its_word(monkeypatch, name, options):
    chosen, config = chosen_with(name, options)
    looked, strategy = looked_at(monkeypatch, chosen, config, TRAIN)
    assert looked == chosen.cls.uses_validation(config, TRAIN)
    assert looked or strategy.model_selection() == "none"
    if chosen.cls.early_stopping_refusal(config):
        return
    assert chosen.cls.uses_validation(config, STOPPING)
    looked, strategy = looked_at(monkeypatch, chosen, config, STOPPING)
    assert looked and strategy.model_selection() == "validation"
    assert len(strategy.training_facts()["early_stopping"]["experiences"]) == 3


# -- what a user is told ----------------------------------------------------------------------------------------------


def request_for(results, strategy, *overrides, **options):
    small = ("stream.n_tasks=2", "stream.n_train=20", "train.epochs=2")
    root = DataRoot(Path("unused"), offline=True)
    return Request(strategy, "toy_gaussians", results, root, threads=1, overrides=(*small, *overrides), **options)


def test_that_held_out_samples_are_lost_is_said_once_for_all_seeds(tmp_path, capsys):
    run_all([plan(request_for(tmp_path, "er", "train.validation=0.2", seed=seed)) for seed in (0, 1)])
    err = capsys.readouterr().err
    assert err.count("Note: train.validation=0.2 holds samples out of training and er looks at none of them") == 1
    assert "or add train.early_stopping=5." in err


def said_of(strategy, options, train, scenario):
    chosen, config = chosen_with(strategy, options)
    return unused_validation(chosen, config, train, Scenario(scenario))


@pytest.mark.parametrize(
    ("strategy", "options", "train", "scenario", "text"),
    [
        ("er", {}, TrainSettings(), "task_incremental", ""),
        ("er", {}, STOPPING, "task_incremental", ""),
        ("gpm", {}, TRAIN, "task_incremental", ""),
        ("gpm", {"plateau": False}, TRAIN, "task_incremental", "or add train.early_stopping=5"),
        ("packnet", {}, TRAIN, "task_incremental", "packnet looks at none of them as it is set: leave it out"),
        ("fpf", {}, TRAIN, "task_incremental", "fpf looks at none of them"),
        ("fpf", {}, STOPPING, "task_incremental", ""),
        ("er", {}, TRAIN, "task_agnostic", "has no effect: task_agnostic tells no experiences apart"),
    ],
)
def test_what_is_said_is_true_of_the_options(strategy, options, train, scenario, text):
    said = said_of(strategy, options, train, scenario)
    assert text in said and bool(text) == bool(said) and "\n" not in said
    if strategy == "packnet":
        assert "early_stopping" not in said  # which it does not have


OWN = "it trains in a loop of its own"


@pytest.mark.parametrize(
    ("strategy", "options", "scenario", "message"),
    [
        ("er", {}, "task_agnostic", "task_agnostic tells no experiences apart"),
        ("gpm", {}, "task_incremental", "of gpm: strategy.plateau=true follows the validation loss already"),
        ("wsn", {"select": "best"}, "task_incremental", "strategy.select=best chooses the epoch already"),
        ("exssnet", {}, "task_incremental", "it trains in phases; strategy.select=best_per_phase keeps the best"),
        ("packnet", {}, "task_incremental", "divided before and after pruning"),
        ("k_fpf", {}, "task_incremental", "spaced over the planned steps"),
        ("fpf", {"base": "gdumb"}, "task_incremental", f"of fpf: {OWN}"),
        *((name, {}, "class_incremental", OWN) for name in ("joint", "vcl", "ibcl", "preference_ewc", "tame")),
    ],
)
def test_early_stopping_is_refused_where_it_cannot_be_had(strategy, options, scenario, message):
    chosen, config = chosen_with(strategy, options)
    with pytest.raises(UsageError, match=message) as refused:
        check_early_stopping(chosen, config, STOPPING, Scenario(scenario))
    assert "\n" not in str(refused.value)
    check_early_stopping(chosen, config, TRAIN, Scenario(scenario))  # it is not asked for


STOP = ["train.validation=0.2", "train.early_stopping=3"]


@pytest.mark.parametrize(
    ("strategy", "overrides", "message"),
    [("er", STOP[1:], "none are held out. Add train.validation=0.1"), ("packnet", STOP, "cannot end the training of")],
)
def test_it_is_refused_before_data_is_read(tmp_path, strategy, overrides, message):
    with pytest.raises(UsageError, match=message):
        plan(request_for(tmp_path, strategy, *overrides))


def test_the_record_says_when_it_stopped_and_by_what(tmp_path):
    outcome = run_all([plan(request_for(tmp_path, "er", "train.validation=0.2", "train.early_stopping=1"))], quiet=True)
    record = outcome[0].record
    assert record.model_selection == "validation" and record.config["train"]["early_stopping"] == 1
    stopped = record.diagnostics["early_stopping"]["experiences"]
    assert len(stopped) == 2 and all(1 <= each["best_epoch"] <= each["epochs"] <= 2 for each in stopped)


def test_choosing_weights_by_test_scores_too_is_refused(tmp_path):
    overrides = (*STOP, "learning.evaluate=true", "learning.keep_best=true")
    planned = plan(request_for(tmp_path, "er", *overrides, scenario="domain_incremental"))
    with pytest.raises(UsageError, match="both choose the weights"):
        run_all([planned], quiet=True)
