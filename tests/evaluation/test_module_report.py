"""--diagnostics modules: what moves, what a swap brings back, and that looking changes nothing."""

import json

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from cl_suite.cli.main import main
from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.core.listener import Silent
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import SEGMENTS
from cl_suite.methods.module_changes import ModuleChanges
from cl_suite.networks.module_groups import mean_change, module_groups, parameter_count, snapshot
from cl_suite.networks.network import build_network
from cl_suite.report.build import build_report
from strategies.bounds.finetune import Finetune
from strategies.fpf.choose_modules import select
from strategies.replay.er import ER
from tests.helpers.image_streams import harness_of
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but

TRAIN = TrainSettings(epochs=2, batch_size=24)


@pytest.mark.parametrize("backbone", ["mlp", "conv_small", "resnet18_reduced", "alexnet", "lenet_gpm"])
def test_every_tensor_belongs_to_one_module(backbone):
    network = build_network(backbone, (3, 32, 32), 10)
    names = [name for group in module_groups(network).values() for name in group]
    floating = {name for name, value in network.state_dict().items() if value.is_floating_point()}
    assert sorted(names) == sorted(floating)
    assert parameter_count(network, names) == sum(parameter.numel() for parameter in network.parameters())


def test_a_resnet_is_divided_as_in_the_paper():
    groups = module_groups(build_network("resnet18_reduced", (3, 32, 32), 10))
    expected = ["conv1", "stage1", "stage2", "stage3", "stage4", "shortcuts", "bn", "bn_statistics"]
    assert set(groups) == {*expected, "fc_weight", "fc_bias"}
    assert len(groups["shortcuts"]) == 3 and len(groups["stage2"]) == 4


def test_change_is_the_mean_over_a_modules_entries_and_zero_where_frozen():
    before = {"a": torch.zeros(2, 2), "b": torch.zeros(4), "c": torch.ones(3)}
    after = {"a": torch.tensor([[1.0, -1.0], [0.0, 0.0]]), "b": torch.full((4,), 0.5), "c": torch.ones(3)}
    assert mean_change({"ab": ["a", "b"], "c": ["c"]}, before, after) == {"ab": 0.5, "c": 0.0}


def changes(*epochs):
    log = ModuleChanges()
    log.epochs = [(number, {"fc": fc, "conv1": conv}) for number, fc, conv in epochs]
    return log


def test_scores_look_at_all_epochs_at_switches_or_at_their_ratio():
    log = changes((0, 4.0, 2.0), (0, 1.0, 1.0), (1, 3.0, 1.5), (1, 1.0, 0.5))
    assert log.scores("raw") == {"fc": 2.25, "conv1": 1.25}
    assert log.scores("boundary") == {"fc": 3.0, "conv1": 1.5}
    assert log.scores("ratio") == {"fc": 3.0, "conv1": 2.0}


def test_modules_are_chosen_by_number_threshold_or_share_of_the_parameters():
    network = build_network("mlp", (1, 8, 8), 10, hidden=(20, 10))  # 64-20-10-10: 1300, 210, 100 + 10
    scores = {"linear1": 3.0, "linear2": 2.0, "fc_weight": 1.0, "fc_bias": 4.0}
    assert select(scores, network, top=2) == ["linear1", "fc_bias"]
    assert select(scores, network, threshold=1.5) == ["linear1", "linear2", "fc_bias"]
    assert select(scores, network, budget=220 / 1620) == ["fc_bias"]  # the next, linear1, does not fit
    assert select(scores, network, budget=0.001) == ["fc_bias"]  # never none
    assert select(scores, network, top=1, most=False) == ["fc_weight"]
    # 1310 parameters are chosen below, 310 are left, of which the control takes the least sensitive first.
    assert select(scores, network, budget=1310 / 1620) == ["linear1", "fc_bias"]
    assert select(scores, network, budget=1310 / 1620, most=False) == ["linear2", "fc_weight"]


@pytest.mark.parametrize("backbone", ["conv_small", "resnet18_reduced"])
def test_the_control_has_nothing_in_common_with_what_is_chosen(backbone):
    network = build_network(backbone, (3, 32, 32), 10)
    names = list(module_groups(network))
    for start in range(len(names)):
        scores = {name: float((place + start) % len(names)) for place, name in enumerate(names)}
        most, least = (set(select(scores, network, most=flag)) for flag in (True, False))
        assert most and least and not most & least
        assert ("bn" in most) == ("bn_statistics" in most)


def test_a_pass_that_trains_nothing_is_not_an_epoch():
    network = build_network("mlp", (1, 8, 8), 10)
    log = ModuleChanges()
    log.begin(network)
    log.observe(0, network)
    assert log.epochs == []


@pytest.mark.parametrize("name", slow_but(ONE_OF_EACH_FAMILY, sorted(installed(STRATEGY))))
def test_looking_changes_nothing_and_finds_the_modules_of_every_strategy(name):
    cls = choose(STRATEGY, name).cls
    scenario = next(s for s in Scenario if cls.requirements(cls.config_for({})()) <= s.provides)
    model = "mlp"
    plain = harness_of(cls, scenario=scenario, model=model, train=TRAIN, config=cls.config_for({})())
    plain.run()
    config = cls.config_for({})()
    watched = harness_of(cls, scenario=scenario, model=model, train=TRAIN, config=config, ask=["modules"])
    if plain.strategy.trained_network() is None:
        with pytest.raises(UsageError, match="looks into one network"):
            watched.run()
        return
    watched.run()
    assert watched.results.R == plain.results.R
    facts = watched.evaluations["modules"].record()
    assert len(facts["experiences"]) == 3
    assert set(facts["modules"]) == set(facts["experiences"][0])
    assert any(value > 0 for change in facts["experiences"] for value in change.values())
    assert all(len(row) == 2 for row in facts["swap"].values())


def test_putting_every_module_back_brings_the_score_back():
    train = TrainSettings(epochs=6, batch_size=4)
    harness = harness_of(Finetune, scenario="task_incremental", model="mlp", ask=["modules"], train=train, lr=0.1)
    harness.run()
    report = harness.evaluations["modules"]
    network = harness.strategy.model
    last = snapshot(network)
    report.groups = {"all": [name for names in report.groups.values() for name in names]}
    report.swap_test(network)
    R = harness.results.R
    assert report.swap[0] == [R[task][task] - R[-1][task] for task in range(2)]
    assert max(report.swap[0]) > 0
    assert all(torch.equal(last[name], value) for name, value in network.state_dict().items())


def test_an_interrupted_run_ends_with_the_same_report(tmp_path):
    straight = harness_of(ER, ask=["modules"])
    straight.run()

    class Stop(Exception):
        pass

    class StopAfterTwo:
        def __getattr__(self, name):
            return lambda *arguments: None

        def row(self, number, scores):
            if number == 1:
                raise Stop

    checkpoint = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        harness_of(ER, ask=["modules"], checkpoint=checkpoint, listener=StopAfterTwo()).run()
    resumed = harness_of(ER, ask=["modules"], checkpoint=checkpoint)
    resumed.run()
    before, after = (harness.evaluations["modules"] for harness in (straight, resumed))
    assert (after.record(), after.figures()) == (before.record(), before.figures())


def test_the_command_writes_heat_maps_that_the_report_draws(tmp_path, capsys):
    arguments = ["--strategy", "er", "--stream", "toy_gaussians", "stream.n_tasks=2", "stream.n_train=40"]
    run = [*arguments, "train.epochs=2", "--threads", "1", "--results", str(tmp_path)]
    for extra in ([], ["--diagnostics", "modules"], ["--diagnostics", "modules", "--overwrite"]):
        with pytest.raises(SystemExit) as ended:
            main([*run, *extra])
        assert ended.value.code == 0
    assert "already finished, without --diagnostics modules; --overwrite runs it again" in capsys.readouterr().err
    (path,) = tmp_path.rglob("seed_0.json")
    figures = json.loads(path.read_text())["diagnostics"]["figures"]
    assert set(figures) == {"module_changes", "module_swap"}
    assert len(figures["module_changes"]["values"]) == 3
    drawn = [file.name for file in build_report(tmp_path, tmp_path / "out") if file.suffix == ".png"]
    assert len(drawn) == 2


def test_without_boundaries_changes_are_by_segment_and_nothing_is_swapped():
    harness = harness_of(ER, scenario="task_agnostic", ask=["modules"])
    harness.run()
    figures = harness.evaluations["modules"].figures()
    assert set(figures) == {"module_changes"}
    assert figures["module_changes"]["columns"] == [str(number) for number in range(SEGMENTS)]


def test_a_checkpoint_from_before_reports_were_evaluations_goes_on(tmp_path):
    straight = harness_of(ER, ask=["modules"])
    straight.run()

    class Stop(Exception):
        pass

    class StopAfterTwo(Silent):
        def row(self, experience, scores):
            if experience == 1:
                raise Stop

    checkpoint = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        harness_of(ER, ask=["modules"], checkpoint=checkpoint, listener=StopAfterTwo()).run()
    state = load_state(checkpoint)
    state["report"] = state["evaluations"].pop("modules")
    save_state(checkpoint, state)
    resumed = harness_of(ER, ask=["modules"], checkpoint=checkpoint)
    resumed.run()
    assert resumed.evaluations["modules"].record() == straight.evaluations["modules"].record()
