"""Curves of a run while it goes on: what is drawn, and that nothing of a run depends on it."""

import json
import os
import sys

import pytest

from cl_suite.core import experience
from cl_suite.loggers import choice, following, log_process, series
from tests.helpers.slow import slow_but

FAST = [
    "--stream",
    "toy_gaussians",
    "stream.n_tasks=3",
    "stream.n_train=60",
    "train.epochs=1",
    "train.evaluate_every=2",
]
RUN = ["--strategy", "er", "--scenario", "domain_incremental", *FAST]


@pytest.fixture(autouse=True)
def nothing_depends_on_the_clock(monkeypatch):
    monkeypatch.setattr(experience, "READ_SECONDS", 0.0)  # every batch is read
    for name in ("WAIT_SECONDS", "WAIT_INTERRUPTED"):
        monkeypatch.setattr(following, name, 120.0)


def record_in(folder):
    (path,) = folder.rglob("seed_0.json")
    return path.relative_to(folder), json.loads(path.read_text())


def kept(folder):
    return [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]


def test_a_run_is_the_same_bit_for_bit_with_and_without(bench, tmp_path):
    asked = ["--strategy", "der++", *FAST, "--scenario", "class_incremental"]
    assert bench(*asked, "--results", "plain")[0] == 0
    status, _, err = bench(*asked, "--results", "logged", "--log", "tests.helpers.log_doubles:Kept")
    assert status == 0 and "Warning" not in err
    (path, plain), (same, logged) = record_in(tmp_path / "plain"), record_in(tmp_path / "logged")
    assert path == same  # the hash of the configuration too
    for name in ("R", "R_task_aware", "curve", "metrics", "config", "baseline"):
        assert plain[name] == logged[name], name
    for name in ("samples_drawn", "samples_replayed", "optimizer_steps", "training_flops", "state_bytes"):
        assert plain["costs"][name] == logged["costs"][name]
    assert not list((tmp_path / "logged").rglob("*.jsonl"))  # records keep their folder to themselves


def test_the_loss_is_read_no_more_often(bench, monkeypatch):
    counts = []
    read = experience.Experience.check_finite
    monkeypatch.setattr(experience.Experience, "check_finite", lambda self: counts.append(1) or read(self))
    totals = []
    for more in ([], ["--log", "tests.helpers.log_doubles:Kept"]):
        counts.clear()
        assert bench(*RUN, "--overwrite", *more)[0] == 0
        totals.append(len(counts))
    assert totals[0] == totals[1] > 0


def test_the_curves_are_those_of_the_record(bench, tmp_path):
    assert bench(*RUN, "--log", "tests.helpers.log_doubles:Kept", "--log-dir", "curves")[0] == 0
    path, record = record_in(tmp_path / "results")
    run, *events, end = kept(tmp_path / "curves")
    assert run["place"] == str(path.with_suffix("")) and run["row"] == str(path.parent)
    assert run["config"]["train.epochs"] == 1 and run["config"]["strategy.buffer_size"] == 500
    assert run["facts"] == {
        "strategy": "er", "stream": "toy_gaussians", "scenario": "domain_incremental", "seed": 0, "device": "cpu"
    }  # fmt: skip
    assert run["tasks"] == record["task_names"] and not run["resumed"] and not run["offline"]
    assert [samples for samples, _ in events] == sorted(samples for samples, _ in events)
    losses = [values for _, values in events if "train/loss" in values]
    assert len(losses) == record["costs"]["optimizer_steps"] == losses[-1]["train/optimizer_steps"]
    points = [(samples, values) for samples, values in events if "during/task_00" in values]
    assert [samples for samples, _ in points] == [point["samples"] for point in record["curve"]]
    for (_, values), point in zip(points, record["curve"], strict=True):
        assert [values[f"during/task_{task:02d}"] for task in range(3)] == point["scores"]
    rows = [values for _, values in events if "after/task_00" in values]
    assert [[values[f"after/task_{task:02d}"] for task in range(3)] for values in rows] == record["R"]
    assert rows[-1]["after/acc_so_far"] == record["metrics"]["acc"]
    assert rows[-1]["after/forgetting_so_far"] == record["metrics"]["forgetting"]
    status, values = end
    assert status == "complete" and values["final/bwt"] == record["metrics"]["bwt"]
    assert values["costs/samples_drawn"] == record["costs"]["samples_drawn"]


def test_numbers_so_far_by_hand():
    R = [[0.9, None, None], [0.7, 0.8, None], [0.5, 0.9, 0.6]]
    first = series.row_values(R[:1], [0], rows_are_tasks=True)
    assert first == {"after/acc_so_far": 0.9, "after/task_00": 0.9}  # nothing to forget yet: no 0
    second = series.row_values(R[:2], [0, 1], rows_are_tasks=True)
    assert second["after/acc_so_far"] == 0.75 and second["after/forgetting_so_far"] == pytest.approx(0.2)
    third = series.row_values(R, [0, 1, 2], rows_are_tasks=True)
    assert third["after/forgetting_so_far"] == pytest.approx((0.4 - 0.1) / 2)
    times = series.row_values(R, [0, 1], rows_are_tasks=False)
    assert "after/forgetting_so_far" not in times and times["after/acc_so_far"] == pytest.approx(0.7)
    assert "during/acc_so_far" not in series.point_values([0.5, None], [0, 1])
    assert series.finite_values({"a": float("nan"), "b": None, "c": 0}) == {"c": 0.0}
    assert series.flat({"a": {"b": [1, 2], "c": None}, "d": True}) == {"a.b": "[1, 2]", "a.c": "None", "d": True}


def test_a_task_agnostic_run_is_drawn_too(bench, tmp_path):
    asked = ["--strategy", "finetune", *FAST[:-1], "--scenario", "task_agnostic", "train.segments=4"]
    assert bench(*asked, "--log", "tests.helpers.log_doubles:Kept")[0] == 0
    _, record = record_in(tmp_path / "results")
    rows = [values for _, values in kept(tmp_path / "logs")[1:-1] if "after/task_00" in values]
    assert len(rows) == len(record["R"]) == 4
    mean = sum(values["after/acc_so_far"] for values in rows) / 4
    assert mean == pytest.approx(record["metrics"]["anytime_accuracy"])


FAILURES = {
    "NeverBegins": "--log tests.helpers.log_doubles:NeverBegins stopped (RuntimeError: no server)",
    "FullDisk": "stopped (OSError: [Errno 28] No space left on device)",
    "NeverFinishes": "stopped (SystemExit: cannot finish)",
    "Hangs": "did not end in time",
    "Dies": "ended early",
}


@pytest.mark.parametrize("what", slow_but({"NeverBegins", "Hangs", "Dies"}, FAILURES))
def test_a_logger_that_fails_is_one_warning(bench, tmp_path, monkeypatch, what):
    if what == "Hangs":
        monkeypatch.setattr(following, "WAIT_SECONDS", 1.0)
    status, out, err = bench(*RUN, "--log", f"tests.helpers.log_doubles:{what}")
    assert status == 0 and "record: " in out
    warnings = [line for line in err.splitlines() if line.startswith("Warning")]
    assert len(warnings) == 1 and FAILURES[what] in warnings[0] and "The run is not affected" in warnings[0]
    assert record_in(tmp_path / "results")[1]["status"] == "complete"


def test_one_that_fails_takes_no_other_with_it(bench, tmp_path):
    _, _, err = bench(*RUN, "--log", "tests.helpers.log_doubles:FullDisk,tests.helpers.log_doubles:Kept")
    assert err.count("Warning") == 1  # both begin in one file, in any order
    assert any(isinstance(line, list) and line[0] == "complete" for line in kept(tmp_path / "logs"))


def test_a_process_that_cannot_be_started_is_one_warning(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(log_process.sys, "executable", str(tmp_path / "absent"))
    status, _, err = bench(*RUN, "--log", "tests.helpers.log_doubles:Kept")
    assert status == 0 and err.count("Warning") == 1 and "could not start (No such file" in err


def test_events_that_nobody_takes_are_dropped_and_the_run_goes_on(bench, monkeypatch):
    monkeypatch.setattr(log_process, "MAX_WAITING", 3)
    monkeypatch.setattr(log_process.LogProcess, "_feed", lambda self, process: None)
    status, _, err = bench(*RUN, "--log", "tests.helpers.log_doubles:Kept")
    assert status == 0 and err.count("Warning") == 1 and "does not keep up" in err


def test_a_library_that_prints_and_asks_disturbs_nothing(bench, tmp_path):
    status, out, err = bench(*RUN, "--log", "tests.helpers.log_doubles:Prints", "--json")
    assert status == 0 and err == "" and len(json.loads(out)) == 1
    events = kept(tmp_path / "logs")[1:-1]
    assert events and all(values["asked"] == 0.0 for _, values in events)


STOPS = """
from cl_suite import GradientStrategy
import pathlib
class Stops(GradientStrategy):
    '''Is interrupted in the second experience, while a file is there.'''
    def learn(self, experience):
        if experience.index == 1 and pathlib.Path('stop').exists():
            raise {problem}
        super().learn(experience)
"""


def test_a_run_that_goes_on_says_where(bench, tmp_path):
    (tmp_path / "stops.py").write_text(STOPS.format(problem="KeyboardInterrupt"))
    (tmp_path / "stop").touch()
    asked = ["--strategy", "stops.py:Stops", *FAST, "--log", "tests.helpers.log_doubles:Kept", "--offline"]
    assert bench(*asked)[0] == 130
    first = kept(tmp_path / "logs")
    assert first[-1] == ["interrupted", {}] and not first[0]["resumed"] and first[0]["offline"]
    (tmp_path / "stop").unlink()
    assert bench(*asked)[0] == 0
    run, *events, end = kept(tmp_path / "logs")[len(first) :]
    assert run["resumed"] and run["samples"] == first[-2][0] <= events[0][0]
    rows = [values for _, values in events if "after/task_00" in values]
    assert len(rows) == 2 and "after/forgetting_so_far" in rows[0]  # the rows of before count
    assert end[0] == "complete"


def test_a_failed_run_says_so(bench, tmp_path):
    (tmp_path / "stops.py").write_text(STOPS.format(problem="RuntimeError('no')"))
    (tmp_path / "stop").touch()
    assert bench("--strategy", "stops.py:Stops", *FAST, "--log", "tests.helpers.log_doubles:Kept")[0] == 1
    status, values = kept(tmp_path / "logs")[-1]
    assert status == "failed" and "final/acc" not in values and values["costs/samples_drawn"] > 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("tensorbord", "Did you mean tensorboard"),
        ("tests.helpers.log_doubles:Kept,tests.helpers.log_doubles:Kept", "twice"),
        ("no_such_package.inside:Logger", "needs no_such_package.inside, which is not installed"),
        ("", "--log  is not known"),
    ],
)
def test_a_wrong_name_is_refused_before_training(bench, tmp_path, names, message):
    status, out, err = bench(*RUN, "--log", names)
    assert status == 2 and message in err and out == "" and err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_an_absent_library_is_named_with_how_to_install_it(bench, monkeypatch, name):
    found = choice.importlib.util.find_spec
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda module: None if module == name else found(module))
    status, _, err = bench(*RUN, "--log", name)
    assert status == 2 and f"--log {name} needs {name}" in err and "pip install 'cl-suite[log]'" in err


def test_loggers_are_named_with_commas_or_one_by_one(monkeypatch):
    monkeypatch.setattr(choice, "_is_there", lambda module: True)
    assert choice.chosen_loggers(["tensorboard,mlflow", "wandb"]) == ("tensorboard", "mlflow", "wandb")
    assert choice.chosen_loggers([]) == ()


# The libraries themselves, where they are installed: what was written is read back with the library.


def expected(record):
    """Return what a library must give back: the last values of the record, and ACC so far after each experience."""
    rows = [series.row_values(record["R"][: i + 1], range(i + 1), rows_are_tasks=True) for i in range(3)]
    return [row["after/acc_so_far"] for row in rows], record["metrics"]["forgetting"], record["costs"]["samples_drawn"]


def test_tensorboard_reads_the_curves_back(bench, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # run again: what was written first is superseded
        status, _, err = bench(*RUN, "--log", "tensorboard", "--overwrite")
        assert status == 0 and "Warning" not in err
    path, record = record_in(tmp_path / "results")
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard" / path.with_suffix("")))
    events.Reload()
    acc, forgetting, samples = expected(record)
    after = events.Scalars("after/acc_so_far")
    assert [event.value for event in after] == pytest.approx(acc)
    assert after[-1].step == samples == events.Scalars("train/loss")[-1].step
    assert len(events.Scalars("train/loss")) == record["costs"]["optimizer_steps"]
    assert events.Scalars("final/forgetting")[-1].value == pytest.approx(forgetting)
    assert [event.value for event in events.Scalars("during/task_02")] == pytest.approx(
        [point["scores"][2] for point in record["curve"]]
    )
    from tensorboard.plugins.hparams import metadata

    (tag,) = events.PluginTagToContent("hparams")
    content = metadata.parse_session_start_info_plugin_data(events.PluginTagToContent("hparams")[tag])
    assert content.hparams["train.epochs"].number_value == 1 and content.hparams["strategy"].string_value == "er"


def wandb_records(content):
    """Yield the records of an offline run: a log in blocks of 32 KiB, each piece with checksum, length and kind."""
    block, head = 32768, 7
    at, record = head, b""
    while at + head <= len(content):
        if block - at % block < head:  # too short for a head: filled up
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_wandb_keeps_the_curves_offline(bench, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    status, _, err = bench(*RUN, "--log", "wandb")
    assert status == 0 and "Warning" not in err
    _, record = record_in(tmp_path / "results")
    (file,) = (tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb")
    history, summary, config = [], {}, {}
    for data in wandb_records(file.read_bytes()):
        content = wandb_internal_pb2.Record()
        content.ParseFromString(data)
        name = content.WhichOneof("record_type")
        if name == "history":
            history.append(
                {item.key or item.nested_key[0]: json.loads(item.value_json) for item in content.history.item}
            )
        elif name == "summary":
            summary |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in content.summary.update}
        elif name == "run":
            config |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in content.run.config.update}
            assert content.run.project == "cl-suite" and content.run.run_group.startswith("toy_gaussians/")
    acc, forgetting, samples = expected(record)
    after = [values for values in history if "after/acc_so_far" in values]
    assert [values["after/acc_so_far"] for values in after] == acc and after[-1]["samples"] == samples
    assert sum("train/loss" in values for values in history) == record["costs"]["optimizer_steps"]
    assert summary["final/forgetting"] == forgetting and summary["status"] == "complete"
    assert config["train.epochs"] == 1 and config["strategy"] == "er" and config["tasks"] == record["task_names"]


def test_mlflow_keeps_the_curves_in_a_local_store(bench, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "stops.py").write_text(STOPS.format(problem="KeyboardInterrupt"))
    (tmp_path / "stop").touch()
    asked = ["--strategy", "stops.py:Stops", *FAST, "--log", "mlflow"]
    assert bench(*asked)[0] == 130
    (tmp_path / "stop").unlink()
    status, _, err = bench(*asked)  # goes on in the run of before
    assert status == 0 and "Warning" not in err
    _, record = record_in(tmp_path / "results")
    from mlflow import MlflowClient

    assert not list((tmp_path / "logs").glob(".mlflow-*"))
    client = MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy_gaussians/task_incremental")
    (run,) = client.search_runs([experiment.experiment_id])
    acc, forgetting, samples = expected(record)
    after = client.get_metric_history(run.info.run_id, "after/acc_so_far")
    assert [metric.value for metric in after] == pytest.approx(acc) and after[-1].step == samples
    assert run.data.metrics["final/forgetting"] == pytest.approx(forgetting) and run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "1" and run.data.tags["task_01"] == record["task_names"][1]


def test_the_libraries_are_not_imported_by_the_run_itself(bench):
    before = set(sys.modules)
    assert bench(*RUN, "--log", "tests.helpers.log_doubles:Kept")[0] == 0
    assert not {"tests.helpers.log_doubles", "tensorboard", "wandb", "mlflow"} & (set(sys.modules) - before)
    assert "WANDB_ERROR_REPORTING" not in os.environ
