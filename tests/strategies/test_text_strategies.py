"""Every installed strategy learns texts, or says in one line why it cannot."""

import pytest
import torch

from cl_suite import UsageError, build_network
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.runs.harness import Harness
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but
from tests.helpers.text_streams import VOCABULARY, scenario_stream, some

SMALL = {
    "text_cnn": {"width": 8, "dimensions": 16},
    "text_bag": {"hidden": (16,), "dimensions": 16},
    "text_transformer": {"hidden": (32,), "dimensions": 32},
}
OPTIONS = {
    "gdumb": {"epochs": 2},
    "fpf": {"fpf_epochs": 1},
    "k_fpf": {"fpf_epochs": 1, "k": 2},
    "tame": {"window": 4, "selector_epochs": 1, "prune_epochs": 1},
    "supsup": {"density": 0.5},
    "exssnet": {"density": 0.3},
    "ssnet": {"density": 0.3},
}
CHAIN_ALONE = {"hat"}  # gates a plain chain of layers, which text_bag is
LOOKING = ("er", "der++", "x_der", "icarl", "ewc", "gem", "gpm", "trgp", "cuber", "exssnet", "tame")
EXACT = ("supsup", "exssnet", "packnet", "piggyback", "hat", "wsn")  # nothing learned is ever touched


def harness(name, model="text_cnn", *, options=None, shown=None):
    shown = shown or scenario_stream()
    cls = choose(STRATEGY, name).cls
    config = cls.config_for({})()
    for option, value in {**OPTIONS.get(name, {}), **(options or {})}.items():
        setattr(config, option, value)

    def build():
        info = shown.info
        return build_network(model, info.input_shape, info.n_outputs, vocabulary=VOCABULARY, **SMALL[model])

    return Harness(cls(config), shown, build)


@pytest.mark.parametrize("name", slow_but(ONE_OF_EACH_FAMILY, sorted(installed(STRATEGY))))
def test_every_installed_strategy_learns_texts(name):
    run = harness(name, "text_bag" if name in CHAIN_ALONE else "text_cnn", shown=scenario_stream(epochs=1))
    run.run()
    last = run.results.R[-1]
    assert len(last) == 3 and all(score is not None and 0.0 <= score <= 1.0 for score in last)


@pytest.mark.parametrize("name", slow_but({"icarl", "ewc", "gpm", "exssnet"}, LOOKING))
def test_strategies_that_look_into_the_network_learn_with_a_transformer(name):
    run = harness(name, "text_transformer", shown=scenario_stream(epochs=1))
    run.run()
    assert all(score is not None for score in run.results.R[-1])


@pytest.mark.parametrize("name", sorted(CHAIN_ALONE))
def test_networks_that_a_method_cannot_gate_are_refused_in_one_line(name):
    with pytest.raises(UsageError, match=r"gates a plain chain .*text_bag on texts") as refused:
        harness(name, "text_cnn").run()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, "text_bag" if name in CHAIN_ALONE else "text_cnn") for name in EXACT]
    + [(name, "text_transformer") for name in ("exssnet", "packnet", "wsn")],
)
def test_what_keeps_tasks_apart_never_forgets_a_text(name, model):
    run, texts, seen = harness(name, model), some(8), []
    learn = run.strategy.learn

    def learned(experience):
        learn(experience)
        seen.append([run.strategy.predictor(task)(texts) for task in range(experience.index + 1)])

    run.strategy.learn = learned
    run.run()
    for task in range(2):
        for later in seen[task + 1 :]:
            assert later[task].equal(seen[task][task])
    for task in range(3):
        assert len({row[task] for row in run.results.R[task:]}) == 1


def test_ssnet_s_penalty_reads_texts():
    run = harness("ssnet", options={"ewc_lambda": 10.0, "ewc_samples": 20})
    run.run()
    assert all(torch.isfinite(value).all() for value in run.strategy.ewc.importances)


def test_token_vectors_are_frozen_where_no_mask_covers_them():
    run = harness("exssnet")
    table = {}
    setup = run.strategy.setup

    def kept(info, build_model):
        setup(info, build_model)
        table["first"] = run.strategy.network.backbone.vectors.weight.clone()

    run.strategy.setup = kept
    run.run()
    assert run.strategy.network.backbone.vectors.weight.equal(table["first"])


def test_gradient_projection_freezes_token_vectors_after_the_first_task():
    run, tables = harness("gpm"), []
    learn = run.strategy.learn

    def learned(experience):
        learn(experience)
        tables.append(run.strategy.model.backbone.vectors.weight.detach().clone())

    run.strategy.learn = learned
    run.run()
    assert tables[0].equal(tables[2])


@pytest.mark.parametrize("infer", ["oneshot", "binary", "min_entropy"])
def test_supsup_infers_the_task_of_a_text(infer):
    from cl_suite.core.scenario import Scenario

    run = harness("supsup", options={"infer": infer}, shown=scenario_stream(Scenario.CLASS_INCREMENTAL, epochs=6))
    run.run()
    assert sum(run.results.R[-1]) / 3 > 1 / 6
