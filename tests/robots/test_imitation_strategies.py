"""Strategies learn to imitate, with every policy; those that need classes say so in one line."""

import dataclasses

import pytest
import torch

from cl_suite import UsageError, build_network
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.runs.harness import Harness
from tests.helpers.robot_streams import SIZE, robot_presentation, robot_stream
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but

SMALL = {
    "bc_mlp": {"hidden": (32, 32)},
    "bc_rnn": {"hidden": (16,), "dimensions": 16},
    "bc_transformer": {"hidden": (32,), "dimensions": 32},
}
CLASSES_ALONE = {"er_ace", "gdumb", "icarl", "lwf", "lwf_mc", "tame", "x_der"}
CHAIN_ALONE = {"hat"}  # gates a plain chain of layers, which no policy is
LISTED = ("finetune", "joint", "er", "ewc", "packnet", "a_gem", "exssnet", "cuber", "k_fpf")
LOOKING = ("ewc", "packnet", "exssnet", "wsn", "gpm", "cuber", "k_fpf", "si", "piggyback")
EXACT = ("packnet", "exssnet", "supsup", "wsn", "piggyback")  # nothing learned is ever touched
OPTIONS = {
    "ewc": {"ewc_lambda": 1.0},
    "fpf": {"fpf_epochs": 1},
    "k_fpf": {"fpf_epochs": 5, "k": 2},
    "supsup": {"density": 0.5},
    "exssnet": {"density": 0.3},
    "ssnet": {"density": 0.3},
}


def harness(name, model="bc_mlp", *, head="l1", history=1, epochs=1, options=None, tolerance=0.1, episodes=8, **train):
    data = robot_stream(head, history=history, episodes=episodes)
    data = dataclasses.replace(data, objective=dataclasses.replace(data.objective, tolerance=tolerance))
    shown = robot_presentation(data, Scenario.TASK_INCREMENTAL, epochs=epochs, **train)
    cls = choose(STRATEGY, name).cls
    config = cls.config_for({})()
    for option, value in {**OPTIONS.get(name, {}), **(options or {})}.items():
        setattr(config, option, value)

    def build():
        return build_network(model, shown.info.input_shape, shown.info.n_outputs, **SMALL[model])

    return Harness(cls(config), shown, build)


def some(history, count=8):
    states = torch.randn(count, history, SIZE, generator=torch.Generator().manual_seed(2))
    return {"states": states, "instruction": torch.eye(2)[torch.arange(count) % 2]}


@pytest.mark.parametrize("name", sorted(installed(STRATEGY)))
def test_every_strategy_imitates_or_says_in_one_line_why_not(name):
    run = harness(name)
    if name in CLASSES_ALONE | CHAIN_ALONE:
        with pytest.raises(UsageError, match=r"class|chain") as refused:
            run.run()
        assert "\n" not in str(refused.value)
        return
    run.run()
    last = run.results.R[-1]
    assert len(last) == 2 and all(score is not None and 0.0 <= score <= 1.0 for score in last)


@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize(
    ("model", "head"), slow_but({("bc_rnn", "gmm")}, [("bc_rnn", "gmm"), ("bc_transformer", "l1")])
)
def test_strategies_that_look_into_the_network_imitate_with_history(name, model, head):
    run = harness(name, model, head=head, history=3)
    run.run()
    assert all(score is not None for score in run.results.R[-1])
    for value in run.strategy.trained_network().state_dict().values():
        assert value.isfinite().all()


@pytest.mark.parametrize("name", slow_but({*ONE_OF_EACH_FAMILY} & {*LISTED}, LISTED))
def test_what_is_learned_of_the_tasks(name):
    """Scores are shares of actions within 0.3 of the expert's; each task is the contrary of the other."""
    run = harness(name, epochs=15, tolerance=0.3, episodes=14)
    results = run.run()
    R, chance = results.R, max(results.baseline)
    assert R[1][1] > chance + 0.3  # the task just learned
    if name in ("er", "joint", *EXACT):
        assert R[1][0] > 0.6
    if name == "finetune":
        assert R[0][0] > 0.6 and R[1][0] < 0.4


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("model", "history"), slow_but({("bc_transformer", 2)}, [("bc_mlp", 1), ("bc_rnn", 2), ("bc_transformer", 2)])
)
def test_what_keeps_tasks_apart_never_forgets_an_action(name, model, history):
    run, seen = harness(name, model, history=history), []
    inputs, learn = some(history), run.strategy.learn

    def learned(experience):
        learn(experience)
        seen.append(run.strategy.predictor(0)(inputs))

    run.strategy.learn = learned
    run.run()
    assert seen[0].isfinite().all() and seen[1].equal(seen[0])
    assert not run.strategy.predictor(1)(inputs).equal(seen[0])


@pytest.mark.parametrize("head", ["shared_masked", "per_task"])
def test_masks_with_a_head_of_their_own_imitate_too(head):
    run = harness("exssnet", options={"head": head}, epochs=10, tolerance=0.3)
    R = run.run().R
    assert R[1][0] == R[0][0] > 0.4 and R[1][1] > 0.4


def test_masks_choose_an_epoch_by_the_actions_held_out():
    run = harness("exssnet", options={"select": "best_per_phase"}, epochs=4, tolerance=0.3, validation=0.2)
    run.run()
    assert run.strategy.model_selection() == "validation"


def test_the_penalty_of_ssnet_holds_weights_of_actions():
    run = harness("ssnet", options={"ewc_lambda": 10.0, "ewc_samples": 20}, epochs=2)
    run.run()
    assert sum(float(value.sum()) for value in run.strategy.ewc.importances) > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exssnet", {"infer": "min_entropy"}, r"strategy\.infer=min_entropy is about classes, but .* are actions"),
        ("exssnet", {"score_init": "knn_best"}, r"strategy\.score_init=knn_best is about classes"),
        ("supsup", {"outputs": 8}, r"strategy\.outputs=8 is about classes"),
        ("er", {"buffer": "balanced"}, r"strategy\.buffer=balanced needs one class per sample"),
        ("k_fpf", {"fpf_balanced": True}, r"strategy\.fpf_balanced needs one class per sample"),
        ("ewc", {"fisher_weighting": "prob"}, "prob needs one class per sample"),
    ],
)
def test_options_about_classes_are_refused_in_one_line(name, options, message):
    with pytest.raises(UsageError, match=message) as refused:
        harness(name, options=options).run()
    assert "\n" not in str(refused.value)
