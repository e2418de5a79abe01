"""How much each module of a network moves, epoch by epoch and task by task, and which move most.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (arXiv 2304.04158).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from cl_suite.networks.module_groups import mean_change, module_groups, snapshot

SCORES = ("raw", "boundary", "ratio")


class ModuleChanges:
    """The change D_l(t, n) of each module l in epoch n of experience t; between experiences it is the switch.

    Call `begin` before the first epoch and `observe` after each. Costs one copy of the weights.
    """

    def __init__(self) -> None:
        self.epochs: list[tuple[int, dict[str, float]]] = []  # (experience, change of each module), in order
        self._previous: dict[str, Tensor] = {}

    @property
    def has_begun(self) -> bool:
        """Whether there is a network to compare with."""
        return bool(self._previous)

    def begin(self, network: nn.Module) -> None:
        """Compare with `network` from now on."""
        self._previous = snapshot(network)

    def observe(self, experience: int, network: nn.Module) -> None:
        """Note by how much each module has changed since the last call; a pass that changed nothing did not train."""
        now = snapshot(network)
        change = mean_change(module_groups(network), self._previous, now)
        if any(change.values()):
            self.epochs.append((experience, change))
        self._previous = now

    def discount(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Leave the change from `before` to `after` out of what the next `observe` notes."""
        for name, value in self._previous.items():
            if value.is_floating_point():
                self._previous[name] = value + (after[name] - before[name])

    def end(self) -> None:
        """Let go of the copy."""
        self._previous = {}

    def scores(self, kind: str) -> dict[str, float]:
        """Return how sensitive each module is.

        raw: mean change over all epochs; boundary: over the first epoch of each experience but the first; ratio: that,
        divided by the mean over the last epochs of experiences ("reacts to a new task", not "always moves")
        """
        first, last = self._ends()
        chosen = {"raw": self.epochs, "boundary": first or self.epochs, "ratio": first or self.epochs}[kind]
        means = _means(chosen)
        if kind != "ratio":
            return means
        settled = _means(last)
        return {name: value / max(settled[name], 1e-12) for name, value in means.items()}

    def _ends(self) -> tuple[list[tuple[int, dict[str, float]]], list[tuple[int, dict[str, float]]]]:
        """Return (first epochs of experiences but the first, last epochs of experiences)."""
        numbers = [number for number, _ in self.epochs]
        first = [e for i, e in enumerate(self.epochs) if i and numbers[i - 1] != numbers[i]]
        last = [e for i, e in enumerate(self.epochs) if i + 1 == len(numbers) or numbers[i + 1] != numbers[i]]
        return first, last

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed and the copy."""
        return {"epochs": [[number, dict(change)] for number, change in self.epochs], "previous": self._previous}

    def load_state_dict(self, state: dict[str, Any], device: Any = None) -> None:
        """Restore what `state_dict` returned."""
        self.epochs = [(number, dict(change)) for number, change in state["epochs"]]
        self._previous = {name: value.to(device) for name, value in state["previous"].items()}


def _means(epochs: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    return {name: sum(change[name] for _, change in epochs) / len(epochs) for name in epochs[0][1]}
