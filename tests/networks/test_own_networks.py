"""Networks from elsewhere: what they are told, where the head reads, what they start from, what is refused."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cl_suite import DataError, PluginError, UsageError, build_network
from cl_suite.core.registry import load_object
from cl_suite.networks.as_backbone import OwnNetwork
from cl_suite.networks.built_in import EVERY
from cl_suite.networks.choice import choose_network
from cl_suite.networks.origins import Wanted
from cl_suite.networks.own_networks import NETWORK
from cl_suite.networks.trial import check_in_training
from cl_suite.networks.weights import StartingWeights, fill, read_tensors
from tests.helpers.own_networks import write_networks

SHAPE = (1, 8, 8)
TEXTS = {"tokens": (5,), "mask": (5,)}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_networks(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def classes(file):
    """Return what is in the file, by name."""
    return vars(sys.modules[load_object(NETWORK, f"{file}:Net").__module__])


@pytest.fixture
def network(file):
    """Make the network of a name in the file."""

    def make(name, shape=SHAPE, outputs=4, **options):
        return build_network(f"{file}:{name}", shape, outputs, **options)

    return make


def parameters(module):
    return {name for name, _ in module.named_parameters()}


# -- where the head reads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features", "head_input", "left_out"),
    [
        ("Net", 24, "input of last", ("last",)),
        ("ByPosition", 24, "input of last", ("last",)),
        ("Known", 12, "input of two", ("two", "idle")),
        ("Says", 12, "features", ("two", "three")),
        ("Backbone", 6, "output", ()),
        ("chain", 10, "input of 6", ("6",)),
    ],
)
def test_the_head_reads_what_the_classifier_would_have_read(network, name, features, head_input, left_out):
    made = network(name)
    assert made.backbone.feature_dim == made.heads.linear.in_features == features
    assert made.backbone.head_input == head_input and made.backbone.left_out == left_out
    made.heads.open()
    assert made(torch.randn(3, *SHAPE)).shape == (3, 4)
    assert not any(part in name.split(".") for part in left_out for name in parameters(made))


@pytest.mark.parametrize(("name", "told", "last"), [("Net", (SHAPE, 4), "last"), ("Known", (64, 4), "two")])
def test_with_its_own_last_layer_as_head_a_network_answers_as_it_did(file, classes, name, told, last):
    torch.manual_seed(3)
    whole = classes[name](*told).eval()
    chosen = choose_network(f"{file}:{name}")
    torch.manual_seed(3)
    made = build_network(chosen, SHAPE, 4).eval()
    made.heads.linear = whole.get_submodule(last)
    made.heads.open()
    images = torch.randn(5, *SHAPE)
    torch.testing.assert_close(made(images).log_softmax(1), whole(images).log_softmax(1))


def test_images_in_channels_last_can_be_viewed(network):
    images = torch.randn(3, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    made = network("Net", (3, 8, 8)).eval()
    assert torch.equal(made.features(images), made.features(images.contiguous()))


def test_a_plain_chain_stays_one_that_methods_can_look_into(network):
    assert isinstance(network("chain").backbone, nn.Sequential)
    assert isinstance(network("Net").backbone, OwnNetwork)


def test_a_number_without_a_part_is_no_parameter_and_a_frozen_one_stays_frozen(network):
    made = network("Known")
    assert not any(name.endswith("temperature") for name in parameters(made))
    assert "backbone.net.temperature" in dict(made.named_buffers())
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_texts_are_read_as_dictionaries(network):
    made = network("Words", TEXTS, vocabulary=30)
    assert made.backbone.feature_dim == 8 and made.backbone.net.vectors.num_embeddings == 30


def test_making_one_changes_no_random_state_beyond_its_own_weights(file, classes):
    torch.manual_seed(1)
    classes["Net"](SHAPE, 4, norm=True)
    plain = torch.get_rng_state()
    chosen = choose_network(f"{file}:Net")
    torch.manual_seed(1)
    backbone = chosen.make(Wanted(SHAPE, 4, options={"norm": True}))
    assert torch.equal(torch.get_rng_state(), plain)
    assert backbone.training and all(module.training for module in backbone.modules())
    assert int(backbone.net.norm.num_batches_tracked) == 0 and not backbone.net.norm.running_mean.any()


# -- what it is told --------------------------------------------------------------------------------------------------


def test_options_reach_the_constructor(network):
    assert network("Net", width=7).backbone.net.conv.out_channels == 7
    assert isinstance(network("Net", extra={"norm": True}).backbone.net.norm, nn.BatchNorm2d)
    assert network("Any", extra={"depth": 3}, width=2).backbone.net.options == {"depth": 3, "width": 2}
    assert network("Known").backbone.net.channels == 1  # named and with a default


def test_a_name_counts_without_its_folder_and_with_the_content_of_its_file(file, tmp_path):
    chosen = choose_network(f"{file}:Net")
    moved = write_networks(tmp_path)
    assert choose_network(f"{moved}:Net").identity == chosen.identity == f"net.py:Net sha256:{chosen.digest[:12]}"
    moved.write_text(moved.read_text() + "# edited\n")
    assert choose_network(f"{moved}:Net").identity != chosen.identity
    assert choose_network("torch.nn:Bilinear").identity.startswith("torch.nn:Bilinear sha256:")
    assert choose_network("mlp").identity == "mlp"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ready", "is a network already made"),
        ("Number", "is no torch.nn.Module class"),
        ("SHAPE", "has no 'SHAPE'"),
        ("Asks", r"needs depth, of which nothing is known.*model.options=\{depth: "),
        ("Raises", r"could not be made with \(n_outputs=4\): ValueError: no luck \(net.py, line \d+\)"),
        ("returns_a_list", "returned a list, not a torch.nn.Module"),
        ("Crashes", r"cannot read two samples of this stream, \[2, 1, 8, 8\]: RuntimeError: .*\(net.py, line \d+\)"),
        ("Wide", r"its output has the shape \[2, 5\] for two samples, not \[2, 4\]"),
        ("Maps", r"its output has the shape \[2, 6, 6, 6\] for two samples, not \[2, D\]"),
        ("Tuple", "its output is a tuple, not a tensor"),
        ("Infinite", "holds NaN or infinity before any training"),
    ],
)
def test_what_cannot_be_a_network_is_refused_in_a_line(network, name, message):
    with pytest.raises(UsageError, match=message) as refused:
        network(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("Training", "in training mode: its input of last is a tuple"), ("NotCopied", "cannot be copied")],
)
def test_what_would_fail_only_in_training_is_refused_too(network, name, message):
    made = network(name)
    with pytest.raises(PluginError, match=message):
        check_in_training(made.backbone, torch.randn(2, *SHAPE), name)


def test_unknown_options_names_and_files_are_refused(file, network, tmp_path):
    with pytest.raises(
        UsageError, match=r"model.hidden has no meaning for model.name=net.py:Net, which takes width, norm"
    ):
        network("Net", hidden=(3,))
    with pytest.raises(UsageError, match="there is no file"):
        choose_network(f"{tmp_path}/none.py:Net")
    with pytest.raises(UsageError, match="there is no module 'nowhere'"):
        choose_network("nowhere:Net")
    with pytest.raises(UsageError, match="say which class"):
        choose_network(str(file))
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    with pytest.raises(PluginError, match="could not be imported"):
        choose_network(f"{broken}:Net")


# -- torchvision and timm ---------------------------------------------------------------------------------------------


def test_a_classifier_of_torchvision_is_a_backbone_for_colour_images():
    made = build_network("torchvision:mobilenet_v3_small", (3, 32, 32), 5)
    assert made.backbone.feature_dim == 1024 and made.backbone.left_out == ("classifier.3",)
    for name, shape, message in (
        ("resnet18", SHAPE, "reads images of 3 channels, and this stream's have 1"),
        ("resnet18", (64,), "reads images"),
        ("resnet19", (3, 32, 32), "Did you mean resnet18"),
    ):
        with pytest.raises(UsageError, match=message):
            build_network(f"torchvision:{name}", shape, 5)


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("resnet10t", SHAPE, 512),
        ("vit_tiny_patch16_224", (3, 32, 32), 192),  # made for one size, which it is told
        ("mobilenetv3_small_050", (3, 32, 32), 1024),
    ],
)
def test_a_network_of_timm_is_told_channels_and_size(name, shape, features):
    pytest.importorskip("timm")
    made = build_network(f"timm:{name}", shape, 5)
    assert made.backbone.feature_dim == features
    made.eval().heads.open()
    assert torch.isfinite(made(torch.randn(2, *shape))).all()


def test_a_network_that_timm_does_not_have_is_refused():
    pytest.importorskip("timm")
    for name, shape, message in (
        ("resnet19", SHAPE, "Did you mean resnet18"),
        ("resnet18.unheard_of", SHAPE, "resnet18.a1_in1k"),
        ("vit_tiny_patch16_224", SHAPE, r"cannot read two samples of this stream, \[2, 1, 8, 8\]"),
        ("resnet18", (64,), "reads images"),
    ):
        with pytest.raises(UsageError, match=message):
            build_network(f"timm:{name}", shape, 5)
    with pytest.raises(PluginError, match="could not be made"):
        build_network("timm:resnet18", SHAPE, 5, extra={"depth": 3})


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"needs the package timm.*cl-suite\[vision\]"):
        choose_network("timm:resnet18")


def test_every_shipped_network_is_still_found_by_its_name():
    assert {choose_network(name).name for name in EVERY} == {*EVERY}
    assert all(choose_network(name).shipped for name in (*EVERY, "auto"))


# -- weights to start from --------------------------------------------------------------------------------------------


def laid(backbone, state, name="x"):
    return fill(backbone, state, file="w.pt", name=name)


def trained(network, name="Net"):
    """Return a network's own tensors as its author would save them, all of them 0.5."""
    module = network(name).backbone.net
    state = {key: torch.full_like(value, 0.5) for key, value in module.state_dict().items()}
    return state | {"last.weight": torch.zeros(7, 24), "last.bias": torch.zeros(7)}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "state/learner/backbone.net."])
def test_a_backbone_is_filled_whatever_stands_before_its_names(network, prefix):
    state = {f"{prefix}{key}": value for key, value in trained(network).items()}
    backbone = network("Net").backbone
    filled = laid(backbone, state)
    assert filled.tensors == 4 and set(filled.left_out) == {f"{prefix}last.weight", f"{prefix}last.bias"}
    assert all(bool((parameter == 0.5).all()) for parameter in backbone.parameters())


def test_a_network_of_ours_fills_its_backbone_and_keeps_its_head(network):
    saved = build_network("conv_small", SHAPE, 9, width=4)
    made = build_network("conv_small", SHAPE, 4, width=4)
    head = made.heads.linear.weight.clone()
    filled = laid(made.backbone, saved.state_dict())
    assert all(
        torch.equal(value, saved.backbone.state_dict()[key]) for key, value in made.backbone.state_dict().items()
    )
    assert torch.equal(made.heads.linear.weight, head)
    assert {*filled.left_out} == {"heads.linear.weight", "heads.linear.bias", "heads.opened"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("hidden.bias"), "it lacks hidden.bias"),
        (lambda s: (s.pop("hidden.bias"), s.pop("conv.bias")), "it lacks conv.bias and 1 more"),
        (
            lambda s: s.update({"conv.weight": torch.zeros(4, 3, 3, 3)}),
            r"conv.weight \[4, 3, 3, 3\] for \[4, 1, 3, 3\]",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "it has besides extra"),
        (lambda s: (s.clear(), s.update(a=torch.zeros(1))), "it lacks conv.weight and 3 more"),
        (
            lambda s: (twice := {f"{p}.{k}": v for p in "ab" for k, v in s.items()}, s.clear(), s.update(twice)),
            r"2 times \(a\., b\., \.\.\.\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(network, change, message):
    state = trained(network)
    change(state)
    backbone = network("Net").backbone
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(DataError, match=f"model.weights: w.pt .*{message}"):
        laid(backbone, state, "net.py:Net")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_counters_of_batch_norm_may_be_absent_and_half_precision_is_read(network):
    backbone = build_network("conv_small", SHAPE, 4, width=4).backbone
    state = {key: value.half() for key, value in backbone.state_dict().items() if "num_batches" not in key}
    assert laid(backbone, state).left_out == ()
    assert next(backbone.parameters()).dtype == torch.float32


def test_a_network_of_its_head_alone_has_nothing_to_fill():
    with pytest.raises(DataError, match="has no weights before its head"):
        laid(build_network("mlp", (4,), 2, hidden=()).backbone, {"a": torch.zeros(1)})


def test_files_are_read_without_running_what_is_in_them(tmp_path):
    state = {"a": torch.ones(2)}
    plain, nested, tensors = tmp_path / "plain.pt", tmp_path / "nested.ckpt", tmp_path / "x.safetensors"
    torch.save(state, plain)
    torch.save({"epoch": 3, "state_dict": state}, nested)
    save_file(state, tensors)
    for file in (plain, nested, tensors):
        assert torch.equal(read_tensors(file, option="model.weights")["a"], state["a"])
    torch.save(nn.Linear(2, 2), plain)
    torch.save({"ema": state, "model": state}, nested)
    tensors.write_bytes(b"not tensors")
    for file, message in ((plain, "more than tensors"), (nested, "holds 2 of them"), (tensors, "cannot be read")):
        with pytest.raises(DataError, match=message):
            read_tensors(file, option="model.weights")


def test_a_file_that_changed_after_planning_is_not_taken_for_what_it_was(tmp_path):
    file = tmp_path / "w.pt"
    torch.save({"a": torch.ones(2)}, file)
    planned = StartingWeights.of(str(file))
    torch.save({"a": torch.ones(3)}, file)
    with pytest.raises(DataError, match="has changed since the run was planned"):
        planned.tensors()
    for name, message in ((tmp_path / "none.pt", "is not a file"), (tmp_path, "is not a file")):
        with pytest.raises(DataError, match=message):
            StartingWeights.of(str(name))
    other = tmp_path / "w.npz"
    other.write_bytes(b"")
    with pytest.raises(DataError, match="of no known kind"):
        StartingWeights.of(str(other))
