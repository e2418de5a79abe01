"""Masked layers: exact densities, straight-through gradients, first weights and scores, statistics per task."""

import math

import pytest
import torch
from torch import nn

from cl_suite import UsageError
from cl_suite.networks.network import build_network
from strategies.isolation.masks.initialisation import initialise_scores, initialise_weights
from strategies.isolation.masks.layers import (
    MaskedConv2d,
    MaskedLinear,
    MaskRule,
    PerTaskBatchNorm2d,
    kept_count,
    masked_layers_of,
    to_masked,
)
from strategies.isolation.masks.subnetworks import MaskedNetwork


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(shape, rule):
    return MaskedLinear(shape[1], shape[0], rule=rule) if len(shape) == 2 else MaskedConv2d(*shape, rule=rule)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.2, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 7, 10, 640, 864])
def test_ones_per_layer_are_n_minus_floor_of_the_rest(density, size):
    scores = torch.randn(1, size, generator=generator())
    mask = MaskRule(density).mask(scores)
    assert int(mask.sum()) == kept_count(size, density)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    weakest_kept = scores[mask == 1].abs().min()
    assert not bool((scores[mask == 0].abs() > weakest_kept).any())


@pytest.mark.parametrize(("density", "size", "ones"), [(0.1, 10, 1), (0.9, 10, 9), (0.1, 864, 87), (0.3, 7, 3)])
def test_ones_per_layer_by_hand(density, size, ones):
    assert int(MaskRule(density).mask(torch.randn(1, size, generator=generator())).sum()) == ones


def test_ties_keep_the_exact_count_and_the_same_choice():
    rule = MaskRule(0.1)
    scores = torch.full((20, 10), 0.5)
    first, second = rule.mask(scores), rule.mask(scores)
    assert int(first.sum()) == 20
    assert first.equal(second)


def test_the_gradient_reaches_all_scores_with_their_sign():
    linear = layer((3, 4), MaskRule(0.25))
    with torch.no_grad():
        linear.weight.copy_(torch.randn(3, 4, generator=generator(1)))
        linear.scores.copy_(torch.randn(3, 4, generator=generator(2)))
    inputs = torch.randn(5, 4, generator=generator(3))
    linear(inputs).square().sum().backward()
    outputs = linear(inputs).detach()
    effective = 2 * outputs.T @ inputs  # dL/dW_eff
    assert torch.allclose(linear.scores.grad, effective * linear.weight.detach() * linear.scores.detach().sign())
    assert bool((linear.scores.grad != 0).all())  # the unselected ones too
    selected = linear.searched_mask() == 1
    assert bool((linear.weight.grad[~selected] == 0).all())


def test_the_threshold_variant_keeps_scores_from_zero_up_and_passes_the_gradient_unsigned():
    scores = torch.tensor([[-0.5, 0.0, 2.0]], requires_grad=True)
    mask = MaskRule(kind="threshold").mask(scores)
    assert mask.tolist() == [[0.0, 1.0, 1.0]]
    mask.backward(torch.tensor([[3.0, 4.0, 5.0]]))
    assert scores.grad.tolist() == [[3.0, 4.0, 5.0]]


def test_min_per_row_gives_every_output_a_weight_and_keeps_the_total():
    scores = torch.rand(5, 160, generator=generator())
    scores[3] *= 1e-3  # loses every comparison
    plain, guarded = MaskRule(0.1).mask(scores), MaskRule(0.1, min_per_row=4).mask(scores)
    assert int(plain[3].sum()) == 0
    assert int(guarded[3].sum()) == 4
    assert int(guarded.sum()) == int(plain.sum()) == kept_count(800, 0.1)
    assert bool((guarded[3] == (scores[3] >= scores[3].topk(4).values[-1])).all())


def test_erdos_renyi_densities_of_the_reduced_resnet():
    rule = MaskRule(mode="erdos_renyi", er_scale=16)
    assert rule.density_of((160, 160, 3, 3)) == pytest.approx(0.0222, abs=1e-4)
    assert rule.density_of((20, 20, 3, 3)) == pytest.approx(0.1778, abs=1e-4)
    assert rule.density_of((20, 3, 3, 3)) == 0.5
    assert rule.density_of((5, 160)) == 0.5


def test_a_masked_convolution_is_the_convolution_with_the_masked_weight_in_channels_last():
    network = to_masked(build_network("conv_small", (3, 8, 8), 4, width=4), rule=MaskRule(0.3), n_tasks=2)
    conv = masked_layers_of(network)[1]
    initialise_weights(network, "signed_constant", generator(0))
    initialise_scores(network, generator(1))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    mask = conv.searched_mask()
    assert mask.stride() == conv.weight.stride()  # nothing is copied to another layout at each step
    inputs = torch.randn(2, 4, 6, 6, generator=generator(2))
    assert torch.equal(conv(inputs), nn.functional.conv2d(inputs, conv.weight * mask, padding=1))


@pytest.mark.parametrize("classes", [2, 5])
def test_masked_weights_of_the_published_networks(classes):
    def masked(name, shape):
        network = to_masked(build_network(name, shape, classes), rule=MaskRule(), n_tasks=1)
        return MaskedNetwork(network)

    resnet = masked("resnet18_reduced", (3, 32, 32))
    assert resnet.n_weights == 1_090_140 + 160 * classes
    assert resnet.n_channels == 1500
    assert masked("mlp", (1, 28, 28)).n_weights == 265_200 + 100 * classes


def test_weights_are_a_signed_constant_and_scores_uniform():
    network = to_masked(build_network("mlp", (64,), 10), rule=MaskRule(), n_tasks=1)
    initialise_weights(network, "signed_constant", generator(0))
    initialise_scores(network, generator(1))
    for one in masked_layers_of(network):
        fan_in = one.weight.shape[1]
        assert torch.allclose(one.weight.abs(), torch.tensor(math.sqrt(2 / fan_in)))
        assert 0.3 < float((one.weight > 0).float().mean()) < 0.7
        assert float(one.scores.detach().abs().max()) <= 1 / math.sqrt(fan_in)
    with pytest.raises(UsageError, match="signed_constant"):
        initialise_weights(network, "zeros", generator(0))


def test_layers_without_a_masked_form_are_refused():
    with pytest.raises(UsageError, match="GroupNorm has parameters"):
        to_masked(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)), rule=MaskRule(), n_tasks=1)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_a_density_that_is_no_share_is_refused(density):
    with pytest.raises(UsageError, match="density"):
        MaskRule(density)


def test_batch_norm_moves_only_the_statistics_of_its_task():
    norm = PerTaskBatchNorm2d(3, 4)
    before = norm.running_mean.clone()
    norm.use(1)
    norm.train()
    norm(torch.randn(8, 3, 5, 5, generator=generator()) + 2)
    moved = (norm.running_mean != before).any(dim=1)
    assert moved.tolist() == [False, True, False, False]


@pytest.mark.parametrize("task", [-1, 4])
def test_batch_norm_refuses_a_task_that_is_not_there(task):
    norm = PerTaskBatchNorm2d(3, 4)
    norm.use(task)
    with pytest.raises(AssertionError, match=f"task {task}"):
        norm(torch.zeros(2, 3, 1, 1))


def test_batch_norm_mixes_statistics_or_uses_the_batch():
    norm = PerTaskBatchNorm2d(1, 2).eval()
    norm.running_mean[:] = torch.tensor([[0.0], [4.0]])
    inputs = torch.tensor([[[[2.0]]], [[[4.0]]]])
    norm.use(torch.tensor([[0.5, 0.5]]).expand(2, 2))
    assert torch.allclose(norm(inputs).flatten(), torch.tensor([0.0, 2.0]), atol=1e-4)
    norm.use(None)
    assert torch.allclose(norm(inputs).flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4)
    assert norm.running_mean.flatten().tolist() == [0.0, 4.0]


def test_shared_statistics_are_one_row():
    norm = PerTaskBatchNorm2d(2, 5, shared=True)
    norm.use(4)
    norm(torch.ones(4, 2, 1, 1))
    assert norm.running_mean.shape == (1, 2)
    assert norm.running_mean[0, 0] == pytest.approx(0.1)
