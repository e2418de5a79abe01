"""Floating-point operations of training, by torch's own formulas, measured on some steps and extrapolated to all.

Counting every step would slow a run several times over. Steps of one pass over the data cost alike, so the first, the
second, the fourth, ... is counted, whatever it does (replay, several losses, an old network), and stands for those that
follow until the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Adds up the operations of matrix products and convolutions, forward and backward, while it is active.

    A multiplication and an addition are two operations. Element-wise work is not counted, as is usual.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.active = True

    def stop(self) -> None:
        """End counting, also where this is no longer the latest mode: a loop left in the middle may be closed late."""
        modes = _get_current_dispatch_mode_stack()
        if self not in modes:
            return
        above = [_pop_mode() for _ in modes[modes.index(self) + 1 :]]
        self.__exit__(None, None, None)
        for mode in reversed(above):
            _push_mode(mode)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and add its cost."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and self.active:
            self.total += _cost(formula, func, args, kwargs, out)
        return out


def _cost(formula: Any, func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Return torch's figure, but for the weight gradient of grouped convolutions, where it forgets the groups."""
    if func._overloadpacket is not torch.ops.aten.convolution_backward or args[9] == 1:
        return int(formula(*args, **kwargs, out_val=out))
    groups, (inputs, weights, _) = args[9], args[10]
    of_inputs = formula(*args[:10], [inputs, False, False], out_val=out)
    return int(of_inputs + formula(*args[:10], [False, weights, False], out_val=out) // groups)


class LoopCost:
    """What a step of one loop costs per sample, by the latest step that was counted."""

    def __init__(self) -> None:
        self._steps = 0
        self._per_sample = 0.0

    def is_counted(self) -> bool:
        """Whether the next step is to be counted: the first, second, fourth, eighth, ..."""
        return (self._steps + 1) & self._steps == 0

    def add(self, samples: int, counted: int | None) -> float:
        """Return the operations of the step that has ended."""
        self._steps += 1
        if counted is None:
            return self._per_sample * samples
        self._per_sample = counted / max(1, samples)
        return float(counted)
