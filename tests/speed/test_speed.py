"""What a strategy costs beside finetune: the shape of the answer, never the time."""

import json

import pytest

from cl_suite.cli.main import main

TINY = ["--device", "cpu", "--model", "mlp", "--batch-size", "4", "--tasks", "2", "--steps", "6", "--repeats", "2"]


def bench(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["speed", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_each_strategy_has_a_ratio_and_steps(capsys):
    status, out, err = bench(capsys, "--strategy", "er", "--strategy", "joint", *TINY, "--json")
    assert status == 0, err
    measured = json.loads(out)
    assert list(measured["strategies"]) == ["er", "joint"]
    assert measured["finetune"]["steps"] == measured["strategies"]["er"]["steps"] == 6
    assert measured["strategies"]["joint"]["steps"] == 12  # both tasks: a ratio per step still compares
    for case in measured["strategies"].values():
        assert case["ratio"] > 0 and case["step_seconds"] > 0 and case["rest_seconds"] >= 0
    assert (measured["model"], measured["batch_size"], measured["tasks"]) == ("mlp", 4, 2)


def test_the_text_names_strategy_and_reference(capsys):
    status, out, _ = bench(capsys, "--strategy", "er", *TINY)
    assert status == 0
    assert "finetune (reference): " in out and "  er: " in out and "times as long" in out


def test_options_reach_the_strategies_named_and_are_shown(capsys):
    status, out, _ = bench(capsys, "--strategy", "er", "strategy.buffer_size=7", *TINY)
    assert status == 0
    assert "strategy.buffer_size=7" in out.splitlines()[0]


NEEDY = """
from cl_suite import GradientStrategy, Requirement

class Needy(GradientStrategy):
    requires = frozenset({"not a requirement"})
"""


def test_bad_requests_are_one_line(capsys, tmp_path):
    plugin = tmp_path / "needy.py"
    plugin.write_text(NEEDY)
    for arguments, reason in (
        (["--strategy", "er_"], "Did you mean er"),
        (["--strategy", f"{plugin}:Needy"], "requires is not a frozenset of Requirement"),
        (["--strategy", "er", "--tasks", "1"], "--tasks 1 is too small"),
        (["--strategy", "er", "--repeats", "0"], "--repeats 0 is too small"),
        (["--strategy", "er", "--model", "resnet"], "is not a backbone"),
        (["--strategy", "er", "strategy.eps2=-1"], "there is no option strategy.eps2"),
        (["--strategy", "er", "train.epochs=1"], "has no effect on speed"),
        (["strategy.eps2=-1"], "Name one with --strategy"),
    ):
        status, _, err = bench(capsys, *arguments)
        assert status == 2 and reason in err and len(err.splitlines()) == 1, err
