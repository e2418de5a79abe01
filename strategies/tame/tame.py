"""TAME: one small expert per task that the loss gives away, a selector between them, both pruned. No task is ever told.

Zhu, Majzoubi, Jain & Choromanska 2024, "TAME: Task Agnostic Continual Learning using Multiple Experts" (CVPR Workshops,
arXiv 2210.03869). Marked "ours" where it goes beyond the paper.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite import (
    Batch,
    Classification,
    Experience,
    Inputs,
    Predictor,
    Requirement,
    Reservoir,
    Strategy,
    StreamInfo,
    UnseenTask,
    UsageError,
    check_choices,
    count_samples,
)
from strategies.tame.expert import Expert, ExpertOptions, entropy, routed_answers
from strategies.tame.expert_memory import ExpertMemory
from strategies.tame.loss_detector import DetectorOptions, LossDetector
from strategies.tame.rollback import Rollback
from strategies.tame.selector import Selector, SelectorOptions
from strategies.tame.sparse import expand, is_compact, stored_parameters


class TAME(Strategy):
    """TAME (Zhu et al. 2024): a jump of the loss calls an old expert back or makes a new one; a selector routes."""

    source = "Zhu et al. 2024, arXiv 2210.03869"
    costs = "keeps a pruned expert for each task it finds, a selector, samples; after an alarm every expert is asked"

    @dataclass
    class Config(SelectorOptions, ExpertOptions, DetectorOptions):
        """Options of TAME, beside those of its experts, their detector and the selector."""

        accept: str = "first"  # among experts that explain a batch: first made (paper), or largest_margin
        judge: str = "loss"  # what must be below an expert's threshold to call it back: loss (ours), smoothed (paper)
        confirm: bool = True  # ours: judge on the batch after the alarm, as the first may be of two tasks; paper: False
        allow_reuse: bool = True  # False: every change makes an expert
        callable_after: int = 0  # ours: batches an expert must have learned to be called back; paper: 0
        detect: str = "loss"  # loss (paper), boundaries: an oracle, where the scenario tells when a task begins
        rollback: int = 0  # ours: batches by which a change may be noticed late; costs as many copies of an expert
        reset_ewma_on_switch: bool = True  # ours; released: False, an expert called back alarms until losses fade
        probe: str = "on_alarm"  # whom to ask: all experts at every batch (released), or only after an alarm (ours)
        route: str = "selector"  # selector (paper), entropy: the surest expert (ours), task: an oracle

    @classmethod
    def requirements(cls, config: Any) -> frozenset[Requirement]:
        """Nothing, unless an oracle is asked for."""
        boundaries = {Requirement.BOUNDARIES} if config.detect == "boundaries" else set()
        ids = {Requirement.TASK_ID_AT_TRAIN, Requirement.TASK_ID_AT_TEST} if config.route == "task" else set()
        return frozenset(boundaries | ids)

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Check the options. Raise UsageError for one out of range, or a stream whose targets are not classes."""
        c = self.config
        c.check_detector()
        c.check_expert()
        c.check_selector()
        choices = {"accept": ("first", "largest_margin"), "probe": ("on_alarm", "all"), "judge": ("smoothed", "loss")}
        check_choices(c, choices | {"detect": ("loss", "boundaries"), "route": ("selector", "entropy", "task")})
        for name in ("rollback", "callable_after"):
            if getattr(c, name) < 0:
                raise UsageError(f"strategy.{name}={getattr(c, name)} is not a number of batches. Use 0 or more.")
        if not isinstance(info.objective, Classification):
            raise UsageError("tame watches a classification loss, which this stream does not have. Use finetune or er.")
        self.info, self.build_model = info, build_model
        self.uniform = math.log(max(2, info.n_outputs))  # loss of a uniform guess
        faithful = c.stat_lag == 0 and c.squash == "sigmoid"
        self.warmup = c.warmup if c.warmup >= 0 else (0 if faithful else 10 + c.stat_lag)
        self.experts: list[Expert] = []
        self.active = 0
        self.switches = self.refused = 0
        self.selector: Selector | None = None
        self.memory = ExpertMemory(c.selector_memory, info, kind=c.buffer, max_experts=c.max_experts)
        self.recent, self.trail = self._empty_recent(), Rollback(c.rollback)
        self.begins = False  # whether the next batch is the first after a boundary that was told
        # {task: {expert: batches}}, where the scenario tells the task: for the oracle, and to know what was learned.
        self.served: dict[int, dict[int, int]] = {}

    # -- learning ---------------------------------------------------------------------------------------------------

    def learn(self, experience: Experience) -> None:
        """Meet each batch with the active expert, switch where it no longer explains what comes, train."""
        if not self.experts:
            self._create()
            if experience.planned_steps() * self.info.n_experiences < self.config.window:
                experience.note(
                    f"the stream has fewer batches than strategy.window={self.config.window}: the detector will hardly "
                    "see a change. Use a smaller window or batch."
                )
        self.begins = self.config.detect == "boundaries" and experience.index > 0
        for batch in experience.batches():
            self._meet(experience, batch)
        last = experience.index == self.info.n_experiences - 1
        if last:
            self._keep(self.trail.flush())
        every = self.config.selector_every
        if last and self.config.prune_when == "end":
            for number in range(len(self.experts)):
                self._prune(experience, number, self.memory.of_expert(number))
        elif last:
            self._prune(experience, self.active, self.recent)
        unknown = self.selector is None or self.selector.experts < len(self.experts)
        if last or (every and (unknown or (experience.index + 1) % every == 0)):
            self._train_selector(experience, prune=last)

    def _meet(self, experience: Experience, batch: Batch) -> None:
        """Section 3: measure, check, switch if need be, train, remember."""
        met, everyone = self.experts[self.active], range(len(self.experts))
        candidates = list(everyone) if self.config.probe == "all" else [self.active]
        losses = self._losses(batch, candidates)
        for number in candidates:
            if number != self.active:
                self.experts[number].detector.passed_over(losses[number])
        loss, threshold = losses[self.active], met.detector.threshold
        alarm = met.detector.alarms(loss) and self.config.detect == "loss"
        held = self.trail.release()
        if alarm and self.config.confirm and not held:
            self.trail.hold(batch)  # not learned yet: whose it is shows with the next
            experience.observe(loss=loss, threshold=threshold, expert=self.active)
            return
        shift = self.begins or alarm or bool(held)
        self.begins = False
        if shift:
            losses |= self._losses(batch, [number for number in everyone if number not in losses])
            shift = self._switch(experience, losses, stay=bool(held))
            if self.active not in losses:
                losses |= self._losses(batch, [self.active])
        expert = self.experts[self.active]
        for each in [*held, batch]:
            self._keep(self.trail.follow(expert, each))
            experience.report(expert.learn(each))
        expert.detector.learned(losses[self.active])
        experience.observe(loss=loss, threshold=threshold, expert=self.active, shift=shift)
        if experience.task_id is not None:
            counts = self.served.setdefault(experience.task_id, {})
            counts[self.active] = counts.get(self.active, 0) + 1

    def _keep(self, batches: list[Batch]) -> None:
        """Offer batches of the active expert to the memories."""
        for batch in batches:
            self.memory.add(batch, self.active)
            self.recent.add(batch)

    def _losses(self, batch: Batch, numbers: list[int]) -> dict[int, float]:
        """Return the loss of these experts on a batch, before anything is learned from it; one wait for the device."""
        if not numbers:
            return {}
        values = [self.experts[number].surprise(batch) for number in numbers]
        return dict(zip(numbers, torch.stack(values).tolist(), strict=True))

    def _switch(self, experience: Experience, losses: dict[int, float], *, stay: bool) -> bool:
        """Call back an expert that explains the batch, or make one; beyond `max_experts` take the best-fitting one.

        Return whether that is a change; with `stay` it is none if the active expert explains the batch after all.
        """
        c, left, smoothed = self.config, self.active, self.config.judge == "smoothed"
        margins = {n: each.detector.margin(losses[n], smoothed=smoothed) for n, each in enumerate(self.experts)}
        if stay and margins[left] > 0:
            self.experts[left].detector.activate(reset=True)
            return False
        if c.detect == "boundaries":  # whatever its threshold, it is told not to be the one
            margins.pop(left)
        trained = [number for number, expert in enumerate(self.experts) if expert.steps]  # one undone has none
        enough = [number for number in trained if self.experts[number].steps >= c.callable_after]
        accepting = [number for number in enough if margins.get(number, 0) > 0 and c.allow_reuse]
        self.switches += 1
        if accepting:
            self.active = accepting[0] if c.accept == "first" else max(accepting, key=margins.__getitem__)
        elif len(trained) < c.max_experts:
            self.active = next((n for n, each in enumerate(self.experts) if not each.steps), len(self.experts))
        else:
            if not self.refused:
                experience.note(f"strategy.max_experts={c.max_experts} reached: changes go to the best-fitting expert")
            self.refused += 1
            self.active = max(margins, key=margins.__getitem__, default=left)
        late: list[Batch] = []
        if self.active != left:
            late = self.trail.undo(self.experts[left], self.info.device)
            if c.prune_when == "on_switch":
                self._prune(experience, left, self.recent)
            self.recent = self._empty_recent()
        if self.active == len(self.experts):
            self._create()
        self._keep(late)
        expert = self.experts[self.active]
        if is_compact(expert.network):  # called back after it was pruned: what is gone stays gone
            network, expert.pruning = expand(expert.network, self.build_model())
            expert.hold(network)
        for batch in late:
            expert.network.heads.opened[batch.targets] = True
        expert.detector.activate(reset=c.reset_ewma_on_switch)
        return True

    def _create(self) -> None:
        detector = LossDetector(self.config, uniform=self.uniform, warmup=self.warmup)
        self.experts.append(Expert(self.build_model(), self.config, detector))

    def _empty_recent(self) -> Reservoir:
        return Reservoir(self.config.prune_memory, self.info, purpose=f"prune {self.switches}")

    def _prune(self, experience: Experience, number: int, source: Any) -> None:
        """Section 7, where something is to go, has not gone yet, and there are samples to finetune on."""
        c, expert = self.config, self.experts[number]
        if c.prune_experts and expert.steps and len(source) and not is_compact(expert.network):
            expert.prune(experience, source, share=c.prune_experts, lr=c.prune_lr, phase="pruning")
            if c.remeasure and c.prune_when == "on_switch":
                expert.remeasure(experience, source)

    def _train_selector(self, experience: Experience, *, prune: bool) -> None:
        """Section 5: a classifier from inputs to experts, anew; with one expert there is nothing to select."""
        c = self.config
        if len(self.experts) < 2 or c.route != "selector":
            return
        if not (known := self.memory.experts()):
            return
        self.selector = self._new_selector(len(self.experts))
        self.selector.network.heads.open(known)
        self.selector.fit(experience, self.memory, prune=prune)

    def _new_selector(self, outputs: int) -> Selector:
        return Selector(self.build_model, self.config, outputs=outputs)

    # -- answering --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def route(self, inputs: Inputs) -> Tensor:
        """Return [B] int64, the expert each sample is answered by. Raise UnseenTask before the selector is trained."""
        if len(self.experts) == 1:
            return torch.zeros(count_samples(inputs), dtype=torch.long, device=self.info.device)
        if self.config.route == "entropy":
            return torch.stack([entropy(expert.answers(inputs)) for expert in self.experts]).argmin(0)
        if self.selector is None:
            raise UnseenTask("the selector has not been trained yet")
        return self.selector.answers(inputs).argmax(1)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return argmax expert[selector(x)](x), whatever the task. Raise UnseenTask for one not learned yet."""
        if not self.experts or (self.served and task_id is not None and task_id not in self.served):
            raise UnseenTask(f"task {task_id} has not been learned" if self.served else "nothing has been learned yet")
        if self.config.route == "task":
            if task_id is None:
                raise UnseenTask("strategy.route=task answers for a task that is named")
            counts = self.served[task_id]
            return self.experts[max(counts, key=counts.__getitem__)].answers
        if len(self.experts) > 1 and self.config.route == "selector" and self.selector is None:
            raise UnseenTask("the selector has not been trained yet")
        return self._predict

    @torch.no_grad()
    def _predict(self, inputs: Inputs) -> Tensor:
        return routed_answers(self.experts, self.route(inputs), inputs, outputs=self.info.n_outputs)

    # -- kept and told ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return experts, selector, memories and counts."""
        return {
            "experts": [expert.state_dict() for expert in self.experts],
            "counts": (self.active, self.switches, self.refused),
            "trail": self.trail.state_dict(),
            "served": self.served,
            "selector": None if self.selector is None else self.selector.state_dict(),
            "memory": self.memory.state_dict(),
            "recent": self.recent.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.experts = []
        for each in state["experts"]:
            self._create()
            self.experts[-1].load_state_dict(each, self.info.device)
        self.active, self.switches, self.refused = state["counts"]
        self.served, self.selector = state["served"], None
        self.trail.load_state_dict(state["trail"], self.info.device)
        if state["selector"] is not None:
            self.selector = self._new_selector(len(state["selector"]["network"]["heads.opened"]))
            self.selector.load_state_dict(state["selector"], self.info.device)
        self.memory.load_state_dict(state["memory"])
        self.recent = self._empty_recent()
        self.recent.load_state_dict(state["recent"])

    def model_parameters(self) -> int:
        """Return the parameters that are stored: of experts and selector, after pruning."""
        return sum(stored_parameters(each.network) for each in self._networks())

    def _networks(self) -> list[Expert]:
        return [*self.experts, *([] if self.selector is None else [self.selector])]

    def diagnostics(self) -> dict[str, Any]:
        """Return sizes before and after pruning and the counts of the detector."""
        return {
            "parameters_before_pruning": sum(each.size for each in self._networks()),
            "parameters_after_pruning": self.model_parameters(),
            "experts_made": len(self.experts),
            "switches": self.switches,
            "switches_beyond_max_experts": self.refused,
            "memory_samples": len(self.memory) + len(self.recent),
            "memory_bytes": self.memory.bytes_stored() + self.recent.bytes_stored(),
        }

    def expected_samples(self, info: StreamInfo) -> int:
        """Return the stream, the selector's trainings, and a pruning; how many experts come is not known."""
        c = self.config
        every = c.selector_every or info.n_experiences
        return info.planned_samples + c.selector_memory * c.selector_epochs * (info.n_experiences // every)
