"""Backbones by published name: inputs [B, ...] -> features [B, D].

A backbone has `feature_dim` (D) and may declare `head_bias = False`: then the heads on it have no bias either; and
`stages`, names of its children by stage, for reports on its modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F


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


class MLPGPM(MLP):
    """The net of GPM, TRGP and CUBER for Permuted MNIST: 784-100-100, no biases."""

    head_bias = False

    def __init__(self, input_shape: tuple[int, ...], *, hidden: Sequence[int] = (100, 100)) -> None:
        super().__init__(input_shape, hidden=hidden, bias=False)


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

    def __init__(self, channels: int, out: int, stride: int, *, running_statistics: bool = True) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, track_running_stats=running_statistics)
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = norm(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), norm(out))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, out, H/stride, W/stride]."""
        out = F.relu(self.norm1(self.conv1(maps)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(maps))


class ResNet18(nn.Sequential):
    """ResNet-18 for small images: 3x3 stem with stride 1, no max-pooling, widths w, 2w, 4w, 8w, global pooling.

    width 64 is ResNet-18; width 20 is the reduced ResNet-18 of Lopez-Paz & Ranzato (2017).
    """

    running_statistics: ClassVar[bool] = True  # of batch norm; without them a batch is normalised by itself, always
    pool: ClassVar[int] = 0  # side of the average pooling before the flattening; 0 = global

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 64) -> None:
        block = partial(BasicBlock, running_statistics=self.running_statistics)
        layers: list[nn.Module] = [
            nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, track_running_stats=self.running_statistics),
            nn.ReLU(),
        ]
        channels, height, columns = width, *input_shape[1:]
        self.stages: dict[str, tuple[str, ...]] = {}
        for out, stride in zip((width, 2 * width, 4 * width, 8 * width), (1, 2, 2, 2), strict=True):
            self.stages[f"stage{len(self.stages) + 1}"] = (str(len(layers)), str(len(layers) + 1))
            layers += [block(channels, out, stride), block(out, out, 1)]
            channels, height, columns = out, -(-height // stride), -(-columns // stride)
        pooling = nn.AvgPool2d(self.pool) if self.pool else nn.AdaptiveAvgPool2d(1)
        super().__init__(*layers, pooling, nn.Flatten())
        self.feature_dim = channels * ((height // self.pool) * (columns // self.pool) if self.pool else 1)


class ResNet18GPM(ResNet18):
    """The reduced ResNet-18 of GPM, TRGP and CUBER (5-Datasets): no biases, batch norm without running statistics.

    2x2 average pooling, not global: 640 features for 32x32 images.
    """

    head_bias = False
    running_statistics = False
    pool = 2

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 20) -> None:
        super().__init__(input_shape, width=width)


class AlexNetLike(nn.Sequential):
    """The AlexNet-like net of GPM, TRGP and CUBER for 32x32 images; no biases, batch norm without running statistics.

    conv w@4x4, 2w@3x3, 4w@2x2, each with dropout (0.2, 0.2, 0.5) and 2x2 max-pooling; fc 32w, 32w, dropout 0.5. The
    published width w is 64.
    """

    head_bias = False

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 64) -> None:
        layers: list[nn.Module] = []
        channels, size = input_shape[0], input_shape[1]
        for out, kernel, drop in ((width, 4, 0.2), (2 * width, 3, 0.2), (4 * width, 2, 0.5)):
            layers += [
                nn.Conv2d(channels, out, kernel, bias=False),
                nn.BatchNorm2d(out, track_running_stats=False),
                nn.ReLU(),
                nn.Dropout(drop),
                nn.MaxPool2d(2),
            ]
            channels, size = out, (size - kernel + 1) // 2
        layers.append(nn.Flatten())
        features, units = channels * size * size, 32 * width
        for _ in range(2):
            layers += [
                nn.Linear(features, units, bias=False),
                nn.BatchNorm1d(units, track_running_stats=False),
                nn.ReLU(),
                nn.Dropout(0.5),
            ]
            features = units
        super().__init__(*layers)
        self.feature_dim = features


class LeNetGPM(nn.Sequential):
    """The LeNet of GPM, TRGP and CUBER for CIFAR-100 superclasses; no biases; local response normalisation.

    conv 20@5x5, 50@5x5, each with 3x3 max-pooling of stride 2; fc 800, 500. Weights are drawn Kaiming-uniformly by
    fan-in, as TRGP does; the head's are PyTorch's.
    """

    head_bias = False

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        channels, height, columns = input_shape
        for out in (20, 50):
            layers += [
                nn.Conv2d(channels, out, 5, padding=2, bias=False),
                nn.ReLU(),
                nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1),
                nn.MaxPool2d(3, stride=2, padding=1),
            ]
            channels, height, columns = out, -(-height // 2), -(-columns // 2)
        layers.append(nn.Flatten())
        features = channels * height * columns
        for units in (800, 500):
            layers += [nn.Linear(features, units, bias=False), nn.ReLU()]
            features = units
        super().__init__(*layers)
        for weight in self.parameters():
            nn.init.kaiming_uniform_(weight, mode="fan_in", nonlinearity="relu")
        self.feature_dim = features


class LeNet5(nn.Sequential):
    """LeNet-5 with ReLU and max-pooling (TAME's net for MNIST): images below 32x32 are padded with zeros to 32x32.

    conv 6@5x5, 16@5x5, each with 2x2 max-pooling; fc 120, 84. With ten outputs 61,706 parameters on grey images.
    """

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        channels, *size = input_shape
        before = [(max(0, 32 - side) // 2, -(max(0, 32 - side) // -2)) for side in size]
        height, columns = (max(32, side) for side in size)
        layers: list[nn.Module] = [nn.ZeroPad2d((*before[1], *before[0]))]
        for out in (6, 16):
            layers += [nn.Conv2d(channels, out, 5), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, columns = out, (height - 4) // 2, (columns - 4) // 2
        layers.append(nn.Flatten())
        features = channels * height * columns
        for units in (120, 84):
            layers += [nn.Linear(features, units), nn.ReLU()]
            features = units
        super().__init__(*layers)
        self.feature_dim = features


class VGG11(nn.Sequential):
    """VGG-11 with batch norm and one linear layer as head (TAME's net for CIFAR): w, 2w, 4w, 4w, 8w, 8w, 8w, 8w.

    3x3 convolutions with biases, five 2x2 max-poolings. The published width w is 64: 9,228,549 parameters with five
    outputs on 32x32 colour images.
    """

    def __init__(self, input_shape: tuple[int, ...], *, width: int = 64) -> None:
        layers: list[nn.Module] = []
        channels, height, columns = input_shape
        for stage in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
            for factor in stage:
                out = factor * width
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, columns = -(-height // 2), -(-columns // 2)
        super().__init__(*layers, nn.Flatten())
        self.feature_dim = channels * height * columns


def _resnet18_reduced(input_shape: tuple[int, ...], *, width: int = 20) -> ResNet18:
    return ResNet18(input_shape, width=width)


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "conv_small": SmallConvNet,
    "resnet18_reduced": _resnet18_reduced,
    "resnet18": ResNet18,
    "alexnet": AlexNetLike,
    "lenet5": LeNet5,
    "vgg11": VGG11,
    "mlp_gpm": MLPGPM,
    "lenet_gpm": LeNetGPM,
    "resnet18_gpm": ResNet18GPM,
}
IMAGE_BACKBONES = frozenset(BACKBONES) - {"mlp", "mlp_gpm"}
