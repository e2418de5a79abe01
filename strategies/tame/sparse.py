"""Pruning that is real: weights that are gone are neither stored nor multiplied (compressed sparse rows)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite import UsageError


class _SparseRows(nn.Module):
    """A weight [rows, columns] as values, column indices and row starts; not trained in this form."""

    values: Tensor  # [kept]
    columns: Tensor  # [kept] int32
    starts: Tensor  # [rows + 1] int32
    bias: Tensor | None  # [rows]

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        kept = rows != 0
        self.size = tuple(rows.shape)
        self.register_buffer("values", rows[kept])
        self.register_buffer("columns", kept.nonzero()[:, 1].int())
        self.register_buffer("starts", F.pad(kept.sum(1).cumsum(0), (1, 0)).int())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def times(self, vectors: Tensor) -> Tensor:
        """[columns, N] -> [rows, N]; only kept weights are multiplied."""
        return self._matrix() @ vectors

    def dense(self) -> Tensor:
        """Return the weight with zeros where it was pruned, [rows, columns]."""
        return self._matrix().to_dense()

    def _matrix(self) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")  # torch calls the format a beta, once a process
            return torch.sparse_csr_tensor(self.starts, self.columns, self.values, self.size, check_invariants=False)

    @property
    def kept(self) -> int:
        """Number of weights and biases that are stored."""
        return self.values.numel() + (0 if self.bias is None else self.bias.numel())


class SparseLinear(_SparseRows):
    """A pruned linear layer."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ..., in] -> [B, ..., out]."""
        outputs = self.times(inputs.flatten(0, -2).t()).t().unflatten(0, inputs.shape[:-1])
        return outputs if self.bias is None else outputs + self.bias


class SparseConv2d(_SparseRows):
    """A pruned convolution, as a sparse matrix times the unfolded input."""

    def __init__(self, layer: nn.Conv2d) -> None:
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise UsageError("pruning knows convolutions without groups, zero-padded. Set strategy.prune_experts=0.")
        super().__init__(layer.weight, layer.bias)
        self.shape = tuple(layer.weight.shape)
        self.options: dict[str, Any] = {"padding": layer.padding, "stride": layer.stride, "dilation": layer.dilation}

    def forward(self, maps: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        o = self.options
        patches = F.unfold(maps, self.shape[2:], **o)  # [B, in * k * k, L]
        count, length, places = patches.shape
        outputs = self.times(patches.transpose(0, 1).reshape(length, count * places))
        sides = [
            (size + 2 * o["padding"][i] - o["dilation"][i] * (self.shape[2 + i] - 1) - 1) // o["stride"][i] + 1
            for i, size in enumerate(maps.shape[2:])
        ]
        outputs = outputs.view(-1, count, *sides).transpose(0, 1)
        return outputs if self.bias is None else outputs + self.bias.view(-1, 1, 1)


class Pruning:
    """Which weights of a network are kept: {name of the layer: [as its weight] bool}."""

    LAYERS: ClassVar = (nn.Linear, nn.Conv2d)

    def __init__(self, masks: dict[str, Tensor]) -> None:
        self.masks = masks

    @classmethod
    def by_magnitude(cls, network: nn.Module, share: float) -> Pruning:
        """Keep the largest 1 - `share` of all convolution and linear weights, over the whole network at once."""
        layers = dict(_layers(network))
        sizes = torch.cat([layer.weight.detach().abs().flatten() for layer in layers.values()])
        gone = round(share * len(sizes))
        if not gone:
            return cls({name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in layers.items()})
        order = sizes.argsort(stable=True)
        kept = torch.ones_like(sizes, dtype=torch.bool)
        kept[order[:gone]] = False
        pieces = kept.split([layer.weight.numel() for layer in layers.values()])
        return cls({name: p.view_as(layer.weight) for (name, layer), p in zip(layers.items(), pieces, strict=True)})

    @torch.no_grad()
    def apply(self, network: nn.Module) -> None:
        """Set the weights that are gone to zero: after pruning, and after every step of training."""
        for name, layer in _layers(network):
            layer.weight.mul_(self.masks[name])

    def compact(self, network: nn.Module) -> None:
        """Replace the layers by sparse ones, in place."""
        for name, layer in list(_layers(network)):
            sparse = SparseConv2d(layer) if isinstance(layer, nn.Conv2d) else SparseLinear(layer.weight, layer.bias)
            _replace(network, name, sparse)


def is_compact(network: nn.Module) -> bool:
    """Whether the network's layers are sparse ones."""
    return any(isinstance(module, _SparseRows) for module in network.modules())


def expand(network: nn.Module, dense: nn.Module) -> tuple[nn.Module, Pruning]:
    """Return `dense`, a network of the same kind, with the weights of the compact one, and which of them are kept."""
    masks = {}
    layers = dict(_layers(dense))
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, _SparseRows):
                layer = layers[name]
                layer.weight.copy_(module.dense().view_as(layer.weight))
                masks[name] = layer.weight != 0
                if module.bias is not None:
                    layer.bias.copy_(module.bias)
    others = {key: value for key, value in network.state_dict().items() if key in dense.state_dict()}
    dense.load_state_dict(others, strict=False)
    return dense, Pruning(masks)


def load_network(network: nn.Module, state: dict[str, Tensor], *, compact: bool) -> None:
    """Load a state into a fresh dense network; `compact`: it was saved in the compact form, which it then takes."""
    if compact:
        for name, layer in list(_layers(network)):
            empty = Pruning({name: torch.zeros_like(layer.weight, dtype=torch.bool)})
            with torch.no_grad():
                layer.weight.mul_(empty.masks[name])
            sparse = SparseConv2d(layer) if isinstance(layer, nn.Conv2d) else SparseLinear(layer.weight, layer.bias)
            for part in ("values", "columns"):
                setattr(sparse, part, torch.zeros_like(state[f"{name}.{part}"], device=layer.weight.device))
            _replace(network, name, sparse)
    network.load_state_dict(state)


def stored_parameters(network: nn.Module) -> int:
    """Return the number of parameters that are stored: of a compact network those that are kept."""
    sparse = sum(module.kept for module in network.modules() if isinstance(module, _SparseRows))
    return sparse + sum(parameter.numel() for parameter in network.parameters())


def _layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in network.named_modules():
        if isinstance(module, Pruning.LAYERS):
            yield name, module


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
