"""MNIST: permuted and rotated tasks, noise, and the published sizes of the real files."""

import os
from pathlib import Path

import pytest
import torch

from benchmarks.images import mnist
from cl_suite import DataError, DataRoot, Scenario, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose
from tests.helpers.image_files import assert_sizes_and_normalised, loaded, rows


def test_a_truncated_file_is_named(root):
    path = root.path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated or altered"):
        loaded("split_mnist", root)


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
def test_transformed_streams_are_domain_incremental_by_default_and_share_labels(name, root):
    assert choose(STREAM, name).cls.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert loaded(name, root).labels == "shared"


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_real_files_have_the_published_sizes_and_normalise():
    data = loaded("split_mnist", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert_sizes_and_normalised(data, 12665, 2115)
