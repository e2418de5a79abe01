"""Published settings of gradient projection and IBCL fit the networks they name, with the programs' numbers."""

from functools import cache
from importlib.resources import files

import pytest

from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.networks.network import build_network
from cl_suite.runs.config import compose_config
from strategies.projection.projected_network import ProjectedNetwork

SHAPES = {
    "split_cifar100": (3, 32, 32),
    "cifar100_superclasses": (3, 32, 32),
    "five_datasets": (3, 32, 32),
    "permuted_mnist": (1, 28, 28),
}
STRATEGIES = ("gpm", "trgp", "cuber")


@cache
def composed(strategy, stream, scenario="task_incremental"):
    return compose_config(
        strategy=strategy,
        strategy_config=choose(STRATEGY, strategy).cls.config_for,
        stream=stream,
        stream_config=choose(STREAM, stream).cls.Config,
        scenario=scenario,
        overrides=["protocol=paper"],
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stream", SHAPES)
def test_every_list_has_one_entry_per_projected_layer(strategy, stream):
    run = composed(strategy, stream).run
    given = {
        key: value
        for key, value in vars(run.model).items()
        if key not in ("name", "frozen_embeddings", "options", "weights")
    }
    network = build_network(run.model.name, SHAPES[stream], 10, **given)
    layers = list(ProjectedNetwork(network, heads=stream == "permuted_mnist").layers)
    run.strategy.check(layers)
    assert len(run.strategy.samples_per_layer or layers) == len(layers)
    assert not any(parameter.numel() == 10 for parameter in network.heads.parameters())  # no bias


def test_figures_that_were_only_recalled_are_no_targets():
    targets = {(s, stream): composed(s, stream).target for s in STRATEGIES for stream in SHAPES}
    assert {key for key, target in targets.items() if target} == {("trgp", "split_cifar100")}


def test_a_shortcut_uses_as_many_samples_as_the_first_convolution_of_its_block():
    run = composed("gpm", "five_datasets").run
    names = list(ProjectedNetwork(build_network("resnet18_gpm", (3, 32, 32), 50), heads=False).layers)
    samples = dict(zip(names, run.strategy.samples_per_layer, strict=True))
    shortcuts = [name for name in names if "shortcut" in name]
    assert [samples[name] for name in shortcuts] == [samples[name.replace("shortcut.0", "conv1")] for name in shortcuts]
    own = [count for name, count in samples.items() if name not in shortcuts]
    assert own == [10] * 8 + [50] * 3 + [100] * 6


def test_settings_are_named_after_a_strategy_and_a_stream():
    names = {entry.name.removesuffix(".yaml") for entry in (files("configs") / "reproduce").iterdir()}
    assert {f"{strategy}_{stream}" for strategy in STRATEGIES for stream in SHAPES} <= names


@pytest.mark.parametrize("stream", ["cifar100_animals", "newsgroups_computer"])
def test_ibcl_s_settings_are_those_of_its_program_and_claim_no_figure(stream):
    composition = composed("ibcl", stream, scenario="domain_incremental")
    chosen = composition.run.strategy
    assert not composition.target
    assert (chosen.kl_scale, chosen.kl_estimate, chosen.init) == ("per_batch", "sampled", "standard")
    assert (chosen.distance, chosen.combine, chosen.sample) == ("normalised", "linear", "tensor_scalar")
    assert (chosen.threshold, chosen.hdr_mass, chosen.samples) == (0.01, 0.01, 10)
    assert composition.run.preferences.evaluate and composition.run.preferences.draw == "normalised"
    composition.run.preferences.check()
    chosen.check_variational()
    network = build_network(composition.run.model.name, (512,), 2, hidden=tuple(composition.run.model.hidden))
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * 513  # the small head
