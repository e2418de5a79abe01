"""Every installed strategy learns on a network of one's own, with batch norm and without, or says why it cannot."""

import pytest
import torch

from cl_suite import Scenario, Seeds, TrainSettings, UsageError, build_network
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.choice import choose_network
from cl_suite.runs.harness import Harness
from tests.helpers.image_streams import image_stream
from tests.helpers.own_networks import write_networks
from tests.helpers.slow import slow_but

OPTIONS = {
    "gdumb": {"epochs": 2},
    "fpf": {"fpf_epochs": 1},
    "k_fpf": {"fpf_epochs": 1, "k": 2},
    "tame": {"window": 4, "selector_epochs": 1, "prune_epochs": 1},
    "exssnet": {"density": 0.3},
}
DOMAINS = ("ibcl", "vcl", "interpolation", "preference_ewc", "preference_joint", "preference_replay")
EXACT = ("supsup", "ssnet", "exssnet", "packnet", "piggyback", "hat", "wsn")  # nothing learned is ever touched
KEEP_DISTRIBUTIONS = ("ibcl", "vcl")
DEFAULT = [("er", True), ("ewc", True), ("exssnet", True), ("supsup", False), ("gpm", True), ("gpm", False)]
DEFAULT += [("packnet", True), ("icarl", False), ("tame", False), ("ibcl", False), ("ibcl", True)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("own"))


def run_of(name, network, **extra):
    cls = choose(STRATEGY, name).cls
    config = cls.config_for({})()
    for option, value in OPTIONS.get(name, {}).items():
        setattr(config, option, value)
    shown = ScenarioStream(
        "images",
        image_stream(n_tasks=2),
        Scenario.DOMAIN_INCREMENTAL if name in DOMAINS else Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=2, batch_size=12),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    info, chosen = shown.info, choose_network(network)
    harness = Harness(cls(config), shown, lambda: build_network(chosen, info.input_shape, info.n_outputs, extra=extra))
    return harness.run(), harness.strategy


CASES = [(name, norm) for name in sorted(installed(STRATEGY)) for norm in (True, False)]


@pytest.mark.parametrize(("strategy", "norm"), slow_but(DEFAULT, CASES))
def test_every_strategy_learns_on_a_network_of_ones_own_or_says_why_not(file, strategy, norm):
    if strategy == "hat" or (norm and strategy in KEEP_DISTRIBUTIONS):
        with pytest.raises(UsageError, match=r"gates a plain chain|batch norm keeps statistics"):
            run_of(strategy, f"{file}:Net", norm=norm)
        return
    results, _ = run_of(strategy, f"{file}:Net", norm=norm)
    assert None not in results.R[-1] and max(results.R[0][0] or 0, *results.R[-1]) > 0.6  # chance is 0.5
    if strategy in EXACT:
        assert results.R[1][0] == results.R[0][0]


def test_hat_gates_a_chain_of_ones_own(file):
    results, _ = run_of("hat", f"{file}:chain")
    assert results.R[1][0] == results.R[0][0]


def test_a_method_finds_no_parameter_without_a_part(file):
    _, strategy = run_of("ewc", f"{file}:Known")  # it asks each parameter for its gradient by each sample
    assert strategy.model_parameters() == (192 * 12 + 12) + (12 * 4 + 4)
