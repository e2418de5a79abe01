"""CIFAR: files verified before they are read, superclasses, animals, and the published sizes of the real files."""

import os
from pathlib import Path

import pytest
import torch

from cl_suite import DataError, DataRoot, Scenario, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose
from tests.helpers.image_files import assert_sizes_and_normalised, loaded, write_pickle


def test_all_tasks_of_a_split_share_one_storage(root):
    data = loaded("split_cifar100", root).to(torch.device("cpu"))
    assert len({task.train.inputs.data_ptr() for task in data.tasks}) == 1


@pytest.mark.parametrize("n_tasks", [5, 10, 20, 50])
def test_split_cifar100_has_the_tasks_asked_for(n_tasks, root):
    data = loaded("split_cifar100", root, n_tasks=n_tasks)
    assert len(data.tasks) == n_tasks
    assert data.tasks[0].classes == tuple(f"class {k}" for k in range(100 // n_tasks))
    assert data.input_shape == (3, 32, 32)


def test_a_seeded_class_order_depends_on_the_seed_of_classes_alone(root):
    def order(seeds):
        data = loaded("split_cifar100", root, seeds, class_order="seeded")
        return [label for task in data.tasks for label in task.classes]

    assert order(Seeds(0, 0, 5)) == order(Seeds(1, 2, 5))
    assert order(Seeds(0, 0, 5)) != order(Seeds(0, 0, 6))
    assert sorted(order(Seeds(0, 0, 5))) == sorted(f"class {k}" for k in range(100))


def test_superclasses_are_tasks_of_five_named_and_divided_as_the_files_say(root):
    data = loaded("cifar100_superclasses", root)
    assert [task.name for task in data.tasks] == [f"kind {k}" for k in range(20)]
    assert data.tasks[3].classes == ("class 3", "class 23", "class 43", "class 63", "class 83")
    assert sorted(name for task in data.tasks for name in task.classes) == sorted(f"class {k}" for k in range(100))
    seeded = loaded("cifar100_superclasses", root, Seeds(0, 0, 5), task_order="seeded")
    assert [task.name for task in seeded.tasks] != [task.name for task in data.tasks]
    assert {task.name: task.classes for task in seeded.tasks} == {task.name: task.classes for task in data.tasks}
    with pytest.raises(UsageError, match=r"stream\.task_order=odd is not known"):
        loaded("cifar100_superclasses", root, task_order="odd")


def test_animals_are_told_from_others_on_another_pair_of_classes_in_each_task(root):
    data = loaded("cifar100_animals", root)
    assert choose(STREAM, "cifar100_animals").cls.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert data.labels == "shared" and {task.classes for task in data.tasks} == {("animal", "other")}
    animals, others = (1, 4, 30, 32, 55, 67, 72, 73, 91, 95), (8, 13, 41, 48, 58, 69, 81, 85, 89, 90)
    assert [task.name for task in data.tasks] == [
        f"class {a} / class {b}" for a, b in zip(animals, others, strict=True)
    ]
    for task, animal, other in zip(data.tasks, animals, others, strict=True):
        # The files' labels count 0 to 99 over and over.
        assert [(animal, other)[label] for label in task.train.targets] == (task.train.index % 100).tolist()
        assert (len(task.train), len(task.test)) == (6, 4)
    few = loaded("cifar100_animals", root, n_tasks=3)
    assert [task.name for task in few.tasks] == [task.name for task in data.tasks[:3]]
    for n_tasks in (0, 11):
        with pytest.raises(UsageError, match="is not a number of pairs"):
            loaded("cifar100_animals", root, n_tasks=n_tasks)


def test_a_wrong_checksum_is_found_before_anything_is_unpickled(root):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (root.path / "unpickled",))

    write_pickle(root.path / "cifar-100-python/train", Trap())
    with pytest.raises(DataError, match=r"cifar-100-python/train is truncated or altered.*Delete it"):
        loaded("split_cifar100", root)
    assert not (root.path / "unpickled").exists()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_real_files_have_the_published_sizes_and_normalise():
    data = loaded("split_cifar100", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert_sizes_and_normalised(data, 2500, 500)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_superclasses_are_the_published_ones():
    data = loaded("cifar100_superclasses", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert data.tasks[0].name == "aquatic_mammals"
    assert data.tasks[0].classes == ("beaver", "dolphin", "otter", "seal", "whale")
    assert all((len(task.train), len(task.test)) == (2500, 500) for task in data.tasks)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_animals_are_animals():
    data = loaded("cifar100_animals", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    names = "aquarium_fish beaver dolphin flatfish otter ray seal shark trout whale"
    assert [task.name.split(" / ")[0] for task in data.tasks] == names.split()
    assert all((len(task.train), len(task.test)) == (1000, 200) for task in data.tasks)
