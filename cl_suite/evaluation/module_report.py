"""What `--diagnostics` measures beside a run, for any strategy: it only looks, R stays bit for bit what it would be.

modules: how much each module of the network moves from epoch to epoch and from task to task, and how much of an old
task's score comes back when one module is put back as it was after that task (the swap test). The swap test reads test
data: it explains a run and must not choose anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UsageError
from cl_suite.methods.module_changes import ModuleChanges
from cl_suite.networks.module_groups import mean_change, module_groups, snapshot

MODULES = "modules"

Score = Callable[[int], "float | None"]
"""Task -> its score with the network as it is now; None where the strategy has no answer."""


class ModuleReport:
    """Follows a network through a run. Costs a copy of it for each experience, kept in memory and in the checkpoint."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = {}
        self.changes = ModuleChanges()
        self.snapshots: list[dict[str, Tensor]] = []  # before the first experience and after each
        self.swap: list[list[float | None]] = []  # [module][task]

    def begin(self, network: nn.Module | None, strategy: str) -> None:
        """Start from the network as it is before the first experience. Raise UsageError if there is none."""
        if network is None:
            raise UsageError(f"--diagnostics {MODULES} looks into one network, and {strategy} has no one such.")
        if not self.snapshots:
            self.groups = module_groups(network)
            self.changes.begin(network)
            self.snapshots = [_kept(network)]

    def observe_epoch(self, experience: int, network: nn.Module | None) -> None:
        """After a pass over an experience's samples."""
        if network is not None:
            self.changes.observe(experience, network)

    def observe_experience(self, network: nn.Module | None) -> None:
        """After an experience."""
        if network is not None:
            self.snapshots.append(_kept(network))

    @torch.no_grad()
    def swap_test(self, network: nn.Module, score: Score, tasks: int) -> None:
        """For each old task and module: by how much does the task's score rise if the module is put back?"""
        last = snapshot(network)
        final = [score(task) for task in range(tasks - 1)]
        self.swap = []
        for names in self.groups.values():
            row: list[float | None] = []
            for task, now in enumerate(final):
                _write(network, self.snapshots[task + 1], names)
                then = score(task)
                row.append(None if then is None or now is None else then - now)
                _write(network, last, names)
            self.swap.append(row)

    def record(self, tasks: Sequence[str]) -> dict[str, Any]:
        """Return what was measured, and its figures, for the record's diagnostics."""
        names = list(self.groups)
        experiences = len(self.snapshots) - 1
        firsts, lasts = _first_and_last(self.changes.epochs, experiences)
        whole = [mean_change(self.groups, *self.snapshots[i : i + 2]) for i in range(experiences)]
        facts: dict[str, Any] = {
            "modules": names,
            "epochs": [{"experience": number, "change": change} for number, change in self.changes.epochs],
            "experiences": whole,
            "swap": dict(zip(names, self.swap, strict=False)),
        }
        columns = list(tasks) if len(tasks) == experiences else [str(number) for number in range(experiences)]
        what = "task" if len(tasks) == experiences else "segment"
        figures: dict[str, Any] = {}
        if experiences:
            panels = {"first epoch": firsts, "last epoch": lasts, f"whole {what}": whole}
            figures["module_changes"] = {
                "kind": "map",
                "title": "Mean absolute change of each module's entries, log10",
                "row_label": "module",
                "column_label": f"{what} learned",
                "panels": list(panels),
                "rows": names,
                "columns": columns,
                "values": [[[_log(change, name) for change in panel] for name in names] for panel in panels.values()],
            }
        if self.swap and self.swap[0]:
            figures["module_swap"] = {
                "kind": "map",
                "title": "Swap test: points regained when one module is put back",
                "row_label": "module put back",
                "column_label": "task",
                "panels": ["as it was after the task"],
                "rows": names,
                "columns": columns[: len(self.swap[0])],
                "values": [[[None if v is None else 100 * v for v in row] for row in self.swap]],
            }
        return {"facts": facts, "figures": figures}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was seen."""
        return {"groups": self.groups, "changes": self.changes.state_dict(), "snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned."""
        self.groups, self.snapshots = state["groups"], state["snapshots"]
        self.changes.load_state_dict(state["changes"], device)


def _kept(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in snapshot(network).items()}


def _write(network: nn.Module, values: dict[str, Tensor], names: Sequence[str]) -> None:
    tensors = network.state_dict()
    for name in names:
        tensors[name].copy_(values[name])


def _first_and_last(
    epochs: Sequence[tuple[int, dict[str, float]]], experiences: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Return the change in the first and in the last epoch of each experience; {} where there was none."""
    firsts: list[dict[str, float]] = [{} for _ in range(experiences)]
    lasts: list[dict[str, float]] = [{} for _ in range(experiences)]
    for number, change in epochs:
        firsts[number] = firsts[number] or change
        lasts[number] = change
    return firsts, lasts


def _log(change: dict[str, float], name: str) -> float | None:
    value = change.get(name, 0.0)
    return math.log10(value) if value > 0 else None
