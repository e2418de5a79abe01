"""GEM: a step never goes against the gradient of any earlier task's memory.

Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning" (NeurIPS, arXiv 1706.08840). With G [K, P]
the gradients g_k on the memories of the K earlier tasks, a gradient g with some <g, g_k> < 0 is replaced by g + G^T v,
where v solves the dual problem (eq. 11)

    min 1/2 v^T (G G^T + ridge I) v + (G g)^T v    subject to v >= margin.

ridge = 0.001 and margin are those of the released program. A margin adds a little of every memory's gradient, which
favours backward transfer, but only in steps in which something is violated. Each step reads the whole memory, one
forward and backward pass per earlier task, and waits for the device once, to see whether something is violated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Exemplars,
    Experience,
    GradientStrategy,
    RateDrops,
    Requirement,
    StreamInfo,
    UsageError,
    flat_gradient,
    map_inputs,
    write_gradient,
)

RIDGE = 1e-3


def solve_dual(gram: np.ndarray, products: np.ndarray, margin: float) -> np.ndarray:
    """Return v [K] that minimises 1/2 v^T (gram + ridge I) v + products^T v subject to v >= margin.

    gram: G G^T [K, K]; products: G g [K]

    With v = margin + u this is a problem in u >= 0, and with A = gram + ridge I = M^T M it is that of non-negative
    least squares, |M u + M^-T b| with b = A margin + products, which Lawson & Hanson's active sets solve exactly.
    """
    gram = np.asarray(gram, dtype=np.float64)
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    # A product of float32 gradients may have eigenvalues below zero by rounding; the ridge is the smallest there is.
    roots = np.sqrt(np.maximum(values, 0.0) + RIDGE)
    M = roots[:, None] * vectors.T
    b = M.T @ M @ np.full(len(gram), margin) + products
    u, _ = nnls(M, -(vectors.T @ b) / roots, maxiter=100 * len(gram))
    return margin + u


def correction(gram: np.ndarray, margin: float) -> np.ndarray | None:
    """Return v [K], by which the memories' gradients are added to g; None where no product <g, g_k> is negative.

    gram: [K + 1, K + 1], the products of (g, g_1, ..., g_K) with each other
    """
    products = gram[0, 1:]
    return solve_dual(gram[1:, 1:], products, margin) if (products < 0).any() else None


def smallest_cosine(gram: np.ndarray) -> float:
    """Return the smallest cosine of g with some g_k, in [-1, 1]; 0 with one that is zero. `gram` as in `correction`."""
    norms = np.sqrt(np.outer(gram.diagonal()[:1], gram.diagonal()[1:]))
    return float((gram[0, 1:] / np.maximum(norms, np.finfo(np.float64).tiny)).min())


class GEM(GradientStrategy):
    """Gradient episodic memory (Lopez-Paz & Ranzato 2017): no step may raise the loss of any earlier task's memory."""

    source = "Lopez-Paz & Ranzato 2017, arXiv 1706.08840"
    costs = (
        "keeps buffer_size samples; each step reads all of them, a forward and backward pass for each earlier task, "
        "whose gradients (P numbers each) it holds"
    )
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(RateDrops):
        """Options of GEM, which trains by plain SGD.

        What is projected is the gradient of one step. With momentum the step would also carry older gradients, and with
        weight decay a pull to zero, which no one has compared with the memories; so they are no options.
        """

        lr: float = 0.1  # as the paper, and as the other strategies' 0.01 with momentum 0.9
        buffer_size: int = 500  # samples, whole stream; an equal share for each task learned so far
        margin: float = 0.5  # least weight of each memory's gradient in a corrected step; 0 = none, 0.5 in the paper

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty memory. Raise UsageError for an option outside its range."""
        c = self.config
        if not (isfinite(c.margin) and c.margin >= 0):
            raise UsageError(f"strategy.margin={c.margin} is the least weight of a gradient. Use 0 or more.")
        if c.buffer_size < info.n_experiences:
            raise UsageError(
                f"strategy.buffer_size={c.buffer_size} leaves nothing for each of {info.n_experiences} tasks. "
                f"Use {info.n_experiences} or more."
            )
        super().setup(info, build_model)
        self.buffer = Exemplars(c.buffer_size, info)
        self.parts["buffer"] = self.buffer
        self.memory_sizes: list[int] = []  # samples in the buffer per task learned, in its order
        self.projected_share: list[float] = []  # of the steps, per experience
        self._measure_anew()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD, see `Config`."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def start(self, experience: Experience) -> None:
        """Open the outputs; measure anew."""
        super().start(experience)
        self._measure_anew()

    def adjust_gradients(self, batch: Batch) -> None:
        """Correct the gradient where it goes against that of an earlier task's memory."""
        if not self.memory_sizes:  # the first task is free
            return
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        gradients = [flat_gradient([p.grad for p in parameters], parameters), *self._memory_gradients(parameters)]
        G = torch.stack(gradients)  # [K + 1, P], the current gradient first
        # One transfer to the CPU answers whether anything is violated, and is all the dual problem needs.
        gram = (G @ G.T).cpu().double().numpy()
        v = correction(gram, self.config.margin)
        self._steps += 1
        self._cosines += smallest_cosine(gram)
        if v is not None:
            self._violated += 1
            write_gradient(G[0] + torch.as_tensor(v, dtype=G.dtype, device=G.device) @ G[1:], parameters)

    def _memory_gradients(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return K vectors [P]: the gradient of the loss on each earlier task's memory, at the present weights."""
        memory = self.buffer.draw(len(self.buffer))  # shuffled; drawn as a whole, so that it is counted
        order = memory.extras["experience"].argsort(stable=True)
        gradients = []
        for places in order.split(self.memory_sizes):
            inputs = map_inputs(itemgetter(places), memory.inputs)
            logits = self.logits(inputs, None if memory.task_ids is None else memory.task_ids[places])
            loss = self.info.objective.loss(logits, memory.targets[places]).mean()
            gradients.append(flat_gradient(torch.autograd.grad(loss, parameters, allow_unused=True), parameters))
        return gradients

    def finish(self, experience: Experience) -> None:
        """Give each task learned so far an equal share of the memory: shrink the earlier ones, add this one."""
        self.projected_share.append(self._violated / max(1, self._steps))
        number = len(self.memory_sizes)
        share = self.config.buffer_size // (number + 1)
        # Each task's samples lie in random order, so the first of them are a random part.
        starts = [sum(self.memory_sizes[:task]) for task in range(number)]
        kept = [torch.arange(a, a + min(size, share)) for a, size in zip(starts, self.memory_sizes, strict=True)]
        if kept:
            self.buffer.keep(torch.cat(kept))
        batches = experience.batches(epochs=1, batch_size=share, augment=False, phase="memory")
        batch = next(iter(batches))
        self.buffer.add(batch, experience=torch.full((len(batch),), number, device=self.info.device))
        self.memory_sizes = [*map(len, kept), len(batch)]

    def constraints(self) -> dict[str, float]:
        """Return the smallest cosine of the gradient with that of a memory, before the correction: the mean over steps.

        Where it is never negative, nothing needs correction; `projected_share_of_steps` tells how often it did.
        """
        return {"smallest cosine with a memory's gradient": self._cosines / max(1, self._steps)}

    def diagnostics(self) -> dict[str, Any]:
        """Return how full the memory is, and how often the projection acted in each experience."""
        return {
            "buffer_samples": len(self.buffer),
            "buffer_bytes": self.buffer.bytes_stored(),
            "samples_per_task": list(self.memory_sizes),
            "projected_share_of_steps": list(self.projected_share),
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples, the whole memory in each step from the second task on, and those that fill it."""
        size, tasks = self.config.buffer_size, info.n_experiences
        filling = sum(size // (number + 1) for number in range(tasks))
        return round(info.planned_samples + filling + info.planned_steps * (1.0 - 1.0 / tasks) * size)

    def state_dict(self) -> dict[str, Any]:
        """Return what every gradient strategy keeps, whose samples the memory holds, and how often it acted."""
        state = {"memory_sizes": list(self.memory_sizes), "projected_share": list(self.projected_share)}
        return {**super().state_dict(), **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.memory_sizes, self.projected_share = list(state["memory_sizes"]), list(state["projected_share"])

    def _measure_anew(self) -> None:
        self._cosines = 0.0  # sum over steps
        self._violated = 0  # steps in which the gradient was corrected
        self._steps = 0
