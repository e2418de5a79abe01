"""Streams: tasks partition classes and samples, nothing leaks, files are verified before they are read."""

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.images import cifar, mnist
from cl_suite import DataError, DataRoot, Scenario, Seeds, TrainSettings, UsageError, generator_for, hold_out
from cl_suite.core.registry import STREAM, choose, installed
from cl_suite.core.scenario_stream import ScenarioStream
from tests.helpers.image_writers import write_idx

SEEDS = Seeds(0, 0, 0)
CLASS_SPLITS = ["split_cifar100", "split_cifar10", "split_mnist", "split_fashion_mnist", "split_digits"]


def digest(path, algorithm):
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with small files in the layouts torchvision leaves, and their checksums in the tables."""
    random = np.random.default_rng(0)

    def images(labels):
        return random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)

    for part, copies in (("train", 3), ("test", 2)):
        labels = list(range(100)) * copies
        content = {"data": images(labels), "fine_labels": labels, "coarse_labels": [k % 20 for k in labels]}
        write_pickle(tmp_path / "cifar-100-python" / part, content)
    names = {
        "fine_label_names": [f"class {k}" for k in range(100)],
        "coarse_label_names": [f"kind {k}" for k in range(20)],
    }
    write_pickle(tmp_path / "cifar-100-python/meta", names)
    for part in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        labels = list(range(10))
        write_pickle(tmp_path / "cifar-10-batches-py" / part, {"data": images(labels), "labels": labels})
    write_pickle(tmp_path / "cifar-10-batches-py/batches.meta", {"label_names": [f"class {k}" for k in range(10)]})
    for family in ("MNIST", "FashionMNIST"):
        for part, copies in (("train", 4), ("t10k", 2)):
            labels = np.tile(np.arange(10), copies)
            pixels = random.integers(0, 256, (len(labels), 28, 28))
            write_idx(tmp_path / family / "raw" / f"{part}-images-idx3-ubyte", pixels)
            write_idx(tmp_path / family / "raw" / f"{part}-labels-idx1-ubyte", labels)
    for owner, tables in (
        (cifar, ("CIFAR100_FILES", "CIFAR10_FILES")),
        (mnist, ("MNIST_FILES", "FASHION_MNIST_FILES")),
    ):
        for table in tables:
            sums = {name: digest(tmp_path / name, old.partition(":")[0]) for name, old in getattr(owner, table).items()}
            monkeypatch.setattr(owner, table, sums)
            for cls in vars(owner).values():
                if isinstance(cls, type) and getattr(cls, "files", None) and set(cls.files) == set(sums):
                    monkeypatch.setattr(cls, "files", sums)
    return DataRoot(tmp_path, offline=True)


def loaded(name, root, seeds=SEEDS, **options):
    cls = choose(STREAM, name).cls
    return cls(cls.Config(**options)).load(root, seeds)


def rows(samples):
    return {raw.numpy().tobytes() for batch, _ in samples.chunks(1000) for raw in batch}


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


def test_all_tasks_of_a_split_share_one_storage(root):
    data = loaded("split_cifar100", root).to(torch.device("cpu"))
    assert len({task.train.inputs.data_ptr() for task in data.tasks}) == 1


@pytest.mark.parametrize("n_tasks", [5, 10, 20, 50])
def test_split_cifar100_has_the_tasks_asked_for(n_tasks, root):
    data = loaded("split_cifar100", root, n_tasks=n_tasks)
    assert len(data.tasks) == n_tasks
    assert data.tasks[0].classes == tuple(f"class {k}" for k in range(100 // n_tasks))
    assert data.input_shape == (3, 32, 32)


@pytest.mark.parametrize("name", CLASS_SPLITS)
def test_the_number_of_tasks_must_divide_the_classes(name, root):
    with pytest.raises(UsageError, match=r"stream\.n_tasks=3 does not divide the \d+ classes\. Use one of 1, 2, "):
        loaded(name, root, n_tasks=3)


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


def test_an_unknown_class_order_is_refused(root):
    with pytest.raises(UsageError, match="Use natural or seeded"):
        loaded("split_mnist", root, class_order="random")


def test_a_wrong_checksum_is_found_before_anything_is_unpickled(root):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (root.path / "unpickled",))

    write_pickle(root.path / "cifar-100-python/train", Trap())
    with pytest.raises(DataError, match=r"cifar-100-python/train is truncated or altered.*Delete it"):
        loaded("split_cifar100", root)
    assert not (root.path / "unpickled").exists()


def test_a_truncated_file_is_named(root):
    path = root.path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated or altered"):
        loaded("split_mnist", root)


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


def test_permutations_are_bijections_that_differ_and_do_not_depend_on_the_run(root):
    data = loaded("permuted_mnist", root, n_tasks=4)
    orders = [task.train.transform.order for task in data.tasks]
    assert all(torch.equal(order.sort().values, torch.arange(784)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    again = loaded("permuted_mnist", root, Seeds(7, 7, 7), n_tasks=4)
    assert all(torch.equal(a, b.train.transform.order) for a, b in zip(orders, again.tasks, strict=True))
    raw, _ = data.tasks[1].test.take(torch.tensor([0, 3]))
    stored = data.tasks[1].test.inputs[[0, 3]]
    assert torch.equal(raw.flatten(1), stored.flatten(1)[:, orders[1]])


def test_the_first_task_may_be_left_as_it_is(root):
    task = loaded("permuted_mnist", root, first_is_identity=True).tasks[0]
    assert torch.equal(task.test.take(torch.arange(3))[0], task.test.inputs[:3])


def test_permuted_tasks_share_one_storage(root):
    data = loaded("permuted_mnist", root).to(torch.device("cpu"))
    assert len({task.train.inputs.data_ptr() for task in data.tasks}) == 1


def test_rotation_by_zero_changes_nothing_and_by_90_degrees_is_exact():
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(mnist.Rotate(0.0)(images), images)
    assert torch.equal(mnist.Rotate(360.0)(images), images)
    turned = mnist.Rotate(90.0)(images)
    expected = torch.rot90(images, 1, (2, 3))
    assert (turned.int() - expected.int()).abs().max() <= 1
    assert turned.dtype == torch.uint8


def test_rotated_tasks_turn_evenly_or_at_random(root):
    even = loaded("rotated_mnist", root, n_tasks=4)
    assert [task.train.transform.degrees for task in even.tasks] == [0.0, 45.0, 90.0, 135.0]
    random = [t.train.transform.degrees for t in loaded("rotated_mnist", root, n_tasks=4, angles="random").tasks]
    assert all(0 <= angle < 180 for angle in random) and len(set(random)) == 4
    with pytest.raises(UsageError, match="Use even or random"):
        loaded("rotated_mnist", root, angles="odd")
    with pytest.raises(UsageError, match="is not an angle"):
        loaded("rotated_mnist", root, max_degrees=float("nan"))


def test_a_rotated_task_does_not_depend_on_the_batch_it_is_taken_in(root):
    samples = loaded("rotated_mnist", root, n_tasks=4).tasks[1].train
    whole, _ = samples.take(torch.arange(8))
    alone = torch.cat([samples.take(torch.tensor([k]))[0] for k in range(8)])
    assert whole.equal(alone) and not whole.equal(samples.inputs[:8])


def test_rotated_tasks_may_have_few_images_of_their_own_with_fixed_noise_in_training_alone(root):
    options = {"n_tasks": 3, "max_degrees": 0.0, "samples": 13}
    clean = loaded("rotated_mnist", root, Seeds(1, 1, 1), **options).tasks
    noisy = loaded("rotated_mnist", root, Seeds(2, 2, 2), **options, noise=20.0).tasks
    again = loaded("rotated_mnist", root, Seeds(3, 3, 3), **options, noise=20.0).tasks
    rows_taken = torch.cat([task.train.index for task in clean])
    assert len(rows_taken.unique()) == 3 * 13 and all(len(task.train) == 13 for task in noisy)
    noise = [b.train.inputs - a.train.take(torch.arange(13))[0] for a, b in zip(clean, noisy, strict=True)]
    assert abs(float(torch.cat(noise).std()) - 20) < 0.5 and abs(float(torch.cat(noise).mean())) < 0.5
    assert not noise[0].equal(noise[1]) and not noise[0][0].equal(noise[0][1])
    for a, b, c in zip(clean, noisy, again, strict=True):
        assert b.train.inputs.equal(c.train.inputs) and b.train.targets.equal(a.train.targets)
        assert rows(b.test) == rows(a.test) and len(b.test) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 5}, "Use 4 or fewer"),
        ({"samples": -1}, "Use 0"),
        ({"noise": 1.0}, "Set stream.samples too"),
        ({"samples": 1, "noise": -1.0}, "not a standard deviation"),
        ({"outputs": "one"}, "Use per_task or shared"),
    ],
)
def test_a_rotated_stream_that_cannot_be_is_refused(options, message, root):
    with pytest.raises(UsageError, match=message):
        loaded("rotated_mnist", root, **options)


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


@pytest.mark.parametrize("name", ["permuted_mnist", "rotated_mnist"])
def test_transformed_streams_are_domain_incremental_by_default_and_share_labels(name, root):
    assert choose(STREAM, name).cls.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert loaded(name, root).labels == "shared"


def test_digits_need_no_files_and_hold_out_a_quarter(tmp_path):
    data = loaded("split_digits", DataRoot(tmp_path / "nothing", offline=True))
    train, test = (sum(len(getattr(task, part)) for task in data.tasks) for part in ("train", "test"))
    assert train + test == 1797 and abs(test / 1797 - 0.25) < 0.01
    pixels = data.prepare(data.tasks[0].train.inputs)
    assert abs(float(pixels.mean())) < 0.02 and abs(float(pixels.std()) - 1) < 0.02


def test_the_stream_of_the_documentation_can_be_learned(tmp_path):
    page = (Path(__file__).parents[3] / "docs/guides/add_a_stream.md").read_text()
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


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
@pytest.mark.parametrize(("name", "n_train", "n_test"), [("split_cifar100", 2500, 500), ("split_mnist", 12665, 2115)])
def test_real_files_have_the_published_sizes_and_normalise(name, n_train, n_test):
    data = loaded(name, DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert (len(data.tasks[0].train), len(data.tasks[0].test)) == (n_train, n_test)
    images = data.prepare(data.tasks[0].train.inputs)
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.01


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_superclasses_are_the_published_ones():
    data = loaded("cifar100_superclasses", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert data.tasks[0].name == "aquatic_mammals"
    assert data.tasks[0].classes == ("beaver", "dolphin", "otter", "seal", "whale")
    assert all((len(task.train), len(task.test)) == (2500, 500) for task in data.tasks)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_animals_are_animals():
    data = loaded("cifar100_animals", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    names = "aquarium_fish beaver dolphin flatfish otter ray seal shark trout whale"
    assert [task.name.split(" / ")[0] for task in data.tasks] == names.split()
    assert all((len(task.train), len(task.test)) == (1000, 200) for task in data.tasks)
