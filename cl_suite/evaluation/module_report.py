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

from cl_suite.core.errors import UnseenTask, UsageError
from cl_suite.core.metering import Meter
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.methods.module_changes import ModuleChanges
from cl_suite.metrics.matrix import Row
from cl_suite.metrics.task_shifts import ShiftLog
from cl_suite.networks.module_groups import mean_change, module_groups, snapshot

MODULES = "modules"


class ModuleReport(Evaluation):
    """Follows a network through a run. Costs a copy of it for each experience, kept in memory and in the checkpoint."""

    def __init__(self, settings: None, strategy: Strategy, scenario_stream: ScenarioStream) -> None:
        super().__init__(settings, strategy, scenario_stream)
        self.groups: dict[str, list[str]] = {}
        self.changes = ModuleChanges()
        self.snapshots: list[dict[str, Tensor]] = []  # before the first experience and after each
        self.swap: list[list[float | None]] = []  # [module][task]

    def start(self) -> None:
        """Start from the network as it is before the first experience. Raise UsageError if there is none."""
        network = self.strategy.trained_network()
        if network is None:
            raise UsageError(
                f"--diagnostics {MODULES} looks into one network, and {type(self.strategy).__name__} has no one such."
            )
        if not self.snapshots:
            self.groups = module_groups(network)
            self.changes.begin(network)
            self.snapshots = [_copied(network)]

    def epoch_passed(self, experience: int) -> None:
        """Measure how far each module has moved in the epoch."""
        network = self.strategy.trained_network()
        if network is not None:
            self.changes.observe(experience, network)

    def observe(self, experience: int, meter: Meter, scores: Row) -> None:
        """Keep the network as it is after an experience."""
        network = self.strategy.trained_network()
        if network is not None:
            self.snapshots.append(_copied(network))

    def finish(self, shift_log: ShiftLog, note: Callable[[str], None]) -> None:
        """Put modules back and score the tasks again, where rows of R are tasks."""
        network = self.strategy.trained_network()
        if network is not None and self.scenario_stream.has_boundaries:
            self.swap_test(network)

    @torch.no_grad()
    def swap_test(self, network: nn.Module) -> None:
        """For each old task and module: by how much does the task's score rise if the module is put back?"""
        last = snapshot(network)
        final = [self._score(task) for task in range(len(self.scenario_stream.tasks) - 1)]
        self.swap = []
        for names in self.groups.values():
            row: list[float | None] = []
            for task, now in enumerate(final):
                _write(network, self.snapshots[task + 1], names)
                then = self._score(task)
                row.append(None if then is None or now is None else then - now)
                _write(network, last, names)
            self.swap.append(row)

    def _score(self, number: int) -> float | None:
        """Return a task's score with the network as it is now; None where the strategy has no answer."""
        stream = self.scenario_stream
        task = stream.tasks[number]
        try:
            return task.score(task.predictor_of(self.strategy), stream.seen_after(stream.n_experiences)).value
        except UnseenTask:
            return None

    def _whole_experiences(self) -> list[dict[str, float]]:
        """Return the change of each module over each experience."""
        pairs = zip(self.snapshots[:-1], self.snapshots[1:], strict=True)
        return [mean_change(self.groups, before, after) for before, after in pairs]

    def record(self) -> dict[str, Any]:
        """Return what was measured."""
        names = list(self.groups)
        return {
            "modules": names,
            "epochs": [{"experience": number, "change": change} for number, change in self.changes.epochs],
            "experiences": self._whole_experiences(),
            "swap": dict(zip(names, self.swap, strict=False)),
        }

    def figures(self) -> dict[str, Any]:
        """Return heat maps of the changes and of the swap test."""
        names, tasks = list(self.groups), [task.name for task in self.scenario_stream.tasks]
        experiences = len(self.snapshots) - 1
        firsts, lasts = _first_and_last(self.changes.epochs, experiences)
        whole = self._whole_experiences()
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
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was seen."""
        return {"groups": self.groups, "changes": self.changes.state_dict(), "snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = self.scenario_stream.info.device
        self.groups, self.snapshots = state["groups"], state["snapshots"]
        self.changes.load_state_dict(state["changes"], device)


def _copied(network: nn.Module) -> dict[str, Tensor]:
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
