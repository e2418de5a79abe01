"""`cl_suite.run` is the run of the command line: same record, same place, same numbers; and it can be held in hand."""

import json
import sys

import numpy as np
import pytest
import torch

import cl_suite
from cl_suite import GradientStrategy
from cl_suite.api.code import code_digest
from cl_suite.core.errors import PluginError, RunError, UsageError
from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.report.pages.repeat_command import repeat_command
from tests.helpers.python_runs import FAST, FAST_FLAGS, at_a_prompt, method


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(strategy="er", **options):
    return cl_suite.run(strategy, **{"progress": False, **FAST, **options})


def scores(path):
    return json.loads(path.read_text())["R"]


def test_it_is_the_run_of_the_command_line(here, bench):
    result = run(scenario="class_incremental", seeds=[3], buffer_size=20, lr=0.05)
    (path,) = result.paths
    first = scores(path)
    repeated = repeat_command(result.records[0]).split()[1:]
    path.unlink()
    status, _, err = bench(*repeated, "--threads", "1")
    assert status == 0 and "already finished" not in err
    assert scores(path) == first
    status, _, err = bench(
        *("--strategy", "er", *FAST_FLAGS, "--scenario", "class_incremental", "--seed", "3"),
        *("strategy.buffer_size=20", "strategy.lr=0.05"),
    )
    assert status == 0 and "already finished" in err


def test_what_was_measured_is_arrays_and_frames(here):
    result = run(seeds=[0, 1], scenario="class_incremental")
    assert result.R.shape == (2, 2, 2) and result.R.dtype == float
    assert np.isnan(result.R[:, 0, 1]).all() and not np.isnan(result.R[:, 1]).any()
    assert result.metrics.index.tolist() == result.seeds == [0, 1]
    np.testing.assert_allclose(result.metrics.acc, result.R[:, -1].mean(1))
    assert (result.costs.samples_drawn > 0).all()
    assert [record.seed for record in result.records] == [0, 1] and all(path.is_file() for path in result.paths)
    assert len(result.tasks) == 2 and not result.failed
    for shown in (repr(result), result._repr_html_()):
        assert "ACC %" in shown and "mean" in shown and str(result.paths[1]) in shown
    assert result.plot()._repr_png_().startswith(b"\x89PNG")


SCENARIOS = ["task_incremental", "class_incremental", pytest.param("domain_incremental", marks=pytest.mark.slow)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_predictor_answers_as_the_run_did_at_its_end(here, scenario):
    result = run(scenario=scenario, seeds=[0, 1])
    for place, seed in enumerate(result.seeds):
        for task in range(2):
            samples, classes = result.test_set(task, seed)
            answers = result.predictor(task, seed).predict(samples.numpy())
            right = np.mean([answer == name for answer, name in zip(answers, classes, strict=True)])
            assert right == pytest.approx(result.R[place, -1, task], abs=1e-7)
    by_name = result.predictor(result.tasks[1], seed)
    assert torch.equal(by_name(samples), result.predictor(1, seed)(samples))
    assert set(answers) <= set(by_name.classes)


def test_what_is_saved_answers_as_what_is_held(here):
    result = run(seeds=[0, 1])
    place = result.save("kept.safetensors", seed=1)
    samples, _ = result.test_set(1, seed=1)
    assert torch.equal(cl_suite.load_predictor(place)(samples, 1), result.predictor(1, seed=1)(samples))


@pytest.mark.slow
def test_tokens_are_made_of_texts_again(here):
    result = run("finetune", stream="toy_text", n_tasks=2, n_train=20)
    samples, classes = result.test_set(0)
    answers = result.predictor(0).predict(samples)
    assert np.mean([a == b for a, b in zip(answers, classes, strict=True)]) == pytest.approx(result.R[0, -1, 0])


def test_a_predictor_says_what_it_cannot_do(here):
    result = run()
    with pytest.raises(UsageError, match="must be told the task"):
        result.predictor()
    with pytest.raises(UsageError, match="there is no task 2"):
        result.predictor(2)
    with pytest.raises(UsageError, match="there is no task 'a'"):
        result.test_set("a")
    with pytest.raises(UsageError, match="there is no run with seed 5"):
        result.predictor(0, seed=5)
    found = run()
    assert found.test_set(0)[1] == result.test_set(0)[1]
    for ask in (found.predictor, found.save):
        with pytest.raises(UsageError, match=r"overwrite=True to train it here, with save_model=True"):
            ask(0)


def test_a_run_that_is_found_answers_where_its_model_was_kept(here):
    mine = at_a_prompt(method())
    trained, found = run(mine, save_model=True), run(mine, save_model=True)
    assert found.outcomes[0].run is None
    samples, _ = trained.test_set(1)
    assert torch.equal(found.predictor(1)(samples), trained.predictor(1)(samples))
    again = cl_suite.load_predictor(found.save("copies/mine.safetensors"), strategy=mine)
    assert torch.equal(again(samples, 1), trained.predictor(1)(samples))


def test_what_is_trained_on_is_let_go_of(here):
    result = run()
    kept = [task.train for task in result.outcomes[0].run.loaded.data.tasks]
    assert all(len(samples) > 1 and samples.inputs.untyped_storage().nbytes() < 1000 for samples in kept)


def test_an_installed_class_is_the_strategy_of_that_name(here):
    er, stream = choose(STRATEGY, "er").cls, choose(STREAM, "toy_gaussians").cls
    named = run()
    as_classes = run(er, stream=stream)
    assert as_classes.paths == named.paths and as_classes.records[0].strategy == "er"


def test_an_object_stands_for_its_class_and_options(here):
    er = choose(STRATEGY, "er").cls
    by_object = run(er(er.Config(buffer_size=20)))
    assert by_object.records[0].config["strategy"]["buffer_size"] == 20
    assert by_object.records[0].config_hash == run(buffer_size=20, **_options_of(er)).records[0].config_hash
    toy = choose(STREAM, "toy_gaussians").cls
    asked = {name: value for name, value in FAST.items() if name not in ("stream", "n_tasks", "n_train")}
    of_stream = cl_suite.run("er", toy(toy.Config(n_tasks=2, n_train=40)), progress=False, **asked)
    assert of_stream.records[0].config["stream"]["n_tasks"] == 2


def _options_of(cls):
    return {name: value for name, value in vars(cls.Config()).items() if name != "buffer_size"}


def test_a_class_of_a_file_is_that_of_the_command_line(here, bench, monkeypatch):
    (here / "my_method.py").write_text(method())
    monkeypatch.syspath_prepend(here)
    import my_method

    try:
        (path,) = run(my_method.Mine).paths
        status, _, err = bench("--strategy", "my_method.py:Mine", *FAST_FLAGS)
        assert status == 0 and "already finished" in err
        record = json.loads(path.read_text())
        assert record["strategy"] == "my_method:Mine"
        assert record["provenance"]["command"][:3] == ["cl-bench", "--strategy", "my_method.py:Mine"]
        (here / "my_method.py").write_text(method(pull=0.7))  # edited, and not imported again: no run of the new text
        assert run(my_method.Mine).paths not in ([path], run("my_method.py:Mine").paths)
    finally:
        del sys.modules["my_method"]


def test_a_class_of_a_notebook_is_run_anew_when_it_changes(here):
    first = run(at_a_prompt(method()))
    (record,) = first.records
    assert record.strategy == "notebook:Mine" and record.status == "complete"
    command = record.provenance["command"]
    assert command[0] == "python" and command[1].startswith("cl_suite.run(Mine, 'toy_gaussians', ")
    assert repeat_command(record) == command[1]
    assert run(at_a_prompt(method())).paths == first.paths  # the same cell, run again
    assert run(at_a_prompt("\n\n# a remark\n" + method())).paths == first.paths
    changed = [run(at_a_prompt(method(**{name: 0.25}))).paths for name in ("scale", "factor", "pull")]
    assert len({str(path) for (path,) in [first.paths, *changed]}) == 4


def test_a_class_made_in_a_function_counts_what_it_closes_over(here):
    def make(factor):
        class Scaled(GradientStrategy):
            def loss(self, batch):
                return super().loss(batch) * factor

        return Scaled

    assert run(make(1.0)).paths == run(make(1.0)).paths != run(make(0.5)).paths


def test_a_failed_run_is_recorded_and_raised(here):
    class Broken(GradientStrategy):
        def loss(self, batch):
            return super().loss(batch) * float("nan")

    with pytest.raises(RunError, match=r"seed 0 failed: the loss became nan in experience 0.*2 of 2 seeds") as caught:
        run(Broken, seeds=[0, 1])
    result = caught.value.result
    assert set(result.failed) == {0, 1} and all(path.is_file() for path in result.paths)
    again = run(Broken, raise_on_failure=False)
    assert "nan" in again.failed[0] and "failed" in repr(again) and again.metrics.empty
    with pytest.raises(UsageError, match="seed 0 failed and answers nothing"):
        again.predictor(0)


BAD = [
    ({"strategy": "exsnet"}, UsageError, "Did you mean exssnet"),
    ({"strategy": 3}, UsageError, "Give a name, a class, or an object of one"),
    ({"strategy": dict}, UsageError, "Give a name, a class, or an object of one"),
    ({"strategy": json.JSONDecoder}, PluginError, "not a subclass"),
    ({"stream": GradientStrategy}, PluginError, "not a subclass"),
    ({"scenario": "class_incrementa"}, UsageError, "Did you mean class_incremental"),
    ({"seeds": []}, UsageError, "names none"),
    ({"seeds": [1, 1]}, UsageError, "names a seed twice"),
    ({"seeds": "01"}, UsageError, "are not whole numbers"),
    ({"lr": "much"}, UsageError, "strategy.lr=much"),
    ({"evaluate": "open"}, UsageError, "evaluate='open' is not known. Did you mean open_set"),
    ({"diagnostics": "module"}, UsageError, "Did you mean modules"),
    ({"log": "tensorbord"}, UsageError, "tensorboard"),
    ({"bufer_size": 3}, UsageError, "Did you mean buffer_size"),
    ({"train__epoch": 3}, UsageError, "Did you mean train.epochs"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[str(options) for options, _, _ in BAD])
def test_a_bad_request_raises_one_line_and_leaves_nothing(here, options, error, message):
    with pytest.raises(error) as caught:
        run(**options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list(here.rglob("seed_*.json"))


def test_an_interrupted_run_goes_on_where_it_was(here, capsys):
    straight = run(results="straight", strategy=_Stopping)
    _Stopping.stop = True
    try:
        with pytest.raises(KeyboardInterrupt):
            run(_Stopping, progress=True)
    finally:
        _Stopping.stop = False
    assert "Interrupted. Saved up to the last finished experience" in capsys.readouterr().err
    resumed = run(_Stopping, progress=True)
    assert "Resumed after 1 of 2" in capsys.readouterr().err
    np.testing.assert_array_equal(resumed.R, straight.R)


class _Stopping(GradientStrategy):
    stop = False

    def start(self, experience):
        super().start(experience)
        if type(self).stop and experience.index == 1:
            raise KeyboardInterrupt


def test_progress_is_told_or_not(here, capsys):
    run(progress=True)
    run(progress=True)
    told = capsys.readouterr()
    assert "protocol quick" in told.err and "overwrite=True runs it again" in told.err and told.out == ""
    run(seeds=1)
    assert capsys.readouterr() == ("", "")


HOLDS = """
import functools
from dataclasses import dataclass
from cl_suite import GradientStrategy

@dataclass
class Settings:
    scale: float

CFG = Settings({scale})
scaled = functools.partial(lambda loss, by: by * loss, by={by})

class Mine(GradientStrategy):
    def loss(self, batch):
        return scaled(super().loss(batch)) * CFG.scale
"""


def test_what_objects_hold_is_part_of_a_class_of_a_notebook(here):
    digests = {
        code_digest(at_a_prompt(HOLDS.format(scale=scale, by=by))) for scale, by in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0))
    }
    assert len(digests) == 3
    assert code_digest(at_a_prompt(HOLDS.format(scale=1.0, by=1.0))) in digests
