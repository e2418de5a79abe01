"""LwF: keep what the old network answered to the new task's samples, without any old sample.

Li & Hoiem 2017, "Learning without Forgetting" (TPAMI, arXiv 1606.09282), in the form of the Mammoth library. LwF-MC is
the baseline of Rebuffi et al. 2017, "iCaRL" (CVPR, arXiv 1611.07725): iCaRL's loss without exemplars.

The paper records the old network's answers to all new samples before training. Here a frozen copy of the old network
(P numbers, in the state) answers the non-augmented samples of each batch anew, which gives the recorded answers. That
the samples train augmented and are distilled from their plain view is as in Mammoth. LwF-MC asks the copy about the
augmented view, as Mammoth does.

Momentum: LwF is trained with momentum 0.9 in its paper, so the optimiser stays the one of finetuning. Both papers also
use weight decay (5e-4 and 1e-5), which is off here unless `strategy.weight_decay` asks for it.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_suite import (
    Batch,
    Classification,
    Experience,
    GradientStrategy,
    Network,
    Requirement,
    StreamInfo,
    UsageError,
    build_optimizer,
    class_mask,
    restrict,
)


class LwF(GradientStrategy):
    """Learning without Forgetting (Li & Hoiem 2017): distil the old network on the new task's samples."""

    source = "Li & Hoiem 2017, arXiv 1606.09282"
    costs = "keeps the old network, P numbers; its forward pass in each step, and warmup_epochs passes before each task"
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the distillation; the optimiser's are those of finetuning."""

        alpha: float = 1.0  # weight of the distillation, 0 or more; the paper has 1, Mammoth 3 for Split CIFAR-10
        temperature: float = 2.0  # of both softmaxes, above 0
        warmup_epochs: int = -1  # passes that train new outputs alone, beside train.epochs; -1 = as many, 0 = none

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is distilled yet. Raise UsageError for a value outside its range."""
        super().setup(info, build_model)
        c = self.config
        _check_classes(info, "LwF")
        if not 0 <= c.alpha < float("inf"):
            raise UsageError(f"strategy.alpha={c.alpha} is not a weight. Use 0 or more.")
        if not 0 < c.temperature < float("inf"):
            raise UsageError(f"strategy.temperature={c.temperature} is not a temperature. Use more than 0, e.g. 2.")
        if c.warmup_epochs < -1:
            raise UsageError(f"strategy.warmup_epochs={c.warmup_epochs} is too small. Use 0 or more, or -1.")
        self.old_network = frozen_copy(self.model)  # as it was after the previous experience
        self.parts["old_network"] = self.old_network
        self.groups: list[Tensor] = []  # outputs that shared a softmax in earlier experiences, int64 each
        self.pulls = torch.zeros((), device=info.device)  # sum over the steps of the current experience
        self.steps = 0

    def start(self, experience: Experience) -> None:
        """Find the past outputs, open the new ones, and warm these up."""
        self.pulls.zero_()
        self.steps = 0
        if self.experiences_learned:
            past = self.old_network.heads.opened
            self.groups = groups_of(past, self.info.task_classes)
            self.model.heads.open(experience.classes)
            self.warm_up(experience, self.model.heads.opened & ~past)
        super().start(experience)  # only now: its drops of the learning rate count the passes that follow

    def warm_up(self, experience: Experience, new: Tensor) -> None:
        """Train the outputs `new` [C] among themselves; everything else stays as it is, running statistics too."""
        passes = experience.epochs if self.config.warmup_epochs < 0 else self.config.warmup_epochs
        if not passes or not bool(new.any()):
            return
        self.model.eval()
        c, heads = self.config, self.model.heads
        # Without weight decay rows without a gradient do not move.
        optimizer = build_optimizer(c.optimizer, heads.parameters(), lr=c.lr, momentum=c.momentum, weight_decay=0.0)
        for batch in experience.batches(epochs=passes, phase="warm-up"):
            with torch.no_grad():
                features = self.model.features(batch.inputs)
            loss = self.info.objective.loss(restrict(heads(features), new), batch.targets).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            experience.report(loss)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the classes seen, plus alpha times the distillation over the past ones."""
        outputs = self.model(batch.inputs)
        loss = self.info.objective.loss(self.restricted(outputs, batch.task_ids), batch.targets).mean()
        if not self.experiences_learned or not self.config.alpha:
            return loss
        with torch.no_grad():
            recorded = self.old_network(self.info.prepare(batch.raw))
        T = self.config.temperature
        terms = [distillation(outputs[:, group], recorded[:, group], temperature=T) for group in self.groups]
        with torch.no_grad():  # what is left when the answers are the old ones: the entropy of these
            least = [distillation(recorded[:, group], recorded[:, group], temperature=T) for group in self.groups]
            self.pulls += self.config.alpha * (sum(terms) - sum(least))
            self.steps += 1
        return loss + self.config.alpha * sum(terms)

    def finish(self, experience: Experience) -> None:
        """Keep the network as the old one of the next experience."""
        self.old_network.load_state_dict(self.model.state_dict())

    def constraints(self) -> dict[str, float]:
        """Return by how much the distillation of the latest experience exceeded its least value, on average."""
        return {"LwF distillation": float(self.pulls) / self.steps if self.steps else 0.0}

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the training passes, and the warm-up passes of all experiences but the first."""
        passes = info.train.epochs if self.config.warmup_epochs < 0 else self.config.warmup_epochs
        later = info.planned_samples * (info.n_experiences - 1) // info.n_experiences
        return info.planned_samples + later * passes // info.train.epochs


class LwFMC(GradientStrategy):
    """LwF-MC (Rebuffi et al. 2017): iCaRL's sigmoid loss without exemplars, past outputs distilled."""

    source = "Rebuffi et al. 2017, arXiv 1611.07725 (its baseline LwF.MC)"
    costs = "keeps the old network, P numbers; its forward pass in each step"
    requires = frozenset({Requirement.BOUNDARIES})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the optimiser: the method has none of its own."""

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network; nothing is distilled yet."""
        super().setup(info, build_model)
        _check_classes(info, "LwF-MC")
        self.old_network = frozen_copy(self.model)  # as it was after the previous experience
        self.parts["old_network"] = self.old_network
        self.old_share = torch.zeros(info.n_outputs, device=info.device)  # of the old answer in an output's target
        self.opened = torch.zeros(0, dtype=torch.long)  # outputs that answer
        self.pulls = torch.zeros((), device=info.device)  # sum over the steps of the current experience
        self.steps = 0

    def start(self, experience: Experience) -> None:
        """Decide for each output whose answer it learns: the labels', the old network's, or both."""
        self.pulls.zero_()
        self.steps = 0
        super().start(experience)
        self.opened = self.model.heads.opened.nonzero().flatten()
        if self.experiences_learned:
            classes = self.opened if experience.classes is None else experience.classes
            present = class_mask(classes, self.info.n_outputs, self.info.device)
            self.old_share = share_of_old(self.old_network.heads.opened, present)

    def loss(self, batch: Batch) -> Tensor:
        """Binary cross-entropy, mean over the outputs that answer; past outputs have the old network's as target."""
        targets = F.one_hot(batch.targets, self.info.n_outputs).float()
        outputs = self.model(batch.inputs)
        if self.experiences_learned:
            with torch.no_grad():
                old = self.old_network(batch.inputs).sigmoid()  # 0 where the old network had no output
                share = self.old_share
                self.pulls += (share * (outputs.sigmoid() - old).abs()).sum(dim=1).mean()
                self.steps += 1
                targets = share * old + (1 - share) * targets
        return F.binary_cross_entropy_with_logits(outputs[:, self.opened], targets[:, self.opened])

    def finish(self, experience: Experience) -> None:
        """Keep the network as the old one of the next experience."""
        self.old_network.load_state_dict(self.model.state_dict())

    def constraints(self) -> dict[str, float]:
        """Return the mean distance of the past outputs from the old ones in the latest experience, summed over them."""
        return {"LwF-MC distillation": float(self.pulls) / self.steps if self.steps else 0.0}


def frozen_copy(model: Network) -> Network:
    """Return a copy of `model` in evaluation mode that is not trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def distillation(new: Tensor, old: Tensor, *, temperature: float) -> Tensor:
    """Return - sum_i p_i(old) log p_i(new), mean over the batch; p: softmax of logits / temperature. Logits [B, k].

    Dividing logits by T is the paper's softening (eq. 2 and 3): probabilities to the power 1/T, made to sum to 1.
    """
    p = (old / temperature).softmax(dim=1)
    return -(p * (new / temperature).log_softmax(dim=1)).sum(dim=1).mean()


def groups_of(past: Tensor, task_classes: Sequence[tuple[int, ...]] | None) -> list[Tensor]:
    """Return the past outputs [C] bool as index sets that share a softmax.

    Where the task is known at test, each old task answers for itself (the paper's sum over old tasks), once if tasks
    have the same outputs; elsewhere all compete.
    """
    if task_classes is None:
        return [past.nonzero().flatten()]
    known = set(past.nonzero().flatten().tolist())
    blocks = [block for block in dict.fromkeys(task_classes) if known.issuperset(block)]
    return [torch.tensor(block, device=past.device) for block in blocks]


def share_of_old(past: Tensor, present: Tensor) -> Tensor:
    """Return for each output the share of the old network's answer in its target: 1 past, 0 new, [C] float.

    past, present: [C] bool. iCaRL has no output that is both. Where tasks share their labels all are, and get one half:
    the mean of the losses with either target, without which no later task would be learned, or none kept.
    """
    return past.float() - 0.5 * (past & present).float()


def _check_classes(info: StreamInfo, name: str) -> None:
    if not isinstance(info.objective, Classification):
        raise UsageError(
            f"{name} distils answers among classes, but {info.stream} is {info.objective.name}. "
            "Use another strategy, e.g. ewc."
        )
