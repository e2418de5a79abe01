"""Backbones by published name, and the head that fills one global logit vector."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite.errors import UsageError, nearest
from cl_suite.types import Inputs


class HeadBank(nn.Module):
    """All outputs of a stream in one linear layer; outputs not opened yet answer -inf.

    Preallocated for the whole stream: [n_outputs, in_features]; shapes never change while training.
    """

    opened: Tensor  # [n_outputs] bool

    def __init__(self, in_features: int, n_outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, n_outputs, bias=bias)
        self.register_buffer("opened", torch.zeros(n_outputs, dtype=torch.bool))

    def open(self, classes: Sequence[int] | None = None) -> None:
        """Let these outputs answer from now on; None opens all."""
        if classes is None:
            self.opened.fill_(True)
        else:
            self.opened[list(classes)] = True

    @property
    def is_open(self) -> bool:
        """Whether any output answers."""
        return bool(self.opened.any())

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_features] -> logits [B, n_outputs]."""
        return self.linear(features).masked_fill(~self.opened, -torch.inf)


class Network(nn.Module):
    """Backbone (inputs -> features [B, D]) and heads (features -> logits [B, C])."""

    def __init__(self, backbone: nn.Module, heads: HeadBank) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads

    def features(self, inputs: Inputs) -> Tensor:
        """Return [B, D], what the heads read."""
        return self.backbone(inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits [B, C]."""
        return self.heads(self.features(inputs))


class MLP(nn.Sequential):
    """Fully connected layers with ReLU on the flattened input. (300, 100) is LeNet 300-100."""

    def __init__(self, input_shape: tuple[int, ...], *, hidden: Sequence[int] = (300, 100), bias: bool = True) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        width = math.prod(input_shape)
        for units in hidden:
            layers += [nn.Linear(width, units, bias=bias), nn.ReLU()]
            width = units
        super().__init__(*layers)
        self.feature_dim = width


class SmallConvNet(nn.Sequential):
    """Three 3x3 convolutions with batch norm, ReLU and 2x2 max-pooling; widths w, 2w, 4w; a 4x4 map for 32x32 images.

    The quick protocol's network: large enough to learn CIFAR, small enough for two CPU cores.
    """

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 32) -> None:
        layers: list[nn.Module] = []
        channels, height, columns = input_shape
        for out in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(channels, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            channels, height, columns = out, -(-height // 2), -(-columns // 2)
        super().__init__(*layers, nn.Flatten())
        self.feature_dim = channels * height * columns


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016); the shortcut is a 1x1 convolution where shapes differ."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out, H/stride, W/stride]."""
        out = F.relu(self.norm1(self.conv1(maps)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(maps))


class ResNet18(nn.Sequential):
    """ResNet-18 for small images: 3x3 stem with stride 1, no max-pooling, widths w, 2w, 4w, 8w, global pooling.

    width 64 is ResNet-18; width 20 is the reduced ResNet-18 of Lopez-Paz & Ranzato (2017).
    """

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 64) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
        for out, stride in zip((width, 2 * width, 4 * width, 8 * width), (1, 2, 2, 2), strict=True):
            layers += [BasicBlock(channels, out, stride), BasicBlock(out, out, 1)]
            channels = out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.feature_dim = channels


class AlexNetLike(nn.Sequential):
    """The AlexNet-like net of GPM, TRGP and CUBER for 32x32 images; no biases, batch norm without running statistics.

    conv 64@4x4, 128@3x3, 256@2x2, each with dropout (0.2, 0.2, 0.5) and 2x2 max-pooling; fc 2048, 2048, dropout 0.5.
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        channels, size = input_shape[0], input_shape[1]
        for out, kernel, drop in ((64, 4, 0.2), (128, 3, 0.2), (256, 2, 0.5)):
            layers += [
                nn.Conv2d(channels, out, kernel, bias=False),
                nn.BatchNorm2d(out, track_running_stats=False),
                nn.ReLU(),
                nn.Dropout(drop),
                nn.MaxPool2d(2),
            ]
            channels, size = out, (size - kernel + 1) // 2
        layers.append(nn.Flatten())
        width = channels * size * size
        for units in (2048, 2048):
            layers += [
                nn.Linear(width, units, bias=False),
                nn.BatchNorm1d(units, track_running_stats=False),
                nn.ReLU(),
                nn.Dropout(0.5),
            ]
            width = units
        super().__init__(*layers)
        self.feature_dim = width


def _resnet18_reduced(input_shape: tuple[int, ...], *, width: int = 20) -> ResNet18:
    return ResNet18(input_shape, width=width)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "conv_small": SmallConvNet,
    "resnet18_reduced": _resnet18_reduced,
    "resnet18": ResNet18,
    "alexnet": AlexNetLike,
}
IMAGE_BACKBONES = frozenset({"conv_small", "resnet18_reduced", "resnet18", "alexnet"})


def build_network(
    name: str, input_shape: tuple[int, ...], n_outputs: int, *, bias: bool = True, **options: object
) -> Network:
    """Return a network by backbone name; "auto" takes an MLP for vectors and grey images, conv_small for colour.

    input_shape: of one sample, (D,) or (C, H, W); n_outputs: of the heads
    bias:        whether the heads have a bias
    options:     of the backbone: `hidden` (mlp), `width` (conv_small, ResNets)

    Raise UsageError for an unknown name or option, or a backbone that cannot read the input.
    """
    if name == "auto":
        name = "conv_small" if len(input_shape) == 3 and input_shape[0] == 3 else "mlp"
    if name not in BACKBONES:
        raise UsageError(f"model.name={name} is not a backbone. {nearest(name, BACKBONES)}")
    if name in IMAGE_BACKBONES and len(input_shape) != 3:
        raise UsageError(f"model.name={name} reads images [C, H, W], not inputs of shape {input_shape}. Use mlp.")
    known = inspect.signature(BACKBONES[name]).parameters
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in known:
            takes = [option for option in known if option != "input_shape"] or ["no options"]
            raise UsageError(f"model.{key} has no meaning for model.name={name}, which takes {', '.join(takes)}.")
    backbone = BACKBONES[name](input_shape, **given)
    network = Network(backbone, HeadBank(backbone.feature_dim, n_outputs, bias=bias))  # type: ignore[arg-type]
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
