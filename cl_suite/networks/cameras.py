"""What policies see through cameras: [B, H, 3, h, w] in [-1, 1] -> [B, H, F], each picture for itself.

The layers are Linear and Conv2d, without batch norm: no statistics move with the tasks, and masks, projections and
pruning find every weight. What the layers read is pictures, B times H of them, one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite.core.errors import UsageError, nearest
from cl_suite.networks.attention import AttentionBlock
from cl_suite.networks.embeddings import VectorTable

STATES, INSTRUCTION = "states", "instruction"  # entries of what a robot sees that are no cameras
LEAST_SIDE = 32  # pixels
FEATURES = 64  # numbers that stand for a picture, unless told
Shape = Mapping[str, tuple[int, ...]]


class CameraCNN(nn.Module):
    """Four convolutions of stride 2 with ReLU (5x5 first, then 3x3; 16, 32, 64, 64 channels), then a linear layer.

    The last maps are not pooled: where a thing is matters to a robot. Their size is that of the pictures over 16.
    """

    CHANNELS = (16, 32, 64, 64)

    def __init__(self, height: int, width: int, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, out in enumerate(self.CHANNELS):
            kernel = 3 if number else 5
            layers += [nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2), nn.ReLU()]
            channels, height, width = out, -(-height // 2), -(-width // 2)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, features))

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, h, w] -> [N, F]."""
        return self.layers(pictures)


class CameraViT(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929): 8x8 patches of a picture of any size.

    Two attention blocks of 64 numbers a patch, learned places, the mean over the patches, then a linear layer. Pictures
    whose sides are no multiples of 8 are padded with zeros on the right and below.
    """

    PATCHES = 8  # along each side
    DIMENSIONS = 64
    UNITS = (128, 128)  # of the feed-forward layers, for each block

    def __init__(self, height: int, width: int, features: int) -> None:
        super().__init__()
        patch = tuple(-(-side // self.PATCHES) for side in (height, width))
        self.padding = (0, patch[1] * self.PATCHES - width, 0, patch[0] * self.PATCHES - height)
        self.patches = nn.Conv2d(3, self.DIMENSIONS, patch, stride=patch)  # type: ignore[arg-type]
        self.places = VectorTable(self.PATCHES**2, self.DIMENSIONS)
        self.blocks = nn.ModuleList(AttentionBlock(self.DIMENSIONS, units) for units in self.UNITS)
        self.norm = nn.LayerNorm(self.DIMENSIONS)
        self.out = nn.Linear(self.DIMENSIONS, features)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, h, w] -> [N, F]."""
        vectors = self.patches(F.pad(pictures, self.padding)).flatten(2).transpose(1, 2)  # [N, 64, D]
        stream = vectors + self.places.weight
        present = torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
        for block in self.blocks:
            stream = block(stream, present)
        return self.out(self.norm(stream).mean(dim=1))


VISION: dict[str, Callable[[int, int, int], nn.Module]] = {"cnn": CameraCNN, "vit": CameraViT}


class Cameras(nn.Module):
    """An encoder of its own for every camera.

    input_shape: of one sample; every entry but the states and the instruction is a camera, (H, 3, h, w)
    vision:      cnn or vit; None = cnn
    features:    F, for each picture; None = 64

    Raise UsageError for entries that are no cameras, pictures below 32x32, and options without a camera.
    """

    def __init__(self, input_shape: Shape, *, vision: str | None = None, features: int | None = None) -> None:
        super().__init__()
        self.names = sorted(set(input_shape) - {STATES, INSTRUCTION})
        kind = "cnn" if vision is None else vision
        if kind not in VISION:
            raise UsageError(f"model.vision={kind} is not known. {nearest(kind, list(VISION))}")
        if vision is not None and not self.names:
            raise UsageError(f"model.vision={vision} has no effect: this robot has no camera. Set model.vision=null.")
        self.size = FEATURES if features is None else features
        if self.size < 1:
            raise UsageError(f"model.dimensions={features} is too small. Use 1 or more, e.g. {FEATURES}.")
        moments = input_shape[STATES][0]
        for name in self.names:
            shape = input_shape[name]
            if len(shape) != 4 or shape[:2] != (moments, 3):
                raise UsageError(
                    f"{name} of shape {shape} is no camera. Cameras are [H, 3, h, w], here with H={moments}, as states."
                )
            if min(shape[2:]) < LEAST_SIDE:
                raise UsageError(
                    f"the camera {name} has pictures of {shape[2]}x{shape[3]} pixels, too small to see with. "
                    f"Use {LEAST_SIDE}x{LEAST_SIDE} or larger."
                )
        sides = [input_shape[name][2:] for name in self.names]
        self.encoders = nn.ModuleList(VISION[kind](side[0], side[1], self.size) for side in sides)

    @property
    def count(self) -> int:
        """Number of cameras."""
        return len(self.names)

    def forward(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the features of each camera, [B, H, F] each."""
        features = []
        for name, encoder in zip(self.names, self.encoders, strict=True):
            pictures = inputs[name]
            features.append(encoder(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]))
        return features


def sizes(input_shape: Shape) -> tuple[int, int, int]:
    """Return (H moments, D numbers of a state, E of the instruction).

    Raise UsageError where states or instruction are missing or of another form.
    """
    for name, length in ((STATES, 2), (INSTRUCTION, 1)):
        shape = input_shape.get(name, ())
        if len(shape) != length or not math.prod(shape):
            raise UsageError(f"policies read states [H, D] and an instruction [E], not {name} of shape {shape}.")
    (moments, size), (width,) = input_shape[STATES], input_shape[INSTRUCTION]
    return moments, size, width
