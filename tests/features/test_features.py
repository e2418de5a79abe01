"""Frozen features: what the network says of each image, once, alike for every task; and what is refused."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.images.mnist import Permute
from cl_suite import DataError, DataRoot, PrepareImages, Samples, Seeds, StreamData, TaskData, UsageError, hold_out
from cl_suite.core.registry import STREAM, choose
from cl_suite.core.seeding import generator_for
from cl_suite.features import weights as weights_module
from cl_suite.features.extract import as_features, public_facts
from cl_suite.features.frozen_networks import FeatureOptions, frozen_network
from cl_suite.networks.images import BACKBONES
from cl_suite.records.compatibility import GROUP_BEFORE, without_unchanged
from cl_suite.records.record import RunRecord, config_hash
from cl_suite.report.tables.leaderboard import build_tables
from cl_suite.runs.config import RunConfig
from cl_suite.runs.execute import run_one
from cl_suite.runs.plan import Request, plan

SEEDS = Seeds(0, 0, 0)
CPU = torch.device("cpu")
PREPARE = PrepareImages(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), padding=2, flip=True)


def images(*, seed=0, count=70, channels=3):
    """Return storage [count, channels, 8, 8] uint8 in which odd images are bright on one side."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 128, (count, channels, 8, 8), generator=generator)
    pixels[1::2, :, :, 4:] += 127
    return pixels.to(torch.uint8)


def stream(*, transforms=(None, None), channels=3, later=1):
    """Two tasks of 30 training images that share storage, and 8 test images; `later`: the images of task 1."""
    train, test = images(channels=channels), images(seed=9, count=20, channels=channels)
    if later != 1:
        train[35:] = images(seed=later, channels=channels)[35:]
        test[10:] = images(seed=later + 1, count=20, channels=channels)[10:]
    prepare = PREPARE if channels == 3 else PrepareImages(mean=(0.4,), std=(0.2,))
    tasks = tuple(
        TaskData(
            f"task {number}",
            Samples(train, torch.arange(30) % 2, torch.arange(35 * number, 35 * number + 30), transform),
            Samples(test, torch.arange(8) % 2, torch.arange(10 * number, 10 * number + 8), transform),
            ("left", "right"),
        )
        for number, transform in enumerate(transforms)
    )
    return StreamData(tasks, prepare)


def made(data=None, *, seeds=SEEDS, validation=0.0, root=None, **options):
    options = FeatureOptions(**{"network": "conv_small", "weights": "random", **options})
    options.check()
    return as_features(
        data or stream(),
        options,
        root=root or DataRoot(Path("unused"), offline=True),
        seeds=seeds,
        device=CPU,
        validation=validation,
    )


def vectors(data):
    return [part.take(torch.arange(len(part)))[0] for task in data.tasks for part in (task.train, task.test)]


@pytest.fixture
def saved(tmp_path):
    """A backbone with its own statistics of batch norm, and the file of its state_dict."""
    torch.manual_seed(3)
    backbone = BACKBONES["conv_small"]((3, 8, 8))
    backbone(torch.randn(50, 3, 8, 8))
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    return backbone.eval(), tmp_path / "weights.pt"


def test_features_are_what_the_frozen_network_says_of_images_that_are_not_augmented(saved):
    backbone, file = saved
    data = stream()
    found, facts = made(data, weights=str(file))
    for new, old in zip(vectors(found), vectors(data), strict=True):
        with torch.no_grad():
            expected = backbone(PREPARE(old))
        assert new.dtype == torch.float32 and not new.requires_grad
        torch.testing.assert_close(new, expected, rtol=1e-5, atol=1e-6)
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["weights"] == "weights.pt" and facts["dimensions"] == backbone.feature_dim == found.input_shape[0]
    assert found.labels == data.labels and [task.classes for task in found.tasks] == [t.classes for t in data.tasks]
    assert all(new.train.targets.equal(old.train.targets) for new, old in zip(found.tasks, data.tasks, strict=True))


def test_shared_storage_is_gone_through_once_and_only_where_a_task_uses_it():
    found, facts = made()
    assert len({part.inputs.data_ptr() for task in found.tasks for part in (task.train, task.test)}) == 2
    assert facts["samples"] == 2 * 30 + 2 * 8
    assert facts["bytes"] == 4 * facts["samples"] * facts["dimensions"]


def test_each_permuted_task_has_the_features_of_its_own_images(saved):
    backbone, file = saved
    orders = [torch.randperm(64, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    data = stream(transforms=tuple(map(Permute, orders)))
    found, _ = made(data, weights=str(file))
    for task, order in zip((0, 1), orders, strict=True):
        stored = data.tasks[task].train.inputs[data.tasks[task].train.index]
        permuted = stored.flatten(2)[:, :, order].view_as(stored)
        with torch.no_grad():
            expected = backbone(PREPARE(permuted))
        torch.testing.assert_close(vectors(found)[2 * task], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", ["first_task", "random"])
def test_the_same_seed_gives_the_same_bits_and_another_another_network(weights):
    first, again, other = (vectors(made(weights=weights, epochs=2, seeds=s)[0]) for s in (SEEDS, SEEDS, Seeds(1, 0, 0)))
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(other[0])
    assert first[0].equal(vectors(made(weights=weights, epochs=2, seeds=Seeds(0, 5, 5))[0])[0])


@pytest.mark.parametrize("weights", ["first_task", "random"])
def test_nothing_is_drawn_from_the_global_generator(weights):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    made(weights=weights, epochs=1)
    assert torch.random.get_rng_state().equal(before)


def test_a_network_trained_on_the_first_task_has_learned_it_and_has_seen_no_other():
    found, facts = made(weights="first_task", epochs=5, lr=0.01)
    assert facts["trained_on"]["task"] == "task 0" and facts["trained_on"]["samples"] == 30
    assert facts["trained_on"]["training_accuracy"] == 1.0
    other, _ = made(stream(later=50), weights="first_task", epochs=5, lr=0.01)
    ours, theirs = vectors(found), vectors(other)
    assert ours[0].equal(theirs[0]) and ours[1].equal(theirs[1])
    assert not ours[2].equal(theirs[2]) and not ours[3].equal(theirs[3])


def test_what_is_held_out_for_validation_is_not_trained_on():
    data = stream()
    _, held = hold_out(data.tasks[0].train, 0.4, generator_for(SEEDS.data, "validation", 0))
    pixels = data.tasks[0].train.inputs.clone()
    pixels[held.index] = 255 - pixels[held.index]
    other = dataclasses.replace(
        data, tasks=tuple(dataclasses.replace(t, train=dataclasses.replace(t.train, inputs=pixels)) for t in data.tasks)
    )
    (found, facts), (changed, _) = (made(d, weights="first_task", epochs=2, validation=0.4) for d in (data, other))
    assert facts["trained_on"]["samples"] == 18
    assert vectors(found)[1].equal(vectors(changed)[1])
    without = [vectors(made(d, weights="first_task", epochs=2)[0])[1] for d in (data, other)]
    assert not without[0].equal(without[1])


def test_the_network_is_frozen_and_the_card_does_not_tell_the_size_of_a_task():
    options = FeatureOptions(network="conv_small", epochs=1)
    frozen = frozen_network(options, stream(), root=DataRoot(Path("unused")), seeds=SEEDS, device=CPU, validation=0.0)
    assert not frozen.network.training and not any(p.requires_grad for p in frozen.network.parameters())
    _, facts = made(weights="first_task", epochs=1)
    assert set(public_facts(facts)["features"]) == {"network", "weights", "dimensions"}
    assert public_facts({}) == {}


def test_a_stream_without_the_option_stays_as_it_is():
    data = stream()
    found = as_features(data, FeatureOptions(), root=DataRoot(Path("unused")), seeds=SEEDS, device=CPU)
    assert found[0] is data and found[1] == {}


def test_a_whole_network_of_ours_and_safetensors_are_read_too(saved, tmp_path):
    backbone, file = saved
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    save_file({**state, "heads.linear.weight": torch.ones(2, 2)}, tmp_path / "network.safetensors")
    ours = vectors(made(weights=str(file))[0])
    assert all(
        a.equal(b) for a, b in zip(ours, vectors(made(weights=str(tmp_path / "network.safetensors"))[0]), strict=True)
    )


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_file_of_weights_runs_no_code(tmp_path):
    torch.save({"0.weight": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    with pytest.raises(DataError, match=r"trap\.pt cannot be read .*Save a plain state_dict") as refused:
        made(weights=str(tmp_path / "trap.pt"))
    assert not (tmp_path / "ran").exists() and "\n" not in str(refused.value)


def test_a_state_dict_of_another_network_is_refused_with_the_first_key(saved, tmp_path):
    backbone, _ = saved
    state = backbone.state_dict()
    for change, message in (
        ({"0.weight": None}, r"it lacks 0\.weight\. "),
        ({"head.weight": torch.ones(1), "head.bias": torch.ones(1)}, r"it has besides head\.bias and 1 more\. "),
        ({"0.weight": torch.ones(1)}, r"it has in another shape 0\.weight\. "),
    ):
        torch.save({k: v for k, v in {**state, **change}.items() if v is not None}, tmp_path / "other.pt")
        with pytest.raises(DataError, match=message) as refused:
            made(weights=str(tmp_path / "other.pt"))
        assert "\n" not in str(refused.value)
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name, message in (
        ("list.pt", "holds no state_dict"),
        ("broken.safetensors", "cannot be read"),
        ("empty.pt", r"cannot be read \(empty\)"),
    ):
        with pytest.raises(DataError, match=message):
            made(weights=str(tmp_path / name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "conv_smal"}, r"features\.network=conv_smal is not a backbone\. Did you mean conv_small"),
        ({"weights": "first"}, r"features\.weights=first is not known\. Use first_task"),
        ({"weights": "there_is.pt"}, r"features\.weights=there_is\.pt is not a file"),
        ({"weights": "torchvision:resnet18"}, r"Set features\.network=resnet18"),
        ({"weights": "torchvision:resnet81"}, "Did you mean resnet18"),
        ({"network": "none", "weights": "random"}, r"Set features\.network"),
        ({"epochs": 0}, "Use 1 or more"),
        ({"lr": float("nan")}, "not a step size"),
        ({"network": "alexnet"}, "normalises each batch by itself"),
        ({"network": "resnet18_gpm"}, "normalises each batch by itself"),
        ({"weights": "first_task", "lr": 1e30}, "not finite. Lower features.lr"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_what_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        made(**options)
    assert "\n" not in str(refused.value)


def test_vectors_have_no_features(tmp_path):
    cls = choose(STREAM, "toy_gaussians").cls
    data = cls(cls.Config()).load(DataRoot(tmp_path), SEEDS)
    with pytest.raises(UsageError, match=r"reads images \[C, H, W\], but this stream's samples are of shape \(16,\)\."):
        made(data)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """torchvision's ResNet-18 with weights of our own in place of the download; the file and the network."""
    from torchvision.models import resnet18

    torch.manual_seed(1)
    network = resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(weights_module, "published_address", lambda _: f"https://example.org/{name}")

    def download(address, place, hash_prefix, progress):
        Path(place).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return network, tmp_path / "root/torch/hub/checkpoints" / name


@pytest.mark.parametrize("channels", [3, 1])
def test_the_published_network_gives_512_features_of_pixels_at_their_own_size(channels, published, tmp_path):
    network, file = published
    network.fc = torch.nn.Identity()
    data = stream(channels=channels)
    options = {"network": "resnet18", "weights": "torchvision:resnet18"}
    found, facts = made(data, root=DataRoot(tmp_path / "root"), **options)
    pixels = data.tasks[1].test.take(torch.arange(8))[0].expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = network((pixels / 255 - 0.5) / 0.5)
    assert facts["dimensions"] == 512 and facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    torch.testing.assert_close(vectors(found)[3], expected, rtol=1e-4, atol=1e-5)
    assert made(data, root=DataRoot(tmp_path / "root", offline=True), **options)[1]["sha256"] == facts["sha256"]


def test_absent_or_altered_published_weights_are_one_line(published, tmp_path, monkeypatch):
    _, file = published
    options = {"network": "resnet18", "weights": "torchvision:resnet18"}
    with pytest.raises(DataError, match=r"--offline forbids a download\. Put it there from https://") as refused:
        made(root=DataRoot(tmp_path / "root", offline=True), **options)
    assert str(file.parent) in str(refused.value) and "\n" not in str(refused.value)

    def no_network(*arguments, **options):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(DataError, match=r"the download failed \(no route to host\)"):
        made(root=DataRoot(tmp_path / "root"), **options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match="truncated or altered"):
        made(root=DataRoot(tmp_path / "root"), **options)


def test_the_published_network_wants_pixel_values(published, tmp_path):
    data = dataclasses.replace(stream(), prepare=lambda raw, generator=None: raw.float())
    with pytest.raises(UsageError, match="normalises its images itself"):
        made(data, root=DataRoot(tmp_path / "root"), network="resnet18", weights="torchvision:resnet18")


def test_records_of_before_features_keep_their_hash():
    old = {"train": {"epochs": 1}}
    off = dataclasses.asdict(RunConfig().features)
    assert without_unchanged({"features": {**off, "network": "x"}})["features"] == {
        **GROUP_BEFORE["features"],
        "network": "x",
    }
    assert config_hash(old) == config_hash(old | {"features": off})
    assert config_hash(old) != config_hash(old | {"features": {**off, "network": "conv_small"}})


def request(results, *overrides, strategy="er", stream="split_digits"):
    return Request(strategy, stream, results, DataRoot(Path("unused"), offline=True), threads=1, overrides=overrides)


def test_a_run_on_features_records_what_they_are(tmp_path):
    overrides = ("features.network=lenet5", "features.epochs=2", "stream.n_tasks=2", "train.epochs=1")
    outcome = run_one(plan(request(tmp_path, *overrides)))
    facts = json.loads(outcome.path.read_text())["diagnostics"]["features"]
    assert outcome.record.status == "complete"
    assert facts["network"] == "lenet5" and facts["weights"] == "first_task" and facts["dimensions"] == 84
    assert facts["samples"] == 1797 and facts["trained_on"]["epochs"] == 2 and facts["seconds"] > 0
    assert 0.5 < facts["trained_on"]["training_accuracy"] <= 1
    plain = run_one(plan(request(tmp_path, "stream.n_tasks=2", "train.epochs=1")))
    assert plain.path != outcome.path and "features" not in plain.record.diagnostics
    again = run_one(plan(request(tmp_path / "again", *overrides)))
    assert again.record.R == outcome.record.R != plain.record.R


def test_a_file_of_weights_counts_by_its_content_and_not_by_its_place(saved, tmp_path):
    backbone, file = saved

    def planned(path):
        return plan(request(tmp_path, "features.network=conv_small", f"features.weights='{path}'"))

    moved = tmp_path / "elsewhere" / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    assert planned(file).config == planned(moved).config
    assert str(tmp_path) not in json.dumps(planned(file).config)
    before = planned(moved).record_path
    torch.save({**backbone.state_dict(), "0.weight": torch.zeros(32, 3, 3, 3)}, moved)
    assert planned(moved).record_path != before


def test_a_protocol_does_not_lay_its_network_for_images_on_features(tmp_path):
    asked = plan(request(tmp_path, "features.network=conv_small", strategy="finetune", stream="split_cifar100"))
    usual = plan(request(tmp_path, strategy="finetune", stream="split_cifar100"))
    assert asked.config["model"]["name"] == "auto" and usual.config["model"]["name"] == "conv_small"
    assert asked.config["train"] == usual.config["train"]


def test_runs_on_features_share_no_table_with_runs_on_images():
    def row(**features):
        config = {"stream": {"n_tasks": 5}, "features": {**GROUP_BEFORE["features"], **features}}
        return RunRecord(
            "er", "split_digits", "task_incremental", "quick", 0, config=config, R=[[0.5]], metrics={"acc": 0.5}
        )

    before = RunRecord(
        "er", "split_digits", "task_incremental", "quick", 1, config={"stream": {"n_tasks": 5}}, R=[[0.5]]
    )
    assert len(build_tables([before, row()])) == 1
    assert len(build_tables([before, row(), row(network="lenet5"), row(network="lenet5", weights="random")])) == 3
