"""`cl-bench info`: everything with a name, in lines that can be read, without torch where it is not needed."""

import json
import subprocess
import sys

import pytest

from cl_suite.core.registry import STRATEGY, STREAM, installed
from cl_suite.info.others import PROTOCOLS as DESCRIBED
from cl_suite.runs.config import PROTOCOLS

NAMES = ["er", "supsup", "split_cifar100", "toy_reach", "forgetting", "training_flops", "bwt@gem", "calibration"]
NAMES += ["modules", "quick", "paper", "task_agnostic", "train", "model"]


def test_a_strategy_is_told_whole(bench):
    status, out, _ = bench("info", "exssnet", "--json")
    (answer,) = json.loads(out)
    assert status == 0 and (answer["kind"], answer["name"]) == ("strategy", "exssnet")
    assert answer["paper"] == "Yadav & Bansal 2023, arXiv 2210.10209"
    assert answer["scenarios"] == ["task_incremental"] and "task_id at test" in answer["needs"]
    assert answer["also_in"]["strategy.infer=oneshot"] == "it runs in class_incremental, domain_incremental too"
    density = next(option for option in answer["options"] if option["name"] == "strategy.density")
    assert density == {
        "name": "strategy.density",
        "type": "float",
        "default": 0.1,
        "meaning": "share of each layer's weights kept, in (0, 1]",
    }
    assert all(cost["whose"] == "reference" for cost in answer["measured"])


def test_text_has_what_json_has(bench):
    _, out, _ = bench("info", "er")
    assert "er (strategy)" in out and "strategy.buffer_size=500" in out and "samples, whole stream" in out
    assert "keeps buffer_size samples" in " ".join(out.split())
    assert "split_mnist class_incremental quick: FLOPs beside finetune's 2.00" in " ".join(out.split())


def test_a_stream_says_how_its_data_comes(bench):
    (answer,) = json.loads(bench("info", "split_mnist", "--json")[1])
    assert answer["kind"] == "stream" and "60,000 training samples" in answer["sizes"][0]
    assert "cl-bench data split_mnist" in answer["data"] and answer["licence"] and answer["source"]
    assert "nothing to fetch" in bench("info", "toy_gaussians")[1]


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit_80_columns_but_for_words_that_do_not(bench, name):
    status, out, _ = bench("info", name)
    assert status == 0
    assert [line for line in out.splitlines() if len(line) > 80 and len(line.split()[-1]) < 45] == []


def test_a_name_that_is_two_things_is_told_twice(bench, tmp_path, monkeypatch):
    from cl_suite.info import others

    monkeypatch.setattr(others, "PROTOCOLS", {**others.PROTOCOLS, "calibration": "made up"})
    kinds = [answer["kind"] for answer in json.loads(bench("info", "calibration", "--json")[1])]
    assert kinds == ["evaluation", "protocol"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exsnet", "Did you mean exssnet"),
        ("split_mnst", "Did you mean split_mnist"),
        ("forgeting", "Did you mean forgetting"),
        ("resnet19", "Did you mean resnet18"),
        ("qwzzx", "`cl-bench list` names strategies and streams"),
        ("absent.py:Method", "there is no file absent.py"),
    ],
)
def test_a_typo_gets_one_line_with_the_nearest(bench, name, message):
    status, out, err = bench("info", name)
    assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1


def test_without_a_name_it_says_what_may_be_named(bench):
    status, _, err = bench("info")
    assert status == 2 and "what about?" in err and "conv_small" in err


def test_a_plugin_of_ones_own_is_told(bench, tmp_path):
    assert bench("new", "strategy", "my_method")[0] == 0
    (answer,) = json.loads(bench("info", "my_method.py:MyMethod", "--json")[1])
    pull = next(option for option in answer["options"] if option["name"] == "strategy.pull")
    assert pull["default"] == 0.1 and pull["meaning"] == "strength of the pull"
    assert answer["costs"] == "not stated by its author"
    (tmp_path / "mine.py").write_text("from cl_suite import Stream\nclass Mine(Stream):\n    '''A stream.'''\n")
    status, _, err = bench("info", "mine.py:Mine")
    assert status == 2 and len(err.splitlines()) == 1  # it lacks load


def test_a_stream_in_a_file_is_told(bench, tmp_path):
    text = "from cl_suite import Stream\nclass Mine(Stream):\n    '''A stream of mine.'''\n    embedded = True\n"
    (tmp_path / "mine.py").write_text(f"{text}    def load(self, root, seeds): ...\n")
    (answer,) = json.loads(bench("info", "mine.py:Mine", "--json")[1])
    assert (answer["kind"], answer["what"]) == ("stream", "A stream of mine.")


def test_protocols_are_those_of_a_run():
    assert set(DESCRIBED) == set(PROTOCOLS)


def test_no_torch_is_loaded_where_it_is_not_needed():
    code = (
        "import sys\nfrom cl_suite.cli.main import main\n"
        "for name in ['er', 'split_cifar100', 'forgetting', 'calibration', 'quick', 'task_agnostic', 'train']:\n"
        "    try: main(['info', name])\n    except SystemExit as ended: assert not ended.code\n"
        "    assert 'torch' not in sys.modules, name"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_installed_can_be_told():
    from pathlib import Path

    from cl_suite.info.find import every_name, find

    names = every_name()
    assert {*installed(STRATEGY), *installed(STREAM)} <= set(names)
    for name in installed(STREAM):
        assert find(name, Path("nowhere"))[0].to_text(80)
