"""Streams: tasks partition classes and samples, nothing leaks, what cannot be had is said in one line."""

import pytest
import torch

from benchmarks.images import cifar, mnist
from cl_suite import DataError, DataRoot, Scenario, TrainSettings, UsageError, generator_for, hold_out
from cl_suite.core.registry import STREAM, choose, installed
from cl_suite.core.scenario_stream import ScenarioStream
from tests.helpers.image_files import SEEDS, loaded, rows, small_image_files, write_pickle
from tests.helpers.places import ROOT

CLASS_SPLITS = ["split_cifar100", "split_cifar10", "split_mnist", "split_fashion_mnist", "split_digits"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a data root with small files of every data set of images."""
    return small_image_files(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", CLASS_SPLITS)
def test_tasks_partition_the_classes_and_the_samples(name, root):
    data = loaded(name, root)
    names = [label for task in data.tasks for label in task.classes]
    assert len(set(names)) == len(names)
    for part in ("train", "test"):
        views = [getattr(task, part) for task in data.tasks]
        index = torch.cat([view.index for view in views])
        assert index.unique().numel() == len(index) == len(views[0].inputs)
        assert all(view.targets.unique().tolist() == list(range(len(data.tasks[0].classes))) for view in views)


@pytest.mark.parametrize("name", CLASS_SPLITS)
def test_no_test_image_is_a_training_image(name, root):
    data = loaded(name, root)
    training = set().union(*(rows(task.train) for task in data.tasks))
    test = set().union(*(rows(task.test) for task in data.tasks))
    assert training and test and not training & test


@pytest.mark.parametrize("name", CLASS_SPLITS)
def test_validation_is_drawn_from_the_training_samples_alone(name, root):
    for number, task in enumerate(loaded(name, root).tasks):
        kept, held = hold_out(task.train, 0.3, generator_for(0, "validation", number))
        assert len(held) == round(0.3 * len(task.train)) > 0
        assert set(held.index.tolist()).isdisjoint(kept.index.tolist())
        assert torch.cat([kept.index, held.index]).sort().values.equal(task.train.index)
        assert rows(held).isdisjoint(rows(kept) | rows(task.test))


@pytest.mark.parametrize("name", CLASS_SPLITS)
def test_the_number_of_tasks_must_divide_the_classes(name, root):
    with pytest.raises(UsageError, match=r"stream\.n_tasks=3 does not divide the \d+ classes\. Use one of 1, 2, "):
        loaded(name, root, n_tasks=3)


def test_an_unknown_class_order_is_refused(root):
    with pytest.raises(UsageError, match="Use natural or seeded"):
        loaded("split_mnist", root, class_order="random")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in sorted(installed(STREAM))  # of those that are files, not simulators
        if name.endswith(("mnist", "00", "10", "animals")) and not name.startswith(("libero", "metaworld"))
    ],
)
def test_absent_data_names_file_place_and_next_move(name, tmp_path):
    with pytest.raises(DataError) as refused:
        loaded(name, DataRoot(tmp_path / "empty", offline=True))
    message = str(refused.value)
    assert str(tmp_path / "empty") in message
    assert "--offline forbids" in message and "--stream split_digits" in message and "CL_SUITE_DATA" in message
    assert "\n" not in message


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def no_network(self, folder):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(cifar.SplitCIFAR100, "download", no_network)
    with pytest.raises(DataError, match=r"the download failed \(no route to host\)") as refused:
        loaded("split_cifar100", DataRoot(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_download_is_verified_too(tmp_path, monkeypatch):
    def wrong(self, folder):
        for name in cifar.CIFAR100_FILES:
            write_pickle(folder / name, {})

    monkeypatch.setattr(cifar.SplitCIFAR100, "download", wrong)
    with pytest.raises(DataError, match="truncated or altered"):
        loaded("split_cifar100", DataRoot(tmp_path))


def test_what_was_verified_is_in_the_data(root):
    assert loaded("split_mnist", root).checksums == mnist.SplitMNIST.files
    cls = choose(STREAM, "split_mnist").cls
    assert cls(cls.Config()).fetch(root) == mnist.SplitMNIST.files


@pytest.mark.parametrize("name", ["permuted_mnist", "rotated_mnist"])
def test_tasks_with_one_head_share_their_outputs_in_every_scenario(name, root):
    def presented(scenario, outputs):
        data = loaded(name, root, n_tasks=3, outputs=outputs)
        train, device = TrainSettings(), torch.device("cpu")
        return ScenarioStream(name, data, scenario, train=train, seeds=SEEDS, device=device)

    for scenario in (Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL, Scenario.TASK_AGNOSTIC):
        scenario_stream = presented(scenario, "shared")
        assert scenario_stream.info.n_outputs == 10
        assert all(task.classes == tuple(range(10)) for task in scenario_stream.tasks)
    assert presented(Scenario.TASK_INCREMENTAL, "shared").info.task_classes == (tuple(range(10)),) * 3
    assert presented(Scenario.TASK_INCREMENTAL, "per_task").info.n_outputs == 30
    with pytest.raises(UsageError, match=r"no class_incremental form\. Use --scenario domain_incremental"):
        presented(Scenario.CLASS_INCREMENTAL, "shared")


def test_the_stream_of_the_documentation_can_be_learned(tmp_path):
    page = (ROOT / "docs/guides/add_a_stream.md").read_text()
    plugin = tmp_path / "my_stream.py"
    plugin.write_text(page.split("```python\n")[1].split("```")[0])
    data = loaded(f"{plugin}:NoisyWaves", DataRoot(tmp_path), n_tasks=4)
    train, test = data.tasks[0].train, data.tasks[0].test
    # A square wave is further from zero than a sine: the classes can be told apart by that alone.
    cut = data.prepare(train.inputs).abs().mean()
    answers = (data.prepare(test.inputs).abs().mean(dim=1) > cut).long()
    assert len(data.tasks) == 4 and (answers == test.targets).float().mean() > 0.9


def test_every_stream_says_where_it_comes_from():
    for name in installed(STREAM):
        cls = choose(STREAM, name).cls
        assert cls.source and cls.licence and cls.version, name
