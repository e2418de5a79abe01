"""What a layer's earlier inputs span: pure functions on representation matrices R [d, n], and the growing basis.

Saha, Garg & Roy 2021 (GPM, arXiv 2103.09762), equations 8 and 9; Lin, Yang, Fan & Zhang 2022 (TRGP, arXiv 2202.02931).
Decompositions are done in float64; the directions are kept in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cl_suite import RunError

NUMERICAL_ZERO = 1e-12  # energies below this share of the largest are rounding, not directions
ROUNDING = 1e-10  # and what is outside a float32 basis by less than this share of the inputs' energy
FIRST_RANKS = ("code", "paper")


def principal_directions(R: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return (left singular vectors [d, k], energies s^2 [k]) of R [d, n], float64, by falling energy.

    k is the numerical rank, energies up to `floor` left out: 0 for an empty or zero matrix. Where n > d these are the
    eigenvectors of R R^T, the same at a fraction of the time. Raise RunError if R holds NaN or infinity, or the
    decomposition does not converge.
    """
    d, n = R.shape
    if not R.numel():
        return R.new_zeros(d, 0, dtype=torch.float64), R.new_zeros(0, dtype=torch.float64)
    if not bool(R.isfinite().all()):
        raise RunError("a layer's inputs hold NaN or infinity. Lower the learning rate (strategy.lr=...).")
    R = R.double()
    try:
        if n > d:
            energies, directions = torch.linalg.eigh(R @ R.T)
            energies, directions = energies.flip(0).clamp(min=0.0), directions.flip(1)
        else:
            directions, singular, _ = torch.linalg.svd(R, full_matrices=False)
            energies = singular**2
    except torch.linalg.LinAlgError as problem:
        raise RunError("the decomposition of a layer's inputs does not converge. Lower strategy.lr.") from problem
    rank = int((energies > max(floor, NUMERICAL_ZERO * float(energies[0]))).sum())
    return directions[:, :rank], energies[:rank]


def energy(R: Tensor) -> float:
    """Return the squared Frobenius norm of R, in float64."""
    return float(R.double().square().sum())


def first_rank(energies: Tensor, threshold: float, rule: str) -> int:
    """Return how many directions the first task keeps of those with these energies.

    paper: the fewest whose share of the energy reaches `threshold` (GPM, eq. 8); code: those whose cumulative share
    is still below it, one fewer, as in the released program.
    """
    if not len(energies):
        return 0
    below = int((energies.cumsum(0) / energies.sum() < threshold).sum())
    return min(below + int(rule == "paper"), len(energies))


def count_until(energies: Tensor, threshold: float, *, kept: float, total: float) -> int:
    """Return how many directions to append while the share `kept` + their energy / total is below `threshold`."""
    before = kept + torch.cat([energies.new_zeros(1), energies.cumsum(0)])[:-1] / total
    return int((before < threshold).sum())


def outside(R: Tensor, basis: Tensor) -> Tensor:
    """Return R - M M^T R [d, n], float64: the part of R [d, n] outside the span of `basis` M [d, r]."""
    R, basis = R.double(), basis.double()
    return R - basis @ (basis.T @ R)


@dataclass
class InputSpace:
    """Orthonormal directions of one layer's input space, and those that each task uses.

    directions: M [d, r] float32, columns in order of arrival
    tasks:      for each task, the columns [r_j] int64 that are its own basis S_j; for GPM those it added
    unprotected: columns that no projection knows of; only in the released TRGP program, see `grow_by_task`
    """

    directions: Tensor
    tasks: list[Tensor] = field(default_factory=list)
    unprotected: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, d: int, device: torch.device) -> InputSpace:
        """Return the space of a layer with inputs of size `d` that has seen nothing."""
        return cls(torch.zeros(d, 0, device=device))

    @property
    def dimension(self) -> int:
        """Return d."""
        return self.directions.shape[0]

    @property
    def rank(self) -> int:
        """Return the number of protected directions: r, but for the released TRGP program's slip."""
        return self.directions.shape[1] - len(self.unprotected)

    @property
    def is_full(self) -> bool:
        """Whether no direction is left free."""
        return self.rank >= self.dimension

    def basis_of(self, task: int) -> Tensor:
        """Return S_j [d, r_j]: the basis of the task learned as number `task`."""
        return self.directions[:, self.tasks[task]]

    def protected(self, tasks: set[int] | None = None) -> Tensor:
        """Return [d, p]: the directions that `tasks` (None = all) use, in order of arrival."""
        wanted = range(len(self.tasks)) if tasks is None else sorted(tasks)
        used = {column for task in wanted for column in self.tasks[task].tolist()} - set(self.unprotected)
        return self.directions[:, sorted(used)]

    def grow(self, R: Tensor, threshold: float, *, rule: str = "code") -> None:
        """GPM: append the directions of R [d, n] that the basis lacks, until `threshold` of its energy is inside."""
        total = energy(R)
        if not self.tasks:
            directions, energies = principal_directions(R)
            count = first_rank(energies, threshold, rule)
        else:
            residual = outside(R, self.directions)
            directions, energies = principal_directions(residual, floor=ROUNDING * total)
            count = count_until(energies, threshold, kept=1 - energy(residual) / total, total=total) if total else 0
        self._append(directions[:, :count], self.directions.double())

    def grow_by_task(self, R: Tensor, threshold: float, *, rule: str = "code", code_compat: bool = False) -> None:
        """TRGP: choose the task's own basis among kept and new directions of R [d, n], by energy; append the new.

        code_compat: the most energetic new direction is in the task's basis but in no projection, because of a strict
        comparison in the released program
        """
        if not self.tasks:
            self.grow(R, threshold, rule=rule)
            return
        total, stored = energy(R), self.directions.shape[1]
        kept = [column for column in range(stored) if column not in set(self.unprotected)]
        M = self.directions[:, kept].double()
        old_energies = (M.T @ R.double()).square().sum(1)  # u^T R R^T u of each kept direction u
        new, new_energies = principal_directions(outside(R, M), floor=ROUNDING * total)
        together = torch.cat([old_energies, new_energies])
        order = together.argsort(descending=True, stable=True)
        count = count_until(together[order], threshold, kept=0.0, total=total) if total else 0
        chosen = order[:count]
        chosen_old = [kept[i] for i in chosen[chosen < len(kept)].tolist()]
        chosen_new = sorted((chosen[chosen >= len(kept)] - len(kept)).tolist())
        self._append(new[:, chosen_new], M, beside=chosen_old)
        if code_compat and 0 in chosen_new and self.directions.shape[1] > stored:
            self.unprotected.append(stored)

    def _append(self, directions: Tensor, M: Tensor, *, beside: list[int] | None = None) -> None:
        """Append directions [d, k] float64, made orthogonal to M once more, and note the columns of a task."""
        directions = directions[:, : self.dimension - self.rank]  # never more protected directions than d
        directions = torch.linalg.qr(directions - M @ (M.T @ directions)).Q if directions.numel() else directions
        stored = self.directions.shape[1]
        added = list(range(stored, stored + directions.shape[1]))
        self.directions = torch.cat([self.directions, directions.to(self.directions)], dim=1)
        self.tasks.append(torch.tensor(sorted(beside or []) + added, dtype=torch.long))

    def state_dict(self) -> dict[str, Any]:
        """Return directions, the columns of each task, and the unprotected columns."""
        return {"directions": self.directions, "tasks": list(self.tasks), "unprotected": list(self.unprotected)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.directions = state["directions"].to(self.directions.device)
        self.tasks = list(state["tasks"])
        self.unprotected = list(state["unprotected"])


class Projector:
    """G -> G - G B B^T for gradients G [out, d]: removes what acts on the span of an orthonormal `basis` B [d, r].

    Where B spans more than half of the space, the complement C is kept instead, and G C C^T is the same for less.
    """

    def __init__(self, basis: Tensor) -> None:
        d, r = basis.shape
        self.removes_nothing = r == 0
        self._complement = 2 * r > d
        self._factor = basis
        if self._complement:
            self._factor = torch.linalg.qr(basis.double(), mode="complete").Q[:, r:].to(basis).contiguous()

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the projected gradient [out, d]."""
        if self.removes_nothing:
            return gradient
        inside = (gradient @ self._factor) @ self._factor.T
        return inside if self._complement else gradient - inside
