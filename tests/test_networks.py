"""Backbones have the published shapes; the head fills one global logit vector."""

import pytest
import torch

from cl_suite import HeadBank, UsageError, as_vectors, build_network, layer_inputs


def parameters(module, *, dims=None):
    return sum(p.numel() for p in module.parameters() if dims is None or p.dim() in dims)


def weights(module):
    """Weights of convolution and linear layers, what masks and projections act on."""
    return parameters(module, dims=(2, 4))


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        ("mlp", (1, 28, 28), {}, 784 * 300 + 300 * 100),
        ("resnet18_reduced", (3, 32, 32), {}, 1_090_140),
        ("alexnet", (3, 32, 32), {}, 48 * 64 + 576 * 128 + 512 * 256 + 1024 * 2048 + 2048 * 2048),
        ("resnet18", (3, 32, 32), {}, 11_159_232),
        ("conv_small", (3, 32, 32), {"width": 32}, 27 * 32 + 288 * 64 + 576 * 128),
    ],
)
def test_backbones_have_the_published_number_of_weights(name, shape, options, expected):
    assert weights(build_network(name, shape, 10, **options).backbone) == expected


def test_resnet18_has_the_standard_number_of_parameters():
    assert parameters(build_network("resnet18", (3, 32, 32), 10)) == 11_173_962


@pytest.mark.parametrize("name", ["mlp", "resnet18_reduced", "resnet18", "alexnet", "conv_small"])
def test_every_backbone_maps_images_to_logits(name):
    network = build_network(name, (3, 32, 32), 7).eval()
    network.heads.open([2, 3])
    logits = network(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).tolist() == [[False, False, True, True, False, False, False]] * 2


def test_alexnet_layer_inputs_have_the_shapes_of_the_gpm_program():
    network = build_network("alexnet", (3, 32, 32), 10).eval()
    with layer_inputs(network) as captured:
        network(torch.randn(3, 3, 32, 32))
    layers = dict(network.named_modules())
    shapes = [tuple(as_vectors(layers[name], value).shape) for name, value in captured.items()][:5]
    assert shapes == [(3 * 29 * 29, 48), (3 * 12 * 12, 576), (3 * 5 * 5, 512), (3, 1024), (3, 2048)]


def test_layer_inputs_are_what_the_weight_multiplies():
    layer = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    images = torch.randn(2, 3, 8, 8)
    with layer_inputs(layer) as captured:
        output = layer(images)
    vectors = as_vectors(layer, captured[""])
    product = vectors @ layer.weight.reshape(4, -1).T
    torch.testing.assert_close(product.reshape(2, 4, 4, 4).permute(0, 3, 1, 2), output)


def test_closed_heads_get_no_gradient():
    heads = HeadBank(5, 4)
    heads.open([0, 1])
    loss = torch.nn.functional.cross_entropy(heads(torch.randn(3, 5)), torch.tensor([0, 1, 1]))
    loss.backward()
    assert torch.isfinite(heads.linear.weight.grad).all()
    assert heads.linear.weight.grad[2:].abs().sum() == 0
    assert heads.linear.weight.grad[:2].abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet19", (3, 32, 32), {}, "Did you mean resnet18"),
        ("conv_small", (16,), {}, "Use mlp"),
        ("mlp", (16,), {"width": 3}, "takes hidden"),
    ],
)
def test_an_unfit_network_is_refused_with_the_next_move(name, shape, options, message):
    with pytest.raises(UsageError, match=message):
        build_network(name, shape, 4, **options)
