"""A network for each task: nothing passes from one to the other, and runs are held against it."""

import json
from pathlib import Path

import pytest
import torch

from cl_suite.cli.main import main
from cl_suite.core.data_root import DataRoot
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.execute import run_one
from cl_suite.runs.harness import Harness
from cl_suite.runs.load import load_stream
from cl_suite.runs.plan import Request, plan
from strategies.bounds.single_task import SingleTask
from tests.helpers.places import ROOT

SPEC = f"{ROOT / 'strategies' / 'bounds' / 'single_task.py'}:SingleTask"
OPTIONS = ("train.epochs=1", "stream.n_tasks=3")


def run(results, *overrides, strategy=SPEC, scenario="task_incremental"):
    root = DataRoot(Path("unused"), offline=True)
    options = (*OPTIONS, *overrides)
    return run_one(
        plan(Request(strategy, "toy_gaussians", results, root, scenario=scenario, threads=1, overrides=options))
    )


def test_where_tasks_are_named_each_keeps_its_own_network_and_nothing_is_forgotten(tmp_path):
    record = run(tmp_path).record
    R = record.R
    assert all(R[i][j] == R[j][j] for i in range(3) for j in range(i))
    assert R[0][1] is None  # no network has learned it
    assert record.diagnostics["networks_kept"] == 3
    finetune = run(tmp_path, strategy="finetune").record
    assert record.costs["model_parameters"] == 3 * finetune.costs["model_parameters"]
    assert R[0][0] == finetune.R[0][0]  # the first network is the same


def test_where_no_task_is_named_the_newest_answers(tmp_path):
    record = run(tmp_path, scenario="class_incremental").record
    assert record.diagnostics["networks_kept"] == 1
    assert record.R[2][0] == record.R[2][1] == 0.0  # it has never seen their classes
    assert record.R[2][2] > 0.9


def test_every_network_is_a_fresh_one(tmp_path):
    planned = plan(Request("finetune", "toy_gaussians", tmp_path, DataRoot(tmp_path, offline=True), overrides=OPTIONS))
    options = planned.composed.run
    loaded = load_stream(
        planned.stream.cls(options.stream), options, root=DataRoot(tmp_path), seeds=planned.seeds, device=planned.device
    )
    shown = ScenarioStream(
        "toy", loaded.data, planned.scenario, train=options.train, seeds=planned.seeds, device=planned.device
    )
    strategy = SingleTask(SingleTask.Config(lr=0.0))  # weights stay as they began
    harness = Harness(strategy, shown, lambda: build_network("mlp", shown.info.input_shape, shown.info.n_outputs))
    harness.run()
    assert len(strategy.networks) == 3
    for number, network in enumerate(strategy.networks):
        expected = harness._factory.make(number).parameters()
        assert all(torch.equal(own, fresh) for own, fresh in zip(network.parameters(), expected, strict=True))


def test_a_run_is_held_against_it(tmp_path, capsys):
    learning = "learning.evaluate=true"
    reference = run(tmp_path, learning, scenario="domain_incremental")
    other = run(tmp_path, learning, strategy="er", scenario="domain_incremental")
    joint = run(tmp_path, strategy="joint", scenario="domain_incremental")

    def numbers(against):
        with pytest.raises(SystemExit) as ended:
            main(["metrics", str(other.path), "--reference", str(against.path), "--json"])
        assert not ended.value.code
        return {entry["name"]: entry["value"] for entry in json.loads(capsys.readouterr().out)["metrics"]}

    found = numbers(reference)
    diagonals = [[each.record.R[k][k] for k in range(3)] for each in (other, reference)]
    gained = [own - alone for own, alone in zip(*diagonals, strict=True)]
    assert found["plasticity@single-task"] == pytest.approx(sum(gained) / 3)
    assert found["intransigence@mean"] == pytest.approx(-sum(gained) / 3)
    points = [each.record.diagnostics["learning"]["points"] for each in (other, reference)]
    areas = [[sum(score or 0.0 for score in own) / len(own) for own in each] for each in points]
    assert found["fwt@continual-world"] == pytest.approx(
        sum((own - alone) / (1 - alone) for own, alone in zip(*areas, strict=True)) / 3
    )
    at_end = numbers(joint)
    assert at_end["intransigence@chaudhry"] == pytest.approx(joint.record.R[2][2] - other.record.R[2][2])
    assert at_end["plasticity@single-task"] is None
