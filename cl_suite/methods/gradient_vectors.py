"""All parameters, or their gradients, as one vector: for penalties, and methods that project it as a whole (A-GEM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Return all entries as one vector, [P]."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def flat_gradient(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """Return one vector [P]; zeros for parameters without a gradient."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if gradient is None else gradient).flatten() for gradient, p in pairs])


def write_gradient(vector: Tensor, parameters: Sequence[Tensor]) -> None:
    """Write `vector` [P] into the gradients of `parameters`; one that has no gradient stays without."""
    for piece, parameter in zip(vector.split([p.numel() for p in parameters]), parameters, strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(piece.view(parameter.shape))


def project(g: Tensor, g_ref: Tensor) -> Tensor:
    """Return the vector nearest to `g` [P] that has no negative product with `g_ref` [P]; `g` itself where it has none.

    A-GEM, Chaudhry et al. 2019, eq. 11. Nothing is read from the device.
    """
    product = g @ g_ref
    # Zero where nothing is violated: then g - 0 * g_ref is g, bit for bit. Also where g_ref is zero and 0/0 is NaN.
    factor = torch.where(product < 0, product / (g_ref @ g_ref), torch.zeros_like(product))
    return g - factor * g_ref


def project_gradient(parameters: Sequence[Tensor], reference: Tensor) -> tuple[Tensor, Tensor]:
    """Project the gradient that `parameters` hold so that it does not go against that of the loss `reference`.

    Return (the cosine of the two before, whether it was negative), on the device.
    """
    gradients = torch.autograd.grad(reference, parameters, allow_unused=True)
    g = flat_gradient([parameter.grad for parameter in parameters], parameters)
    g_ref = flat_gradient(gradients, parameters)
    write_gradient(project(g, g_ref), parameters)
    return functional.cosine_similarity(g, g_ref, dim=0), g @ g_ref < 0
