"""A stream under a scenario: which experiences are handed over, what they tell, and how tasks score a predictor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cl_suite.core.errors import RunError, UsageError
from cl_suite.core.experience import Experience
from cl_suite.core.listener import Hooks
from cl_suite.core.objective import Objective, Score, class_mask
from cl_suite.core.samples import Samples, Source, hold_out
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.schedule import HiddenOrder, Schedule, hidden_order, plan_visits
from cl_suite.core.seeding import Seeds, generator_for
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.core.stream import Scorer, StreamData, TaskData
from cl_suite.core.types import Inputs, Prepare, StreamInfo, TrainSettings

SEGMENTS = 13  # of a stream without boundaries; the same for every stream, so that it tells nothing about tasks
EVALUATION_BATCH = 250  # samples; a constant, so that batch-dependent predictors score alike everywhere


@dataclass(frozen=True)
class Task:
    """A column of R: held-out samples and the rule that scores a predictor on them."""

    index: int
    name: str
    classes: tuple[int, ...]  # its entries of the global logit vector
    test: Samples
    prepare: Prepare
    objective: Objective
    n_outputs: int
    answer_within_task: bool  # task-incremental: the argmax is restricted to `classes`
    scorer: Scorer | None = None  # scores it in place of the test samples

    @property
    def count(self) -> int:
        """What a score is a mean of: test samples, or the trials of its scorer."""
        return len(self.test) if self.scorer is None else self.scorer.count

    def score(self, predictor: Callable[[Inputs], Tensor], classes_so_far: frozenset[int]) -> Score:
        """Score `predictor` (inputs -> logits [B, C]) in one pass over the test samples.

        classes_so_far: classes that may compete where the answer is not restricted to the task
        Raise UnseenTask if the predictor does.
        """
        if self.scorer is not None:
            return self.scorer.score(self, predictor)
        device = self.test.targets.device
        own_mask = class_mask(self.classes, self.n_outputs, device)
        allowed = self.answer_among(classes_so_far)
        correct, within = torch.zeros((), device=device), torch.zeros((), device=device)
        not_a_number = torch.zeros((), dtype=torch.bool, device=device)
        with torch.no_grad():
            for raw, targets in self.test.chunks(EVALUATION_BATCH):
                outputs = predictor(self.prepare(raw))
                not_a_number |= outputs.isnan().any()
                correct += self.objective.correct(outputs, targets, allowed).sum()
                within += self.objective.correct(outputs, targets, own_mask).sum()
        if bool(not_a_number):  # an argmax over NaN would be counted as an answer
            raise RunError(
                f"the predictor answered NaN on task {self.name!r}. Look for a division by zero, or a lower rate."
            )
        count = len(self.test)
        rules_differ = not self.answer_within_task and not bool(own_mask.all())
        return Score(correct.item() / count, count, within.item() / count if rules_differ else None)

    def answer_among(self, classes_so_far: frozenset[int]) -> Tensor:
        """Return [C] bool, the outputs that an answer may be among; `classes_so_far` as in `score`."""
        classes = self.classes if self.answer_within_task else classes_so_far
        return class_mask(classes, self.n_outputs, self.test.targets.device)

    def predictor_of(self, strategy: Strategy) -> Predictor:
        """Return a strategy's predictor for this task; its id is given where the scenario tells it.

        Raise UnseenTask if there is none.
        """
        return strategy.predictor(self.index if self.answer_within_task else None)


class ScenarioStream:
    """Everything the harness hands to a strategy and scores it by, for one stream, scenario and seed.

    info:  what a strategy is told at the start
    tasks: the columns of R
    ood:   samples that belong to no task; None where the stream has none
    """

    def __init__(
        self,
        name: str,
        data: StreamData,
        scenario: Scenario,
        *,
        train: TrainSettings,
        seeds: Seeds,
        device: torch.device,
        card: dict[str, object] | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        if data.single_head and scenario is Scenario.CLASS_INCREMENTAL:
            raise UsageError(
                f"{name} with one head for all tasks has no {scenario} form. "
                f"Use --scenario {Scenario.DOMAIN_INCREMENTAL}, or give each task outputs of its own."
            )
        self.scenario = scenario
        self._schedule = schedule or Schedule()
        if self.has_boundaries and not self._schedule.is_plain:
            raise UsageError(
                f"schedule.* lays out a stream without boundaries, but {scenario} has them. "
                f"Use --scenario {Scenario.TASK_AGNOSTIC}."
            )
        self._data = data.to(device)
        self._train, self._seeds, self._device = train, seeds, device
        self._blocks = _class_blocks(self._data.tasks, shared=self._labels_shared(scenario))
        n_outputs = 1 + max(max(block) for block in self._blocks)
        # Without boundaries no experience has validation samples of its own: nothing is held out.
        share = train.validation if self.has_boundaries else 0.0
        splits = [
            hold_out(_relabel(task.train, block), share, generator_for(seeds.data, "validation", number))
            for number, (task, block) in enumerate(zip(self._data.tasks, self._blocks, strict=True))
        ]
        self.ood = self._data.ood
        self._training = [part for part, _ in splits]
        self._validation = [part for _, part in splits]
        if train.early_stopping and not all(map(len, self._validation)):
            raise UsageError(
                f"train.validation={train.validation} holds out no sample of some experience, and "
                "train.early_stopping watches their loss. Hold out more."
            )
        within = Requirement.TASK_ID_AT_TEST in scenario.provides
        self.tasks = tuple(
            Task(
                index=number,
                name=task.name,
                classes=block,
                test=_relabel(task.test, block),
                prepare=self._data.prepare,
                objective=self._data.objective,
                n_outputs=n_outputs,
                answer_within_task=within,
                scorer=task.scorer,
            )
            for number, (task, block) in enumerate(zip(self._data.tasks, self._blocks, strict=True))
        )
        sizes = [len(part) for part in self._training]
        self.visits = plan_visits(sizes, self._schedule, epochs=train.epochs)
        if not self.has_boundaries and self.n_experiences > self.visits[-1].end:
            n, samples = self.n_experiences, self.visits[-1].end
            raise UsageError(f"train.segments={n} is too many for a stream of {samples} samples. Use fewer.")
        self.info = StreamInfo(
            stream=name,
            scenario=scenario,
            n_experiences=self.n_experiences,
            input_shape=data.input_shape,
            n_outputs=n_outputs,
            objective=data.objective,
            prepare=data.prepare,
            train=train,
            seeds=seeds,
            device=device,
            task_classes=tuple(self._blocks) if within else None,
            planned_samples=self.visits[-1].end,
            planned_steps=self._planned_steps(),
            card=card or {},
            vocabulary=data.vocabulary,
        )

    def _planned_steps(self) -> int:
        epochs, size = self._train.epochs, self._train.batch_size
        if self.has_boundaries:
            return sum(-(-len(part) // size) * epochs for part in self._training)
        return sum(-(-(b - a) // size) for a, b in pairwise(self._cuts()))

    def _labels_shared(self, scenario: Scenario) -> bool:
        if self._data.single_head:
            return True
        if scenario is Scenario.TASK_AGNOSTIC:
            return self._data.labels == "shared" or self._schedule.labels == "local"
        return scenario is Scenario.DOMAIN_INCREMENTAL

    @property
    def has_boundaries(self) -> bool:
        """Whether experiences coincide with tasks."""
        return Requirement.BOUNDARIES in self.scenario.provides

    @property
    def blur(self) -> int:
        """Samples around each change within which both tasks are mixed."""
        return self._schedule.blur

    @property
    def n_experiences(self) -> int:
        """Number of `learn` calls: one per task, or evenly spaced segments that tell nothing about tasks."""
        if self.has_boundaries:
            return len(self._data.tasks)
        return self._train.segments or SEGMENTS

    def class_names(self) -> list[str]:
        """Return a name for each entry of the logit vector, none twice; one that tasks share has all their names."""
        names: list[dict[str, None]] = [{} for _ in range(self.info.n_outputs)]
        owners: list[set[int]] = [set() for _ in names]
        for number, (task, block) in enumerate(zip(self._data.tasks, self._blocks, strict=True)):
            for entry, name in zip(block, task.classes, strict=True):
                names[entry][str(name)] = None
                owners[entry].add(number)
        joined = [" / ".join(each) for each in names]
        return [
            name if joined.count(name) == 1 else f"{name} (task {', '.join(map(str, sorted(tasks)))})"
            for name, tasks in zip(joined, owners, strict=True)
        ]

    def training_samples(self, experience: int) -> int:
        """Return how many training samples an experience with boundaries has."""
        return len(self._training[experience])

    def let_go_of_training_samples(self) -> None:
        """Free what is trained on, once nothing will be; tasks, and what a strategy is told, stay."""
        self._data = self._data.without_training_inputs()
        self._training = [part.hollow() for part in self._training]
        self._validation = [part.hollow() for part in self._validation]

    def seen_after(self, n_experiences: int) -> frozenset[int]:
        """Return the classes that may be answered after so many experiences."""
        if not self.has_boundaries:
            return frozenset(c for block in self._blocks for c in block)
        return frozenset(c for block in self._blocks[:n_experiences] for c in block)

    def answerable(self, task: Task, n_experiences: int) -> bool:
        """Whether a score has a meaning: some class of the task may be answered (a head exists)."""
        return bool(self.seen_after(n_experiences) & set(task.classes))

    def experiences(self, hooks: Hooks, *, start: int = 0) -> Iterator[Experience]:
        """Yield experiences from number `start` on; the harness closes each when `learn` returns."""
        tells = self.scenario.provides
        segments = None if self.has_boundaries else self._segments()
        for index in range(start, self.n_experiences):
            knows_task = Requirement.TASK_ID_AT_TRAIN in tells
            source: Source = self._training[index] if segments is None else segments[index]
            held = self._validation[index] if self.has_boundaries else None
            yield Experience(
                index=index,
                source=source,
                prepare=self._data.prepare,
                train=self._train,
                seeds=self._seeds,
                device=self._device,
                task_id=index if knows_task else None,
                classes=self._blocks[index] if knows_task else None,
                validation=held if held is not None and len(held) else None,
                ordered=segments is not None,
                hooks=hooks,
            )

    def begun(self, experience: int) -> list[int]:
        """Return the tasks of which the stream has shown something by the end of an experience; for scoring only."""
        if self.has_boundaries:
            return list(range(experience + 1))
        end = self._cuts()[experience + 1]
        return sorted({visit.task for visit in self.visits if visit.start - self.blur / 2 < end})

    def _segments(self) -> list[HiddenOrder]:
        """The whole stream in its hidden order, cut into equal segments."""
        everything = hidden_order(self._training, self.visits, blur=self._schedule.blur, seeds=self._seeds)
        return [everything.cut(start, end) for start, end in pairwise(self._cuts())]

    def _cuts(self) -> list[int]:
        """Return where each segment begins, and the end."""
        ends = torch.linspace(0, self.visits[-1].end, self.n_experiences + 1, dtype=torch.float64)
        return ends.round().long().tolist()


def _class_blocks(tasks: tuple[TaskData, ...], *, shared: bool) -> list[tuple[int, ...]]:
    """Give each task its entries of the global logit vector: the same ones, or a block of its own."""
    blocks, start = [], 0
    for task in tasks:
        first = 0 if shared else start
        blocks.append(tuple(range(first, first + len(task.classes))))
        start += len(task.classes)
    return blocks


def _relabel(samples: Samples, block: tuple[int, ...]) -> Samples:
    """Shift local class targets to the task's block (a block is contiguous)."""
    if samples.targets.dim() != 1 or samples.targets.is_floating_point():
        return samples
    return dataclasses.replace(samples, targets=samples.targets + block[0])


def check_scenario(stream: str, scenario: Scenario, allowed: tuple[Scenario, ...]) -> None:
    """Raise UsageError if a stream cannot be presented under `scenario`."""
    if scenario not in allowed:
        raise UsageError(f"{stream} has no {scenario} form. Use --scenario {' or '.join(allowed)}.")
