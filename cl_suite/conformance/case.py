"""The small synthetic stream of the conformance suite, and runs on it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cl_suite.core.errors import UnseenTask
from cl_suite.core.registry import Chosen
from cl_suite.core.samples import Samples
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.seeding import Seeds, generator_for
from cl_suite.core.strategy import Strategy
from cl_suite.core.stream import StreamData, TaskData
from cl_suite.core.types import TrainSettings
from cl_suite.data.prepare import PrepareVectors
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness, Results

N_TASKS = 3
CLASSES = 2  # per task
TRAIN = TrainSettings(epochs=4, batch_size=16)


def conformance_stream(*, exchanged: bool = False) -> StreamData:
    """Gaussian clusters, one per class, the same for every check; `exchanged`: the two labels of each task swapped."""
    generator = generator_for(0, "conformance")
    centres = 4.0 * torch.nn.functional.normalize(torch.randn(N_TASKS * CLASSES, 12, generator=generator), dim=1)

    def draw(task: int, count: int) -> Samples:
        targets = torch.arange(CLASSES).repeat_interleave(count)
        noise = torch.randn(len(targets), 12, generator=generator)
        inputs = centres[targets + task * CLASSES] + noise
        return Samples(inputs, targets.flip(0) if exchanged else targets)

    tasks = [TaskData(f"task {t}", draw(t, 40), draw(t, 20), ("a", "b")) for t in range(N_TASKS)]
    return StreamData(tuple(tasks), PrepareVectors())


def present(
    scenario: Scenario,
    *,
    seed: int = 0,
    train: TrainSettings = TRAIN,
    exchanged: bool = False,
    kind: type[ScenarioStream] = ScenarioStream,
) -> ScenarioStream:
    """Return the stream as a scenario presents it."""
    return kind(
        "the conformance stream",
        conformance_stream(exchanged=exchanged),
        scenario,
        train=train,
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )


def harness_for(
    chosen: Chosen, config: Any, scenario_stream: ScenarioStream, *, kind: type[Harness] = Harness, **options: Any
) -> Harness:
    """Return a harness for a fresh strategy with a small MLP."""
    info = scenario_stream.info
    assert isinstance(info.input_shape, tuple)
    shape = info.input_shape
    strategy = chosen.cls(dataclasses.replace(config))
    return kind(strategy, scenario_stream, lambda: build_network("mlp", shape, info.n_outputs, hidden=(32,)), **options)


class Straight(NamedTuple):
    """A run from the first experience to the last, with nothing in between."""

    R: list[list[float | None]]
    state: dict[str, Any]  # a copy, as it was when the run ended
    harness: Harness  # its strategy may be asked for answers


class Case:
    """A strategy in a scenario of the conformance stream, and the straight run that its promises are compared with."""

    def __init__(self, chosen: Chosen, config: Any, scenario: Scenario) -> None:
        self.chosen, self.config, self.scenario = chosen, config, scenario

    def present(self, **options: Any) -> ScenarioStream:
        """Return the stream as the scenario presents it; see `present`."""
        return present(self.scenario, **options)

    def harness(self, scenario_stream: ScenarioStream | None = None, **options: Any) -> Harness:
        """Return a harness for a fresh strategy; see `harness_for`."""
        return harness_for(self.chosen, self.config, scenario_stream or self.present(), **options)

    def run(self, **options: Any) -> tuple[Results, Strategy]:
        """Run a fresh strategy to the end; return what was measured and the strategy."""
        harness = self.harness(self.present(**options))
        return harness.run(), harness.strategy

    @cached_property
    def straight(self) -> Straight:
        """The run with seed 0."""
        harness = self.harness()
        R = harness.run().R
        return Straight(R, copy_state(harness.strategy.state_dict()), harness)


def predictors(strategy: Strategy, scenario_stream: ScenarioStream) -> Iterator[tuple[int, Callable[[Any], Tensor]]]:
    """Yield (task, predictor) for every task the strategy answers for."""
    for task in scenario_stream.tasks:
        try:
            yield task.index, task.predictor_of(strategy)
        except UnseenTask:
            continue


def copy_state(value: Any) -> Any:
    """Return a copy that later changes do not reach."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copy_state(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [copy_state(entry) for entry in value]
    return value


def states_equal(a: Any, b: Any) -> bool:
    """Return whether two states are equal, tensors bit for bit."""
    if isinstance(a, Tensor):
        same_kind = isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype
        return same_kind and bool(((a == b) | (a.isnan() & b.isnan())).all())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(states_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(states_equal, a, b))
    return bool(a == b or (a != a and b != b))  # NaN is equal to NaN here


def random_states() -> dict[str, Any]:
    """Return the states of all global generators, by the name of their library."""
    parts = np.random.get_state()
    numpy_state = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
    return {"torch": torch.get_rng_state(), "numpy": numpy_state, "random": random.getstate()}


def training_modes(value: Any) -> list[bool]:
    """Return whether each module is in training mode, for the networks among a strategy's attributes."""
    if isinstance(value, nn.Module):
        return [module.training for module in value.modules()]
    if isinstance(value, Strategy):
        return training_modes(vars(value))
    if isinstance(value, dict):
        return training_modes(list(value.values()))
    if isinstance(value, list | tuple):
        return [mode for entry in value for mode in training_modes(entry)]
    return []


def inputs_of(scenario_stream: ScenarioStream, count: int) -> Tensor:
    """Return the first test inputs of the first task, [count, D]."""
    inputs = scenario_stream.tasks[0].test.inputs
    assert isinstance(inputs, Tensor)
    return inputs[:count]
