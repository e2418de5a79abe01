"""Which old tasks a new one is related to, layer by layer, and how their frozen weights are reused.

Lin, Yang, Fan & Zhang 2022 (TRGP, arXiv 2202.02931), sections 4.1 to 4.3, and their CUBER (NeurIPS 2022) for regime 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from strategies.projection.projected_network import ProjectedNetwork, Scaling
from strategies.projection.subspaces import InputSpace

VANISHED = 1e-8  # norm of an old task's gradient below which its direction says nothing


def projection_shares(G: Tensor, space: InputSpace) -> list[float]:
    """Return rho_j = ||G S_j S_j^T|| / ||G|| in [0, 1] for each old task j; 0 where G [out, d] vanishes.

    S_j has orthonormal columns, so that ||G S_j S_j^T|| = ||G S_j||.
    """
    norm = G.norm().clamp(min=torch.finfo(G.dtype).tiny)
    shares = [(G @ space.basis_of(task)).norm() / norm for task in range(len(space.tasks))]
    return torch.stack(shares).tolist() if shares else []


def cosine(g: Tensor, G: Tensor) -> float:
    """Return <g, G> / (||g|| ||G||) in [-1, 1]; -inf where the old gradient g has vanished, so that nothing follows."""
    if float(g.norm()) < VANISHED or float(G.norm()) < VANISHED:
        return float("-inf")
    return float((g * G).sum() / (g.norm() * G.norm()))


def trust_region(shares: Sequence[float], *, eps1: float, size: int) -> list[int]:
    """Return the old tasks whose weights are reused: of the `size` with the largest shares those above `eps1`."""
    nearest = sorted(range(len(shares)), key=lambda task: -shares[task])[:size]
    return [task for task in nearest if shares[task] > eps1]


class ScaledReuse:
    """The scaling matrices Q_j: trained for the current task, kept for each earlier one.

    code_compat: as in the released program, no layer is scaled where the first one is not
    """

    def __init__(self, network: ProjectedNetwork, spaces: Mapping[str, InputSpace], *, code_compat: bool) -> None:
        self._network, self._spaces, self._code_compat = network, spaces, code_compat
        self._current: dict[str, dict[int, nn.Parameter]] = {}
        self._matrices: dict[int, dict[str, dict[int, Tensor]]] = {}  # task id -> layer -> old task -> Q

    def begin(self, task_id: int, chosen: Mapping[str, Sequence[int]]) -> list[nn.Parameter]:
        """Start task `task_id` with Q = I for the old tasks `chosen` in each layer; return the Qs, to be trained."""
        self._current = {
            name: {task: self._identity(self._spaces[name], task) for task in tasks} for name, tasks in chosen.items()
        }
        self._matrices[task_id] = self._current  # type: ignore[assignment]
        self._network.scale(self._scalings(self._current))
        return self.parameters()

    def parameters(self) -> list[nn.Parameter]:
        """Return the Qs of the current task."""
        return [Q for by_task in self._current.values() for Q in by_task.values()]

    def end(self, task_id: int) -> None:
        """Keep the Qs of the current task as they are now, for its predictor, and scale nothing more."""
        self._matrices[task_id] = {
            name: {task: Q.detach().clone() for task, Q in by_task.items()} for name, by_task in self._current.items()
        }
        self._current = {}
        self._network.scale({})

    def of(self, task_id: int | None) -> dict[str, list[Scaling]]:
        """Return the scalings a task was learned with; none for a task not learned."""
        return self._scalings(self._matrices.get(-1 if task_id is None else task_id, {}))

    def _identity(self, space: InputSpace, task: int) -> nn.Parameter:
        return nn.Parameter(torch.eye(len(space.tasks[task]), device=space.directions.device))

    def _scalings(self, matrices: Mapping[str, Mapping[int, Tensor]]) -> dict[str, list[Scaling]]:
        first = next(iter(self._network.layers))
        if self._code_compat and not matrices.get(first):
            return {}
        return {
            name: [(self._spaces[name].basis_of(task), Q) for task, Q in by_task.items()]
            for name, by_task in matrices.items()
            if by_task
        }

    def bytes_stored(self) -> int:
        """Return the bytes of the Qs of all learned tasks."""
        return sum(
            Q.nbytes for layers in self._matrices.values() for by_task in layers.values() for Q in by_task.values()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the kept Qs."""
        return {
            str(task_id): {
                name: [{"task": task, "Q": Q} for task, Q in by_task.items()] for name, by_task in layers.items()
            }
            for task_id, layers in self._matrices.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        device = next(iter(self._spaces.values())).directions.device
        self._matrices = {
            int(task_id): {
                name: {entry["task"]: entry["Q"].to(device) for entry in entries} for name, entries in layers.items()
            }
            for task_id, layers in state.items()
        }
