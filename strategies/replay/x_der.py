"""X-DER: DER++ whose memory of logits is brought up to date, with losses that keep past, present and future apart.

Boschini, Bonicelli, Buzzega, Porrello & Calderara 2022, "Class-Incremental Continual Learning into the eXtended
DER-verse" (TPAMI, arXiv 2201.00766). What it adds to DER++ (Buzzega et al. 2020), whose two replay batches it keeps:

1. Cross-entropy of the current batch over the current task's outputs, of the replayed batch over past outputs.
2. What the network says of a remembered sample at outputs of tasks seen since goes into its stored logits.
3. Outputs that no task uses yet are prepared by a supervised contrastive loss (`variant=full`).
4. A hinge keeps the largest logit of future outputs below the largest of the current task's; another, by option, that
   of past outputs. Without the second, little makes a new class win against an old one.
5. Running statistics of batch norm move in replay passes alone, which hold a few current samples.
6. The memory holds as many samples of each class and is rebuilt when a task ends.

`variant=ce` leaves 3 out; `variant=rpc` too, and its classifier is fixed: class c is vertex c of a regular simplex.

Decided here, where the texts we followed say nothing: a stored true logit that is not positive admits no scale that
keeps the others below it, so such a sample's logits stay. The counter of draws, by whose inverse logits are replaced,
starts again with each rebuilding. Stored logits are of an augmented view, in evaluation mode. In (5) the current task
gets the share of a replay batch that each past task has. The contrastive loss reads current and replayed samples,
blocks of as many unused outputs as the current task has, L2-normalised; its strong augmentation is the stream's own,
and random contrast and brightness. Hinges are means over the current batch. Where tasks share their classes, a class
of one task is kept apart from the same class of another, and no output is ever in the future.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite import (
    Batch,
    Classification,
    Exemplars,
    Experience,
    GradientStrategy,
    Inputs,
    Requirement,
    StreamInfo,
    UsageError,
    check_choices,
    class_mask,
    join_inputs,
    map_inputs,
    restrict,
    statistics_held,
)


def updated_logits(stored: Tensor, outputs: Tensor, targets: Tensor, since: Tensor, *, gamma: float) -> Tensor:
    """Return `stored` [B, C] with `outputs` [B, C] written where `since` [B, C] is true, scaled to their place.

    A row is scaled so that its largest is at most gamma times the stored logit of its target; if that is not positive,
    the row stays.
    """
    truth = stored.gather(1, targets[:, None])
    largest = restrict(outputs, since).amax(dim=1, keepdim=True)
    scale = torch.where(largest > gamma * truth, gamma * truth / largest, 1.0)
    return torch.where(since & (truth > 0), outputs * scale, stored)


def hinge(outputs: Tensor, lower: Tensor, upper: Tensor, *, margin: float) -> Tensor:
    """Return the mean of max(0, max over `lower` + margin - max over `upper`), both [C] bool, for `outputs` [B, C]."""
    return F.relu(restrict(outputs, lower).amax(dim=1) + margin - restrict(outputs, upper).amax(dim=1)).mean()


def supervised_contrast(vectors: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Return the loss L_out of Khosla et al. 2020 for unit `vectors` [N, D] and `labels` [N], none of them alone."""
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    similar = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    log_share = (similar - similar.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0.0)
    positive = (labels[:, None] == labels[None]) & ~itself
    return -((log_share * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def simplex(vertices: int) -> Tensor:
    """Return the vertices of a regular simplex [V, V - 1]: unit vectors with the same angle between any two."""
    rows = torch.arange(1.0, vertices)[:, None]
    columns = torch.arange(vertices)[None]
    basis = torch.where(columns < rows, 1.0, torch.where(columns == rows, -rows, 0.0))  # orthogonal to (1, ..., 1)
    return F.normalize(F.normalize(basis, dim=1).T, dim=1)


def rank_in_group(groups: Tensor) -> Tensor:
    """Return for each entry of `groups` [N] how many equal ones stand before it, [N] int64."""
    values, order = groups.sort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(groups), device=groups.device) - torch.searchsorted(values, values)
    return ranks


class SimplexHead(nn.Module):
    """Fixed classifier: the first C - 1 of `linear`'s C outputs (the last is idle) times C vertices of a simplex."""

    vertices: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("vertices", simplex(linear.out_features).to(linear.weight.device), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_features] -> logits [B, C]."""
        return self.linear(features)[:, :-1] @ self.vertices.T


class XDER(GradientStrategy):
    """X-DER (Boschini et al. 2022): DER++ with stored logits kept up to date and outputs prepared for the future."""

    source = "Boschini et al. 2022, arXiv 2201.00766"
    costs = (
        "keeps buffer_size samples, each with its logits; two replayed batches a step, and with variant=full the "
        "views of the contrastive loss"
    )
    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})
    buffer_extras = frozenset({"logits"})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of X-DER; the defaults are those of the authors' library for CIFAR-100 and 500 samples."""

        buffer_size: int = 500  # samples, whole stream, as many of each class
        replay_batch: int = 0  # samples in each of a step's two replay batches; 0 = as many as the current batch has
        variant: str = "full"  # full; ce: no contrastive loss; rpc: fixed simplex classifier, no contrastive loss
        alpha: float = 0.3  # weight of the stored logits
        beta: float = 0.8  # weight of the replayed labels
        gamma: float = 0.85  # largest logit written into memory, as a share of the stored true one
        lambd: float = 0.05  # weight of the contrastive loss
        temperature: float = 5.0  # of the contrastive loss
        views: int = 2  # augmented views per sample in the contrastive loss; 4 in the later settings
        jitter: float = 0.4  # of a view: contrast 1 -+ jitter, brightness -+ jitter standard deviations
        eta: float = 0.1  # weight of the hinges; 0.001 there, by which few epochs leave the newest task behind
        margin: float = 0.7  # of the hinges, in logits
        past_constraint: bool = True  # whether past outputs, too, stay below the current task's on current samples
        align_bn: bool = True  # whether running statistics move in replay passes alone

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty buffer. Raise UsageError for options out of range."""
        self._check(info)
        super().setup(info, build_model)
        if self.config.variant == "rpc":
            self.model.heads.linear = SimplexHead(self.model.heads.linear)  # type: ignore[assignment]
            self.optimizer = self.make_optimizer()
        self.buffer = Exemplars(self.config.buffer_size, info)
        self.parts["buffer"] = self.buffer
        self.norms = [m for m in self.model.modules() if getattr(m, "track_running_stats", False)]
        # [C]: the first task that used an output; n_experiences: none has
        self.first_task = torch.full((info.n_outputs,), info.n_experiences, device=info.device)
        self.groups = 0  # classes in memory, those of different tasks counted apart
        self.terms: list[dict[str, float]] = []  # mean of each term of the loss, per experience

    def start(self, experience: Experience) -> None:
        """Tell past, current and future outputs apart."""
        super().start(experience)
        assert experience.classes is not None and experience.task_id is not None
        self.groups += len(experience.classes)
        if (size := self.config.buffer_size) < self.groups:
            raise UsageError(f"strategy.buffer_size={size} holds fewer than {self.groups} classes of tasks. Raise it.")
        device = self.info.device
        self.current = class_mask(experience.classes, self.info.n_outputs, device)  # [C]
        self.task = experience.task_id
        self.first_task[self.current] = self.first_task[self.current].clamp(max=self.task)
        self.past = self.first_task < self.task  # [C]
        self.future = self.first_task == self.info.n_experiences  # [C]
        unused = self.future.nonzero().squeeze(1)
        self.blocks = unused.split(len(experience.classes)) if len(unused) else ()
        self.view_generator = experience.generator("views", device=device)
        self.update_generator = experience.generator("memory update", device=device)
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def loss(self, batch: Batch) -> Tensor:
        """Return the sum of all terms, a scalar."""
        c = self.config
        replaying = len(self.buffer) > 0
        with statistics_held(self.norms, replaying and c.align_bn):
            outputs = self._outputs(batch.inputs)
        terms = {"current": self._cross_entropy(outputs, batch.targets, self.current)}
        known = [batch]
        if replaying:
            replay, answers = self._replay(batch)
            terms["logit replay"] = c.alpha * F.mse_loss(answers, replay.extras["logits"])
            replay, answers = self._replay(batch)
            terms["label replay"] = c.beta * self._cross_entropy(answers, replay.targets, self.past)
            known.append(replay)
            if c.past_constraint:
                terms["past constraint"] = c.eta * hinge(
                    outputs, self.past & ~self.current, self.current, margin=c.margin
                )
        if self.blocks:
            terms["future constraint"] = c.eta * hinge(outputs, self.future, self.current, margin=c.margin)
            if c.variant == "full":
                terms["future preparation"] = c.lambd * self._preparation(known)
        self.steps += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        return torch.stack(list(terms.values())).sum()

    @torch.no_grad()
    def finish(self, experience: Experience) -> None:
        """Rebuild the memory: as many of each class, the earlier ones trimmed to make room."""
        assert experience.classes is not None
        self.terms.append({name: float(value) / max(1, self.steps) for name, value in self.sums.items()})
        C = self.info.n_outputs
        quota = self.config.buffer_size // self.groups
        if len(self.buffer):
            held = torch.arange(len(self.buffer), device=self.info.device)
            groups = self.buffer.task_ids_at(held) * C + self.buffer.targets[held]  # type: ignore[operator]
            # Samples were stored in random order, so that the first of a class are as good as any.
            self.buffer.keep(held[rank_in_group(groups) < quota])
        self.model.eval()
        taken = torch.zeros(C, dtype=torch.long, device=self.info.device)
        for batch in experience.batches(epochs=1, phase="memory"):
            chosen = (taken[batch.targets] + rank_in_group(batch.targets) < quota).nonzero().squeeze(1)
            taken += torch.bincount(batch.targets, minlength=C)
            if len(chosen):
                part = _rows(batch, chosen)
                self.buffer.add(part, logits=self._outputs(part.inputs), position=chosen, draws=chosen)  # see below
            if bool((taken[list(experience.classes)] >= quota).all()):
                break
        held = torch.arange(len(self.buffer), device=self.info.device)
        # A sample knows its place, so that what is drawn can be written to.
        self.buffer.write_extra("position", held, held)
        self.buffer.write_extra("draws", held, torch.zeros_like(held))

    def state_dict(self) -> dict[str, Any]:
        """Return what every gradient strategy keeps, which task used an output first, and the means of the terms."""
        own = {"first_task": self.first_task, "groups": self.groups, "terms": [dict(each) for each in self.terms]}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.first_task = state["first_task"].to(self.info.device)
        self.groups, self.terms = state["groups"], [dict(each) for each in state["terms"]]

    def constraints(self) -> dict[str, float]:
        """Return the mean of both replay terms in the latest experience, weights included."""
        latest = self.terms[-1] if self.terms else {}
        return {name: latest.get(name, 0.0) for name in ("logit replay", "label replay")}

    def diagnostics(self) -> dict[str, Any]:
        """Return the mean of each term per experience, and how full the memory is, in samples and bytes."""
        size, stored = len(self.buffer), self.buffer.bytes_stored()
        return {"loss_terms": self.terms, "buffer_samples": size, "buffer_bytes": stored}

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples, two replay batches from the second experience on, and what fills the memory."""
        c, n = self.config, info.n_experiences
        share = 2.0 * ((c.replay_batch or info.train.batch_size) / info.train.batch_size) * (n - 1) / n
        return round(info.planned_samples * (1.0 + share)) + c.buffer_size

    def _outputs(self, inputs: Inputs) -> Tensor:
        return self.model.heads.linear(self.model.features(inputs))

    def _cross_entropy(self, outputs: Tensor, targets: Tensor, among: Tensor) -> Tensor:
        return self.info.objective.loss(restrict(outputs, among), targets).mean()

    def _replay(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Draw from the buffer; return the samples as they were stored and the outputs [B, C] for them."""
        replay = self.buffer.draw(self.config.replay_batch or len(batch))
        inputs = replay.inputs
        if self.config.align_bn and self.norms:
            few = max(1, len(replay) // self.experiences_learned)
            inputs = join_inputs([inputs, map_inputs(lambda value: value[:few], batch.inputs)])
        outputs = self._outputs(inputs)[: len(replay)]
        self._update_memory(replay, outputs.detach())
        return replay, outputs

    def _update_memory(self, replay: Batch, outputs: Tensor) -> None:
        """Write what is now said of outputs used since into stored logits, with probability 1 / draws."""
        assert replay.task_ids is not None  # they are told at training
        stored, positions = replay.extras["logits"], replay.extras["position"]
        draws = replay.extras["draws"] + 1
        since = (self.first_task > replay.task_ids[:, None]) & (self.first_task <= self.task)
        new = updated_logits(stored, outputs, replay.targets, since, gamma=self.config.gamma)
        uniform = torch.rand(len(replay), generator=self.update_generator, device=outputs.device)
        self.buffer.write_extra("logits", positions, torch.where((uniform * draws < 1)[:, None], new, stored))
        self.buffer.write_extra("draws", positions, draws)

    def _preparation(self, known: list[Batch]) -> Tensor:
        """Return the mean over blocks of unused outputs of the contrastive loss of `views` views per sample."""
        c = self.config
        raw = join_inputs([batch.raw for batch in known])
        generator = self.view_generator if self.info.train.augment else None
        views = [map_inputs(self._jittered, self.info.prepare(raw, generator)) for _ in range(c.views)]
        with statistics_held(self.norms, c.align_bn):
            outputs = self._outputs(join_inputs(views))
        labels = torch.cat([batch.targets for batch in known]).repeat(c.views)
        losses = [
            supervised_contrast(F.normalize(outputs[:, block], dim=1), labels, temperature=c.temperature)
            for block in self.blocks
        ]
        return torch.stack(losses).mean()

    def _jittered(self, inputs: Tensor) -> Tensor:
        """Return inputs [B, ...] with random contrast and brightness per sample, if they are numbers to be scaled."""
        if not inputs.is_floating_point():
            return inputs
        shape = (2, len(inputs), *[1] * (inputs.dim() - 1))
        uniform = torch.rand(shape, generator=self.view_generator, device=inputs.device)
        contrast, brightness = self.config.jitter * (2 * uniform - 1)
        return inputs * (1 + contrast) + brightness

    def _check(self, info: StreamInfo) -> None:
        c = self.config
        check_choices(c, {"variant": ("full", "ce", "rpc")})
        if not isinstance(info.objective, Classification) or info.n_outputs < 2:
            raise UsageError(f"x_der needs classes, one per sample; {info.stream} is {info.objective.name}. Use er.")
        lowest = {"alpha": 0, "beta": 0, "gamma": 0, "lambd": 0, "temperature": 1e-6, "views": 2, "jitter": 0}
        lowest |= {"eta": 0, "margin": 0, "replay_batch": 0, "buffer_size": info.n_outputs}
        for name, low in lowest.items():
            if not low <= getattr(c, name) < inf:
                what = ": one sample of each class" if name == "buffer_size" else ""
                raise UsageError(f"strategy.{name}={getattr(c, name)} is out of range. Use {low:g} or more{what}.")


def _rows(batch: Batch, rows: Tensor) -> Batch:
    """Return the samples `rows` [N] of a batch of a known task."""
    inputs, raw = (map_inputs(lambda value: value[rows], each) for each in (batch.inputs, batch.raw))
    return Batch(inputs, batch.targets[rows], raw, batch.task_ids[rows])  # type: ignore[index]
