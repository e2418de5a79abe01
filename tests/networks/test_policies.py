"""Policies of robots: every moment, the instruction and every camera count, and each of them learns to imitate."""

import pytest
import torch
from torch import nn

from cl_suite import UsageError, build_network, layer_inputs
from cl_suite.methods.fisher import squared_gradients
from cl_suite.networks.cameras import CameraCNN, CameraViT
from cl_suite.networks.module_groups import module_groups
from cl_suite.networks.policies import POLICIES, RecurrentLayer
from cl_suite.robots.objectives import BehaviourCloning
from strategies.isolation.masks.layers import MaskRule, to_masked
from strategies.projection.projected_network import ProjectedNetwork

H, D, E = 3, 5, 4
STATES = {"states": (H, D), "instruction": (E,)}
SEEN = STATES | {"front": (H, 3, 32, 32), "hand": (H, 3, 37, 45)}
SMALL = {
    "bc_mlp": {"hidden": (16,)},
    "bc_rnn": {"hidden": (16, 12), "dimensions": 8},
    "bc_transformer": {"hidden": (16, 16), "dimensions": 32},
}
NAMES = sorted(SMALL)
KINDS = [(name, shape, vision) for name in NAMES for shape, vision in ((STATES, None), (SEEN, "cnn"), (SEEN, "vit"))]
all_kinds = pytest.mark.parametrize(("name", "shape", "vision"), KINDS)


def network(name, shape=STATES, vision=None, *, outputs=2, **options):
    torch.manual_seed(0)
    made = build_network(name, shape, outputs, vision=vision, **{**SMALL[name], **options})
    made.heads.open()
    return made


def some(shape=STATES, count=4):
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(count, *size, generator=generator) for name, size in shape.items()}


def test_these_are_all_policies():
    assert sorted(POLICIES) == NAMES


@all_kinds
def test_features_have_the_shape_that_the_head_expects(name, shape, vision):
    made = network(name, shape, vision)
    assert made.features(some(shape)).shape == (4, made.backbone.feature_dim)
    assert made(some(shape)).shape == (4, 2)


@all_kinds
def test_every_moment_the_instruction_and_every_camera_count(name, shape, vision):
    inputs = {key: value.requires_grad_() for key, value in some(shape).items()}
    network(name, shape, vision)(inputs).square().sum().backward()
    for key, value in inputs.items():
        per_part = value.grad.abs().flatten(2).sum(2) if key != "instruction" else value.grad.abs().sum(1, keepdim=True)
        assert per_part.isfinite().all() and (per_part > 0).all(), key


@all_kinds
def test_samples_alone_are_answered_as_in_a_batch(name, shape, vision):
    made, inputs = network(name, shape, vision).eval(), some(shape)
    alone = torch.cat([made({key: value[[row]] for key, value in inputs.items()}) for row in range(4)])
    torch.testing.assert_close(made(inputs), alone, rtol=1e-4, atol=1e-5)


@all_kinds
def test_gradients_reach_every_parameter(name, shape, vision):
    made = network(name, shape, vision)
    made(some(shape)).square().sum().backward()
    for parameter_name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_moments_matters(name):
    made, inputs = network(name), some()
    turned = inputs | {"states": inputs["states"].flip(1)}
    assert (made(inputs) - made(turned)).abs().max() > 1e-3


def test_the_recurrent_layer_is_an_lstm():
    torch.manual_seed(0)
    ours, reference = RecurrentLayer(5, 7), nn.LSTM(5, 7, batch_first=True)
    order = [0, 1, 3, 2]  # torch has the candidate before the output gate
    with torch.no_grad():
        for mine, theirs in ((ours.new.weight, reference.weight_ih_l0), (ours.past.weight, reference.weight_hh_l0)):
            theirs.copy_(mine.view(4, 7, -1)[order].flatten(0, 1))
        reference.bias_ih_l0.copy_(ours.new.bias.view(4, 7)[order].flatten())
        reference.bias_hh_l0.zero_()
    moments = torch.randn(3, 6, 5)
    torch.testing.assert_close(ours(moments), reference(moments)[0], rtol=1e-4, atol=1e-5)
    assert ours.new.bias.view(4, 7)[1].eq(1).all()


@pytest.mark.parametrize("kind", [CameraCNN, CameraViT])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (128, 128)])
def test_cameras_see_every_corner_of_pictures_of_any_size(kind, size):
    encoder, pictures = kind(*size, 6), torch.randn(2, 3, *size, requires_grad=True)
    features = encoder(pictures)
    assert features.shape == (2, 6)
    features.square().sum().backward()
    corners = pictures.grad[:, :, (0, 0, -1, -1), (0, -1, 0, -1)]
    assert (corners.abs().sum(1) > 0).all()


def test_cameras_have_networks_of_their_own():
    made, inputs = network("bc_mlp", SEEN | {"hand": SEEN["front"]}), some(SEEN | {"hand": SEEN["front"]})
    swapped = inputs | {"front": inputs["hand"], "hand": inputs["front"]}
    assert (made(inputs) - made(swapped)).abs().max() > 1e-3


def test_auto_takes_bc_mlp_for_robots():
    assert type(build_network("auto", STATES, 2).backbone) is POLICIES["bc_mlp"]


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("bc_mlp", (3, 32, 32), {}, r"model\.name=bc_mlp reads what robots see, not images or vectors\. Use mlp"),
        ("mlp", STATES, {}, r"model\.name=mlp reads images or vectors, not what robots see\. Use bc_mlp"),
        ("mlp", (4,), {"vision": "cnn"}, r"model\.vision has no meaning for model\.name=mlp"),
        ("bc_mlp", STATES, {"width": 3}, r"model\.width has no meaning for model\.name=bc_mlp"),
        ("bc_mlp", STATES, {"dimensions": 8}, r"model\.dimensions=8 has no effect on bc_mlp: .* no camera"),
        ("bc_rnn", STATES, {"vision": "vit"}, r"model\.vision=vit has no effect: this robot has no camera"),
        ("bc_rnn", SEEN, {"vision": "vits"}, r"model\.vision=vits is not known\. Did you mean vit"),
        ("bc_rnn", STATES, {"hidden": ()}, r"model\.hidden=\[\] leaves bc_rnn without a memory"),
        ("bc_rnn", STATES, {"dimensions": 0}, r"model\.dimensions=0 is too small"),
        ("bc_transformer", STATES, {"hidden": ()}, r"model\.hidden=\[\] leaves bc_transformer without a block"),
        ("bc_transformer", STATES, {"dimensions": 48}, r"model\.dimensions=48 does not divide"),
        ("bc_rnn", STATES | {"front": (H, 3, 16, 64)}, {}, r"camera front has pictures of 16x64 pixels, too small"),
        ("bc_rnn", STATES | {"front": (H, 1, 64, 64)}, {}, r"front of shape .* is no camera\. .* H=3"),
        ("bc_rnn", STATES | {"front": (2, 3, 64, 64)}, {}, "is no camera"),
        ("bc_mlp", {"states": (D,), "instruction": (E,)}, {}, r"policies read states \[H, D\]"),
        ("bc_rnm", STATES, {}, "Did you mean bc_rnn"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, shape, options, message):
    with pytest.raises(UsageError, match=message) as refused:
        build_network(name, shape, 2, **options)
    assert "\n" not in str(refused.value)


# What methods do to the layers


@all_kinds
def test_masks_cover_every_parameter(name, shape, vision):
    made = to_masked(network(name, shape, vision), rule=MaskRule(0.5), n_tasks=2)
    assert {n.rpartition(".")[2] for n, _ in made.named_parameters()} == {"weight", "scores"}
    answers = made(some(shape))
    assert answers.isfinite().all() and answers.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_s_gradient_lies_in_the_span_of_all_it_has_read(name):
    """What gradient projection rests on; a recurrent layer reads at every moment."""
    made = network(name)
    projected = ProjectedNetwork(made, heads=True)
    read = projected.input_vectors(some(), {}, 10_000)
    gradients = projected.gradients(made(some()).square().sum())
    assert sum("past" in layer for layer in gradients) == (2 if name == "bc_rnn" else 0)
    for layer, gradient in gradients.items():
        left, strengths, _ = torch.linalg.svd(read[layer], full_matrices=False)
        basis = left[:, strengths > 1e-5 * strengths[0]]
        torch.testing.assert_close(gradient @ basis @ basis.T, gradient, rtol=1e-3, atol=1e-4)


def test_a_layer_that_reads_several_times_has_all_of_it_captured_and_none_of_the_pass_before():
    layer, moments = RecurrentLayer(5, 7), torch.randn(2, 4, 5)
    with layer_inputs(layer) as captured:
        layer(torch.randn(2, 4, 5))
        after = layer(moments).detach()
    before = torch.cat([torch.zeros(2, 1, 7), after[:, :-1]], dim=1)
    assert captured["past"].equal(before) and captured["new"].equal(moments)


@pytest.mark.parametrize(("name", "shape"), [(name, STATES) for name in NAMES] + [("bc_rnn", SEEN)])
def test_every_sample_has_a_gradient_of_its_own(name, shape):
    made, inputs, targets = network(name, shape).eval(), some(shape), torch.rand(4, 2)
    visible = torch.ones(4, 2, dtype=torch.bool)
    found = squared_gradients(made, BehaviourCloning(), inputs, targets, visible)
    expected = torch.zeros_like(found)
    for row in range(4):
        made.zero_grad()
        BehaviourCloning().loss(made({k: v[[row]] for k, v in inputs.items()}), targets[[row]]).sum().backward()
        expected += torch.cat([p.grad.flatten() for p in made.parameters()]).square()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_modules_are_named():
    groups = module_groups(network("bc_rnn", SEEN))
    assert "conv1" in groups and "conv8" in groups and "fc_weight" in groups
    assert "embeddings" in module_groups(network("bc_transformer"))


# Learning


def imitate(made, inputs, targets, *, steps, lr=0.005):
    """Train on all samples at once; return the last loss as a share of the best constant's (the median, for L1)."""
    objective, optimizer = BehaviourCloning(), torch.optim.Adam(made.parameters(), lr=lr)
    for _ in range(steps):
        loss = objective.loss(made(inputs), targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    constant = targets.median(dim=0).values.expand_as(targets)
    return float(loss.detach() / objective.loss(constant, targets).mean())


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_what_depends_on_an_early_moment_and_the_instruction(name):
    inputs = some(count=64)
    inputs["instruction"] = torch.eye(E)[torch.arange(64) % 2]
    sign = 1.0 - 2 * inputs["instruction"][:, :1]
    targets = (sign * inputs["states"][:, 0, :2] + inputs["states"][:, -1, 2:4]) / 2
    assert imitate(network(name), inputs, targets, steps=120) < 0.4


@pytest.mark.parametrize(("name", "vision"), [*((name, "cnn") for name in NAMES), ("bc_mlp", "vit")])
def test_each_learns_from_pictures_where_something_is(name, vision):
    shape = {"states": (1, 2), "instruction": (1,), "front": (1, 3, 32, 32)}
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    pictures = torch.zeros(16, 1, 3, 32, 32)
    for picture, (row, column) in zip(pictures, places.tolist(), strict=True):
        picture[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1.0
    inputs = {"states": torch.zeros(16, 1, 2), "instruction": torch.ones(16, 1), "front": pictures}
    options = {"hidden": (64,)} if name == "bc_mlp" else {"dimensions": 32}
    made = network(name, shape, vision, **options)
    assert imitate(made, inputs, (places - 1.5) / 2, steps=100, lr=0.003 if vision == "cnn" else 0.001) < 0.5
