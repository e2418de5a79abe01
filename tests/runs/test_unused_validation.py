"""Who looks at held-out samples says so, and no one else: notes, refusals and `model_selection` rest on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cl_suite import DataRoot, TrainSettings, UsageError
from cl_suite.conformance.case import harness_for, present
from cl_suite.core.experience import Experience
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.runs.config import strategy_config
from cl_suite.runs.execute import run_all
from cl_suite.runs.plan import Request, plan
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but

TRAIN = TrainSettings(epochs=2, batch_size=16, validation=0.25)
STOPPING = replace(TRAIN, early_stopping=1)
SHORT = {"gdumb": ["epochs=2"], "fpf": ["fpf_epochs=2"], "k_fpf": ["fpf_epochs=2", "k=2"]}
HERE = (ONE_OF_EACH_FAMILY - {"tame"}) | {"icarl", "wsn", "ibcl", "joint"}
OTHERWISE = [
    ("wsn", ["select=best"]),
    ("exssnet", ["select=best_per_phase"]),
    ("exssnet", ["scheduler=released"]),
    ("gpm", ["plateau=false"]),
]


def chosen_with(name, options):
    chosen = choose(STRATEGY, name)
    overrides = [f"strategy.{option}" for option in [*SHORT.get(name, []), *options]]
    return chosen, strategy_config(chosen, overrides, of="the test")


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


@pytest.mark.parametrize(("name", "options"), [*((name, []) for name in sorted(HERE)), *OTHERWISE])
def test_a_strategy_looks_at_held_out_samples_if_and_only_if_it_says_so(monkeypatch, name, options):
    assert_true_to_its_word(monkeypatch, name, options)


@pytest.mark.parametrize("name", slow_but((), sorted(set(installed(STRATEGY)) - HERE)))
def test_so_do_all_others(monkeypatch, name):
    assert_true_to_its_word(monkeypatch, name, [])


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


@pytest.mark.parametrize(
    ("strategy", "overrides", "scenario", "text"),
    [
        ("er", [], None, ""),
        ("er", ["train.validation=0.2", "train.early_stopping=1"], None, ""),
        ("gpm", ["train.validation=0.2"], None, ""),
        ("gpm", ["train.validation=0.2", "strategy.plateau=false"], None, "or add train.early_stopping=5"),
        ("packnet", ["train.validation=0.2"], None, "packnet looks at none of them as it is set: leave it out"),
        ("fpf", ["train.validation=0.2"], None, "fpf looks at none of them"),
        ("fpf", ["train.validation=0.2", "train.early_stopping=1"], None, ""),
        ("er", ["train.validation=0.2"], "task_agnostic", "has no effect: task_agnostic tells no experiences apart"),
    ],
)
def test_what_is_said_is_true_of_the_options(tmp_path, strategy, overrides, scenario, text):
    said = plan(request_for(tmp_path, strategy, *overrides, scenario=scenario)).unused_validation
    assert text in said and bool(text) == bool(said) and "\n" not in said
    if strategy == "packnet":
        assert "early_stopping" not in said  # which it does not have


STOP = ["train.validation=0.2", "train.early_stopping=3"]


@pytest.mark.parametrize(
    ("strategy", "overrides", "scenario", "message"),
    [
        ("er", ["train.early_stopping=3"], None, "none are held out. Add train.validation=0.1"),
        ("er", ["train.early_stopping=-1"], None, "train.early_stopping=-1 is too small"),
        ("er", STOP, "task_agnostic", "task_agnostic tells no experiences apart"),
        ("gpm", STOP, None, "of gpm: strategy.plateau=true follows the validation loss already"),
        ("wsn", [*STOP, "strategy.select=best"], None, "strategy.select=best chooses the epoch already"),
        ("exssnet", STOP, None, "it trains in phases; strategy.select=best_per_phase keeps the best"),
        ("packnet", STOP, None, "divided before and after pruning"),
        ("k_fpf", STOP, None, "spaced over the planned steps"),
        ("fpf", [*STOP, "strategy.base=gdumb"], None, "of fpf: it trains in a loop of its own"),
        *((name, STOP, None, "it trains in a loop of its own") for name in ("joint", "vcl", "ibcl", "preference_ewc")),
    ],
)
def test_early_stopping_is_refused_before_data_is_read(tmp_path, strategy, overrides, scenario, message):
    with pytest.raises(UsageError, match=message) as refused:
        plan(request_for(tmp_path, strategy, *overrides, scenario=scenario))
    assert "\n" not in str(refused.value)


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
