"""Layers whose weight is read through a binary mask, and batch norm with statistics of its own for every task.

Ramanujan et al. 2020, "What's Hidden in a Randomly Weighted Neural Network?" (edge-popup);
Wortsman et al. 2020, "Supermasks in Superposition" (arXiv 2006.14769).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite import UsageError, VectorTable


def kept_count(size: int, density: float) -> int:
    """Return how many of `size` weights a mask keeps: n - floor((1 - k) n)."""
    # 1e-9: (1 - 0.9) * 10 is a little less than 1 in floating point.
    return size - math.floor((1 - density) * size + 1e-9)


class _TopK(torch.autograd.Function):
    """1 for the largest |scores|, 0 elsewhere; straight through, so that all scores get a gradient and masks change."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, kept: int, min_per_row: int) -> Tensor:
        ctx.save_for_backward(scores)
        magnitude = scores.abs()
        if min_per_row:
            rows = magnitude.flatten(1)
            best = rows.topk(min(min_per_row, rows.shape[1]), dim=1).indices
            magnitude = rows.scatter(1, best, math.inf).view_as(scores)  # every row's best come first
            kept = max(kept, best.numel())
        flat = _in_memory_order(magnitude).reshape(-1)
        # scatter, not a comparison with the k-th value: with ties the count stays exact
        mask = torch.zeros_like(flat).scatter_(0, flat.topk(kept, sorted=False).indices, 1.0)
        return _as_weight(mask, scores)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (scores,) = ctx.saved_tensors
        return gradients[0] * scores.sign(), None, None


class _Threshold(torch.autograd.Function):
    """1 where scores >= 0; straight through."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _in_memory_order(tensor: Tensor) -> Tensor:
    """View a channels_last tensor so that flattening it copies nothing."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def _as_weight(flat: Tensor, like: Tensor) -> Tensor:
    if like.dim() != 4:
        return flat.view(like.shape)
    out, channels, height, width = like.shape
    return flat.view(out, height, width, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class MaskRule:
    """How scores become a mask.

    density:     share of a layer's weights kept, in (0, 1]; used by "top_k" with mode "uniform"
    kind:        "top_k" (largest magnitudes, density exact per layer) or "threshold" (scores >= 0, density free)
    mode:        "uniform" (the same density everywhere) or "erdos_renyi" (small layers keep more)
    er_scale:    s in k = min(0.5, s (c_out + c_in) / (c_out c_in kh kw))
    min_per_row: at least so many weights for every output unit; 0 = no such rule
    """

    density: float = 0.1
    kind: str = "top_k"
    mode: str = "uniform"
    er_scale: float = 16.0
    min_per_row: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise UsageError(
                f"strategy.density={self.density} is the share of weights kept. Use a number above 0 and up to 1."
            )
        if self.kind not in ("top_k", "threshold"):
            raise UsageError(f"strategy.mask_type={self.kind} is not known. Use top_k or threshold.")
        if self.er_scale <= 0 or self.min_per_row < 0:
            raise UsageError(
                f"strategy.er_scale={self.er_scale} must be above 0, strategy.min_per_row={self.min_per_row} 0 or more."
            )
        if self.mode not in ("uniform", "erdos_renyi"):
            raise UsageError(f"strategy.density_mode={self.mode} is not known. Use uniform or erdos_renyi.")

    def density_of(self, shape: tuple[int, ...]) -> float:
        """Return the kept share for a weight [out, in, ...]."""
        if self.mode == "uniform":
            return self.density
        # Without the cap small layers would be asked for more weights than they have.
        return min(0.5, self.er_scale * (shape[0] + shape[1]) / math.prod(shape))

    def mask(self, scores: Tensor) -> Tensor:
        """Return the mask (0.0 or 1.0, same shape); its gradient reaches every score."""
        if self.kind == "threshold":
            return _Threshold.apply(scores)
        kept = kept_count(scores.numel(), self.density_of(tuple(scores.shape)))
        return _TopK.apply(scores, kept, self.min_per_row)


class _Masked(nn.Module, ABC):
    """What both masked layers share.

    weight: [out, in, ...], read only where the mask is 1
    scores: same shape; the mask while it is being searched
    mask:   same shape as the active rows: used instead of the scores; None = search
    rows:   (first, end) of the output units in use; None = all
    mixture: (masks [k, out, in, ...], alpha [B, k]): for sample b the weight is read through sum_i alpha_bi masks_i
    """

    weight: Tensor
    rule: MaskRule

    def _prepare(self, rule: MaskRule) -> None:
        self.rule = rule
        self.scores = nn.Parameter(torch.zeros_like(self.weight))
        self.mask: Tensor | None = None
        self.rows: tuple[int, int] | None = None
        self.mixture: tuple[Tensor, Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, ...] -> [B, ...], with the rows in use as output units."""
        if self.mixture is None:
            return self.apply_weight(inputs, self.subnetwork())
        # A sum of layers, which is linear in the mask: every sample can have an alpha of its own.
        masks, alpha = self.mixture
        weight = self.active(self.weight)
        outputs = [self.apply_weight(inputs, weight * mask) for mask in masks]
        parts = [share.view(-1, *[1] * (inputs.dim() - 1)) * out for share, out in zip(alpha.T, outputs, strict=True)]
        return torch.stack(parts).sum(dim=0)

    @abstractmethod
    def apply_weight(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Compute the layer with this weight."""

    def active(self, tensor: Tensor) -> Tensor:
        """Return the rows in use of a tensor shaped like the weight."""
        return tensor if self.rows is None else tensor[self.rows[0] : self.rows[1]]

    def searched_mask(self) -> Tensor:
        """Return the mask that the scores say now, with its straight-through gradient."""
        return self.rule.mask(self.active(self.scores))

    def subnetwork(self) -> Tensor:
        """Return the weight as it is used: [rows in use, in, ...], zero outside the mask."""
        mask = self.searched_mask() if self.mask is None else self.mask
        return self.active(self.weight) * mask


class MaskedLinear(_Masked, nn.Linear):
    """A linear layer without bias, read through a mask."""

    def __init__(self, in_features: int, out_features: int, *, rule: MaskRule) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias=False)
        self._prepare(rule)

    def apply_weight(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """[B, ..., in_features] -> [B, ..., rows in use]."""
        return F.linear(inputs, weight)


class MaskedConv2d(_Masked, nn.Conv2d):
    """A 2-d convolution without bias, read through a mask; takes `nn.Conv2d`'s arguments."""

    def __init__(self, *args: Any, rule: MaskRule, **options: Any) -> None:
        nn.Conv2d.__init__(self, *args, **{**options, "bias": False})
        self._prepare(rule)

    def apply_weight(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out, H', W']."""
        return self._conv_forward(inputs, weight, None)


class PerTaskBatchNorm2d(nn.Module):
    """Batch norm without gain or bias, with running statistics for every task; also for vectors [B, C].

    running_mean, running_var: [T, C]. With `shared` all tasks use one row, which later tasks move.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, n_tasks: int, *, shared: bool = False, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        rows = 1 if shared else n_tasks
        self.n_tasks, self.shared, self.momentum, self.eps = n_tasks, shared, momentum, eps
        self.register_buffer("running_mean", torch.zeros(rows, channels))
        self.register_buffer("running_var", torch.ones(rows, channels))
        self.selection: int | Tensor | None = -1  # nothing selected

    def use(self, selection: int | Tensor | None) -> None:
        """Select statistics: a task's; a mixture for each sample, weights [B, T]; None: those of the batch itself."""
        self.selection = selection

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, ...] -> same shape. In training mode the selected task's running statistics move."""
        chosen = self.selection
        if chosen is None:
            return F.batch_norm(inputs, None, None, training=True, eps=self.eps)
        if isinstance(chosen, Tensor):
            weights = chosen.sum(dim=1, keepdim=True) if self.shared else chosen
            shape = (*inputs.shape[:2], *[1] * (inputs.dim() - 2))
            mean, variance = (weights @ self.running_mean).view(shape), (weights @ self.running_var).view(shape)
            return (inputs - mean) * (variance + self.eps).rsqrt()
        # Python would read -1 as the last task: accuracy at chance for every task but that one.
        assert 0 <= chosen < self.n_tasks, f"batch norm of task {chosen}: there are tasks 0 to {self.n_tasks - 1}"
        row = 0 if self.shared else chosen
        return F.batch_norm(
            inputs,
            self.running_mean[row],
            self.running_var[row],
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )


_T = TypeVar("_T", bound=nn.Module)


def to_masked(network: _T, *, rule: MaskRule, n_tasks: int, shared_norm: bool = False) -> _T:
    """Replace every Linear, Conv2d and BatchNorm inside `network` by its masked or per-task form; return it.

    Heads included: a `HeadBank`'s linear layer too. Biases, gains and old values are dropped: see `initialise_weights`.
    Layer norm loses its gain and bias. Tables of token vectors stay as they are from now on, as in ExSSNeT's text CNN.
    Raise UsageError for other layers with parameters, which no mask would cover.
    """
    if not isinstance(network, _Masked):
        _check_covered(network)
    for name, child in network.named_children():
        replacement = _masked_form(child, rule, n_tasks, shared_norm)
        if replacement is not None:
            setattr(network, name, replacement)
        elif isinstance(child, VectorTable):
            child.freeze()
        else:
            to_masked(child, rule=rule, n_tasks=n_tasks, shared_norm=shared_norm)
    return network


def _check_covered(module: nn.Module) -> None:
    own = [parameter for parameter, _ in module.named_parameters(recurse=False)]
    if own:
        raise UsageError(
            f"{type(module).__name__} has parameters ({', '.join(own)}) that masks do not cover. "
            "Use a network of Linear, Conv2d and BatchNorm; on texts e.g. text_cnn, also with model.encoder."
        )


def _masked_form(layer: nn.Module, rule: MaskRule, n_tasks: int, shared_norm: bool) -> nn.Module | None:
    if isinstance(layer, _Masked):
        return None
    if isinstance(layer, nn.Linear):
        return MaskedLinear(layer.in_features, layer.out_features, rule=rule).to(layer.weight.device)
    if isinstance(layer, nn.Conv2d):
        form = MaskedConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            padding_mode=layer.padding_mode,
            rule=rule,
        )
        return form.to(layer.weight.device, memory_format=_layout(layer.weight))  # type: ignore[call-overload]
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        momentum = 0.1 if layer.momentum is None else layer.momentum
        norm = PerTaskBatchNorm2d(layer.num_features, n_tasks, shared=shared_norm, momentum=momentum, eps=layer.eps)
        return norm.to(layer.weight.device) if layer.weight is not None else norm
    if isinstance(layer, nn.LayerNorm):
        return nn.LayerNorm(layer.normalized_shape, layer.eps, elementwise_affine=False)
    return None


def _layout(weight: Tensor) -> torch.memory_format:
    """Return how a convolution's weight [out, in, kh, kw] is stored: its outputs, which networks may view, come so."""
    as_channels_last = torch.empty_like(weight, memory_format=torch.channels_last)
    return torch.channels_last if weight.stride() == as_channels_last.stride() else torch.contiguous_format


def masked_layers_of(network: nn.Module) -> list[_Masked]:
    """Return all masked layers of `network`, in order, the head last."""
    return [module for module in network.modules() if isinstance(module, _Masked)]
