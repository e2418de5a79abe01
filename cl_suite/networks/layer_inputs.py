"""Capture what each linear and convolution layer reads, as the vectors its weight multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def as_vectors(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the vectors [N, D] that `layer`'s weight, as a matrix [out, D], multiplies.

    Linear: the inputs, leading axes flattened. Conv2d: every patch (D = in_channels * kh * kw), with the
    layer's padding, stride and dilation. Raise TypeError for other layers and for grouped convolutions.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, layer.in_features)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and not isinstance(layer.padding, str):
        patches = F.unfold(
            inputs, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride
        )  # [B, D, L]
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])
    raise TypeError(f"layer inputs are defined for Linear and ungrouped Conv2d, not {layer}")


@contextmanager
def layer_inputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Within the block, collect the input of every Linear and Conv2d of `model` at its latest forward pass.

    Yields {layer name: detached input tensor}; turn it into vectors with `as_vectors`. A linear layer that reads
    several times in one pass (a recurrent one, [B, D] each time) has all it read, [B, times, D].
    """
    captured: dict[str, Tensor] = {}

    def forget(module: nn.Module, args: tuple[Any, ...]) -> None:
        captured.clear()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            read = args[0].detach()
            if name in captured and isinstance(module, nn.Linear):
                read = torch.cat([_by_place(captured[name]), _by_place(read)], dim=1)
            captured[name] = read

        return hook

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    handles = [model.register_forward_pre_hook(forget)]
    handles += [module.register_forward_pre_hook(keep(name)) for name, module in layers]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def _by_place(read: Tensor) -> Tensor:
    """[B, ..., D] -> [B, places, D]."""
    return read.reshape(len(read), -1, read.shape[-1])
