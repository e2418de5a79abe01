"""5-Datasets: each source is read, padded and normalised as published; what is absent is named, with a way on."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from benchmarks.images import five_datasets
from benchmarks.images.five_datasets import SOURCES, FiveDatasets
from cl_suite import DataError, DataRoot, Ring, Scenario, Seeds, TrainSettings, UsageError
from cl_suite.core.scenario_stream import ScenarioStream
from tests.helpers.image_writers import write_idx
from tests.helpers.stream_sizes import measured_sizes

SEEDS = Seeds(0, 0, 0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Twenty images of each data set, in the published layouts, and their checksums in the table."""
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 2)
    cifar = tmp_path / "cifar-10-batches-py"
    cifar.mkdir()
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        pixels = random.integers(0, 256, (10, 3072), dtype=np.uint8)
        (cifar / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (cifar / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"thing {k}" for k in range(10)]}))
    for family in ("MNIST", "FashionMNIST"):
        for part in ("train", "t10k"):
            write_idx(tmp_path / family / f"raw/{part}-images-idx3-ubyte", random.integers(0, 256, (20, 28, 28)))
            write_idx(tmp_path / family / f"raw/{part}-labels-idx1-ubyte", labels)
    for name in five_datasets.SVHN_FILES:
        pixels = random.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        pixels[1, 2, 0, 5] = 77
        savemat(tmp_path / name, {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)})
    for folder in five_datasets.NOT_MNIST_FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            letter = random.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(letter).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "notMNIST_small/A/empty.png").touch()
    (tmp_path / "notMNIST_small/F/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("L", (5, 5)).save(tmp_path / "notMNIST_small/B/small.png")
    for name, source in SOURCES.items():
        sums = {file: f"md5:{hashlib.md5((tmp_path / file).read_bytes()).hexdigest()}" for file in source.files}
        monkeypatch.setitem(SOURCES, name, replace(source, files=sums))
    return DataRoot(tmp_path, offline=True)


def loaded(root, *datasets):
    config = FiveDatasets.Config(list(datasets)) if datasets else FiveDatasets.Config()
    return FiveDatasets(config).load(root, SEEDS)


def test_five_tasks_of_ten_classes_in_the_published_order(root):
    data = loaded(root)
    assert [task.name for task in data.tasks] == ["cifar10", "mnist", "svhn", "fashion_mnist", "not_mnist"]
    assert data.input_shape == (3, 32, 32)
    stated, measured = FiveDatasets.facts.sizes, measured_sizes(data)
    assert stated == replace(measured, train=None, test=None)  # those of the real files are not known here
    for task in data.tasks:
        assert len(task.classes) == 10 and task.train.targets.unique().tolist() == list(range(10))
        images = data.prepare(task.test.take(torch.arange(2))[0])
        assert images.shape == (2, 3, 32, 32) and images.dtype == torch.float32
        assert task.train.inputs.dtype == torch.uint8  # stored as they are


def test_each_data_set_has_its_own_normalisation_and_grey_is_padded_with_black_then_replicated(root):
    mnist, svhn = loaded(root, "mnist", "svhn").tasks
    grey, _ = mnist.test.take(torch.arange(3))
    pixels = mnist.test.inputs[:3].float() / 255
    torch.testing.assert_close(grey[:, :, 2:30, 2:30], ((pixels - 0.1) / 0.2752).expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey[:, :, 0], torch.full((3, 3, 32), -0.1 / 0.2752))
    colour, targets = svhn.test.take(torch.tensor([0, 5]))
    torch.testing.assert_close(colour[1, 0, 1, 2], torch.tensor((77 / 255 - 0.4377) / 0.198))
    assert targets.tolist() == [0, 5]  # label 10 of the file is the digit 0


def test_unreadable_letters_are_left_out_counted_and_a_fixed_tenth_is_the_test_set(root):
    data = loaded(root, "not_mnist")
    (task,) = data.tasks
    assert (len(task.train), len(task.test)) == (36, 4)
    images = torch.cat([task.train.inputs, task.test.inputs])
    assert len({image.numpy().tobytes() for image in images}) == 40
    assert next(iter(data.checksums)) == "notMNIST_small (40 images, 3 files left out)"
    assert loaded(root, "not_mnist").tasks[0].test.inputs.equal(task.test.inputs)
    # Mixed, not letter by letter: some networks normalise by the statistics of the test batch.
    assert task.train.targets.tolist() != sorted(task.train.targets.tolist())


@pytest.mark.parametrize("name", list(SOURCES))
def test_an_absent_data_set_is_named_with_its_place_and_a_way_on_without_it(name, root):
    source = SOURCES[name]
    missing = root.path / next(iter((*source.files, *source.folders)))
    missing.rename(root.path / "elsewhere")
    with pytest.raises(DataError) as refused:
        loaded(root)
    message, others = str(refused.value), [each for each in SOURCES if each != name]
    assert message.startswith(f"{source.what}: ") and str(root.path) in message and "\n" not in message
    assert f"stream.datasets=[{','.join(others)}]" in message
    assert len(loaded(root, *others).tasks) == 4


def test_an_altered_file_is_found_before_it_is_read(root):
    (root.path / "train_32x32.mat").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"SVHN: .*train_32x32.mat is truncated or altered"):
        loaded(root)


@pytest.mark.parametrize("datasets", [["mnist", "mnist"], ["cifar11"]])
def test_a_choice_that_cannot_be_is_refused(datasets, root):
    with pytest.raises(UsageError, match=r"is no choice of cifar10, mnist, .*each once"):
        loaded(root, *datasets)


def test_buffers_keep_what_the_tasks_hand_over(root):
    data = loaded(root, "mnist", "svhn")
    scenario_stream = ScenarioStream(
        "five", data, Scenario.TASK_AGNOSTIC, train=TrainSettings(), seeds=SEEDS, device=torch.device("cpu")
    )
    ring = Ring(7, scenario_stream.info)
    for experience in scenario_stream.experiences(None):
        for batch in experience.batches():
            ring.add(batch)
    drawn = ring.draw(7)
    assert drawn.inputs.shape == (7, 3, 32, 32) and drawn.inputs.equal(drawn.raw)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_published_numbers_normalise_the_real_files():
    data = loaded(DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True), "mnist", "fashion_mnist")
    for task in data.tasks:
        images, _ = task.train.take(torch.arange(10_000))
        assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02
