"""Which task is this? Answers from the outputs of superposed subnetworks; pure functions.

Wortsman et al. 2020, "Supermasks in Superposition" (arXiv 2006.14769), sections 3.3 to 3.5. The superposed layer is
W * sum_i alpha_i M^i; `gradients` below are those of an objective with respect to alpha, [..., k].
"""

from __future__ import annotations

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Objective H: entropy of the softmax, in nats. [..., s] -> [...]."""
    log_probabilities = logits.log_softmax(dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def superfluous_energy(logits: Tensor, n_real: int) -> Tensor:
    """Objective G: logsumexp of all outputs, with a gradient only through those that no class uses. [..., s] -> [...].

    The first `n_real` outputs are real; training pushes the others down, so for the right task G falls.
    Needs n_real < s.
    """
    if n_real >= logits.shape[-1]:
        raise ValueError(f"objective G needs superfluous outputs: {n_real} of {logits.shape[-1]} are real")
    return torch.cat([logits[..., :n_real].detach(), logits[..., n_real:]], dim=-1).logsumexp(dim=-1)


def one_shot(gradients: Tensor) -> Tensor:
    """Return the task whose weight would lower the objective most: argmax_i of -gradient. [..., k] -> [...] int64."""
    return (-gradients).argmax(dim=-1)


def halve(gradients: Tensor, candidates: Tensor) -> Tensor:
    """Keep the candidates with gradients up to the median: one round of the binary search.

    gradients [B, k], candidates [B, k] bool, equally many in each row -> [B, k] bool with ceil(half) of them.
    Of equal gradients the earlier task stays: exactly half go each round, so that ties cannot keep it going for ever.
    """
    count = int(candidates[0].sum())
    ranked = gradients.masked_fill(~candidates, torch.inf).argsort(dim=-1, stable=True)
    kept = torch.zeros_like(candidates)
    return kept.scatter(-1, ranked[:, : -(-count // 2)], True) & candidates


def confidences(gradients: Tensor) -> Tensor:
    """Return nu = softmax(-gradient) over the masks, [k]: how much each one claims a batch (section 3.5)."""
    return (-gradients).softmax(dim=-1)


def is_new_task(nu: Tensor, epsilon: float = 0.125) -> bool:
    """Say whether no mask claims a batch: k max_i nu_i < 1 + epsilon."""
    return bool(len(nu) * nu.max() < 1 + epsilon)
