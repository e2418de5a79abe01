"""A strategy of Avalanche as one of ours: its own loop, under our metering, on our network, scored by us."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_suite.avalanche.options import options_class, options_of
from cl_suite.avalanche.presence import load_avalanche
from cl_suite.avalanche.recipe import AvalancheRecipe
from cl_suite.core.errors import UnseenTask, UsageError
from cl_suite.core.experience import Experience, ForeignLoop
from cl_suite.core.objective import Classification, class_mask, restrict
from cl_suite.core.scenario import Requirement
from cl_suite.core.strategy import Predictor, Strategy
from cl_suite.core.types import Inputs, StreamInfo


class AvalancheStrategy(Strategy):
    """A strategy of the library Avalanche (Carta et al. 2023, JMLR 24): its loop trains our network.

    An interrupted run starts anew: Avalanche's strategies cannot be saved without pickle, and not with it either.
    """

    source = "Carta et al. 2023, Avalanche: A PyTorch Library for Deep Continual Learning, JMLR 24"
    resumable = False
    recipe: ClassVar[AvalancheRecipe]
    target: ClassVar[Any]
    own: ClassVar[tuple[str, ...]] = ()  # options that are arguments of the target's constructor

    @dataclass
    class Config:
        """Options of the optimiser, beside those of the strategy's constructor."""

        optimizer: str = "sgd"  # sgd, adam, rmsprop
        lr: float = 0.01  # of the optimiser
        momentum: float = 0.9  # of sgd and rmsprop; adam has its own
        weight_decay: float = 0.0  # added to the gradient, times the weight
        renew_optimizer: bool = False  # at each experience, as our own strategies do; Avalanche keeps its state

    def setup(self, info: StreamInfo, build_model: Callable[[], nn.Module]) -> None:
        """Build the network and the strategy. Raise UsageError where Avalanche has no form for such a stream."""
        if not isinstance(info.objective, Classification) or isinstance(info.input_shape, Mapping):
            raise UsageError(
                f"Avalanche's strategies learn one class per sample, of one tensor; {info.stream} has "
                f"{'dictionaries of tensors' if isinstance(info.input_shape, Mapping) else info.objective.name}. "
                "Use another stream, or a strategy of cl-suite."
            )
        blocks = [c for block in info.task_classes or () for c in block]
        if Requirement.NEW_CLASSES in self.recipe.requires and len(set(blocks)) < len(blocks):
            raise UsageError(
                f"this strategy needs new classes in each task, but the tasks of {info.stream} share their outputs. "
                "Use another strategy, e.g. avalanche/replay."
            )
        from cl_suite.avalanche.datasets import GrowingBenchmark, SampleCount

        self.info, self._build_model = info, build_model
        self._count, self._benchmark = SampleCount(), GrowingBenchmark(info.n_outputs)
        self._classes: dict[int, tuple[int, ...]] = {}  # of each experience so far
        self._learning = False
        self._penalty = 0.0  # what plugins added to the loss of a batch, mean over the latest experience
        self._past: list[Any] = []  # the latest experience; all so far, where a strategy learns them again
        self.network: Any = build_model()
        self._make()

    def _make(self) -> None:
        from cl_suite.avalanche.builders import BUILDERS
        from cl_suite.avalanche.networks import PreparedView
        from cl_suite.avalanche.strategy_builder import StrategyBuilder

        self._view = PreparedView(self.info.prepare)
        builder = StrategyBuilder(self.target, self.info, self.network, self.config, self.own, self._view)
        self.inner: Any = BUILDERS[self.recipe.build](builder)
        # PackNet hands over a list that may hold None.
        self._plugins = [each for each in self.inner.plugins if each is not None and not isinstance(each, list)]
        self.model: nn.Module = self.inner.model

    def learn(self, experience: Experience) -> None:
        """Let Avalanche train on the experience."""
        from cl_suite.avalanche.builders import ROWS
        from cl_suite.avalanche.plugins import FirstPlugin, LastPlugin
        from cl_suite.avalanche.strategy_builder import quiet

        if experience.index and self.recipe.anew:
            self.network = self._build_model()
            self._make()
        assert experience.classes is not None
        self._classes[experience.index] = experience.classes
        for classes in self._classes.values():
            self.network.heads.open(classes)
        if not experience.index:
            experience.note("a run of Avalanche's cannot be continued: interrupted, it starts anew")
        self._count.current = experience.index
        latest = self._experience(experience)
        self._past = [*self._past, latest] if self.recipe.anew else [latest]
        first = FirstPlugin(
            ForeignLoop(experience), self._count, self._view, self._augmenting(experience), ROWS[self.recipe.rows]
        )
        self.inner.plugins = [first, *self._plugins, LastPlugin(first)]
        self._learning = True
        try:
            with quiet():
                for part in self._parts(experience):
                    self.inner.train(
                        part, eval_streams=[], pin_memory=False, reset_optimizer_state=self.config.renew_optimizer
                    )
                    first.end()
        finally:
            self._learning = False
            first.abandon()
            self.inner.plugins = list(self._plugins)
        self._penalty = first.mean_penalty()
        self.model = self.inner.model
        # What a strategy computes when it is first asked is part of learning.
        self._answer(self.info.prepare(experience.first(2).raw), self._label(experience.index))

    def _experience(self, experience: Experience) -> Any:
        """Return the experience as Avalanche knows it."""
        from cl_suite.avalanche.datasets import SingleExperience, TensorSamples, as_dataset

        raw, targets = experience.stored()
        assert isinstance(raw, Tensor) and experience.classes is not None
        if raw.is_floating_point() or self.recipe.prepared:
            prepared = self.info.prepare(raw)
            assert isinstance(prepared, Tensor)
            raw = prepared
        samples = TensorSamples(raw, targets, experience=experience.index, count=self._count)
        before = {c for index, block in self._classes.items() if index < experience.index for c in block}
        self._benchmark.add(experience.classes, self.info.n_outputs)
        task = self._label(experience.index)
        return SingleExperience(
            as_dataset(samples, task=task),
            index=experience.index,
            task=task,
            classes=experience.classes,
            before=before,
            benchmark=self._benchmark,
        )

    def _parts(self, experience: Experience) -> Sequence[Any]:
        """Return what `train` is called with: the experience, all so far at once, or mini-batches in random order."""
        if self.recipe.anew:
            return [list(self._past)]
        if not self.recipe.mini:
            return self._past
        from cl_suite.avalanche.datasets import SingleExperience

        whole, parts = self._past[0], []
        for epoch in range(experience.epochs):
            order = torch.randperm(experience.n_samples, generator=experience.generator("mini", epoch))
            for positions in order.split(experience.batch_size):
                parts.append(
                    SingleExperience(
                        whole.dataset.subset(positions.tolist()),
                        index=experience.index,
                        task=whole.task_label,
                        classes=sorted(whole.classes_in_this_experience),
                        before=whole.previous_classes,
                        benchmark=self._benchmark,
                    )
                )
        return parts

    def _label(self, task: int) -> int:
        """Return Avalanche's task label: one for all where the task is not known at test."""
        return task if self.info.task_classes is not None else 0

    def _augmenting(self, experience: Experience) -> torch.Generator | None:
        if not self.info.train.augment or self.recipe.prepared:
            return None
        return experience.generator("augment", device=self.info.device)

    def predictor(self, task_id: int | None = None) -> Predictor:
        """Return Avalanche's own evaluation step, restricted to the classes that may be answered."""
        if not self._classes or (self._learning and self.recipe.at_end):
            raise UnseenTask("nothing has been learned yet, or it is being learned")
        if task_id is not None and task_id not in self._classes:
            raise UnseenTask(f"task {task_id} has not been learned")
        answered = chain(*self._classes.values()) if task_id is None else self._classes[task_id]
        visible = class_mask(answered, self.info.n_outputs, self.info.device)
        if self.network.heads.future and task_id is None:
            visible[:] = True

        def answer(inputs: Inputs) -> Tensor:
            assert isinstance(inputs, Tensor)
            outputs = self._answer(inputs, self._label(task_id or 0))
            logits = outputs.new_full((len(outputs), self.info.n_outputs), -torch.inf)
            known = min(outputs.shape[1], self.info.n_outputs)  # classifiers may know fewer, or have room for more
            logits[:, :known] = outputs[:, :known]
            return restrict(logits, visible)

        return answer

    def _answer(self, inputs: Any, task: int) -> Tensor:
        """Return what Avalanche's evaluation makes of prepared inputs [B, ...]; everything is as before afterwards."""
        from cl_suite.avalanche.strategy_builder import quiet

        inner = self.inner
        modes = {module: module.training for module in inner.model.modules()}
        state = {name: getattr(inner, name) for name in ("experience", "is_training", "mbatch", "mb_output", "loss")}
        inner.is_training = False
        inner.model.eval()
        inner.experience = self._past[-1]
        labels = torch.full((len(inputs),), task, device=inputs.device)
        plugins, inner.plugins = inner.plugins, self._answering()
        try:
            with torch.no_grad(), quiet():
                inner.mbatch = [inputs, torch.zeros_like(labels), labels]
                inner._before_eval_forward()
                inner.mb_output = inner.forward()
                inner._after_eval_forward()
                inner._after_eval_iteration()
                return inner.mb_output.detach()
        finally:
            inner.plugins = plugins
            for name, value in state.items():
                setattr(inner, name, value)
            for module, mode in modes.items():
                module.training = mode

    def _answering(self) -> list[Any]:
        """Return the plugins that make answers; clock and metrics only count."""
        aside = (self.inner.clock, self.inner.evaluator)
        return [each for each in self._plugins if each not in aside]

    def state_dict(self) -> dict[str, Any]:
        """Return network and what the strategy holds beside it, for the record: a run cannot be continued from it."""
        from cl_suite.avalanche.kept_tensors import kept_tensors

        self._count.paused = True
        try:
            tensors = kept_tensors(self.inner)
        finally:
            self._count.paused = False
        return {"model": self.inner.model.state_dict(), **tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse: nothing is ever saved to be continued."""
        raise UsageError("a run of a strategy of Avalanche's cannot be continued. Start it anew with --no-resume.")

    def constraints(self) -> dict[str, float]:
        """Return the mean penalty that plugins added to the loss in the latest experience, where there is one."""
        return {self.recipe.penalty: self._penalty} if self.recipe.penalty else {}

    def trained_network(self) -> nn.Module:
        """Return the network in Avalanche's wrapping."""
        return self.inner.model

    def model_parameters(self) -> int:
        """Return the number of parameters of the network in use."""
        return sum(parameter.numel() for parameter in self.inner.model.parameters())


def avalanche_strategy(name: str, recipe: AvalancheRecipe, *, module: str) -> type[AvalancheStrategy]:
    """Return the strategy that a recipe describes; Avalanche is imported now.

    module: of the table that has the recipe
    Raise UsageError if the current release cannot run it.
    """
    if recipe.broken:
        raise UsageError(f"avalanche/{name} cannot run here: {recipe.broken}. Use another; `cl-bench list` names them.")
    target = load_avalanche(recipe.target)
    options = options_of(target.__init__, filled=recipe.filled, defaults=recipe.defaults)
    members = {
        "__module__": module,
        "__doc__": f"{recipe.summary}\n\nAvalanche's {target.__name__}.",
        "recipe": recipe,
        "requires": recipe.requires,
        "target": target,
        "own": tuple(options),
        "Config": options_class(AvalancheStrategy.Config, options, defaults=recipe.defaults, module=module),
    }
    return type(target.__name__, (AvalancheStrategy,), members)
