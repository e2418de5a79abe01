"""The record of task correlation: which regime each old task was in for each new one, layer by layer."""

from __future__ import annotations

from typing import Any

UNRELATED, CORRELATED, BACKWARD = 1, 2, 3  # the regimes of CUBER; TRGP knows the first two
REGIME_NAMES = {UNRELATED: "unrelated", CORRELATED: "correlated", BACKWARD: "backward transfer"}


class RegimeLog:
    """Which regime each old task was in, per layer, when each task began; and the numbers behind it.

    regimes: per task after the first, {layer: [regime of each old task]}; shares (rho) and cosines alike, a cosine
             being None where it was not asked for
    """

    def __init__(self) -> None:
        self.regimes: list[dict[str, list[int]]] = []
        self.shares: list[dict[str, list[float]]] = []
        self.cosines: list[dict[str, list[float | None]]] = []

    def add(
        self,
        regimes: dict[str, list[int]],
        shares: dict[str, list[float]],
        cosines: dict[str, list[float | None]] | None = None,
    ) -> None:
        """Note the regimes of a new task."""
        self.regimes.append(regimes)
        self.shares.append(shares)
        self.cosines.append(cosines or {name: [None] * len(values) for name, values in shares.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return everything."""
        return {"regimes": list(self.regimes), "shares": list(self.shares), "cosines": list(self.cosines)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.regimes, self.shares, self.cosines = list(state["regimes"]), list(state["shares"]), list(state["cosines"])

    def diagnostics(self) -> dict[str, Any]:
        """Return the log, and how often each regime came up over layers and pairs of tasks."""
        numbers = [regime for each in self.regimes for values in each.values() for regime in values]
        return {
            "regimes": self.regimes,
            "projection_shares": self.shares,
            "cosines": self.cosines,
            "regime_counts": {name: numbers.count(regime) for regime, name in REGIME_NAMES.items()},
        }

    def figure(self) -> dict[str, Any]:
        """Return the map of regimes: a panel per layer, a row per new task, a column per old one."""
        layers, old = list(self.regimes[0]), len(self.regimes)
        return {
            "kind": "map",
            "title": "regimes of task correlation",
            "row_label": "new task",
            "column_label": "old task",
            "panels": layers,
            "rows": [str(task) for task in range(1, old + 1)],
            "columns": [str(task) for task in range(old)],
            "values": [[each[layer] + [None] * (old - len(each[layer])) for each in self.regimes] for layer in layers],
            "categories": {str(number): name for number, name in REGIME_NAMES.items()},
        }
