"""The gradient of all parameters as one vector, for methods that project it as a whole (GEM, A-GEM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def flat_gradient(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """Return one vector [P]; zeros for parameters without a gradient."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if gradient is None else gradient).flatten() for gradient, p in pairs])


def write_gradient(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Write `vector` [P] into the gradients of `parameters`; one that has no gradient stays without."""
    for piece, parameter in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(piece.view(parameter.shape))
