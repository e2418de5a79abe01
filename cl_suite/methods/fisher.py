"""The diagonal of the empirical Fisher information, and the quadratic penalty that holds weights by it.

Kirkpatrick et al. 2017 (EWC, arXiv 1612.00796), eq. 3. Vectors [P] hold all parameters of a network in their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from cl_suite.core.errors import UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.objective import Objective, restrict
from cl_suite.core.types import Batch, Inputs, StreamInfo, count_samples, map_inputs
from cl_suite.methods.gradient_vectors import flatten

GRADIENT_FLOATS = 2**26  # of per-sample gradients held at once: 256 MiB
PIECE = 32  # samples whose gradients are held at once, at most: larger pieces are slower, on a CPU


def true_label_fisher(
    model: nn.Module,
    info: StreamInfo,
    experience: Experience,
    *,
    task_masks: Tensor | None,
    samples: int,
    by_probability: bool = False,
) -> Tensor:
    """Return the mean over an experience's samples of the squared gradient of log p(true label), [P].

    task_masks:     [T, C] bool, the outputs of each task, or None where tasks are not known at test: then all compete
    samples:        how many are drawn, 0 = all
    by_probability: weigh each sample with exp(-loss), which for cross-entropy is its true label's probability
    Leaves the model in evaluation mode: then a sample's answer does not depend on the others.
    """
    model.eval()

    def squares(batch: Batch) -> Tensor:
        visible = competing_outputs(batch, task_masks, info.n_outputs)
        return squared_gradients(
            model, info.objective, batch.inputs, batch.targets, visible, by_probability=by_probability
        )

    theta = flatten(list(model.parameters())).detach()
    return fisher_diagonal(experience, squares, samples=samples, like=theta)


def fisher_diagonal(
    experience: Experience, squares: Callable[[Batch], Tensor], *, samples: int, like: Tensor, piece: int = 0
) -> Tensor:
    """Return the mean over an experience's samples of their squared gradients, [P] as `like`.

    squares: batch -> the sum over its samples, [P] (`squared_gradients`)
    samples: how many are drawn, 0 = all; piece: how many at once, 0 = as many as their gradients have room for
    """
    wanted = min(samples or experience.n_samples, experience.n_samples)
    size = min(piece or min(PIECE, max(1, GRADIENT_FLOATS // len(like))), wanted)
    result, used = torch.zeros_like(like), 0
    with closing(experience.batches(epochs=1, batch_size=size, augment=False, phase="fisher")) as batches:  # type: ignore
        for batch in batches:
            first = _first(batch, wanted - used)
            result += squares(first)
            used += len(first)
            if used == wanted:
                break
    return result / wanted


def samples_behind(info: StreamInfo, samples: int) -> int:
    """Return how many samples the Fisher diagonals of a whole stream draw, of `samples` (0 = all) per experience."""
    once = info.planned_samples // info.train.epochs
    return min(samples * info.n_experiences, once) if samples else once


def sample_gradients(
    model: nn.Module,
    loss: Callable[..., Tensor],
    inputs: Inputs,
    *beside: Tensor,
    names: Collection[str] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return (each sample's own gradient by parameter, {name: [B, ...]}; its loss [B]).

    loss:  (outputs of one sample [1, C], its entry of each of `beside` [1, ...]) -> [1]
    names: of the parameters, None = all
    The model must be in evaluation mode. A module that says `one_at_a_time` (Hugging Face's encoders look at their
    masks' values) makes this a loop over samples.
    """
    parameters = {
        name: parameter.detach() for name, parameter in model.named_parameters() if names is None or name in names
    }

    def loss_of_one(parameters: dict[str, Tensor], sample: Inputs, *entries: Tensor) -> Tensor:
        outputs = functional_call(model, parameters, (map_inputs(lambda value: value[None], sample),))
        return loss(outputs, *[value[None] for value in entries])[0]

    of_one = grad_and_value(loss_of_one)
    if not any(getattr(module, "one_at_a_time", False) for module in model.modules()):
        return vmap(of_one, in_dims=(None, *[0] * (1 + len(beside))))(parameters, inputs, *beside)
    pieces = [
        of_one(parameters, map_inputs(itemgetter(row), inputs), *[value[row] for value in beside])
        for row in range(count_samples(inputs))
    ]
    gradients = {name: torch.stack([each[name] for each, _ in pieces]) for name in parameters}
    return gradients, torch.stack([value for _, value in pieces])


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

    visible: [B, C] bool, the outputs that compete; by_probability: as in `true_label_fisher`
    """

    def loss(logits: Tensor, target: Tensor, visible: Tensor) -> Tensor:
        return objective.loss(restrict(logits, visible), target)

    gradients, losses = sample_gradients(model, loss, inputs, targets, visible)
    weights = losses.neg().exp() if by_probability else torch.ones_like(losses)
    # In place: the squares of a piece would take as much memory as its gradients.
    return torch.cat([weights @ gradient.flatten(1).square_() for gradient in gradients.values()])


def competing_outputs(batch: Batch, task_masks: Tensor | None, n_outputs: int) -> Tensor:
    """Return which outputs compete for each sample, as in training: [B, C] bool.

    task_masks: [T, C] bool, the outputs of each task, or None where tasks are not known at test: then all compete
    """
    if task_masks is None or batch.task_ids is None:
        return torch.ones(len(batch), n_outputs, dtype=torch.bool, device=batch.targets.device)
    return task_masks[batch.task_ids]


class QuadraticPenalty:
    """strength * sum_k F_k (theta - theta*_k)^2 over earlier tasks k, summed over the weights; no factor 1/2.

    Kirkpatrick et al. 2017, eq. 3. What a task does to those before it when `hold` adds it is the mode:
    separate: nothing, each has a term of its own
    online:   it takes the place of the one term there is, whose F decays by `gamma` (Schwarz et al. 2018)
    summed:   sum_k F_k and sum_k F_k theta*_k, two vectors for all, give the penalty up to a constant

    importances: F_k, [P] each; anchors: theta*_k, [P] each (summed: F_k theta*_k)
    shares:      of each weight's F that acts, in (0, 1], [P]
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, strength: float, mode: str = "separate", gamma: float = 1.0
    ) -> None:
        self._parameters = list(parameters)
        self._strength, self._mode, self._gamma = strength, mode, gamma
        theta = flatten(self._parameters).detach()
        first = [torch.zeros_like(theta)] if mode == "summed" else []
        self.importances, self.anchors = list(first), list(first)
        self.shares = torch.ones_like(theta)
        self._terms: list[tuple[Tensor, Tensor]] = []  # in force, weighted
        self._sum, self._steps = theta.new_zeros(()), 0  # of the penalty since `begin`
        self.weigh()

    def hold(self, importance: Tensor) -> None:
        """Hold the parameters where they are now as strongly as `importance` F [P] says."""
        theta = flatten(self._parameters).detach().clone()
        if self._mode == "summed":
            self.importances = [self.importances[0] + importance]
            self.anchors = [self.anchors[0] + importance * theta]
        elif self._mode == "online" and self.importances:
            self.importances, self.anchors = [self._gamma * self.importances[0] + importance], [theta]
        else:
            self.importances.append(importance)
            self.anchors.append(theta)
        self.weigh()

    def begin(self) -> None:
        """Measure anew how large the penalty is."""
        self._sum.zero_()
        self._steps = 0

    def weigh(self, weights: Sequence[float] | None = None, *, lr: float = 0.0) -> None:
        """From now on let each term count so much (None = 1); one of weight 0 has no part.

        lr: hold no weight tighter than a single step of this learning rate can; 0 = as tight as F says
        """
        terms = list(zip(self.importances, self.anchors, strict=True))
        if weights is not None:
            pairs = zip(weights, terms, strict=True)
            terms = [(weight * F, anchor) for weight, (F, anchor) in pairs if weight]
        self._terms = terms
        if terms and lr:
            self.shares = stable_shares([F for F, _ in terms], weight=self._strength, lr=lr)

    @property
    def acts(self) -> bool:
        """Whether any term is in force."""
        return bool(self._terms)

    def __call__(self) -> Tensor:
        """Return the penalty at the parameters as they are: a scalar with a gradient."""
        theta = flatten(self._parameters)
        importances, anchors = zip(*self._terms, strict=True)
        if self._mode == "summed":
            by_weight = importances[0] * theta.square() - 2 * anchors[0] * theta
        else:
            by_weight = quadratic_penalty(theta, importances, anchors)
        value = self._strength * self.shares @ by_weight
        self._sum += value.detach()
        self._steps += 1
        return value

    def mean(self) -> float:
        """Return the mean of the penalty over the steps since `begin`; 0 if there was none."""
        return float(self._sum) / self._steps if self._steps else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return importances and anchors."""
        return {"importance": list(self.importances), "anchor": list(self.anchors)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self.shares.device
        self.importances = [value.to(device) for value in state["importance"]]
        self.anchors = [value.to(device) for value in state["anchor"]]
        self.weigh()


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
