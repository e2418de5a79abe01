"""Predictors of supermask methods: one subnetwork for a known task, or the task inferred from all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from cl_suite.masked_layers import MaskedLinear
from cl_suite.strategy import ModelPredictor
from cl_suite.subnetworks import MaskedNetwork
from cl_suite.task_inference import entropy, halve, least_uncertain, one_shot, superfluous_energy
from cl_suite.types import Inputs, count_samples, map_inputs


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
        seen: list[Tensor] = []
        last = self._masked.layers[-2] if len(self._masked.layers) > 1 else None
        watched: nn.Module = last if isinstance(last, MaskedLinear) else self._masked.layers[-1]
        position = (lambda args, output: output) if watched is last else (lambda args, output: args[0])
        hook = watched.register_forward_hook(lambda module, args, output: seen.append(position(args, output)))
        try:
            ModelPredictor(network, self.outputs)(inputs)
        finally:
            hook.remove()
        return seen[0]

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

    def answer(self, inputs: Inputs, n_outputs: int) -> Tensor:
        """Return global logits [B, n_outputs]; the argmax is the inferred task's answer.

        Tasks with classes of their own all fill their entries, those not inferred below the inferred one's best:
        the same logits then also say what the answer within any task would be.
        """
        chosen = self.infer(inputs)
        if self._shared_classes():
            return self._chosen_only(inputs, chosen, n_outputs)
        logits = torch.full((len(chosen), n_outputs), -torch.inf, device=chosen.device)
        for view in self._views:
            outputs = view.outputs(inputs)[:, : len(view.classes)].log_softmax(dim=1)
            # The best log-probability of s classes is at least -log s: one below that cannot win.
            lowered = outputs - torch.log(torch.tensor(float(self._n_real))) - 1
            logits[:, list(view.classes)] = torch.where((chosen == view.number)[:, None], outputs, lowered)
        return logits

    def infer(self, inputs: Inputs) -> Tensor:
        """Return the inferred subnetwork's number for each sample, [B] int64."""
        if not self._group:
            return self._numbers(self._decide(inputs, together=False))
        parts = []
        for first in range(0, count_samples(inputs), self._group):
            group = map_inputs(lambda tensor, first=first: tensor[first : first + self._group], inputs)  # type: ignore[misc]
            judged = map_inputs(lambda tensor: tensor[: self._images or len(tensor)], group)
            parts.append(self._decide(judged, together=True).expand(count_samples(group)))
        return self._numbers(torch.cat(parts))

    def gradients(self, inputs: Inputs, candidates: Sequence[int]) -> Tensor:
        """Return dObjective/dalpha_i per sample for the candidate views, [B, len(candidates)], at uniform alpha.

        One forward-mode pass per candidate gives the derivative of the logits of all samples at once.
        """
        weight = 1.0 / len(candidates)
        mixed = [
            sum((self._views[i].masks[layer] for i in candidates[1:]), self._views[candidates[0]].masks[layer]) * weight
            for layer in range(len(self._masked.layers))
        ]
        columns = []
        for i in candidates:
            with forward_ad.dual_level():
                duals = [
                    forward_ad.make_dual(mean, mask) for mean, mask in zip(mixed, self._views[i].masks, strict=True)
                ]
                with self._masked.bound(duals, self._mixed_statistics(candidates), None):
                    logits, tangent = forward_ad.unpack_dual(self._masked.network(inputs))
            columns.append((self._objective_gradient(logits) * tangent).sum(dim=1))
        return torch.stack(columns, dim=1)

    def _objective_gradient(self, logits: Tensor) -> Tensor:
        """Derivative of each sample's objective with respect to its own logits, [B, s]."""
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            value = entropy(leaf) if self._objective == "H" else superfluous_energy(leaf, self._n_real)
            return torch.autograd.grad(value.sum(), leaf)[0]

    def _decide(self, inputs: Inputs, *, together: bool) -> Tensor:
        """Return positions in `views`: one per sample, or a single one [1] for all samples together."""
        everyone = list(range(len(self._views)))
        if self._method == "min_entropy":
            outputs = [view.outputs(inputs) for view in self._views]
            if not together:
                return least_uncertain(outputs)
            return torch.stack([entropy(o).mean() for o in outputs]).argmin()[None]
        if self._method == "oneshot":
            gradients = self.gradients(inputs, everyone)
            return one_shot(gradients.mean(dim=0, keepdim=True) if together else gradients)
        return self._binary(inputs, together=together)

    def _binary(self, inputs: Inputs, *, together: bool) -> Tensor:
        device = self._masked.layers[0].weight.device
        deciders = 1 if together else count_samples(inputs)
        candidates = torch.ones(deciders, len(self._views), dtype=torch.bool, device=device)
        while int(candidates[0].sum()) > 1:
            gradients = torch.full(candidates.shape, torch.inf, device=device)
            # Samples that still have the same candidates share a superposed network.
            for pattern in candidates.unique(dim=0):
                members = (candidates == pattern).all(dim=1).nonzero().squeeze(1)
                kept = pattern.nonzero().squeeze(1)
                part = inputs if together else map_inputs(lambda tensor, m=members: tensor[m], inputs)  # type: ignore[misc]
                found = self.gradients(part, kept.tolist())
                gradients[members[:, None], kept] = found.mean(dim=0, keepdim=True) if together else found
            candidates = halve(gradients, candidates)
        return candidates.int().argmax(dim=1)

    def _mixed_statistics(self, candidates: Sequence[int]) -> Tensor | None:
        if self._statistics == "batch" or not self._masked.norms:
            return None
        weights = torch.zeros(self._masked.norms[0].n_tasks, device=self._masked.layers[0].weight.device)
        weights[[self._views[i].number for i in candidates]] = 1.0 / len(candidates)
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
                part = map_inputs(lambda tensor, m=members: tensor[m], inputs)  # type: ignore[misc]
                logits[members] = view.answer(part, n_outputs)
        return logits
