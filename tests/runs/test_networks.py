"""Runs on networks from elsewhere and from weights: every family of methods, the record, resuming, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from cl_suite import DataRoot, UsageError
from cl_suite.core.experience import Experience
from cl_suite.networks.choice import choose_network
from cl_suite.networks.origins import Wanted
from cl_suite.networks.weights import StartingWeights
from cl_suite.records.record import config_hash
from cl_suite.runs.config import ModelConfig
from cl_suite.runs.execute import Run, run_one
from cl_suite.runs.networks import NetworkFactory
from cl_suite.runs.paths_in_overrides import with_quoted_path
from cl_suite.runs.plan import Request, plan
from tests.helpers.own_networks import write_networks

SHAPE = (1, 8, 8)
SMALL = ("stream.n_tasks=2", "train.epochs=1", "train.batch_size=64")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("own"))


def planned(results, *overrides, strategy="finetune", stream="split_digits", scenario=None):
    request = Request(
        strategy,
        stream,
        results,
        DataRoot(Path("unused"), offline=True),
        threads=1,
        overrides=overrides,
        scenario=scenario,
    )
    return plan(request)


def ran(results, *overrides, **options):
    return run_one(planned(results, *SMALL, *overrides, **options)).record


# -- the record -------------------------------------------------------------------------------------------------------


def test_the_record_names_network_and_weights_by_their_content(file, tmp_path):
    made = choose_network(f"{file}:Net").make(Wanted(SHAPE, 10))
    weights = tmp_path / "start.pt"
    torch.save(made.net.state_dict(), weights)
    record = ran(tmp_path / "results", f"model.name={file}:Net", f"model.weights={weights}")
    digest = StartingWeights.of(str(weights)).digest
    assert record.config["model"]["name"] == choose_network(f"{file}:Net").identity
    assert record.config["model"]["weights"] == f"start.pt sha256:{digest[:12]}"
    facts = record.diagnostics["network"]
    assert facts["head_input"] == "input of last" and facts["left_out"] == ["last"] and facts["features"] == 24
    assert facts["weights"] == {"file": "start.pt", "sha256": digest, "tensors": 4, "left_out": []}
    kept = json.loads(record.to_json())
    del kept["provenance"]  # the command as it was typed
    assert str(tmp_path) not in json.dumps(kept) and str(file.parent) not in json.dumps(kept)
    assert "network" not in ran(tmp_path / "results").diagnostics


def test_another_content_is_another_configuration_and_another_place_is_not(file, tmp_path):
    weights = tmp_path / "start.pt"
    torch.save({"a": torch.ones(1)}, weights)
    moved = write_networks(tmp_path)
    (tmp_path / "b").mkdir()
    copy = tmp_path / "b" / "start.pt"
    copy.write_bytes(weights.read_bytes())

    def path(network, start):
        return planned(tmp_path / "results", f"model.name={network}:Net", f"model.weights={start}").record_path

    here = path(file, weights)
    assert path(moved, copy) == here
    torch.save({"a": torch.zeros(1)}, copy)
    assert path(moved, copy) != here
    moved.write_text(moved.read_text() + "\n")
    assert path(moved, weights) != here


def test_options_that_came_later_change_no_hash_at_their_defaults():
    before = {"model": {"name": "mlp", "width": None, "hidden": None}}
    assert config_hash({"model": {**before["model"], "options": None, "weights": None}}) == config_hash(before)
    assert config_hash({"model": {**before["model"], "weights": "x sha256:1"}}) != config_hash(before)


def test_a_run_on_own_network_and_weights_goes_on_bit_for_bit(file, tmp_path, monkeypatch):
    weights = tmp_path / "start.pt"
    torch.save(choose_network(f"{file}:Net").make(Wanted(SHAPE, 10)).net.state_dict(), weights)
    options = (f"model.name={file}:Net", f"model.weights={weights}")
    straight = ran(tmp_path / "straight", *options, strategy="single_task")  # a fresh network for every task
    learn = Experience._after_batch

    def interrupt(self, *arguments, **given):
        if self.index == 1:
            raise KeyboardInterrupt
        learn(self, *arguments, **given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Experience, "_after_batch", interrupt)
        ran(tmp_path / "resumed", *options, strategy="single_task")
    assert list((tmp_path / "resumed").rglob("*.partial.safetensors"))
    assert ran(tmp_path / "resumed", *options, strategy="single_task").R == straight.R


# -- weights to start from --------------------------------------------------------------------------------------------


def test_every_network_of_a_run_starts_from_the_weights_with_a_head_of_its_own(tmp_path):
    weights = tmp_path / "start.pt"
    network = choose_network("conv_small")
    torch.save(network.make(Wanted(SHAPE, 10, options={"width": 4})).state_dict(), weights)
    factory = NetworkFactory(
        network,
        ModelConfig(name="conv_small", width=4),
        Wanted(SHAPE, 10),
        weights=StartingWeights.of(str(weights)),
        seed=0,
    )
    first, second = factory(), factory()
    assert torch.equal(first.backbone[0].weight, second.backbone[0].weight)
    assert torch.equal(first.backbone[0].weight, torch.load(weights, weights_only=True)["0.weight"])
    assert not torch.equal(first.heads.linear.weight, second.heads.linear.weight)


def test_finetuning_starts_from_what_was_learned_before(tmp_path):
    run = Run(planned(tmp_path, "train.epochs=4", "model.name=mlp", "stream.n_tasks=1", strategy="joint"))
    run.prepare()
    run.train()
    weights = tmp_path / "learned.pt"
    torch.save(run.harness.strategy.trained_network().state_dict(), weights)
    options = ("model.name=mlp", "strategy.lr=0.005")
    scratch, warm = ran(tmp_path, *options), ran(tmp_path, *options, f"model.weights={weights}")
    assert warm.R[0][0] > scratch.R[0][0] + 0.1
    assert warm.diagnostics["network"]["weights"]["left_out"] == [
        "heads.opened",
        "heads.linear.weight",
        "heads.linear.bias",
    ]


def test_a_method_that_draws_its_own_weights_refuses_those_of_a_file(tmp_path):
    weights = tmp_path / "start.pt"
    torch.save({"a": torch.ones(1)}, weights)
    asked = f"model.weights={weights}"
    for strategy, *options in (("exssnet",), ("supsup",), ("ibcl", "strategy.init=prior")):
        scenario = "domain_incremental" if options else None
        with pytest.raises(UsageError, match=rf"model.weights=.*has no effect: {strategy}, with these options, draws"):
            planned(tmp_path, asked, *options, strategy=strategy, scenario=scenario)
    planned(tmp_path, asked, strategy="ibcl", scenario="domain_incremental")
    planned(tmp_path, asked, strategy="fpf")


def test_weights_that_make_no_numbers_are_refused_before_training(tmp_path):
    weights = tmp_path / "start.pt"
    state = choose_network("mlp").make(Wanted(SHAPE, 10)).state_dict()
    torch.save({key: value * float("nan") for key, value in state.items()}, weights)
    with pytest.raises(UsageError, match="holds NaN or infinity before any training"):
        ran(tmp_path / "results", "model.name=mlp", f"model.weights={weights}")
    assert not list((tmp_path / "results").rglob("seed_*"))


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_says_what_came_of_the_network_and_the_weights(bench, tmp_path):
    write_networks(tmp_path)
    torch.save({"net.last.weight": torch.zeros(2)}, tmp_path / "w.pt")
    arguments = ["--strategy", "finetune", "--stream", "split_digits", *SMALL, "model.name=net.py:Net"]
    status, out, err = bench(*arguments)
    assert status == 0 and "ACC %" in out
    assert "net.py:Net: 1,600 parameters; the head reads its input of last, 24 numbers; left out: last." in err
    status, out, err = bench(*arguments, "model.weights=w.pt")
    assert status == 2 and out == ""
    assert "w.pt does not fit model.name=net.py:Net: it lacks conv.weight and 3 more" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("Wide", "[2, 11] for two samples, not [2, 10]"), ("Training", "in training mode"), ("None", "no 'None'")],
)
def test_a_wrong_network_is_one_line_and_status_2(bench, tmp_path, name, message):
    write_networks(tmp_path)
    status, out, err = bench("--strategy", "er", "--stream", "split_digits", f"model.name=net.py:{name}")
    lines = [line for line in err.splitlines() if line.startswith("cl-bench: ")]
    assert status == 2 and out == "" and len(lines) == 1 and message in lines[0] and "Traceback" not in err
    assert not list(tmp_path.rglob("seed_*.json"))


def test_a_protocol_does_not_lay_its_sizes_on_a_network_from_elsewhere(file, tmp_path):
    own = planned(tmp_path, f"model.name={file}:Net", stream="split_cifar100").config["model"]
    usual = planned(tmp_path, stream="split_cifar100").config["model"]
    assert own["width"] is None and usual["width"] == 24


PATHS = [
    *("/data/Müller/x.pt", "/data/用户/x.pt", "/data/x (1).pt", "/data/epoch=3-step=100.pt", "~/x.pt", "/data/a,b.pt"),
    *("/data/o'brien/x.pt", "C:\\data\\x.pt", "/data/[1]/{2}.pt", "/data/x;y#z!.pt", "/data/back\\"),
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_with_any_characters_is_a_value(path):
    parsed = OverridesParser.create().parse_override(with_quoted_path(f"model.weights={path}"))
    assert parsed.key_or_group == "model.weights" and parsed.value() == path and not parsed.is_sweep_override()


@pytest.mark.parametrize("option", ["model.weights", "features.network=mlp features.weights", "model.encoder"])
def test_an_option_that_is_a_path_takes_what_hydra_would_not_read(tmp_path, option):
    file = tmp_path / "epoch=3, Müller (1).pt"
    torch.save({"a": torch.ones(1)}, file)
    *before, last = option.split()
    assert planned(tmp_path / "results", *before, f"{last}={file}").config  # refused only for what is in it, later


def test_what_is_no_path_is_left_to_hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("er", "3", "a,b", "x (1).pt"):
        (tmp_path / name).touch()
    for text in ("strategy.lr=0.1", "strategy.x=[1,2]", "model.options={a:b/c}", "x='a/b'", "strategy", "x=er", "x=3"):
        assert with_quoted_path(text) == text
    assert with_quoted_path("x=a,b") == "x='a,b'" and with_quoted_path("x=c,d") == "x=c,d"
    assert with_quoted_path("x=x (1).pt") == "x='x (1).pt'"


def test_options_that_are_none_are_refused(file, tmp_path):
    for text, message in (
        ("model.options=3", "are no options by name"),
        ("model.options={}", "are no options by name"),
        ("model.options={width:3}", "Give it once"),
    ):
        with pytest.raises(UsageError, match=message):
            planned(tmp_path, f"model.name={file}:Net", "model.width=2", text)
