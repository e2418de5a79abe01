"""HAT: every task closes and opens the network's units by gates of its own; weights between used units stay.

Serra, Suris, Miron & Karatzoglou 2018, "Overcoming catastrophic forgetting with hard attention to the task" (ICML,
arXiv 1801.01423). Layer l of task t is multiplied by a gate sigmoid(s e_l^t), one value per unit or channel. s grows
from 1/s_max to s_max in every epoch, so that gates can still move at its beginning and are almost binary at its end.

- The network is a plain chain of Linear and Conv2d layers. A gate follows the layer's batch norm and activation. The
  paper puts it behind pooling and dropout, which commute with it; behind a normalisation across channels
  (model.name=lenet_gpm) the gate would come too late, as closed units would still be felt by open ones.
- Plain SGD: momentum or weight decay would move weights whose gradient is masked, so they are no options.
- Batch norm is not covered by the method. `norm` is per_task (statistics of each task, no scale and shift) or none.
- Token vectors have no units to gate: on texts (model.name=text_bag) their table is frozen, as it is drawn.
- Every task has a head of its own, unmasked, also where the stream's tasks share their outputs.
- The rate is constant and the last state answers. The paper's division of the rate by the validation loss, which
  restores the best state, is no part of this file.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Experience,
    GradientStrategy,
    HeadBank,
    Inputs,
    ModelPredictor,
    Predictor,
    RateDrops,
    Requirement,
    StreamInfo,
    UnseenTask,
    UsageError,
    check_choices,
    freeze_token_vectors,
    generator_for,
    restrict,
)
from strategies.isolation.masks.layers import PerTaskBatchNorm2d

BOUND = 6.0  # embeddings stay within -6..6
COSH_BOUND = 50.0  # cosh of more would overflow float32


def annealed(step: int, steps: int, s_max: float) -> float:
    """Return s at step number `step` (from 0) of an epoch of `steps`: 1/s_max at the first, s_max at the last."""
    low = 1.0 / s_max
    return s_max if steps < 2 else low + (s_max - low) * step / (steps - 1)


def compensation(embedding: Tensor, s: float, s_max: float) -> Tensor:
    """Return the factor for an embedding's gradient taken at `s`, same shape: with it, it is that of s_max sigmoid(e).

    (s_max / s) (cosh(s e) + 1) / (cosh(e) + 1), as the slope of sigmoid(s e) is s / (2 cosh(s e) + 2).
    """
    at_s = torch.cosh((s * embedding).clamp(-COSH_BOUND, COSH_BOUND)) + 1
    return s_max / s * at_s / (torch.cosh(embedding) + 1)


def free_share(after: Tensor, before: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Return 1 - min(a_i, a_j), what a weight [out, in, ...] may still learn; broadcasts against it.

    after:  [out] in [0, 1], how much of each output unit earlier tasks use
    before: the same of the units that are read, or None for the network's inputs; a channel that was flattened to
            k positions is read k times
    """
    taken = after[:, None]
    if before is not None:
        taken = torch.minimum(taken, before.repeat_interleave(shape[1] // len(before))[None])
    return (1 - taken).view(*taken.shape, *[1] * (len(shape) - 2))


def capacity_penalty(gates: list[Tensor], used: list[Tensor]) -> Tensor:
    """Return R = sum a (1 - u) / sum (1 - u) over all units: a [units] the gates, u [units] use by earlier tasks."""
    free = [1 - u for u in used]
    spent = torch.stack([(a * f).sum() for a, f in zip(gates, free, strict=True)]).sum()
    return spent / (torch.stack([f.sum() for f in free]).sum() + 1e-8)  # finite when every unit is in use


class Gate(nn.Module):
    """Multiplies units by the gate of the bound task. embeddings: [T, units]; used: [units], the largest so far."""

    used: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        self.register_buffer("used", torch.zeros(embeddings.shape[1]))
        self.task, self.s = 0, 1.0

    def values(self) -> Tensor:
        """Return the gate [units] of the bound task."""
        return torch.sigmoid(self.s * self.embeddings[self.task])

    def forward(self, units: Tensor) -> Tensor:
        """[B, units, ...] -> same shape."""
        return units * self.values().view(-1, *[1] * (units.dim() - 2))


GatedLayer = tuple[nn.Linear | nn.Conv2d, Gate, Gate | None]
"""A layer, the gate behind it, and the gate of the units it reads (None: the network's inputs)."""


def chain_of(backbone: nn.Module) -> list[nn.Module]:
    """Return the modules of a plain chain in order. Raise UsageError for a network that is none."""
    if isinstance(backbone, nn.Sequential) and type(backbone).forward is nn.Sequential.forward:
        return [module for child in backbone for module in chain_of(child)]
    layer = isinstance(backbone, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d)
    layer = layer or (isinstance(backbone, nn.Conv2d) and backbone.groups == 1)
    inside: list[Any] = [*backbone.children(), *backbone.parameters()]
    if not layer and inside:
        raise UsageError(
            f"hat gates a plain chain of Linear and Conv2d layers; {type(backbone).__name__} is no part of one. "
            "Use model.name=mlp, conv_small, alexnet, mlp_gpm or lenet_gpm; text_bag on texts; or an own nn.Sequential."
        )
    return [backbone]


def gated_chain(
    backbone: nn.Module, draw: Callable[[int], Tensor], *, n_tasks: int, norm: str
) -> tuple[nn.Sequential, list[GatedLayer]]:
    """Return `backbone` with a gate behind each layer, and its layers; `draw(units)` gives embeddings [T, units]."""
    modules: list[nn.Module] = []
    layers: list[GatedLayer] = []
    waiting: Gate | None = None  # to be placed behind what belongs to its layer
    for module in chain_of(backbone):
        is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        if waiting is not None and not (is_norm or type(module).__module__ == nn.ReLU.__module__):
            modules.append(waiting)
            waiting = None
        if isinstance(module, nn.Linear | nn.Conv2d):
            waiting = Gate(draw(module.weight.shape[0]))
            layers.append((module, waiting, layers[-1][1] if layers else None))
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            modules.append(module)
        elif norm != "none":
            modules.append(PerTaskBatchNorm2d(module.num_features, n_tasks, eps=module.eps))
    if not layers:
        raise UsageError("hat has no unit to gate: this network has only its heads. Use e.g. model.name=mlp.")
    return nn.Sequential(*modules, *([] if waiting is None else [waiting])), layers


class HAT(GradientStrategy):
    """Hard attention to the task (Serra et al. 2018): gates per task, weights between used units are kept."""

    source = "Serra et al. 2018, arXiv 1801.01423"
    costs = "keeps a number for each unit and task, and a head and statistics a task; steps as finetuning, with gates"
    requires = frozenset({Requirement.TASK_ID_AT_TRAIN, Requirement.TASK_ID_AT_TEST, Requirement.BOUNDARIES})

    @dataclass
    class Config(RateDrops):
        """Options of the gates; plain SGD, see the module's docstring."""

        lr: float = 0.05  # the paper's first rate
        s_max: float = 400.0  # steepness of the gates at test; 25 to 800 work in the paper
        c: float = 0.75  # weight of the capacity regulariser; 0.1 to 2.5 in the paper, 1.5 to compress
        embedding_init: str = "normal"  # normal: N(0, 1); uniform: U(0, 2), the paper's for compression
        compensate: bool = True  # whether the embeddings' gradients are freed of the annealing
        anneal: bool = True  # whether s grows within each epoch; false: always s_max
        norm: str = "per_task"  # per_task, none: what becomes of batch norm
        clip: float = 10_000.0  # largest norm of all gradients together

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Put gates into the network. Raise UsageError for options out of range, or a network that is no chain."""
        c = self.config
        check_choices(c, {"embedding_init": ("normal", "uniform"), "norm": ("per_task", "none")})
        for name, low in (("s_max", 1.0), ("c", 0.0), ("lr", 1e-9), ("clip", 1e-9)):
            if not low <= getattr(c, name) < math.inf:
                raise UsageError(f"strategy.{name}={getattr(c, name)} is out of range. Use {low:g} or more.")
        super().setup(info, build_model)
        freeze_token_vectors(self.model)
        generator = generator_for(info.seeds.model, "hat embeddings")

        def draw(units: int) -> Tensor:
            embeddings = torch.empty(info.n_experiences, units)
            if c.embedding_init == "uniform":
                return embeddings.uniform_(0, 2, generator=generator)
            return embeddings.normal_(generator=generator)

        self.model.backbone, self.layers = gated_chain(
            self.model.backbone, draw, n_tasks=info.n_experiences, norm=c.norm
        )
        assert self.task_masks is not None
        if bool((self.task_masks.sum(dim=0) > 1).any()):  # tasks share outputs
            self.model.heads = _one_head_per_task(self.model.heads, info.n_experiences)
        self.model.to(info.device)
        self.gates = [gate for _, gate, _ in self.layers]
        self.optimizer = self.make_optimizer()
        self._measure_anew()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return plain SGD: momentum and weight decay would move weights whose gradient is masked."""
        return torch.optim.SGD(self.model.parameters(), lr=self.config.lr)

    def start(self, experience: Experience) -> None:
        """Open the task's head, and find out what each weight may still learn."""
        super().start(experience)
        assert experience.task_id is not None
        self.task = experience.task_id
        self.model.heads.open(self._rows(self.task))
        self.steps_per_epoch = experience.planned_steps(epochs=1)
        self.free: list[tuple[Tensor, Tensor]] = []  # (weight or bias, factor of its gradient)
        for layer, gate, before in self.layers if self.experiences_learned else []:
            read = None if before is None else before.used
            self.free.append((layer.weight, free_share(gate.used, read, tuple(layer.weight.shape))))
            if layer.bias is not None:
                self.free.append((layer.bias, 1 - gate.used))
        self._measure_anew()

    def logits(self, inputs: Inputs, task_ids: Tensor | None) -> Tensor:
        """Return [B, C] through the gates of the task that is being learned, at the step's s."""
        c = self.config
        s = annealed(self.step % self.steps_per_epoch, self.steps_per_epoch, c.s_max) if c.anneal else c.s_max
        return self._answer(inputs, self.task, s)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy within the task, and c R for units that no earlier task uses."""
        loss = super().loss(batch)
        penalty = self.config.c * capacity_penalty([g.values() for g in self.gates], [g.used for g in self.gates])
        self._penalty += penalty.detach()
        return loss + penalty

    @torch.no_grad()
    def adjust_gradients(self, batch: Batch) -> None:
        """Mask the weights' gradients by the min rule, compensate the embeddings', then clip all of them together."""
        for parameter, factor in self.free:
            assert parameter.grad is not None
            masked = parameter.grad * (1 - factor)
            self._masked += torch.stack([masked.square().sum(), parameter.grad.square().sum()])
            parameter.grad -= masked
        if self.config.compensate:
            for gate in self.gates:
                # With the s of this step's forward pass, which is the one that made the gradient small.
                factor = compensation(gate.embeddings[self.task], gate.s, self.config.s_max)
                gate.embeddings.grad[self.task] *= factor  # type: ignore[index]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Keep the embeddings within their bounds; advance s."""
        for gate in self.gates:
            gate.embeddings[self.task].clamp_(-BOUND, BOUND)
        self.step += 1

    @torch.no_grad()
    def finish(self, experience: Experience) -> None:
        """Add this task's gates, at s_max, to what is in use (a^{<=t} = max(a^{<=t-1}, a^t))."""
        self._bind(self.task, self.config.s_max)
        for gate in self.gates:
            gate.used.copy_(torch.maximum(gate.used, gate.values()))

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return the network through the gates of `task_id`. Raise UnseenTask if it is not learned."""
        if task_id is None or not bool(self.model.heads.opened[self._rows(task_id)].any()):
            raise UnseenTask(f"task {task_id} has not been learned")
        return ModelPredictor(self.model, lambda inputs: self._answer(inputs, task_id, self.config.s_max))

    def constraints(self) -> dict[str, float]:
        """Return the masked share of the gradients' norm and the mean regulariser of the latest experience."""
        removed, total = self._masked.tolist()
        return {
            "share of the gradient masked": (removed / total) ** 0.5 if total else 0.0,
            "capacity regulariser": float(self._penalty) / max(1, self.step),
        }

    def diagnostics(self) -> dict[str, Any]:
        """Return, per layer, which share of its units each task opens, and which share is in use after it."""
        opened = [(gate.embeddings[self.tasks_learned] > 0).float() for gate in self.gates]  # [tasks, units]
        return {
            "units_in_use": [each.cumsum(dim=0).clamp(max=1).mean(dim=1).tolist() for each in opened],
            "units_opened": [each.mean(dim=1).tolist() for each in opened],
            "gate_bytes": sum(gate.embeddings.nbytes + gate.used.nbytes for gate in self.gates),
        }

    def _answer(self, inputs: Inputs, task: int, s: float) -> Tensor:
        """Return [B, C], finite for the task's own classes."""
        self._bind(task, s)
        outputs = self.model(inputs).unflatten(1, (-1, self.info.n_outputs))  # [B, heads, C]
        assert self.task_masks is not None
        return restrict(outputs[:, task if outputs.shape[1] > 1 else 0], self.task_masks[task])

    def _bind(self, task: int, s: float) -> None:
        for module in self.model.backbone.children():
            if isinstance(module, Gate):
                module.task, module.s = task, s
            elif isinstance(module, PerTaskBatchNorm2d):
                module.use(task)

    def _rows(self, task: int) -> list[int]:
        """Return the rows of the head bank that answer for `task`."""
        assert self.info.task_classes is not None
        heads = len(self.model.heads.opened) // self.info.n_outputs
        return [c + (task * self.info.n_outputs if heads > 1 else 0) for c in self.info.task_classes[task]]

    def _measure_anew(self) -> None:
        self._masked = torch.zeros(2, device=self.info.device)  # squared norms: what was masked, and everything
        self._penalty = torch.zeros((), device=self.info.device)
        self.step = 0


def _one_head_per_task(heads: HeadBank, n_tasks: int) -> HeadBank:
    """Return a bank of `n_tasks` copies of `heads`, [n_tasks * C] outputs, none of them open."""
    linear = heads.linear
    bank = HeadBank(linear.in_features, n_tasks * linear.out_features, bias=linear.bias is not None)
    with torch.no_grad():
        for parameter, own in zip(bank.linear.parameters(), linear.parameters(), strict=True):
            parameter.copy_(own.repeat(n_tasks, *[1] * (own.dim() - 1)))
    return bank
