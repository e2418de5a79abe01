"""The command line: exit statuses, one clear line for every bad request, plugins from files and packages."""

import json
import os
import subprocess
import sys
import time

import pytest

FAST = ["--stream", "toy_gaussians", "stream.n_tasks=2", "stream.n_train=40", "train.epochs=1"]

WORKING = """
from cl_suite import GradientStrategy

class MyMethod(GradientStrategy):
    '''A method in a file.'''
"""


def records(folder):
    return sorted(folder.rglob("seed_*.json"))


def test_a_run_prints_its_protocol_its_table_and_the_path_of_its_record(bench, tmp_path):
    status, out, err = bench("--strategy", "er", *FAST)
    assert status == 0
    assert "protocol quick" in err
    assert "ACC %" in out and "forgetting" in out
    path = out.rpartition("record: ")[2].strip()
    record = json.loads((tmp_path / path).read_text())
    assert record["status"] == "complete"
    assert path.startswith("results/toy_gaussians/task_incremental/er/")
    assert len(record["R"]) == 2 and record["R"][0][1] is None
    assert record["provenance"]["command"][:3] == ["cl-bench", "--strategy", "er"]


def test_json_prints_the_records_and_nothing_else(bench):
    status, out, err = bench("--strategy", "er", *FAST, "--seeds", "0,1", "--json")
    assert status == 0 and err == ""
    assert [record["seed"] for record in json.loads(out)] == [0, 1]


def test_quiet_prints_only_the_table(bench):
    status, out, err = bench("--strategy", "er", *FAST, "--quiet")
    assert status == 0 and err == "" and "ACC %" in out


def test_seeds_share_a_folder_and_show_their_mean(bench, tmp_path):
    status, out, _ = bench("--strategy", "er", *FAST, "--seeds", "0,1")
    assert status == 0 and "mean" in out
    first, second = records(tmp_path / "results")
    assert first.parent == second.parent


def test_separate_seeds_are_part_of_the_configuration(bench, tmp_path):
    bench("--strategy", "er", *FAST)
    bench("--strategy", "er", *FAST, "seeds.model=7")
    first, second = (json.loads(path.read_text()) for path in records(tmp_path / "results"))
    assert {record["seeds"]["model"] for record in (first, second)} == {0, 7}
    assert first["seeds"]["data"] == second["seeds"]["data"] == 0


SMALL = ["--stream", "toy_gaussians"]  # refused before anything is made
BAD_REQUESTS = [
    (["--strategy", "exsnet", "--stream", "toy_gaussians"], "Did you mean exssnet"),
    (["--strategy", "er", "--stream", "toy_gausians"], "Did you mean toy_gaussians"),
    (["--strategy", "er", *SMALL, "--scenario", "class_incrementa"], "Did you mean class_incremental"),
    (["--strategy", "er", *SMALL, "strategy.bufer_size=3"], "Did you mean strategy.buffer_size"),
    (["--strategy", "er", *SMALL, "lr=3"], "Did you mean strategy.lr"),
    (["--strategy", "er", *SMALL, "strategy.lr=abc"], "'strategy.lr=abc': Value 'abc'"),
    (["--strategy", "er", *SMALL, "strategy.lr"], "is not key=value"),
    (["--strategy", "er", *SMALL, "+strategy.new=1"], "cannot be added"),
    (["--strategy", "er", *SMALL, "strategy.lr=0.1,0.2"], "names several values"),
    (["--strategy", "er", *SMALL, "strategy=finetune"], "--strategy finetune"),
    (["--strategy", "er", *SMALL, "train"], "is not key=value"),
    (["--strategy", "er", *SMALL, "train.batch_size=0"], "train.batch_size=0 is too small"),
    (["--strategy", "er", *SMALL, "train.validation=1.5"], "is not a share"),
    (["--strategy", "er", *SMALL, "protocol=quik"], "Did you mean quick"),
    (["--strategy", "er", *SMALL, "protocol=paper"], "no published setting for er on toy_gaussians"),
    (["--strategy", "er", *SMALL, "model.name=resnet"], "Did you mean resnet18"),
    (["--strategy", "er", *SMALL, "model.name=resnet18"], "Use mlp"),
    (["--strategy", "er", *SMALL, "model.width=3"], "takes hidden"),
    (["--strategy", "er", *SMALL, "strategy.optimizer=lion"], "Use sgd, adam, rmsprop"),
    (["--strategy", "er", *SMALL, "strategy.buffer=big"], "Use reservoir, balanced, ring"),
    (["--strategy", "er", *SMALL, "strategy.buffer_size=0"], "Set strategy.buffer_size"),
    (["--strategy", "er", *SMALL, "--device", "cuda:99"], "Use --device cpu"),
    (["--strategy", "er", *SMALL, "--device", "tpu"], "--device tpu"),
    (["--strategy", "er", *SMALL, "--threads", "-1"], "--threads -1"),
    (["--strategy", "er", *SMALL, "--seeds", "1,a"], "not a list of whole numbers"),
    (["--strategy", "er", *SMALL, "--seeds", "1,1"], "names a seed twice"),
    (["--strategy"], "--strategy: expected one argument"),
    (["--strategy", "er", *SMALL, "--bogus"], "unrecognized arguments: --bogus"),
    (["--strategy", "absent.py:Method", *SMALL], "there is no file absent.py"),
    (["--strategy", "no_such_module:Method", *SMALL], "no module 'no_such_module'"),
    (["--strategy", "json:JSONDecoder", *SMALL], "not a subclass of cl_suite.Strategy"),
    (["--strategy", "exssnet", *SMALL, "--scenario", "class_incremental"], "exssnet needs task_id at test"),
    (["--strategy", "er", "--stream", "split_digits", "stream.n_tasks=3"], "does not divide the 10 classes"),
    (["raport"], "Did you mean report"),
    (["list", "methods"], "invalid choice"),
    (["data", "split_nothing"], "is not installed"),
    (["check", "nothing"], "is not installed"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_REQUESTS, ids=[" ".join(a) for a, _ in BAD_REQUESTS])
def test_a_bad_request_gets_one_line_with_the_next_move_and_status_2(bench, tmp_path, arguments, message):
    status, out, err = bench(*arguments)
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("cl-bench: ")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in err
    assert not records(tmp_path)


def test_a_scenario_that_does_not_fit_names_strategies_that_do(bench):
    _, _, err = bench("--strategy", "exssnet", *SMALL, "--scenario", "class_incremental")
    assert "Use --scenario task_incremental, or --strategy " in err
    named = err.rstrip(".\n").partition("or --strategy ")[2].split(", ")
    assert {"er", "finetune", "gpm", "joint", "fpf"} <= set(named) and not {"cuber", "hat", "exssnet"} & set(named)


def test_absent_data_names_the_file_the_place_and_the_stream_that_needs_none(bench, tmp_path):
    status, _, err = bench(
        "--strategy", "er", "--stream", "split_cifar100", "--data-root", tmp_path / "empty", "--offline"
    )
    assert status == 2
    assert "cifar-100-python" in err and str(tmp_path / "empty") in err and "split_digits" in err


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX")
def test_an_unwritable_results_folder_is_refused_before_training(bench, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    status, _, err = bench("--strategy", "er", *FAST, "--results", blocked / "results")
    assert status == 2 and "cannot be written" in err and "Name another folder" in err
    assert blocked.read_text() == "in the way"


BROKEN_PLUGINS = {
    "fails to import": ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'", 2),
    "has a syntax error": ("class Broken(:\n", "SyntaxError", 2),
    "is not a strategy": ("class MyMethod:\n    pass\n", "not a subclass", 2),
    "is abstract": (
        "from cl_suite import Strategy\nclass MyMethod(Strategy):\n    'x'\n    def learn(self, e): ...\n",
        "does not define",
        2,
    ),
    "has a field without default": (
        "from dataclasses import dataclass\nfrom cl_suite import GradientStrategy\n"
        "class MyMethod(GradientStrategy):\n    @dataclass\n    class Config:\n        needed: int\n",
        "default for every field",
        2,
    ),
    "cannot be made": (
        WORKING + "    def __init__(self, config):\n        self.config = config.nothing\n",
        "could not be made: AttributeError",
        2,
    ),
    "has requirements of another kind": (WORKING + "    requires = ['task_id']\n", "not a frozenset of Requirement", 2),
    "answers NaN": (
        WORKING + "    def predictor(self, task_id=None):\n"
        "        return lambda inputs: inputs.new_full((len(inputs), self.info.n_outputs), float('nan'))\n",
        "the predictor answered NaN on task",
        1,
    ),
    "has diagnostics that cannot be kept": (
        WORKING + "    def diagnostics(self):\n        return {'a': object()}\n",
        "cannot keep diagnostics.a",
        1,
    ),
    "selects in an unknown way": (
        WORKING + "    def model_selection(self):\n        return 'bogus'\n",
        "model_selection",
        1,
    ),
    "raises in setup": (
        WORKING + "    def setup(self, info, build_model):\n        1 / 0\n",
        "ZeroDivisionError: division by zero (my_method.py, line",
        1,
    ),
    "raises while learning": (
        WORKING + "    def loss(self, batch):\n        return batch.nothing\n",
        "AttributeError: 'Batch' object has no attribute 'nothing'",
        1,
    ),
    "returns nonsense": (
        WORKING + "    def predictor(self, task_id=None):\n        return lambda inputs: inputs[:, :0]\n",
        "failed",
        1,
    ),
}


@pytest.mark.parametrize("what", list(BROKEN_PLUGINS))
def test_a_broken_plugin_gets_one_line(bench, tmp_path, what):
    source, message, expected = BROKEN_PLUGINS[what]
    (tmp_path / "my_method.py").write_text(source)
    status, _, err = bench("--strategy", "my_method.py:MyMethod", *FAST)
    assert status == expected
    assert message in err and "Traceback" not in err


def test_a_failed_run_is_recorded_and_never_replaces_a_finished_one(bench, tmp_path):
    plugin = tmp_path / "my_method.py"
    flag = (
        "import pathlib\n"
        + WORKING
        + (
            "    def loss(self, batch):\n"
            "        return super().loss(batch) * (float('nan') if pathlib.Path('fail').exists() else 1)\n"
        )
    )
    plugin.write_text(flag)
    command = ["--strategy", "my_method.py:MyMethod", *FAST]
    (tmp_path / "fail").touch()
    status, _, err = bench(*command)
    assert status == 1 and "the loss became nan in experience 0" in err
    (path,) = records(tmp_path / "results")
    assert json.loads(path.read_text())["status"] == "failed"
    (tmp_path / "fail").unlink()
    assert bench(*command)[0] == 0
    finished = path.read_text()
    assert json.loads(finished)["status"] == "complete"
    (tmp_path / "fail").touch()
    assert bench(*command, "--overwrite")[0] == 1
    assert path.read_text() == finished
    assert json.loads(path.with_suffix(".failed.json").read_text())["status"] == "failed"


def test_an_edited_plugin_is_run_again(bench, tmp_path):
    plugin = tmp_path / "my_method.py"
    plugin.write_text(WORKING)
    bench("--strategy", "my_method.py:MyMethod", *FAST)
    plugin.write_text(WORKING + "\n# edited\n")
    _, _, err = bench("--strategy", "my_method.py:MyMethod", *FAST)
    assert "already finished" not in err
    assert len(records(tmp_path / "results")) == 2


def test_debug_shows_the_traceback(bench, tmp_path):
    (tmp_path / "my_method.py").write_text("import nothing_of_this_name\n")
    _, _, err = bench("--strategy", "my_method.py", *FAST, "--debug")
    assert "Traceback" in err


def test_list_names_strategies_and_streams_with_a_line_about_each(bench):
    _, out, _ = bench("list", "--json")
    found = json.loads(out)
    assert {"exssnet", "supsup", "er"} <= {entry["name"] for entry in found["strategies"]}
    assert {"split_cifar100", "split_digits"} <= {entry["name"] for entry in found["streams"]}
    assert all(entry["summary"] for kind in found.values() for entry in kind)
    assert "streams:" not in bench("list", "strategies")[1]


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["report", "--help"]])
def test_light_commands_do_not_import_torch(arguments):
    code = (
        "import sys\nfrom cl_suite.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'torchvision', 'hydra', 'avalanche', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 20  # generous: a promise about imports, not a timing


def test_a_third_party_package_is_listed_and_runs(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "stranger.py").write_text(WORKING)
    info = site / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cl_suite.strategies]\nstrangers_method = stranger:MyMethod\n")
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def bench(*arguments):
        command = [sys.executable, "-m", "cl_suite", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    listed = [line.split(maxsplit=1) for line in bench("list").stdout.splitlines()]
    assert ["strangers_method", "A method in a file."] in listed
    done = bench("--strategy", "strangers_method", *FAST)
    assert done.returncode == 0, done.stderr
    (path,) = records(tmp_path / "results")
    assert json.loads(path.read_text())["strategy"] == "strangers_method"


def test_speed_reports_a_ratio(bench):
    status, out, _ = bench("speed", "--device", "cpu", "--steps", "3", "--repeats", "1", "--json")
    assert status == 0
    assert all(case["ratio"] > 0 for case in json.loads(out)["cases"].values())
