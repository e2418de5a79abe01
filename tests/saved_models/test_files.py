"""Saved models that are damaged, of another version, or of a plugin that is gone: one line each. And programs."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cl_suite
from cl_suite.core.checkpoint import save_state
from cl_suite.core.errors import DataError, UsageError
from cl_suite.data.descriptions import described, made_again
from cl_suite.runs.execute import Run
from cl_suite.runs.plan import plan
from cl_suite.saved_models.file import FORMAT, read_model
from cl_suite.saved_models.save import ModelKeeper, check_saveable, save_model
from tests.helpers.places import ROOT
from tests.helpers.saved_runs import live_answers, request, stored_tests, trained

SMALL = ("train.epochs=1", "stream.n_tasks=2", "stream.n_train=10", "stream.n_test=10", "model.hidden=[8]")
STRIPES = ROOT / "tests/helpers/saved_streams.py"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that is told its tasks, as a file."""
    folder = tmp_path_factory.mktemp("saved")
    run = trained(folder, "er", "toy_gaussians", *SMALL, scenario="task_incremental")
    return save_model(run, folder / "model.safetensors")


def refused(path, **options):
    with pytest.raises(UsageError) as refusal:
        cl_suite.load_predictor(path, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "format version 2, newer than the 1 known here. Update"),
        ("0", "format version 0, older"),
        ("x", "damaged"),
    ],
)
def test_another_format_version_is_refused(version, message, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, {}, facts={"format": FORMAT, "format_version": version})
    assert message in refused(path)


def test_what_is_no_whole_saved_model_is_refused(saved, tmp_path):
    path = tmp_path / "model.safetensors"
    assert "cannot be read (No such file" in refused(path)
    whole = saved.read_bytes()
    for cut in (b"", whole[:5], whole[:200], whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(cut)
        assert "is damaged" in refused(path)
    save_file({"a": torch.zeros(1)}, path)
    assert "is no saved model" in refused(path)
    save_state(path, {"made_by": {}}, facts={"format": FORMAT, "format_version": "1"})
    assert "is damaged (it has no 'strategy')" in refused(path)


def test_a_state_that_does_not_fit_says_which_version_saved_it(saved, tmp_path):
    content = read_model(saved)
    content["state"]["model"].popitem()
    path = tmp_path / "model.safetensors"
    save_state(path, content, facts={"format": FORMAT, "format_version": "1"})
    assert "does not fit this cl-suite (RuntimeError: " in refused(path)


def test_nothing_in_the_file_is_code(saved):
    assert load_file(saved)  # safetensors alone read it
    content = read_model(saved)
    content["info"]["prepare"] = {"dataclass": "os:path", "fields": {}}
    with pytest.raises(DataError, match=r"of neither cl-suite nor its stream"):
        made_again(content["info"]["prepare"])
    assert str(saved.parent) not in json.dumps({k: v for k, v in content.items() if k != "state"}, default=str)


def test_a_strategy_s_file_must_be_there_and_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "mine.py"
    source.write_text("from cl_suite import GradientStrategy\n\n\nclass Mine(GradientStrategy):\n    '''Mine.'''\n")
    run = trained(tmp_path, "mine.py:Mine", "toy_gaussians", *SMALL)
    path = save_model(run, tmp_path / "model.safetensors")
    (task, *_), (stored, *_) = run.harness.scenario_stream.tasks, stored_tests(run)
    assert torch.equal(cl_suite.load_predictor(path)(stored, 0), live_answers(run, task))
    moved = source.rename(tmp_path / "moved.py")
    message = refused(path)
    assert "made with strategy mine.py:Mine, which cannot be loaded here" in message and "--strategy" in message
    assert cl_suite.load_predictor(path, strategy="moved.py:Mine").tasks[0].name == "clusters 0"
    moved.write_text(moved.read_text() + "\n# edited\n")
    assert "has changed since" in refused(path, strategy="moved.py:Mine")


def test_a_preparation_that_is_no_dataclass_is_refused_before_training(tmp_path):
    run = Run(plan(request(tmp_path, "er", f"{STRIPES}:ShuffledStripes", "stream.prepare=function")))
    run.prepare()
    with pytest.raises(UsageError, match=r"the preparation of .*ShuffledStripes cannot be saved: .*<lambda> is no"):
        ModelKeeper().check(run)
    with pytest.raises(UsageError, match=r"the run did not end"):
        save_model(run, tmp_path / "model.safetensors")


def test_a_strategy_whose_state_cannot_be_restored_is_refused_before_training(tmp_path, monkeypatch):
    run = Run(plan(request(tmp_path, "er", "toy_gaussians", *SMALL)))
    run.prepare()
    monkeypatch.setattr(type(run.harness.strategy), "resumable", False)
    with pytest.raises(UsageError, match=r"er keeps a state that cannot be restored"):
        check_saveable(run)


def test_a_description_gives_back_what_it_describes():
    from cl_suite import PrepareImages

    prepare = PrepareImages((0.1,), (0.2,), padding=4, flip=True)
    assert made_again(described(prepare, "it")) == prepare
    assert made_again(described({"a": [prepare, (1, "x")]}, "it")) == {"a": [prepare, (1, "x")]}


@pytest.mark.parametrize(
    ("inputs", "task", "message"),
    [
        (torch.zeros(2, 16), None, r"must be told the task: task 0 \(clusters 0\), 1 \(clusters 1\)"),
        (torch.zeros(2, 16), "clusters 7", "there is no task 'clusters 7'"),
        (torch.zeros(2, 15), 0, r"have the shape \[2, 15\], and the model reads \[B, 16\]"),
        (torch.zeros(16), 0, "Give one sample as a batch of one"),
        ({"a": torch.zeros(2, 16)}, 0, "no tensor of numbers"),
        (["a", "b"], 0, "no tensor of numbers|cannot"),
    ],
)
def test_inputs_and_tasks_that_are_none_are_refused(saved, inputs, task, message):
    with pytest.raises(UsageError, match=message):
        cl_suite.load_predictor(saved)(inputs, task)


def test_numpy_arrays_of_any_number_are_answered_as_tensors_are(saved):
    predictor = cl_suite.load_predictor(saved)
    samples = np.random.default_rng(0).normal(size=(300, 16))
    expected = predictor(torch.from_numpy(samples).float(), 1)
    assert torch.equal(predictor(samples, 1), expected)
    assert set(predictor.predict(samples, 1)) <= {"cluster 2", "cluster 3"}
    assert predictor(samples[:0], 1).shape == (0, 4)
    with pytest.raises(UsageError, match=r"er does not answer for a preference"):
        predictor(samples, 1, preference=(0.5, 0.5))


@pytest.mark.slow  # torch.export is loaded for seconds
@pytest.mark.parametrize("name", ["er", "packnet"])
def test_an_exported_program_answers_as_the_model(name, tmp_path):
    run = trained(tmp_path, name, "split_digits", "train.epochs=1", "schedule.stop_after=2", "model.hidden=[8]")
    predictor = cl_suite.load_predictor(save_model(run, tmp_path / "model.safetensors"))
    written = predictor.export(tmp_path / "model.pt2", 1)
    program = torch.export.load(written).module()
    stored = stored_tests(run)[1]
    assert torch.allclose(program(stored), predictor(stored, 1), atol=1e-5)
    assert torch.equal(predictor(stored, 1), live_answers(run, run.harness.scenario_stream.tasks[1]))


def test_a_predictor_that_chooses_by_its_inputs_is_no_program(tmp_path):
    options = ["strategy.window=5", "strategy.selector_epochs=1"]
    run = trained(tmp_path, "tame", "toy_gaussians", *SMALL, *options, scenario="task_agnostic")
    predictor = cl_suite.load_predictor(save_model(run, tmp_path / "model.safetensors"))
    with pytest.raises(UsageError, match=r"the answer of tame cannot be exported as one program to .pt2") as refusal:
        predictor.export(tmp_path / "model.pt2")
    assert "\n" not in str(refusal.value) and not (tmp_path / "model.pt2").exists()


def test_a_program_of_another_format_is_refused(saved, tmp_path):
    with pytest.raises(UsageError, match=r"model.pth ends in neither .pt2 nor .onnx"):
        cl_suite.load_predictor(saved).export(tmp_path / "model.pth", 0)


@pytest.mark.slow
def test_onnx_answers_as_the_model_or_names_what_is_missing(tmp_path):
    run = trained(tmp_path, "er", "toy_gaussians", *SMALL, scenario="class_incremental")
    predictor = cl_suite.load_predictor(save_model(run, tmp_path / "model.safetensors"))
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"ONNX needs the package .*cl-suite\[onnx\]"):
            predictor.export(tmp_path / "model.onnx")
        return
    session = onnxruntime.InferenceSession(str(predictor.export(tmp_path / "model.onnx")))
    samples = torch.randn(7, 16)
    (found,) = session.run(None, {session.get_inputs()[0].name: samples.numpy()})
    assert np.allclose(found, predictor(samples).numpy(), atol=1e-5)
