"""`--dry-run`, `--config FILE` and the config.yaml of a run: what would run is what runs, and runs again."""

import json

import pytest
import yaml

from cl_suite.runs.saved_config import literal
from tests.helpers.own_networks import OWN

FAST = ["--stream", "toy_gaussians", "stream.n_tasks=2", "stream.n_train=40", "train.epochs=1"]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_nothing_is_written_and_what_is_said_comes_true(bench, tmp_path):
    status, out, _ = bench("--strategy", "er", *FAST, "--dry-run", "--json")
    assert status == 0 and list(tmp_path.iterdir()) == []
    said = json.loads(out)
    ((path, state),) = said["plan"]["records"].items()
    assert state == "would be run" and said["plan"]["scenario"] == "task_incremental"
    assert bench("--strategy", "er", *FAST)[0] == 0
    record = json.loads((tmp_path / path).read_text())
    assert record["config"]["strategy"] == said["config"]["options"]["strategy"]
    assert said["estimate"]["steps"] == record["costs"]["optimizer_steps"]
    assert abs(said["estimate"]["samples"] - record["costs"]["samples_drawn"]) <= 40  # the first step replays nothing
    assert f"{record['costs']['model_parameters']:,} in a network of MLP" in said["estimate"]["parameters"]
    assert said["estimate"]["seconds"] == "not known; a first run tells"
    more = json.loads(bench("--strategy", "er", *FAST, "train.epochs=10", "--dry-run", "--json")[1])
    assert more["estimate"]["seconds"] > 5 * record["costs"]["wall_seconds"]
    assert "a record with other options (yours)" in more["estimate"]["measured_on"]
    wider = json.loads(bench("--strategy", "er", *FAST, "model.hidden=[7]", "--dry-run", "--json")[1])
    assert wider["estimate"]["seconds"] == "not known; a first run tells", "its samples take another time"
    again = json.loads(bench("--strategy", "er", *FAST, "--dry-run", "--json")[1])
    assert again["plan"]["records"] == {path: "is there: --overwrite runs it again"}
    assert again["estimate"]["seconds"] == round(record["costs"]["wall_seconds"], 1)
    assert "1 record of this configuration (yours)" in again["estimate"]["measured_on"]


def test_sizes_are_those_that_a_stream_states_where_its_data_is_not_read(bench, tmp_path):
    command = ["--strategy", "er", "--stream", "split_mnist", "--scenario", "class_incremental", "--dry-run", "--json"]
    said = json.loads(bench(*command, "--data-root", tmp_path / "none", "--seeds", "0,1")[1])
    assert said["estimate"]["samples"] == 240_000 and said["estimate"]["steps"] == 3_750  # twice 60,000, replayed too
    assert said["estimate"]["parameters"].startswith("266,610 ")
    assert len(said["plan"]["records"]) == 2 and not (tmp_path / "none").exists()
    cut = json.loads(bench(*command, "stream.n_tasks=2")[1])
    assert cut["estimate"]["samples"].startswith("not known: the stream's data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "exssnet", *FAST, "--scenario", "class_incremental"], "exssnet needs task_id at test"),
        (["--strategy", "er", *FAST, "model.name=resnet18"], "Use mlp"),
        (["--strategy", "er", "--stream", "split_digits", "stream.n_tasks=3"], "does not divide the 10 classes"),
        (["--strategy", "er", *FAST, "--results", "file/in/the/way"], "cannot be written (Not a directory"),
    ],
)
def test_what_a_run_would_refuse_is_refused(bench, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    status, out, err = bench(*arguments, "--dry-run")
    assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_printed_is_a_file_that_runs(bench, tmp_path):
    _, out, _ = bench("--strategy", "er", *FAST, "strategy.buffer_size=7", "--dry-run")
    assert max(map(len, out.splitlines())) <= 90
    (tmp_path / "run.yaml").write_text(out)
    assert yaml.safe_load(out)["options"]["strategy"]["buffer_size"] == 7
    status, out, _ = bench("--config", "run.yaml", "--seed", "1", "--json")
    (record,) = json.loads(out)
    assert status == 0 and record["seed"] == 1 and record["config"]["strategy"]["buffer_size"] == 7


def test_the_saved_configuration_repeats_a_run_and_is_ignored_by_what_reads_records(bench, tmp_path):
    assert bench("--strategy", "er", *FAST, "--seeds", "0,1", "strategy.lr=1e-3", "seeds.model=4")[0] == 0
    (saved,) = tmp_path.rglob("config.yaml")
    text = saved.read_text()
    assert files(saved.parent) == ["config.yaml", "seed_0.json", "seed_1.json"]
    assert bench("--config", saved, "--seed", "3")[0] == 0
    assert files(saved.parent) == ["config.yaml", "seed_0.json", "seed_1.json", "seed_3.json"]
    assert saved.read_text() == text, "the same for every seed"
    first, third = (json.loads((saved.parent / f"seed_{seed}.json").read_text()) for seed in (0, 3))
    assert first["config"] == third["config"] and first["seeds"] != third["seeds"]
    assert bench("report", "--no-charts")[0] == 0
    status, out, _ = bench("submit", "--dry-run")
    assert status == 0 and "3 records valid" in out


def test_a_plugin_s_file_is_named_as_it_was(bench, tmp_path):
    bench("new", "strategy", "my_method")
    assert bench("--strategy", "my_method.py:MyMethod", *FAST)[0] == 0
    (saved,) = tmp_path.rglob("config.yaml")
    said = json.loads(bench("--config", saved, "--dry-run", "--json")[1])
    assert list(said["plan"]["records"]) == [saved.with_name("seed_0.json").relative_to(tmp_path).as_posix()]
    wrapped = ["--strategy", "fpf", *FAST, "strategy.base='my_method.py:MyMethod'", "strategy.own_buffer=9"]
    said = json.loads(bench(*wrapped, "--dry-run", "--json")[1])
    assert "base_source" not in said["config"]["options"]["strategy"], "worked out anew, or an edit would go unseen"


def test_flags_and_overrides_win_over_the_file(bench, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "strategy: er\nstream: toy_gaussians\nscenario: class_incremental\nseed: 4\n"
        "strategy.buffer_size: 5\ntrain: {epochs: 3}\nprotocol: standard\noptions: {stream: {n_tasks: 2}}\n"
    )

    def said(*more):
        return json.loads(bench("--config", "run.yaml", "--dry-run", "--json", *more)[1])

    plain = said()
    assert [path[-6] for path in plain["plan"]["records"]] == ["4"]
    options = plain["config"]["options"]
    assert (options["strategy"]["buffer_size"], options["train"]["epochs"], options["stream"]["n_tasks"]) == (5, 3, 2)
    assert plain["config"]["scenario"] == "class_incremental" and options["protocol"] == "standard"
    changed = said("--scenario", "task_incremental", "--seed", "0", "strategy.buffer_size=6", "train.epochs=1")
    assert changed["config"]["scenario"] == "task_incremental" and "seed_0" in str(changed["plan"])
    assert changed["config"]["options"]["strategy"]["buffer_size"] == 6
    _, out, err = bench("--config", "run.yaml", "--strategy", "finetune", "--dry-run", "--json")
    assert "buffer_size" not in json.loads(out)["config"]["options"]["strategy"]
    assert err == "cl-bench: run.yaml: options of er are left out for finetune\n"


BAD = {
    "absent": (None, "there is no such file"),
    "not YAML": ("strategy: [er", "is not YAML at line"),
    "a list": ("- er\n", "holds no options"),
    "an unknown option": (
        "strategy: er\nstream: toy_gaussians\nstrategy.bufer_size: 3\n",
        "run.yaml: there is no option strategy.bufer_size. Did you mean strategy.buffer_size",
    ),
    "a group that is none": ("strategy: er\nstream: toy_gaussians\ntrian: {epochs: 3}\n", "Did you mean train.epochs"),
    "a word that is none": ("strategi: er\nstream: toy_gaussians\n", "Did you mean strategy"),
    "a wrong value": ("strategy: er\nstream: toy_gaussians\ntrain.epochs: many\n", "Value 'many'"),
    "a strategy that is none": ("strategy: exsnet\nstream: toy_gaussians\n", "Did you mean exssnet"),
    "a name that is a number": ("strategy: 3\nstream: toy_gaussians\n", "strategy: 3 is no name"),
    "seeds that are none": ("strategy: er\nstream: toy_gaussians\nseeds: [1, a]\n", "no list of different whole"),
    "a seed twice": ("strategy: er\nstream: toy_gaussians\nseeds: [1, 1]\n", "no list of different whole"),
    "a key twice": ("strategy: er\nstrategy: si\nstream: toy_gaussians\n", "duplicate key"),
    "options that are none": ("strategy: er\nstream: toy_gaussians\noptions: 3\n", "options is no mapping"),
    "a flag": ("strategy: er\nstream: toy_gaussians\ndevice: cpu\n", "--device cpu"),
}


@pytest.mark.parametrize("what", list(BAD))
def test_a_bad_file_gets_one_line(bench, tmp_path, what):
    text, message = BAD[what]
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    status, out, err = bench("--config", "run.yaml")
    assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1
    assert files(tmp_path) == (["run.yaml"] if text is not None else [])


@pytest.mark.parametrize(
    "text", ["a b", "it's", "back\\", "\\'", "true", "1e3", "null", "a,b", "{x}", "[y]", "#c", "", "ü"]
)
def test_texts_come_back_as_they_were(text):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(f"key={literal(text)}")
    assert override.value() == text and isinstance(override.value(), str)


def test_a_network_of_ones_own_and_weights_are_planned_too(bench, tmp_path):
    (tmp_path / "net.py").write_text(OWN, encoding="utf-8")
    said = json.loads(bench("--strategy", "er", "model.name=net.py:Net", "--dry-run", "--json")[1])
    assert "parameters" in said["estimate"] and not said["estimate"]["parameters"].startswith("not known")
    status, _, told = bench("--strategy", "er", "model.name=net.py:Nett", "--dry-run")
    assert status == 2 and "Nett" in told and told.count("\n") == 1
