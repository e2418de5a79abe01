"""What a saved model answers: logits and names of classes, for samples as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import UnseenTask, UsageError, nearest
from cl_suite.core.objective import Classification, MultiLabel, class_mask, restrict
from cl_suite.core.samples import Transform
from cl_suite.core.scenario import Requirement
from cl_suite.core.scenario_stream import EVALUATION_BATCH
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.core.stream import SampleEncoder
from cl_suite.core.types import Inputs, StreamInfo, count_samples, map_inputs
from cl_suite.data.descriptions import described, same
from cl_suite.evaluation.preferences.protocols import PreferenceConditioned
from cl_suite.saved_models.raw_inputs import as_stored


@dataclass(frozen=True)
class SavedTask:
    """A task as its model knows it.

    classes: names, in the order of `outputs`, its entries of the logits
    shape, dtype: of one sample as it is stored; by name where there are several tensors
    texts:        whether samples are texts
    transform:    what makes the task's samples of stored ones; None = nothing
    """

    index: int
    name: str
    classes: tuple[str, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...] | dict[str, tuple[int, ...]]
    dtype: str | dict[str, str]
    texts: bool
    transform: Transform | None


class SavedPredictor:
    """Answers as a run did at its end. It is made by `load_predictor`; nothing it does changes it.

    tasks:   the tasks, each with name, classes and outputs
    classes: names of the classes it may answer, in the order of their outputs
    info:    strategy, options, stream, scenario, seed, versions, shape of a prepared sample

    Inputs are as the stream stores them: images [B, C, H, W] uint8, vectors [B, D], dictionaries of tensors (robots),
    or a list of texts. NumPy arrays will do. They are answered 250 at a time, as a run scores them, so that what
    depends on the batch (a network that normalises each by itself) depends on it in the same way.

    task: a number or a name. It must be given where the scenario tells the task, and where tasks make their samples in
          different ways (a permutation, a rotation); else it is ignored
    preference: one weight per task learned, in the order of learning; of strategies that answer for one (ibcl)
    """

    def __init__(
        self,
        strategy: Strategy,
        stream: StreamInfo,
        tasks: tuple[SavedTask, ...],
        *,
        so_far: frozenset[int],
        encoders: Sequence[SampleEncoder],
        facts: Mapping[str, Any],
        files: TemporaryDirectory[str] | None = None,
    ) -> None:
        self.strategy, self.stream, self.tasks = strategy, stream, tasks
        self.info = dict(facts)
        self._so_far, self.encoders = so_far, tuple(encoders)
        self._files = files  # of an encoder: there as long as this is
        self.tells_task = Requirement.TASK_ID_AT_TEST in stream.scenario.provides
        self._one_way = _alike(tasks)

    def __repr__(self) -> str:
        what = f"{self.info['strategy']} after {len(self.tasks)} tasks of {self.info['stream']}"
        return f"SavedPredictor({what}, {self.stream.scenario}, {len(self._so_far)} classes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it may answer where no task is told, in the order of their outputs."""
        names = self.names()
        return tuple(names[output] for output in sorted(self._so_far))

    @property
    def answers_logits(self) -> bool:
        """Whether the softmax of its answers is its probability of each class; distances are not."""
        return self.strategy.answers_logits()

    def names(self, task: SavedTask | None = None) -> list[str]:
        """Return a name for each output; of one that tasks share, theirs with " or " between unless a task is given."""
        names: list[list[str]] = [[] for _ in range(self.stream.n_outputs)]
        for each in self.tasks if task is None else (task,):
            for output, name in zip(each.outputs, each.classes, strict=True):
                names[output] += [] if name in names[output] else [name]
        return [" or ".join(several) for several in names]

    def __call__(
        self, inputs: Any, task: int | str | None = None, *, preference: Sequence[float] | None = None
    ) -> Tensor:
        """Return logits [B, C] over all outputs of the stream; -inf where no output answers.

        Raise UsageError for inputs of another shape or type, an unknown task, one that is needed and not given, or a
        preference the strategy cannot answer for.
        """
        known = self.task(task)
        raw = as_stored(inputs, known or self.tasks[0])
        answer = self.answering(known, preference)
        positions = torch.arange(count_samples(raw)).split(EVALUATION_BATCH)
        with torch.no_grad():
            parts = [self.answer_batch(map_inputs(lambda v, p=p: v[p], raw), known, answer) for p in positions]  # type: ignore[misc]
        return torch.cat(parts) if parts else torch.zeros(0, self.stream.n_outputs)

    def predict(
        self, inputs: Any, task: int | str | None = None, *, preference: Sequence[float] | None = None
    ) -> list[Any]:
        """Return the name of the class of each sample: among the task's where it is told, else among those so far.

        Of several labels a sample, a tuple of the names that hold. Raise UsageError as a call does, and where the model
        answers something else than classes (a robot's actions).
        """
        known = self.task(task)
        logits = self(inputs, task, preference=preference)
        names = self.names(known)
        allowed = self.allowed(known)
        if isinstance(self.stream.objective, MultiLabel):
            holds = (logits > 0) & allowed
            return [tuple(names[output] for output in row.nonzero().flatten().tolist()) for row in holds]
        self.check_classes()
        return [names[output] for output in restrict(logits, allowed).argmax(dim=1).tolist()]

    def check_classes(self) -> None:
        """Raise UsageError where answers are no classes."""
        if not isinstance(self.stream.objective, Classification):
            raise UsageError(
                f"this model answers {self.stream.objective.name.replace('_', ' ')}, not one class per sample. "
                "Call it for its outputs."
            )

    def allowed(self, task: SavedTask | None) -> Tensor:
        """Return [C] bool, the outputs an answer may be among."""
        outputs = task.outputs if self.tells_task and task is not None else self._so_far
        return class_mask(outputs, self.stream.n_outputs, self.stream.device)

    def task(self, task: int | str | None) -> SavedTask | None:
        """Return a task by number or name; None where none is given and none is needed. Raise UsageError."""
        if task is None:
            if self.tells_task:
                raise UsageError(f"this model must be told the task: {self._which()}.")
            if not self._one_way:
                raise UsageError(
                    f"the tasks of this model make their samples in different ways: say of which these are, "
                    f"{self._which()}."
                )
            return None
        named = {each.name: each for each in self.tasks} | {str(each.index): each for each in self.tasks}
        if str(task) not in named:
            raise UsageError(f"there is no task {task!r}: {self._which()}. {nearest(str(task), named)}")
        return named[str(task)]

    def answering(self, task: SavedTask | None, preference: Sequence[float] | None) -> Predictor:
        """Return the strategy's own predictor, of prepared inputs."""
        try:
            if preference is None:
                return self.strategy.predictor(task.index if self.tells_task and task is not None else None)
            if not isinstance(self.strategy, PreferenceConditioned):
                raise UsageError(f"{self.info['strategy']} does not answer for a preference. Leave it out.")
            return self.strategy.predictor_for(preference)
        except UnseenTask as problem:
            raise UsageError(f"this model has no answer: {problem}.") from problem

    def answer_batch(self, raw: Inputs, task: SavedTask | None, answer: Callable[[Inputs], Tensor]) -> Tensor:
        """Return what `answer` makes of stored samples, prepared as one batch on the model's device."""
        inputs = map_inputs(lambda value: value.to(self.stream.device), raw)
        transform = (task or self.tasks[0]).transform
        if transform is not None:
            inputs = transform(inputs)
        for encoder in self.encoders:
            inputs = encoder(inputs)
        return answer(self.stream.prepare(inputs))

    def export(
        self, path: Path | str, task: int | str | None = None, *, preference: Sequence[float] | None = None
    ) -> Path:
        """Write a program from stored samples to logits: `.pt2` (torch.export) or `.onnx`; return where it lies.

        Raise UsageError where the answer is no one program, or does not come out the same.
        """
        from cl_suite.saved_models.export import export_program

        return export_program(self, Path(path), task, preference=preference)

    def _which(self) -> str:
        several = [f"{each.index} ({each.name})" for each in self.tasks[:5]]
        more = f", ... {self.tasks[-1].index}" if len(self.tasks) > 5 else ""
        return f"task {', '.join(several)}{more}"


def _alike(tasks: Sequence[SavedTask]) -> bool:
    """Whether all tasks are stored alike and make their samples in the same way."""
    first, *others = ((each.shape, each.dtype, described(each.transform, "")) for each in tasks)
    return all(same(first, other) for other in others)
