"""What a supermask method needs of a scenario and does with a run's settings, by its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cl_suite import Requirement, Strategy, TrainSettings

_AT_TRAIN = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES})


class SupermaskNeeds(Strategy):
    """Base of `SupermaskStrategy`: answers that need no network."""

    requires = _AT_TRAIN | {Requirement.TASK_ID_AT_TEST}
    modes: ClassVar[tuple[Mapping[str, Any], ...]] = ({"infer": "oneshot"},)

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """The task id at test is needed only where it is not inferred."""
        return cls.requires if config.infer == "none" else _AT_TRAIN

    @classmethod
    def starts_from_weights(cls, config: Any) -> bool:
        """No: the weights that masks select from are drawn by `weight_init`."""
        return False

    @classmethod
    def uses_validation(cls, config: Any, train: TrainSettings) -> bool:
        """Where epochs are chosen by it, or the released schedule reads it."""
        return bool(config.reads_validation)

    @classmethod
    def early_stopping_refusal(cls, config: Any) -> str:
        """Its phases divide the epochs, and choose by a rule of their own."""
        return "it trains in phases; strategy.select=best_per_phase keeps the best epoch of each"
