"""Classes cut into tasks: the order given by hand, a larger first task, unequal tasks, on every such stream."""

from dataclasses import dataclass

import pytest
import torch

from cl_suite import ClassSplit, Seeds, UsageError, class_order, cut_by_class, split_by_class, task_sizes
from cl_suite.records.record import config_hash
from tests.helpers.image_files import SEEDS, loaded, small_image_files

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
LABELS = torch.arange(6).repeat_interleave(3)
DATA = (torch.arange(18)[:, None], LABELS)


@dataclass
class Options(ClassSplit):
    n_tasks: int = 3


def cut(**options):
    return cut_by_class(DATA, DATA, Options(**options), seeds=SEEDS, class_names=NAMES)


def test_an_order_by_hand_is_followed_by_numbers_and_by_names():
    by_number, by_name = (
        cut(class_order=[5, 0, 3, 1, 2, 4]),
        cut(class_order=["fox", "ant", "dog", "bee", "cat", "elk"]),
    )
    for tasks in (by_number, by_name, cut(class_order=[5, "ant", 3, "bee", 2, 4])):
        assert [task.classes for task in tasks] == [("fox", "ant"), ("dog", "bee"), ("cat", "elk")]
        samples, targets = tasks[0].train.take(torch.arange(6))
        assert samples.flatten().tolist() == [0, 1, 2, 15, 16, 17] and targets.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_part_of_the_classes_leaves_the_others_out():
    tasks = cut(class_order=["elk", "bee"], n_tasks=2)
    assert [task.classes for task in tasks] == [("elk",), ("bee",)]
    assert sum(len(task.train) for task in tasks) == sum(len(task.test) for task in tasks) == 6


def test_where_names_are_whole_numbers_an_entry_is_a_name():
    years = ["5", "10", "20"]
    assert class_order([20, 5], 3, 0, names=years) == class_order(["20", "5"], 3, 0, names=years) == [2, 0]
    with pytest.raises(UsageError, match="'0', which is no class"):
        class_order([0], 3, 0, names=years)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 0], "names 0 twice. Name each class once"),
        (["cat", 2], "names cat twice"),
        (["cta"], "'cta', which is no class. Did you mean cat?"),
        ([6], "names class 6, but the classes are 0 to 5"),
        ([-1], "names class -1"),
        ([True], "names class True"),
        ([0.5], r"names class 0\.5"),
        ([], "names no class"),
        ("sorted", "class_order=sorted is not known. Use natural or seeded, or a list"),
        (None, "class_order=None is not known"),
        (3, "class_order=3 is not known"),
        ({"a": 1}, "is not known"),
    ],
)
def test_an_order_that_cannot_be_is_refused_in_one_line(order, message):
    with pytest.raises(UsageError, match=message) as refused:
        class_order(order, 6, 0, names=NAMES)
    assert "\n" not in str(refused.value)


def test_of_many_classes_a_message_names_some():
    with pytest.raises(UsageError, match=r"There are 100, e\.g\. class 0, class 1, class 2\.") as refused:
        class_order(["zebra"], 100, 0, names=[f"class {k}" for k in range(100)])
    assert len(str(refused.value)) < 150


def test_a_larger_first_task_is_followed_by_equal_ones():
    assert [len(task.classes) for task in cut(first_task=4)] == [4, 1, 1]
    assert [len(task.classes) for task in cut(first_task=2)] == [2, 2, 2]
    assert [len(task.classes) for task in cut(first_task=6, n_tasks=1)] == [6]
    tasks = split_by_class(DATA, DATA, n_tasks=2, class_order=range(6), class_names=NAMES, first_task=5)
    assert [task.classes for task in tasks] == [NAMES[:5], NAMES[5:]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"first_task": 3},
            r"leaves 3 of the 6 classes, which stream\.n_tasks=3 does not divide.*Use .*n_tasks=2, 4\.",
        ),
        ({"first_task": 7}, "first_task=7 is not a number of classes for the first task. Use 1 to 6"),
        ({"first_task": 0}, "first_task=0 is not"),
        ({"first_task": 6}, r"leaves 0 of the 6 classes.*Use stream\.n_tasks=1\."),
        ({"first_task": 3, "n_tasks": 0}, r"n_tasks=2, 4\."),
        ({"n_tasks": 4}, "does not divide the 6 classes. Use one of 1, 2, 3, 6"),
        ({"task_sizes": [3, 2]}, r"task_sizes=\[3,2\] does not divide the 6 classes.*sum is 6"),
        ({"task_sizes": [7, -1]}, "numbers from 1"),
        ({"task_sizes": []}, "does not divide"),
        ({"task_sizes": [3, 3], "n_tasks": 6}, r"Leave stream\.n_tasks out"),
        ({"task_sizes": [3, 3], "first_task": 3}, r"Leave stream\.first_task out"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        cut(**options)
    assert "\n" not in str(refused.value)


def test_unequal_tasks_have_the_sizes_asked_for():
    assert [len(task.classes) for task in cut(task_sizes=[1, 3, 2])] == [1, 3, 2]
    assert task_sizes(6, Options(task_sizes=[4, 2]), usual=3) == [4, 2]  # in place of the stream's own number


def test_samples_without_a_label_are_left_out():
    labels = torch.where(torch.arange(18) % 3 == 0, -1, LABELS)
    tasks = split_by_class((DATA[0], labels), DATA, n_tasks=1, class_order=range(6), class_names=NAMES)
    assert tasks[0].train.index.tolist() == [k for k in range(18) if k % 3]


@pytest.mark.parametrize(
    "name", ["split_cifar100", "split_cifar10", "split_mnist", "split_fashion_mnist", "split_digits"]
)
def test_streams_that_are_cut_by_class_take_an_order_and_a_first_task(name, tmp_path, monkeypatch):
    root = small_image_files(tmp_path, monkeypatch)
    usual = [label for task in loaded(name, root).tasks for label in task.classes]
    chosen = loaded(name, root, class_order=[7, 2, 9, 0, 1, 3], first_task=2, n_tasks=3)
    assert [task.classes for task in chosen.tasks] == [
        tuple(usual[k] for k in part) for part in ([7, 2], [9, 0], [1, 3])
    ]
    assert all(len(task.train) and len(task.test) for task in chosen.tasks)
    assert loaded(name, root, class_order=[usual[7], usual[2]], n_tasks=1).tasks[0].classes == (usual[7], usual[2])


def test_options_that_came_later_move_no_hash():
    before = {"stream": {"n_tasks": 5, "class_order": "natural"}}
    now = {"stream": {"n_tasks": 5, "class_order": "natural", "first_task": None, "task_sizes": None}}
    assert config_hash(before) == config_hash(now)
    assert config_hash(now) != config_hash({"stream": {**now["stream"], "first_task": 4}})
    assert config_hash(now) != config_hash({"stream": {**now["stream"], "class_order": [1, 0]}})


def test_a_seeded_order_is_as_it_was():
    assert class_order("seeded", 10, 3) == torch.randperm(10, generator=torch.Generator().manual_seed(3)).tolist()
    assert Seeds(0, 0, 0) == SEEDS
