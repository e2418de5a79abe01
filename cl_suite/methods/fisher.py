"""The diagonal of the empirical Fisher information, and the quadratic penalty that holds weights by it.

Kirkpatrick et al. 2017 (EWC, arXiv 1612.00796), eq. 3. Vectors [P] hold all parameters of a network in their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from cl_suite.core.errors import UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.objective import Objective, restrict
from cl_suite.core.types import Batch, Inputs, map_inputs

GRADIENT_FLOATS = 2**26  # of per-sample gradients held at once: 256 MiB
PIECE = 32  # samples whose gradients are held at once, at most: larger pieces are slower, on a CPU


def fisher_diagonal(
    experience: Experience, squares: Callable[[Batch], Tensor], *, samples: int, like: Tensor
) -> Tensor:
    """Return the mean over an experience's samples of their squared gradients, [P] as `like`.

    squares: batch -> the sum over its samples, [P] (`squared_gradients`); samples: how many are drawn, 0 = all
    """
    wanted = min(samples or experience.n_samples, experience.n_samples)
    size = min(PIECE, wanted, max(1, GRADIENT_FLOATS // len(like)))
    total, used = torch.zeros_like(like), 0
    with closing(experience.batches(epochs=1, batch_size=size, augment=False, phase="fisher")) as batches:  # type: ignore
        for batch in batches:
            piece = _first(batch, wanted - used)
            total += squares(piece)
            used += len(piece)
            if used == wanted:
                break
    return total / wanted


def squared_gradients(
    model: nn.Module,
    objective: Objective,
    inputs: Inputs,
    targets: Tensor,
    visible: Tensor,
    *,
    by_probability: bool = False,
) -> Tensor:
    """Return the sum over samples of the squared gradient of the sample's own loss, [P].

    visible:        [B, C] bool, the outputs that compete
    by_probability: weigh each sample with exp(-loss), which for cross-entropy is its true label's probability
    The model must be in evaluation mode: then a sample's answer does not depend on the others. A module that says
    `one_at_a_time` (Hugging Face's encoders look at their masks' values) makes this a loop over samples.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss_of_one(parameters: dict[str, Tensor], sample: Inputs, target: Tensor, visible: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (map_inputs(lambda value: value[None], sample),))
        return objective.loss(restrict(logits, visible), target[None])[0]

    own = grad_and_value(loss_of_one)
    if any(getattr(module, "one_at_a_time", False) for module in model.modules()):
        gradients, losses = _stacked(
            [
                own(parameters, map_inputs(lambda value, row=row: value[row], inputs), targets[row], visible[row])  # type: ignore[misc]
                for row in range(len(targets))
            ]
        )
    else:
        gradients, losses = vmap(own, in_dims=(None, 0, 0, 0))(parameters, inputs, targets, visible)
    weights = losses.neg().exp() if by_probability else torch.ones_like(losses)
    # In place: the squares of a piece would take as much memory as its gradients.
    return torch.cat([weights @ gradient.flatten(1).square_() for gradient in gradients.values()])


def _stacked(pieces: list[tuple[dict[str, Tensor], Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    """Return (gradients [B, ...], losses [B]) of samples that were looked at one after another."""
    return {name: torch.stack([each[name] for each, _ in pieces]) for name in pieces[0][0]}, torch.stack(
        [loss for _, loss in pieces]
    )


def competing_outputs(batch: Batch, task_masks: Tensor | None, n_outputs: int) -> Tensor:
    """Return which outputs compete for each sample, as in training: [B, C] bool.

    task_masks: [T, C] bool, the outputs of each task, or None where tasks are not known at test: then all compete
    """
    if task_masks is None or batch.task_ids is None:
        return torch.ones(len(batch), n_outputs, dtype=torch.bool, device=batch.targets.device)
    return task_masks[batch.task_ids]


def quadratic_penalty(theta: Tensor, importances: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
    """Return sum_k F_k (theta - theta*_k)^2 for each weight, [P] as all vectors here are; no factor 1/2."""
    return torch.stack([F * (theta - anchor).square() for F, anchor in zip(importances, anchors, strict=True)]).sum(0)


def stable_shares(importances: Sequence[Tensor], *, weight: float, lr: float) -> Tensor:
    """Return by which share of each weight's F one step of size `lr` reaches the anchor at most, in (0, 1], [P].

    The penalty's second derivative is 2 weight F, F the sum of `importances` [P] each; steps grow above 2 / lr, and
    more than 1 / lr holds no tighter.
    """
    return (2 * lr * weight * torch.stack(list(importances)).sum(dim=0)).clamp(min=1).reciprocal()


def check_own_gradients(model: nn.Module, method: str) -> None:
    """Raise UsageError for a network whose samples have no gradient of their own, for the `method` that needs them."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats:
            raise UsageError(
                f"{method} needs a gradient for each sample, but {name} normalises a batch by itself, also in "
                "evaluation. Use a network with running statistics, e.g. model.name=resnet18_reduced."
            )


def _first(batch: Batch, count: int) -> Batch:
    """Return the first `count` samples of a batch; without what is kept beside them."""
    return dataclasses.replace(
        batch,
        inputs=map_inputs(lambda value: value[:count], batch.inputs),
        targets=batch.targets[:count],
        raw=map_inputs(lambda value: value[:count], batch.raw),
        task_ids=None if batch.task_ids is None else batch.task_ids[:count],
        extras={},
    )
