"""KKT: which earlier subnetwork separates a new task's classes best, by a k-nearest-neighbour vote.

Yadav & Bansal 2023, "Exclusive Supermask Subnetwork Training for Continual Learning" (arXiv 2210.10209), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cl_suite import Inputs

FIT_SHARE = 0.66  # of the collected samples, in order; the rest are voted on


def knn_accuracy(features: Tensor, targets: Tensor, *, neighbours: int = 200) -> float:
    """Return the share of right majority votes, in [0, 1].

    features: [N, D]; targets: [N] int64. The first 66 % are fitted, the others scored; Euclidean distance;
    `neighbours` is clamped to half of the fitted samples: if all of them vote, the features do not matter. Of tied
    votes the lowest class wins.
    Return 0.0 if either part is empty.
    """
    fitted = int(FIT_SHARE * len(features))
    if not fitted or fitted == len(features):
        return 0.0
    # |a - b|^2 up to |a|^2, which orders no neighbour differently: a matrix product, not an [n, m, D] tensor
    distance = features[:fitted].square().sum(dim=1) - 2 * features[fitted:] @ features[:fitted].T
    nearest = distance.topk(min(neighbours, max(1, fitted // 2)), dim=1, largest=False).indices  # [n, k]
    n_classes = int(targets.max()) + 1
    votes = torch.zeros(len(nearest), n_classes, device=features.device)
    ones = torch.ones(nearest.shape, device=features.device)
    votes.scatter_add_(1, targets[:fitted][nearest], ones)
    return float((votes.argmax(dim=1) == targets[fitted:]).float().mean())


def sources(accuracies: list[float], *, chance: float, rule: str) -> list[int]:
    """Return the earlier tasks whose scores the new task starts from; none means random scores.

    "knn_best": the best one, if above chance; "knn_always": the best one; "knn_all": every one above chance.
    """
    if not accuracies:
        return []
    best = max(range(len(accuracies)), key=accuracies.__getitem__)
    above = [task for task, accuracy in enumerate(accuracies) if accuracy > chance]
    return {"knn_best": [best] if best in above else [], "knn_always": [best], "knn_all": above}[rule]


def mean_scores(scores: list[list[Tensor]]) -> list[Tensor]:
    """Return the mean over tasks of per-layer scores, as new tensors: the tasks' own scores are not touched."""
    return [torch.stack(layers).mean(dim=0) for layers in zip(*scores, strict=True)]


@torch.no_grad()
def transfer_sources(
    extractors: Sequence[Callable[[Inputs], Tensor]],
    inputs: Sequence[Inputs],
    targets: Tensor,
    *,
    n_classes: int,
    neighbours: int,
    rule: str,
) -> list[int]:
    """Return the earlier tasks to start from, one extractor (inputs -> features [B, D]) per earlier task."""
    accuracies = [
        knn_accuracy(torch.cat([extract(batch) for batch in inputs]), targets, neighbours=neighbours)
        for extract in extractors
    ]
    return sources(accuracies, chance=1 / n_classes, rule=rule)
