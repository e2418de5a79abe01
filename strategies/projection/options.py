"""Options that GPM, TRGP and CUBER share; defaults are those of their Split CIFAR-100 experiments."""

from __future__ import annotations

from dataclasses import dataclass, field

from cl_suite import TrainSettings, UsageError, check_choices
from strategies.projection.subspaces import FIRST_RANKS

NORM_MODES = ("batch", "first_task_running")


@dataclass
class ProjectionOptions:
    """Options of the bases and of training, by plain SGD.

    Momentum and weight decay would move weights along protected directions, so they are no options.
    """

    lr: float = 0.03  # 0.01 in the papers, for up to 200 epochs; at 0.1 the scaling matrices of TRGP learn badly
    threshold: float = 0.97  # share of the energy of a layer's inputs the basis must hold, in (0, 1]; first task
    threshold_last: float = 0.997  # and last task, evenly in between: 0.97 + 0.003 t for 10 tasks
    layer_thresholds: list[float] = field(default_factory=list)  # one per layer, constant; empty = the two above
    first_task_rank: str = "code"  # code: directions below the threshold; paper: as few as reach it, one more
    samples: int = 125  # training samples behind representation matrices and task correlation
    samples_per_layer: list[int] = field(default_factory=list)  # of them, how many each layer uses; empty = `columns`
    columns: int = 20_000  # vectors per layer at most; a convolution reads one per patch
    bn_mode: str = "batch"  # batch: its own statistics, also at test; first_task_running: frozen after the first task
    freeze_bn_after_first: bool = True  # whether scale and shift of batch normalisation stay after the first task
    plateau: bool = True  # where train.validation > 0: follow the validation loss; false: constant rate, last state
    patience: int = 6  # epochs without a lower validation loss
    lr_factor: float = 2.0  # divides the rate when the patience is used up
    lr_min: float = 1e-5  # training ends below this rate

    def follows_plateau(self, train: TrainSettings) -> bool:
        """Whether the validation loss lowers the rate and ends training."""
        return self.plateau and train.validation > 0

    def threshold_of(self, layer: int, task: int, n_tasks: int) -> float:
        """Return the threshold of layer number `layer` at task number `task` of `n_tasks`."""
        if self.layer_thresholds:
            return self.layer_thresholds[layer]
        return self.threshold + (self.threshold_last - self.threshold) * task / max(1, n_tasks - 1)

    def check(self, layers: list[str]) -> None:
        """Raise UsageError for a value outside its range, or a list that does not fit the network's layers."""
        check_choices(self, {"first_task_rank": FIRST_RANKS, "bn_mode": NORM_MODES})
        for name in ("threshold", "threshold_last"):
            _check_share(name, getattr(self, name))
        for value in self.layer_thresholds:
            _check_share("layer_thresholds", value)
        for name in ("layer_thresholds", "samples_per_layer"):
            given = len(getattr(self, name))
            if given not in (0, len(layers)):
                raise UsageError(
                    f"strategy.{name} has {given} entries, but {len(layers)} layers are projected: "
                    f"{', '.join(layers)}. Give one for each, or none."
                )
        for name in ("samples", "columns", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"strategy.{name}={getattr(self, name)} is too small. Use 1 or more.")
        if any(value < 1 for value in self.samples_per_layer):
            raise UsageError(f"strategy.samples_per_layer={self.samples_per_layer} holds a number below 1.")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"strategy.lr={self.lr} is not a learning rate. Use more than 0.")
        if not self.lr_min >= 0:
            raise UsageError(f"strategy.lr_min={self.lr_min} is not a learning rate. Use 0 or more.")
        if not self.lr_factor > 1:
            raise UsageError(f"strategy.lr_factor={self.lr_factor} divides the rate. Use more than 1.")


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise UsageError(f"strategy.{name}={value} is not a share of the energy. Use more than 0, at most 1.")
