"""The layers that gradient projection acts on: weights as matrices, their scaled forms, and what is frozen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from cl_suite import Inputs, ModelPredictor, Network, as_vectors, layer_inputs

PADS = ("same", "valid")  # paddings given as words, whose patches are not defined here
Scaling: TypeAlias = tuple[Tensor, Tensor]
"""(S [d, r] orthonormal, Q [r, r]): the basis of an old task and what its weights are multiplied by inside it."""


class ScaledLinear(nn.Linear):
    """A linear layer whose weight is, in the forward pass, W + sum_j W S_j (Q_j - I) S_j^T (TRGP, eq. 6).

    scalings: the (S_j, Q_j) in use; none = the plain layer. Applied to the input, which is the same for less.
    """

    scalings: Sequence[Scaling] = ()

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., d] -> [..., out]."""
        scaled = inputs
        for S, Q in self.scalings:
            inside = inputs @ S
            scaled = scaled + (inside @ Q.T - inside) @ S.T
        return F.linear(scaled, self.weight, self.bias)


class ScaledConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix [out, in kh kw], is W + sum_j W S_j (Q_j - I) S_j^T when it is used."""

    scalings: Sequence[Scaling] = ()

    def forward(self, maps: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        weight, W = self.weight, self.weight.flatten(1)
        for S, Q in self.scalings:
            inside = W @ S
            weight = weight + ((inside @ Q - inside) @ S.T).view(weight.shape)
        return self._conv_forward(maps, weight, self.bias)


def _scaled(layer: nn.Module) -> nn.Module | None:
    """Return the scaled form of a layer, with the same parameters; None if its weight is not projected."""
    made: nn.Linear | nn.Conv2d
    if type(layer) is nn.Linear:
        made = ScaledLinear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    elif type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding not in PADS:
        made = ScaledConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None,
            device="meta",
        )
    else:
        return None
    made.weight, made.bias = layer.weight, layer.bias
    return made


class ProjectedNetwork:
    """A network seen as matrices: every linear and ungrouped convolution weight is W [out, d], acting on input vectors.

    layers: {name: layer} in the network's order. The heads are among them where tasks share outputs, else each task's
            own outputs stay free.
    others: every other parameter of the backbone (normalisation, biases), which `freeze` keeps as it is
    """

    def __init__(self, model: Network, *, heads: bool) -> None:
        self.model = model
        self.layers: dict[str, nn.Linear | nn.Conv2d] = {}
        for name, module in list(model.named_modules()):
            made = _scaled(module) if heads or not name.startswith("heads.") else None
            if made is not None:
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, made)
                self.layers[name] = made  # type: ignore[assignment]
        own = {id(layer.weight) for layer in self.layers.values()}
        free = () if heads else tuple(model.heads.parameters())
        kept = own | {id(parameter) for parameter in free}
        self.others = [parameter for parameter in model.parameters() if id(parameter) not in kept]
        self.norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]

    def dimensions(self) -> dict[str, int]:
        """Return d, the size of the input vectors of each layer."""
        return {name: layer.weight[0].numel() for name, layer in self.layers.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return W [out, d] of each layer, detached; a copy where the storage is channels_last."""
        return {name: layer.weight.detach().flatten(1) for name, layer in self.layers.items()}

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Return the gradient [out, d] of a scalar `loss` by each layer's weight; leaves `.grad` alone."""
        parts = torch.autograd.grad(loss, [layer.weight for layer in self.layers.values()])
        return {name: part.flatten(1) for name, part in zip(self.layers, parts, strict=True)}

    def input_vectors(self, inputs: Inputs, samples: Mapping[str, int], columns: int) -> dict[str, Tensor]:
        """Return the representation matrix R [d, n] of each layer, from one forward pass in evaluation mode.

        samples: of the given inputs, how many each layer uses; layers that are not named use as many as give at most
                 `columns` vectors (convolutions have one per patch)
        """
        with layer_inputs(self.model) as captured:
            ModelPredictor(self.model)(inputs)
        matrices = {}
        for name, layer in self.layers.items():
            stored = captured[name]
            one = as_vectors(layer, stored[:1])
            count = samples.get(name, max(1, columns // max(1, len(one))))
            matrices[name] = as_vectors(layer, stored[:count]).T
        return matrices

    def freeze(self, *, norms: bool) -> None:
        """Keep all parameters in `others` as they are from now on; those of batch normalisation only if `norms`."""
        affine = {id(parameter) for norm in self.norms for parameter in norm.parameters()}
        for parameter in self.others:
            if norms or id(parameter) not in affine:
                parameter.requires_grad_(False)

    def track_statistics(self, track: bool) -> None:
        """Let batch normalisation keep running statistics, or normalise by each batch's own also at test."""
        for norm in self.norms:
            device = norm.weight.device
            norm.track_running_stats = track
            norm.running_mean = torch.zeros(norm.num_features, device=device) if track else None
            norm.running_var = torch.ones(norm.num_features, device=device) if track else None
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device) if track else None

    @contextmanager
    def scaled(self, scalings: Mapping[str, Sequence[Scaling]]) -> Iterator[None]:
        """Within the block, use these scalings and no others."""
        before = {name: layer.scalings for name, layer in self.layers.items()}  # type: ignore[union-attr]
        self.scale(scalings)
        try:
            yield
        finally:
            self.scale(before)  # type: ignore[arg-type]

    def scale(self, scalings: Mapping[str, Sequence[Scaling]]) -> None:
        """Use these scalings and no others from now on."""
        for name, layer in self.layers.items():
            layer.scalings = scalings.get(name, ())  # type: ignore[union-attr,assignment]
