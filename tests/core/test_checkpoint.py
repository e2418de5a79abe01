"""State goes to one file and back, bit for bit, without pickle."""

import pytest
import torch

from cl_suite.core.checkpoint import load_state, save_state, tensor_bytes
from cl_suite.core.errors import RunError, UsageError


def test_nested_state_comes_back_equal(tmp_path):
    state = {
        "weights": torch.randn(3, 4).to(memory_format=torch.contiguous_format)[:, ::2],
        "counts": {0: [1, 2.5, None, True, "text"], "nested": {"empty": {}, "bits": torch.tensor([True, False])}},
        "pair": (1e-300, float("inf")),
        "scalar": torch.tensor(3),
        "nothing": torch.empty(0, 5),
        "generator": torch.Generator().get_state(),
    }
    save_state(tmp_path / "x.safetensors", state)
    back = load_state(tmp_path / "x.safetensors")
    assert back["counts"][0] == state["counts"][0]
    assert back["pair"] == state["pair"]
    for name in ("weights", "scalar", "nothing", "generator"):
        assert torch.equal(back[name], state[name]) and back[name].dtype == state[name].dtype
    assert torch.equal(back["counts"]["nested"]["bits"], torch.tensor([True, False]))


def test_tensors_that_share_storage_are_saved(tmp_path):
    shared = torch.arange(4.0)
    save_state(tmp_path / "x.safetensors", {"a": shared, "b": shared[:2]})
    assert load_state(tmp_path / "x.safetensors")["b"].tolist() == [0.0, 1.0]


def test_an_object_is_refused_by_its_place_and_the_old_file_stays(tmp_path):
    path = tmp_path / "x.safetensors"
    save_state(path, {"a": 1})
    with pytest.raises(RunError, match=r"state\['a'\]\[1\] is a set"):
        save_state(path, {"a": [1, {2}]})
    assert load_state(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    save_state(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"x\.safetensors is damaged.*--no-resume"):
        load_state(path)


def test_bytes_of_state_count_shared_storage_once():
    shared = torch.zeros(10)
    assert tensor_bytes({"a": shared, "b": [shared, torch.zeros(2, dtype=torch.uint8)]}) == 42
