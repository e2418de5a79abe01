"""Backbones have the published shapes; the head fills one global logit vector."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from cl_suite import HeadBank, UsageError, as_vectors, build_network, layer_inputs
from cl_suite.networks.images import BACKBONES

GPM_NETS = [("mlp_gpm", (1, 28, 28)), *((name, (3, 32, 32)) for name in ("alexnet", "lenet_gpm", "resnet18_gpm"))]


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
        ("alexnet", (3, 32, 32), {"width": 16}, 48 * 16 + 144 * 32 + 128 * 64 + 256 * 512 + 512 * 512),
        ("conv_small", (3, 32, 32), {"width": 32}, 27 * 32 + 288 * 64 + 576 * 128),
        ("mlp_gpm", (1, 28, 28), {}, 784 * 100 + 100 * 100),
        ("lenet_gpm", (3, 32, 32), {}, 75 * 20 + 500 * 50 + 3200 * 800 + 800 * 500),
        ("resnet18_gpm", (3, 32, 32), {}, 1_090_140),
        ("lenet5", (1, 28, 28), {}, 25 * 6 + 150 * 16 + 400 * 120 + 120 * 84),
    ],
)
def test_backbones_have_the_published_number_of_weights(name, shape, options, expected):
    assert weights(build_network(name, shape, 10, **options).backbone) == expected


def test_resnet18_has_the_standard_number_of_parameters():
    assert parameters(build_network("resnet18", (3, 32, 32), 10)) == 11_173_962


def test_the_nets_of_tame_have_the_published_number_of_parameters():
    assert parameters(build_network("lenet5", (1, 28, 28), 10)) == 61_706
    assert parameters(build_network("vgg11", (3, 32, 32), 5)) == 9_228_549


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 28, 20), (3, 32, 32), (3, 35, 36), (1, 8, 8)])
def test_lenet5_pads_small_images_and_takes_larger_ones(shape):
    network = build_network("lenet5", shape, 4)
    assert network.features(torch.zeros(2, *shape)).shape == (2, 84)


def test_vgg11_takes_images_of_other_sizes():
    network = build_network("vgg11", (1, 28, 28), 4, width=4).eval()
    assert network.features(torch.zeros(2, 1, 28, 28)).shape == (2, 32)


@pytest.mark.parametrize("name", BACKBONES)
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


@pytest.mark.parametrize(("name", "shape"), GPM_NETS)
def test_the_nets_of_gpm_have_no_bias_and_no_running_statistics(name, shape):
    network = build_network(name, shape, 10)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    own = {f"{n}.bias" for n, module in network.named_modules() if module in norms}
    assert {n for n, _ in network.named_parameters() if n.endswith("bias")} == own
    assert all(norm.running_mean is None and norm.weight is not None for norm in norms)
    assert build_network(name, shape, 10, bias=True).heads.linear.bias is not None


def test_heads_have_a_bias_unless_the_backbone_or_the_caller_wishes_none():
    assert build_network("mlp", (4,), 3).heads.linear.bias is not None
    assert build_network("mlp", (4,), 3, bias=False).heads.linear.bias is None


def test_the_maps_of_alexnet_and_lenet_have_the_published_sizes():
    def sizes(name):
        maps, seen = torch.zeros(2, 3, 32, 32), []
        for layer in build_network(name, (3, 32, 32), 10).backbone.train():
            maps = layer(maps)
            if isinstance(layer, torch.nn.Conv2d | torch.nn.MaxPool2d | torch.nn.Flatten | torch.nn.Linear):
                seen.append(maps.shape[-1])
        return seen

    assert sizes("alexnet") == [29, 14, 12, 6, 5, 2, 1024, 2048, 2048]
    assert sizes("lenet_gpm") == [32, 16, 16, 8, 3200, 800, 500]


def test_lenet_is_drawn_kaiming_uniformly_by_fan_in():
    for weight in build_network("lenet_gpm", (3, 32, 32), 5).backbone.parameters():
        bound = (6 / weight[0].numel()) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound


def test_the_resnet_of_gpm_has_640_features_and_its_layers_in_the_order_of_the_program():
    network = build_network("resnet18_gpm", (3, 32, 32), 10)
    convolutions = [(n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert network.features(torch.zeros(2, 3, 32, 32)).shape == (2, 640) and network.backbone.feature_dim == 640
    with layer_inputs(network.backbone) as captured:
        network(torch.randn(2, 3, 32, 32))
    assert list(captured) == [n.removeprefix("backbone.") for n, _ in convolutions]  # forward order is module order
    kernels = "".join(str(m.kernel_size[0]) for _, m in convolutions)
    assert kernels == "3" + "3333" + "331" + "33" + "331" + "33" + "331" + "33"
    assert (kernels.count("3"), kernels.count("1")) == (17, 3)


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
