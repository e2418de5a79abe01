"""Early stopping: training ends when the validation loss no longer falls, and the best state comes back.

Prechelt 1998, "Early Stopping - But When?": of his criteria UP, with a patience in epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from cl_suite.methods.best_state import BestState


class Patience:
    """Follows a validation loss: keeps the state with the lowest, and counts the epochs since.

    tensors:  what training moves
    patience: epochs without a lower loss; full again after each lower loss, and when it has been used up
    epochs, best_epoch, lowest: losses met so far, which of them was the lowest (from 1), and that one
    """

    def __init__(self, tensors: Iterable[Tensor], patience: int) -> None:
        self._state = BestState(tensors)
        self._patience, self._left = patience, patience
        self.epochs, self.best_epoch, self.lowest = 0, 0, float("inf")

    def is_used_up(self, loss: float) -> bool:
        """Take in the loss after an epoch: keep the state if it is the lowest. Return whether patience has ended."""
        self.epochs += 1
        if loss < self.lowest:
            self.lowest, self.best_epoch, self._left = loss, self.epochs, self._patience
            self._state.offer(-loss)
            return False
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._patience
        return True

    def restore(self) -> None:
        """Put back the state with the lowest loss; where none was measured, the last one stays."""
        self._state.restore()


class EarlyStopping:
    """`train.early_stopping` of one strategy: a part that is saved with it, for what the record tells.

    experiences: of each, `epochs` trained, the `best_epoch` that was gone back to, and its `validation_loss`
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._current: Patience | None = None
        self.experiences: list[dict[str, Any]] = []

    def begin(self, tensors: Iterable[Tensor]) -> None:
        """Before the first step of an experience."""
        self._current = Patience(tensors, self._patience)

    def after_epoch(self, loss: float) -> bool:
        """Return whether to stop, given the validation loss after an epoch."""
        assert self._current is not None, "begin comes first"
        return self._current.is_used_up(loss)

    def end(self) -> None:
        """After the last step: the best state comes back."""
        assert self._current is not None, "begin comes first"
        best, self._current = self._current, None
        best.restore()
        self.experiences.append({"epochs": best.epochs, "best_epoch": best.best_epoch, "validation_loss": best.lowest})

    def state_dict(self) -> dict[str, Any]:
        """Return what the record tells."""
        return {"experiences": [dict(each) for each in self.experiences]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.experiences = [dict(each) for each in state["experiences"]]
