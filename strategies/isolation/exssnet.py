"""ExSSNeT and SSNeT: find a mask, then train the weights it selects.

Yadav & Bansal 2023, "Exclusive Supermask Subnetwork Training for Continual Learning" (Findings of ACL,
arXiv 2210.10209). ExSSNeT trains only weights that no earlier mask selects, so that nothing is ever forgotten; SSNeT,
its ablation, trains all that the mask selects. KKT, the paper's knowledge transfer, is `score_init=knn_best`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cl_suite import (
    Batch,
    Experience,
    QuadraticPenalty,
    StreamInfo,
    UsageError,
    fisher_diagonal,
    flatten,
    sample_gradients,
)
from strategies.isolation.masks.options import SupermaskOptions
from strategies.isolation.masks.supermask_strategy import SupermaskStrategy

FISHER_CHUNK = 50  # samples whose gradients are held at once


def split_epochs(epochs: int, mask_share: float) -> tuple[int, int]:
    """Divide the epochs of an experience into (mask search, weight training).

    At least one each from two epochs on, and half an epoch goes to the masks: without a mask there is nothing to train.
    A single epoch is for the masks alone, which leaves SupSup.
    """
    if epochs < 2:
        return epochs, 0
    masks = min(max(math.floor(mask_share * epochs + 0.5), 1), epochs - 1)
    return masks, epochs - masks


def check_phases(config: Any) -> None:
    """Raise UsageError for options of the two phases that cannot be met."""
    if config.weight_training not in ("exclusive", "all", "none"):
        raise UsageError(f"strategy.weight_training={config.weight_training} is not known. Use exclusive, all or none.")
    if not 0.0 <= config.mask_share <= 1.0:
        raise UsageError(f"strategy.mask_share={config.mask_share} is a share of the epochs. Use a number from 0 to 1.")
    if config.union_last < 0:
        raise UsageError(f"strategy.union_last={config.union_last} is a number of tasks. Use 0 (all) or more.")


def exclusive(mask: Tensor, union: Tensor) -> Tensor:
    """u_t = m_t AND NOT (m_1 OR ... OR m_{t-1}): the weights this task may write."""
    return mask & ~union


@dataclass
class PhaseOptions:
    """Options of the two phases, beside those of every supermask method."""

    mask_share: float = 0.5  # share of an experience's epochs spent on masks; see split_epochs
    weight_training: str = "exclusive"  # exclusive (ExSSNeT), all (SSNeT), none (SupSup)
    lr_weights: float = 0.01  # of the grid {0.01, 0.001} noted for ExSSNeT
    weight_decay_weights: float = 0.0  # applied to the weights in training only
    union_last: int = 0  # exclusive of the masks of the last so many tasks; 0 = of all (no forgetting)


class ExSSNeT(SupermaskStrategy):
    """Exclusive Supermask Subnetwork Training (Yadav & Bansal 2023): masks, then the weights no one else uses."""

    source = "Yadav & Bansal 2023, arXiv 2210.10209"
    costs = (
        "keeps the weights, 1 bit a weight and task, 8 bytes a normalised channel and task; in training a score for "
        "each weight; epochs are divided between its two phases"
    )

    @dataclass
    class Config(PhaseOptions, SupermaskOptions):
        """Options of the two phases."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network. Raise UsageError for options that cannot be met."""
        check_phases(self.config)
        super().setup(info, build_model)

    def learn(self, experience: Experience) -> None:
        """Search the mask of this task, then train the weights that only it selects."""
        two_phases(self, experience)


class SSNeT(SupermaskStrategy):
    """Supermask Subnetwork Training (Yadav & Bansal 2023): ExSSNeT without exclusion. It forgets."""

    source = "Yadav & Bansal 2023, arXiv 2210.10209"
    costs = (
        "keeps the weights, 1 bit a weight and task, 8 bytes a normalised channel and task; with ewc_lambda 2P "
        "numbers more; in training a score for each weight"
    )

    @dataclass
    class Config(PhaseOptions, SupermaskOptions):
        """Options of the two phases, and of the penalty that holds shared weights back."""

        weight_training: str = "all"
        lr_weights: float = 0.001  # of the grid {0.001, 0.0001} noted for SSNeT
        ewc_lambda: float = 0.0  # strength of an EWC penalty in phase 2 (Kirkpatrick et al. 2017); 0 = none
        ewc_samples: int = 500  # single samples the Fisher information is estimated from, in whole chunks of 50

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Mask the network; no weight is held back yet. Raise UsageError for options that cannot be met."""
        check_phases(self.config)
        if self.config.ewc_samples < 1:
            raise UsageError(f"strategy.ewc_samples={self.config.ewc_samples} is too small. Use 1 or more.")
        super().setup(info, build_model)
        # lambda/2 sum_t F_t (W - W_t)^2 over earlier tasks t (Kirkpatrick et al. 2017, eq. 3)
        weights = [layer.weight for layer in self.masked.layers]
        self.ewc = QuadraticPenalty(weights, strength=self.config.ewc_lambda / 2, mode="summed")

    def learn(self, experience: Experience) -> None:
        """Search the mask of this task, then train every weight that it selects."""
        penalty = self.ewc if self.config.ewc_lambda and self.subnetworks else None
        two_phases(self, experience, penalty=penalty)
        if self.config.ewc_lambda:
            self.ewc.hold(fisher(self, experience))

    def state_dict(self) -> dict[str, Any]:
        """Return masks, weights and, with EWC, what holds them back."""
        if not self.config.ewc_lambda:
            return super().state_dict()
        (F,), (pull,) = self.ewc.importances, self.ewc.anchors
        return super().state_dict() | {"fisher": self._by_layer(F), "pull": self._by_layer(pull)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        if self.config.ewc_lambda:
            self.ewc.load_state_dict({"importance": [flatten(state["fisher"])], "anchor": [flatten(state["pull"])]})

    def _by_layer(self, vector: Tensor) -> list[Tensor]:
        """Return a vector [P] over all masked weights as tensors of their shapes."""
        weights = [layer.weight for layer in self.masked.layers]
        pieces = vector.split([weight.numel() for weight in weights])
        return [piece.view(weight.shape) for piece, weight in zip(pieces, weights, strict=True)]


def two_phases(
    strategy: SupermaskStrategy, experience: Experience, *, penalty: Callable[[], Tensor] | None = None
) -> None:
    """Learn one task: the masks by gradient descent on scores, then the weights (section 3 of the paper)."""
    c = strategy.config
    mask_epochs, weight_epochs = split_epochs(experience.epochs, c.mask_share)
    if c.weight_training == "none":
        mask_epochs, weight_epochs = experience.epochs, 0

    # Phase 1: which weights, whatever their values are now.
    subnetwork = strategy.begin(experience)
    strategy.search_masks(experience, epochs=mask_epochs)
    strategy.keep_masks()
    masks = strategy.masked.spread(subnetwork)

    # Phase 2: their values. The others are read, never written.
    taken = strategy.union
    if c.union_last:
        taken = strategy.masked.union(strategy.subnetworks[-c.union_last :])
    trainable = masks
    if c.weight_training == "exclusive":
        trainable = [exclusive(mask, before) for mask, before in zip(masks, taken, strict=True)]
    # With nothing left to train the method is SupSup on the weights there are.
    if weight_epochs and any(bool(free.any()) for free in trainable):
        strategy.train_weights(
            experience,
            trainable,
            epochs=weight_epochs,
            lr=c.lr_weights,
            weight_decay=c.weight_decay_weights,
            penalty=penalty,
        )
    strategy.end()


def fisher(strategy: SupermaskStrategy, experience: Experience) -> Tensor:
    """Estimate the diagonal of the Fisher information of the masked weights, [P], in the subnetwork learned last.

    F = mean over single samples of (d loss / d W)^2 with the true labels ("empirical Fisher"), zero outside the mask.
    """
    layers, learned = strategy.masked.layers, strategy.subnetworks[-1]
    names = [f"{name}.weight" for name, module in strategy.network.named_modules() if module in layers]

    def squares(batch: Batch) -> Tensor:
        gradients, _ = sample_gradients(
            strategy.network,
            strategy.info.objective.loss,
            batch.inputs,
            strategy.own_targets(batch.targets),
            names=names,
        )
        return flatten([gradients[name].square().sum(dim=0) for name in names])

    chunks = -(-strategy.config.ewc_samples // FISHER_CHUNK)
    theta = flatten([layer.weight for layer in layers]).detach()
    strategy.network.eval()
    masks = [mask.float() for mask in strategy.masked.masks_of(learned)]
    with strategy.masked.bound(masks, learned.number, learned.rows):
        return fisher_diagonal(experience, squares, samples=chunks * FISHER_CHUNK, like=theta, piece=FISHER_CHUNK)
