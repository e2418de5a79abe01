"""Streams of LIBERO from files: suites, published orders, what is held out, and what is refused."""

import json
import os
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.libero.files import open_libero_file
from benchmarks.libero.streams import ACTIONS, SCALING, Libero10Offline, Libero90Offline, LiberoObjectOffline
from benchmarks.libero.suites import LIBERO_SUITES, LIBERO_TASK_ORDERS, libero_tasks
from cl_suite import DataError, DataRoot, Scenario, Seeds, Stream, UsageError
from cl_suite.cli.main import main
from tests.helpers.libero_writer import SIZE, change, replace, write_libero
from tests.helpers.places import ROOT

pytest.importorskip("h5py")

SEEDS = Seeds(0, 0, 0)
SOUP, CHEESE = (f"pick_up_the_{thing}_and_place_it_in_the_basket" for thing in ("alphabet_soup", "cream_cheese"))
REAL = Path(os.environ.get("CL_SUITE_DATA", "")) / "libero_demos_small"


@pytest.fixture
def root(tmp_path):
    """A data root with files of the first two tasks of LIBERO-Object."""
    for name in (SOUP, CHEESE):
        write_libero(tmp_path / "libero" / "libero_object" / f"{name}_demo.hdf5")
    return DataRoot(tmp_path)


def loaded(root, cls=LiberoObjectOffline, **options):
    return cls(cls.Config(**{"tasks": [0, 1], "held_out": 1, **options})).load(root, SEEDS)


def test_suites_have_their_tasks_and_orders_are_permutations():
    assert {suite: len(names) for suite, names in LIBERO_SUITES.items()} == {
        "libero_spatial": 10,
        "libero_object": 10,
        "libero_goal": 10,
        "libero_10": 10,
        "libero_90": 90,
    }
    assert len({name for names in LIBERO_SUITES.values() for name in names}) == 130
    assert all(not name[0].isupper() for suite in ("libero_spatial", "libero_goal") for name in LIBERO_SUITES[suite])
    assert len(set(LIBERO_TASK_ORDERS)) == len(LIBERO_TASK_ORDERS) == 21
    assert LIBERO_TASK_ORDERS[0] == tuple(range(10))
    assert all(sorted(order) == list(range(10)) for order in LIBERO_TASK_ORDERS)
    assert libero_tasks("libero_object", order=1)[0] == LIBERO_SUITES["libero_object"][4]
    assert libero_tasks("libero_90") == LIBERO_SUITES["libero_90"]
    assert libero_tasks("libero_object", numbers=[1, 0]) == (CHEESE, SOUP)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (
            LiberoObjectOffline,
            {"tasks": [], "task_order_index": 21},
            "task_order_index=21 is not published. Use 0 to 20",
        ),
        (LiberoObjectOffline, {"tasks": [], "task_order_index": -1}, "task_order_index=-1 is not published"),
        (Libero90Offline, {"tasks": [], "task_order_index": 1}, "libero_90 has 90. Use 0"),
        (LiberoObjectOffline, {"task_order_index": 1}, "stream.tasks has an order of its own"),
        (LiberoObjectOffline, {"tasks": [0, 10]}, "stream.tasks names 10. libero_object has tasks 0 to 9"),
        (LiberoObjectOffline, {"tasks": [1, 1]}, "names a task twice"),
        (LiberoObjectOffline, {"held_out": 0}, r"stream\.held_out=0 is too small"),
        (LiberoObjectOffline, {"held_out": 3}, "held_out=3 leaves none of 3 demonstrations"),
        (LiberoObjectOffline, {"demonstrations": 2, "held_out": 2}, "held_out=2 leaves none of 2 demonstrations"),
        (LiberoObjectOffline, {"history": 0}, r"stream\.history=0 is too small"),
        (LiberoObjectOffline, {"tolerance": 0.0}, r"stream\.tolerance=0\.0 is not a tolerance"),
        (LiberoObjectOffline, {"head": "l3"}, r"stream\.head=l3 is not known"),
        (LiberoObjectOffline, {"language": "bert"}, r"stream\.language=bert is not known"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(cls, options, message, root):
    with pytest.raises(UsageError, match=message) as refused:
        loaded(root, cls, **options)
    assert "\n" not in str(refused.value)


def test_the_last_demonstrations_are_held_out_and_the_instruction_is_an_input(root):
    data = loaded(root, cameras=["agentview"], history=2)
    assert [task.name for task in data.tasks] == [SOUP, CHEESE] and data.single_head and data.labels == "shared"
    assert LiberoObjectOffline.scenarios == (Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL)
    for number, task in enumerate(data.tasks):
        assert (len(task.train), len(task.test), task.scorer) == (3 + 4, 5, None)
        inputs, actions = task.test.take(torch.arange(5))
        assert inputs["states"].shape == (5, 2, 29) and inputs["agentview"].shape == (5, 2, 3, *SIZE)
        assert inputs["states"][:, :, 0].eq(2.0).all()  # all of demo_2
        assert inputs["instruction"].tolist() == [[float(number == k) for k in range(2)]] * 5
        assert actions.shape == (5, len(ACTIONS)) and task.classes == ACTIONS
        prepared = data.prepare(inputs)["states"]
        assert torch.isfinite(prepared).all() and prepared[..., 8:].abs().max() < 4
    assert len(SCALING.centre) == len(SCALING.scale) == 29
    assert loaded(root, tasks=[1, 0]).tasks[0].name == CHEESE


def test_checksums_are_of_the_whole_files_and_fetch_checks_them(root):
    config = LiberoObjectOffline.Config(tasks=[0, 1], held_out=1)
    found = LiberoObjectOffline(config).fetch(root)
    assert list(found) == [f"libero/libero_object/{name}_demo.hdf5" for name in (SOUP, CHEESE)]
    assert found == loaded(root).checksums and all(value.startswith("sha256:") for value in found.values())
    change(root.path / f"libero/libero_object/{SOUP}_demo.hdf5", lambda data: data.attrs.modify("env_name", "Other"))
    assert LiberoObjectOffline(config).fetch(root)[f"libero/libero_object/{SOUP}_demo.hdf5"] not in found.values()
    change(root.path / f"libero/libero_object/{CHEESE}_demo.hdf5", lambda data: data.__delitem__("demo_2/actions"))
    with pytest.raises(DataError, match="demo_2: actions is absent"):
        LiberoObjectOffline(config).fetch(root)


def test_absent_files_say_where_they_go_and_which_tasks_have_one(root):
    with pytest.raises(
        DataError, match=r"[(]8 files are absent.*stream\.tasks=\[0,1\].*https://libero-project"
    ) as refused:
        loaded(root, tasks=[])
    assert "\n" not in str(refused.value) and str(root.path / "libero" / "libero_object") in str(refused.value)
    with pytest.raises(DataError, match=r"libero_10: .* [(]10 files are absent"):
        loaded(root, Libero10Offline, tasks=[])


def test_pictures_that_differ_from_file_to_file_are_refused(root):
    path = root.path / f"libero/libero_object/{CHEESE}_demo.hdf5"
    for number, steps in enumerate((4, 5, 6)):
        key = f"demo_{number}/obs/agentview_rgb"
        change(path, lambda data, key=key, steps=steps: replace(data, key, np.zeros((steps, 2, 2, 3), np.uint8)))
    with pytest.raises(DataError, match="the pictures of agentview differ from file to file"):
        loaded(root, cameras=["agentview"])
    assert len(loaded(root).tasks) == 2


def test_every_suite_is_a_stream_that_says_it_measures_no_success():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = {k: v for k, v in project["entry-points"]["cl_suite.streams"].items() if k.startswith("libero")}
    offline = {name: target for name, target in points.items() if name.endswith("_offline")}
    assert set(offline) == {f"{suite}_offline" for suite in LIBERO_SUITES}
    for name, target in offline.items():
        module, _, attribute = target.partition(":")
        cls = getattr(import_module(module), attribute)
        assert issubclass(cls, Stream) and f"{cls.suite}_offline" == name
        assert "not a success rate" in cls(cls.Config()).card()["score"] and "not success" in cls.__doc__


def test_a_policy_is_learned_from_two_files(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("--strategy", "finetune", "--stream", "benchmarks.libero.streams:LiberoObjectOffline", "--json"),
                *("--data-root", str(root.path), "stream.tasks=[0,1]", "stream.held_out=1", "train.epochs=100"),
                *("strategy.optimizer=adam", "strategy.lr=0.001", "model.hidden=[32]", "stream.tolerance=0.5"),
            ]
        )
    assert ended.value.code == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["status"] == "complete" and len(record["R"]) == 2
    assert record["R"][1][1] >= 0.6  # the gripper closes half-way through, which the moment tells
    assert record["provenance"]["data_checksums"] == loaded(root).checksums


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="needs libero_demos_small under CL_SUITE_DATA")
def test_the_real_files_are_read_as_they_are(tmp_path):
    sums = {}
    for name, frames in ((SOUP, 818), (CHEESE, 880)):
        file = open_libero_file(REAL / "libero_object" / f"{name}_demo.hdf5")
        shown = file.read(observation_shift=0)
        assert len(shown.actions) == frames == int(shown.lengths.sum()) and len(file.demos) == 6 and not file.cameras
        assert file.goal == (f"{name.split('_the_')[1].split('_and')[0]}_1", "basket_1")
        thing, place = shown.observations["states"][:, 15:18], shown.observations["states"][:, 22:25]
        ends = shown.lengths.cumsum(0)
        apart = (thing - place).norm(dim=1)
        assert (apart[ends - 1] < 0.12).all() and (apart[ends - shown.lengths] > 0.3).all()  # it is in the basket now
        assert (SCALING({"states": shown.observations["states"]})["states"].abs() < 4).all()
        sums[f"libero_demos_small/libero_object/{name}_demo.hdf5"] = file.checksum
        with pytest.raises(DataError, match=r"stored before each action.*observation_shift=0"):
            file.read()
    data = loaded(DataRoot(REAL.parent), folder="libero_demos_small", observation_shift=0)
    assert data.checksums == sums
    assert sums[f"libero_demos_small/libero_object/{SOUP}_demo.hdf5"].startswith("sha256:619f851a")
