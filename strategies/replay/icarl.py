"""iCaRL: rehearse well-chosen exemplars, keep what the previous network said, and answer with the nearest class mean.

Rebuffi, Kolesnikov, Sperl & Lampert 2017, "iCaRL: Incremental Classifier and Representation Learning" (CVPR, arXiv
1611.07725); algorithms 1 to 5 of the paper. What this file decides:

- The loss is the mean over samples and over the outputs that answer: classes seen so far. Outputs do not compete, so
  that a sample also trains the outputs of other tasks where the task is told at test.
- The previous network reads the same view of a sample as the current one, in evaluation mode (the Mammoth library).
- Exemplars belong to a class as one experience brought it. Where a class comes again, in another domain, its share is
  divided among these experiences, the latest of which get none if there are too few places. Its targets are labels:
  the previous network is asked about classes that the experience does not bring.
- Inside an experience the class means are out of date, and the network's own outputs answer.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
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
    ModelPredictor,
    Predictor,
    Requirement,
    Ring,
    Source,
    StreamInfo,
    UsageError,
    check_choices,
    class_mask,
    join_inputs,
    map_inputs,
    restrict,
)


def goals(targets: Tensor, n_outputs: int, past: Tensor, previous: Tensor | None) -> Tensor:
    """Return what each output is to answer, [B, C] in [0, 1]: 1 for the target, for past classes what was answered.

    targets: [B] classes; past: [C] bool; previous: logits [B, C] of the previous network, or None if there is none
    """
    labels = F.one_hot(targets, n_outputs).float()
    return labels if previous is None else torch.where(past, previous.sigmoid(), labels)


def binary_losses(outputs: Tensor, answers: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over samples and the outputs of logits [B, C] that answer (-inf: none)."""
    present = outputs.isfinite()
    losses = F.binary_cross_entropy_with_logits(outputs.masked_fill(~present, 0.0), answers, reduction="none")
    return (losses * present).sum() / present.sum()


def herding(features: Tensor, count: int) -> Tensor:
    """Return positions of up to `count` samples, best first: each brings the mean of those chosen nearest to all's.

    features: [N, D]; algorithm 4 of the paper. No sample is chosen twice.
    """
    mean, squares, chosen = features.mean(0), features.square().sum(1), []
    missing = mean  # number * mean - sum of the chosen: the next sample is to be as near to it as possible
    taken = torch.zeros(len(features), device=features.device)
    for _ in range(min(count, len(features))):
        # Up to a constant the squared distance of `missing`; one product, since this is done for each exemplar.
        best = (squares - 2 * features @ missing + taken).argmin(keepdim=True)  # [1]; stays on the device
        taken[best] = torch.inf
        missing = missing + mean - features[best][0]
        chosen.append(best)
    return torch.cat(chosen) if chosen else torch.zeros(0, dtype=torch.long, device=features.device)


def shares(quota: int, experiences: int) -> list[int]:
    """Divide a class's `quota` among the experiences that brought it; none ever grows when another one comes."""
    return [-((number - quota) // experiences) for number in range(experiences)]


class ICaRL(GradientStrategy):
    """iCaRL (Rebuffi et al. 2017): herded exemplars, distillation, and the nearest class mean as the answer."""

    source = "Rebuffi et al. 2017, arXiv 1611.07725"
    costs = (
        "keeps buffer_size exemplars, and while it trains the old network, whose forward pass is added; a pass to "
        "choose exemplars"
    )
    requires = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})

    @dataclass
    class Config(GradientStrategy.Config):
        """Options of the memory and of the answer."""

        buffer_size: int = 500  # exemplars, whole stream; at least one for each class
        lr: float = 0.05  # the mean over outputs has small gradients: 0.01 learns slowly, 0.3 diverged on Split MNIST
        weight_decay: float = 2e-5  # the gradient of the published 1e-5 * sum theta^2
        classifier: str = "ncm"  # ncm: nearest class mean; fc: the network's own outputs
        means: str = "exemplars"  # exemplars; all: keeps every sample, counted as state: not limited in memory
        mirror: bool = True  # class means also over mirror images, where the stream mirrors images in training

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and an empty memory. Raise UsageError for an option outside its range."""
        c = self.config
        check_choices(c, {"classifier": ("ncm", "fc"), "means": ("exemplars", "all")})
        if not isinstance(info.objective, Classification):
            raise UsageError(f"icarl needs one class per sample, not {info.objective.name}. Use --strategy er.")
        if c.buffer_size < info.n_outputs:
            raise UsageError(
                f"strategy.buffer_size={c.buffer_size} cannot hold one exemplar of each of the {info.n_outputs} "
                f"classes. Use {info.n_outputs} or more."
            )
        if (c.classifier, c.means) == ("fc", "all"):
            raise UsageError("strategy.means=all has no effect with strategy.classifier=fc. Leave one of them out.")
        super().setup(info, build_model)
        self.buffer = Exemplars(c.buffer_size, info)
        self.parts["buffer"] = self.buffer
        self.everything: Ring | None = None  # all samples, for means=all
        if c.means == "all":
            self.everything = Ring(max(1, info.planned_samples // info.train.epochs), info, purpose="all")
            self.parts["all_samples"] = self.everything
        flips = info.train.augment and getattr(info.prepare, "flip", False)
        self._mirrors = bool(c.mirror and flips and len(info.input_shape) == 3)
        self.groups: list[list[int]] = []  # [class, exemplars], in the order of the buffer, each in herding order
        self.class_means: Tensor | None = None  # [C, D] of length 1; None where they are out of date
        self._previous: nn.Module | None = None  # the network as it was, while it learns classes that are not past
        self._past = class_mask((), info.n_outputs, info.device)
        self._moved, self._steps = torch.zeros((), device=info.device), 0

    # -- learning (algorithms 2 and 3) -------------------------------------------------------------------------------

    def beside(self) -> Source:
        """Train on the samples with the exemplars among them."""
        return self.buffer

    def start(self, experience: Experience) -> None:
        """Keep the network as it is, if it knows classes that this experience does not bring."""
        assert experience.classes is not None  # boundaries are told
        present = class_mask(experience.classes, self.info.n_outputs, self.info.device)
        self._past = self.model.heads.opened & ~present
        super().start(experience)
        self.class_means = None
        self._moved, self._steps = torch.zeros_like(self._moved), 0
        self._previous = None
        if bool(self._past.any()):
            self._previous = copy.deepcopy(self.model).eval().requires_grad_(False)

    def loss(self, batch: Batch) -> Tensor:
        """Binary cross-entropy: labels for this experience's classes, the previous network's answers for past ones."""
        outputs, previous = self.model(batch.inputs), None
        if self._previous is not None:
            with torch.no_grad():
                previous = self._previous(batch.inputs)
                change = (outputs.sigmoid() - previous.sigmoid()).abs()
                self._moved += (change * self._past).sum() / (self._past.sum() * len(batch))
            self._steps += 1
        return binary_losses(outputs, goals(batch.targets, self.info.n_outputs, self._past, previous))

    def finish(self, experience: Experience) -> None:
        """Choose exemplars with the network as it is now; compute all class means anew."""
        self._previous = None
        self._choose_exemplars(experience)
        self._compute_means(experience)

    def network_changed(self, experience: Experience) -> None:
        """Compute the class means anew."""
        self._compute_means(experience)

    # -- memory (algorithms 4 and 5) ---------------------------------------------------------------------------------

    def _choose_exemplars(self, experience: Experience) -> None:
        """Trim the exemplars of earlier experiences from the tail, and add those of this one by herding."""
        features, targets, raw = [], [], []
        for batch in experience.batches(epochs=1, augment=False, phase="herding"):
            features.append(self._features(batch.inputs))
            targets.append(batch.targets)
            raw.append(batch.raw)
            if self.everything is not None:
                self.everything.add(batch)
        all_features, all_targets, all_raw = torch.cat(features), torch.cat(targets), join_inputs(raw)
        new = all_targets.unique().tolist()
        sizes = self._sizes([label for label, _ in self.groups] + new)
        self._trim(sizes[: len(self.groups)])
        for label, size in zip(new, sizes[len(self.groups) :], strict=True):
            own = (all_targets == label).nonzero().squeeze(1)
            chosen = own[herding(all_features[own], size)]
            self._keep(experience, map_inputs(itemgetter(chosen), all_raw), all_targets[chosen])
            self.groups.append([label, len(chosen)])

    def _sizes(self, labels: list[int]) -> list[int]:
        """Return how many exemplars each group may have, given the class of each."""
        times = Counter(labels)
        quota = self.buffer.capacity // len(times)
        parts = {label: iter(shares(quota, count)) for label, count in times.items()}
        return [next(parts[label]) for label in labels]

    def _trim(self, sizes: list[int]) -> None:
        start, places = 0, []
        for group, size in zip(self.groups, sizes, strict=True):
            kept = min(group[1], size)
            places.append(torch.arange(start, start + kept))
            start += group[1]
            group[1] = kept
        if places:
            self.buffer.keep(torch.cat(places))

    def _keep(self, experience: Experience, raw: Inputs, targets: Tensor) -> None:
        task_ids = None if experience.task_id is None else torch.full_like(targets, experience.task_id)
        self.buffer.add(Batch(raw, targets, raw, task_ids))

    # -- answering (algorithm 1) -------------------------------------------------------------------------------------

    def _normalised(self, inputs: Inputs) -> Tensor:
        return F.normalize(self.model.features(inputs))

    def _features(self, inputs: Inputs) -> Tensor:
        """Return features [B, D] of length 1, in evaluation mode, without a graph."""
        return ModelPredictor(self.model, self._normalised)(inputs)

    def _compute_means(self, experience: Experience) -> None:
        """Compute the mean of each class's features, and bring it to length 1."""
        if self.config.classifier == "fc":
            return
        self.class_means = None  # until they are complete
        source = self.buffer if self.everything is None else self.everything
        sums = torch.zeros(self.info.n_outputs, self.model.heads.linear.in_features, device=self.info.device)
        counts = torch.zeros(self.info.n_outputs, 1, device=self.info.device)
        for batch in experience.batches(source=source, epochs=1, augment=False, phase="class means"):
            features = self._features(batch.inputs)
            if self._mirrors:
                assert isinstance(batch.inputs, Tensor)
                features = (features + self._features(batch.inputs.flip(3))) / 2
            sums.index_add_(0, batch.targets, features)
            counts.index_add_(0, batch.targets, torch.ones(len(batch), 1, device=counts.device))
        self.class_means = F.normalize(sums / counts.clamp(min=1))

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return minus the squared distance to each class mean, -inf for classes never seen; fc: the network."""
        network = super().predictor(task_id)  # it also refuses what has not been learned
        means = self.class_means
        if means is None:
            return network
        visible = class_mask([label for label, _ in self.groups], self.info.n_outputs, self.info.device)
        if task_id is not None and self.task_masks is not None:
            visible = visible & self.task_masks[task_id]

        def answer(inputs: Inputs) -> Tensor:
            features = self._normalised(inputs)
            squares = features.square().sum(1, keepdim=True) + means.square().sum(1)
            return restrict(2 * features @ means.T - squares, visible)

        return ModelPredictor(self.model, answer)

    def answers_logits(self) -> bool:
        """Whether the network answers: distances to class means are no logits."""
        return bool(self.config.classifier == "fc")

    # -- what is told and kept ---------------------------------------------------------------------------------------

    def constraints(self) -> dict[str, float]:
        """Return how far the outputs of past classes were from the previous network's, in [0, 1], mean over steps."""
        return {"distillation": float(self._moved) / self._steps} if self._steps else {}

    def diagnostics(self) -> dict[str, Any]:
        """Return what the memory holds, and what answers."""
        per_class: Counter[str] = Counter()
        for label, count in self.groups:
            per_class[str(label)] += count
        return {
            "buffer_samples": len(self.buffer),
            "buffer_bytes": self.buffer.bytes_stored(),
            "exemplars_of_class": dict(per_class),
            "classifier": self.config.classifier,
            "class_means_of": self.config.means if self.config.classifier == "ncm" else "none",
            "previous_network_parameters": self.model_parameters(),  # held in training, from the second experience on
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return fresh samples, exemplars among them, one pass to choose exemplars, and the passes for class means."""
        c, n = self.config, info.n_experiences
        stream = info.planned_samples // info.train.epochs
        held = [min(c.buffer_size, stream * k // n) for k in range(1, n + 1)]  # after each experience
        means = 0
        if c.classifier == "ncm":
            means = sum(held) if c.means == "exemplars" else stream * (n + 1) // 2
        return info.planned_samples + info.train.epochs * sum(held[:-1]) + stream + means

    def state_dict(self) -> dict[str, Any]:
        """Return network, memory and class means."""
        return super().state_dict() | {
            "groups": [list(group) for group in self.groups],
            "class_means": self.class_means,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.groups = [list(group) for group in state["groups"]]
        means = state["class_means"]
        self.class_means = None if means is None else means.to(self.info.device)
