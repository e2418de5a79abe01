"""Predictors of supermask methods: one subnetwork for a known task, or the task inferred from all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from cl_suite import Inputs, ModelPredictor, count_samples, map_inputs
from strategies.isolation.masks.layers import MaskedLinear
from strategies.isolation.masks.subnetworks import MaskedNetwork
from strategies.isolation.masks.task_inference import entropy, halve, one_shot, superfluous_energy

CHUNK = 1024  # samples times subnetworks that a superposed network holds at once


class View:
    """A subnetwork ready to answer: unpacked masks, its statistics, rows and classes."""

    def __init__(
        self,
        masked: MaskedNetwork,
        *,
        number: int,
        masks: Sequence[Tensor],
        classes: tuple[int, ...],
        rows: tuple[int, int] | None,
    ) -> None:
        self.number, self.classes, self.rows = number, classes, rows
        self.masks = [mask.to(masked.layers[0].weight.dtype) for mask in masks]
        self._masked = masked

    def outputs(self, inputs: Inputs) -> Tensor:
        """Return the head's logits [B, s], superfluous ones included."""
        with self._masked.bound(self.masks, self.number, self.rows):
            return self._masked.network(inputs)

    def features(self, inputs: Inputs) -> Tensor:
        """Return what the subnetwork computes below the head, [B, D], in evaluation mode.

        The last hidden layer's pre-activation if it is linear (LeNet 300-100), else what the head reads.
        """
        network = self._masked.network
        features: list[Tensor] = []
        last = self._masked.layers[-2] if len(self._masked.layers) > 1 else None
        watched: nn.Module = last if isinstance(last, MaskedLinear) else self._masked.layers[-1]
        position = (lambda args, output: output) if watched is last else (lambda args, output: args[0])
        hook = watched.register_forward_hook(lambda module, args, output: features.append(position(args, output)))
        try:
            ModelPredictor(network, self.outputs)(inputs)
        finally:
            hook.remove()
        return features[0]

    def answer(self, inputs: Inputs, n_outputs: int) -> Tensor:
        """Return global logits [B, n_outputs], -inf outside the subnetwork's classes."""
        return place(self.outputs(inputs), self.classes, n_outputs)


def place(outputs: Tensor, classes: tuple[int, ...], n_outputs: int) -> Tensor:
    """Put outputs 0, 1, ... of [B, s] at the entries `classes` of [B, n_outputs]; -inf elsewhere."""
    logits = outputs.new_full((len(outputs), n_outputs), -torch.inf)
    logits[:, list(classes)] = outputs[:, : len(classes)]
    return logits


class TaskInference:
    """Infers which subnetwork a sample belongs to, and answers with it.

    method:     "oneshot", "binary" (gradients of an objective through the superposed network) or
                "min_entropy" (each subnetwork answers, the surest one counts)
    objective:  "H" (entropy) or "G" (superfluous outputs)
    group:      0 = every sample by itself. Otherwise the published protocol: each `group` samples in a row are
                taken to be of one task, judged by their first `images` (0 = by all of them).
    statistics: of batch norms in a superposed network: "averaged" (the candidates' statistics, weighted as their
                masks: samples do not depend on each other) or "batch" (those of the batch itself)
    """

    def __init__(
        self,
        masked: MaskedNetwork,
        views: Sequence[View],
        *,
        method: str,
        objective: str = "H",
        group: int = 0,
        images: int = 1,
        statistics: str = "averaged",
    ) -> None:
        self._masked, self._views = masked, views
        self._method, self._objective = method, objective
        self._group, self._images, self._statistics = group, images, statistics
        self._n_real = max(len(view.classes) for view in views)
        self._device = masked.layers[0].weight.device

    def answer(self, inputs: Inputs, n_outputs: int) -> Tensor:
        """Return global logits [B, n_outputs]; the argmax is the inferred task's answer.

        Tasks with classes of their own all fill their entries, those not inferred below the inferred one's best:
        the same logits then also say what the answer within any task would be.
        """
        if self._shared_classes():
            return self._chosen_only(inputs, self.infer(inputs), n_outputs)
        every = [view.outputs(inputs) for view in self._views]
        chosen = self.infer(inputs, every)
        logits = torch.full((len(chosen), n_outputs), -torch.inf, device=chosen.device)
        for view, outputs in zip(self._views, every, strict=True):
            own = outputs[:, : len(view.classes)].log_softmax(dim=1)
            # The best log-probability of s classes is at least -log s: one below that cannot win.
            lowered = own - math.log(self._n_real) - 1
            logits[:, list(view.classes)] = torch.where((chosen == view.number)[:, None], own, lowered)
        return logits

    def infer(self, inputs: Inputs, outputs: list[Tensor] | None = None) -> Tensor:
        """Return the inferred subnetwork's number for each sample, [B] int64.

        outputs: [B, s] of every view, if they are known already
        """
        judged, group_of = self._judged(count_samples(inputs))
        n_groups = int(group_of[-1]) + 1
        if self._method == "min_entropy":
            every = [view.outputs(inputs) for view in self._views] if outputs is None else outputs
            values = torch.stack([entropy(o) for o in every], dim=1)  # [B, k]
            return self._numbers(_mean_per_group(values[judged], group_of[judged], n_groups).argmin(dim=1)[group_of])
        candidates = torch.ones(n_groups, len(self._views), dtype=torch.bool, device=self._device)
        if self._method == "oneshot":
            chosen = one_shot(self._group_gradients(inputs, candidates, group_of, judged))
        else:
            chosen = self._binary(inputs, candidates, group_of, judged)
        return self._numbers(chosen[group_of])

    def gradients(self, inputs: Inputs, candidates: Tensor) -> Tensor:
        """Return dObjective/dalpha_i per sample, [B, k], with alpha uniform on its candidates ([B, k] bool)."""
        # Batch statistics need the batch whole; otherwise a chunk bounds the k copies of every activation.
        chunk = len(candidates) if self._statistics == "batch" else max(1, CHUNK // len(self._views))
        return torch.cat(
            [
                self._gradients(_rows(inputs, slice(first, first + chunk)), candidates[first : first + chunk])
                for first in range(0, len(candidates), chunk)
            ]
        )

    def _gradients(self, inputs: Inputs, candidates: Tensor) -> Tensor:
        uniform = candidates / candidates.sum(dim=1, keepdim=True)
        with torch.enable_grad():
            alpha = uniform.clone().requires_grad_()
            with self._masked.superposed(self._stacks, alpha, self._mixed_statistics(uniform)):
                logits = self._masked.network(inputs)
            value = entropy(logits) if self._objective == "H" else superfluous_energy(logits, self._n_real)
            return torch.autograd.grad(value.sum(), alpha)[0]

    def _binary(self, inputs: Inputs, candidates: Tensor, group_of: Tensor, judged: Tensor) -> Tensor:
        while int(candidates[0].sum()) > 1:
            candidates = halve(self._group_gradients(inputs, candidates, group_of, judged), candidates)
        return candidates.int().argmax(dim=1)

    def _judged(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the rows that are judged, [J], and the group of every sample, [B]; with group 0 each is its own."""
        rows = torch.arange(size, device=self._device)
        if not self._group:
            return rows, rows
        place = rows % self._group
        return rows[place < (self._images or self._group)], rows // self._group

    def _group_gradients(self, inputs: Inputs, candidates: Tensor, group_of: Tensor, judged: Tensor) -> Tensor:
        """Return the mean gradient of each group's judged samples, [G, k]; candidates [G, k], group_of [B]."""
        groups = group_of[judged]  # [J]
        if self._statistics == "batch":  # batch statistics need every sample of the batch
            gradients = self.gradients(inputs, candidates[group_of])[judged]
        else:
            gradients = self.gradients(_rows(inputs, judged), candidates[groups])
        return _mean_per_group(gradients, groups, len(candidates))

    def _mixed_statistics(self, alpha: Tensor) -> Tensor | None:
        if self._statistics == "batch" or not self._masked.norms:
            return None
        weights = torch.zeros(len(alpha), self._masked.norms[0].n_tasks, device=alpha.device)
        weights[:, [view.number for view in self._views]] = alpha
        return weights

    def _numbers(self, positions: Tensor) -> Tensor:
        numbers = torch.tensor([view.number for view in self._views], device=positions.device)
        return numbers[positions]

    def _shared_classes(self) -> bool:
        every = [c for view in self._views for c in view.classes]
        return len(every) != len(set(every))

    def _chosen_only(self, inputs: Inputs, chosen: Tensor, n_outputs: int) -> Tensor:
        logits = torch.full((len(chosen), n_outputs), -torch.inf, device=chosen.device)
        for view in self._views:
            members = (chosen == view.number).nonzero().squeeze(1)
            if len(members):
                logits[members] = view.answer(_rows(inputs, members), n_outputs)
        return logits

    @cached_property
    def _stacks(self) -> list[Tensor]:
        """All masks per layer, [k, out, in, ...]; made when first superposed, which needs one head for all."""
        return [torch.stack(masks) for masks in zip(*[view.masks for view in self._views], strict=True)]


def _rows(inputs: Inputs, rows: slice | Tensor) -> Inputs:
    return map_inputs(lambda tensor: tensor[rows], inputs)


def _mean_per_group(values: Tensor, groups: Tensor, n_groups: int) -> Tensor:
    """Return the mean of the rows of [J, k] that share a group ([J] in 0..n_groups-1), [n_groups, k]."""
    sums = torch.zeros(n_groups, values.shape[1], device=values.device).index_add_(0, groups, values)
    return sums / groups.bincount(minlength=n_groups)[:, None]
