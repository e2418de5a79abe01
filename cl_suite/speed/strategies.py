"""What a strategy costs per training step: its last experience beside finetune's, alternating in one process."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.core.devices import choose_device, forked_rng, set_threads
from cl_suite.core.errors import RunError, UsageError
from cl_suite.core.listener import Hooks
from cl_suite.core.metering import Meter
from cl_suite.core.registry import STRATEGY, Chosen, choose
from cl_suite.core.samples import Samples
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.seeding import Seeds, generator_for, seed_for
from cl_suite.core.strategy import Strategy
from cl_suite.core.stream import StreamData, TaskData
from cl_suite.core.types import TrainSettings
from cl_suite.data.prepare import PrepareImages
from cl_suite.networks.network import build_network
from cl_suite.runs.config import strategy_config
from cl_suite.runs.harness import ModelFactory
from cl_suite.runs.refuse import check_requirements
from cl_suite.speed.harness import device_name, now

REFERENCE = "finetune"
SHAPE = (3, 32, 32)
CLASSES = ("a", "b")  # of every task
STORED = 2000  # images; the tasks draw on them again and again
BRIEF = 20  # steps of each experience before the last
EPOCHS = 2  # strategies with several phases divide them


@dataclass(frozen=True)
class Timing:
    """One `learn`: seconds per optimiser step, seconds of the rest (before and after the steps), steps taken."""

    step_seconds: float
    rest_seconds: float
    steps: int


def measure_strategies(
    names: Sequence[str],
    *,
    device: str = "auto",
    steps: int = 300,
    repeats: int = 3,
    model: str = "conv_small",
    batch_size: int = 64,
    tasks: int = 3,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Time the last experience of each strategy and of finetune, `repeats` times, alternating; return medians.

    A task-incremental stream of random 3x32x32 images, two classes a task. The earlier tasks are learned once, briefly;
    each timing starts from the state saved then. `steps` batches are offered; a strategy may take more or fewer steps,
    so seconds are divided by the steps it took, and `ratio` is the median over the repeats of its quotient to finetune.
    `overrides`, each `strategy.<field>=...`, are options of every strategy named; finetune keeps its defaults.
    Raise UsageError for an unknown name or a strategy that cannot run task-incremental.
    """
    for flag, value, least in (("steps", steps, 4), ("repeats", repeats, 1), ("batch-size", batch_size, 1)):
        if value < least:
            raise UsageError(f"--{flag} {value} is too small. Use {least} or more.")
    if tasks < 2:
        raise UsageError(f"--tasks {tasks} is too small: the last task is timed after earlier ones. Use 2 or more.")
    place, threads = choose_device(device), set_threads(0)
    chosen = {name: choose(STRATEGY, name) for name in dict.fromkeys((REFERENCE, *names))}
    configs = {name: strategy_config(chosen[name], overrides if name in names else (), of="speed") for name in chosen}
    for name, strategy in chosen.items():
        check_requirements(strategy, configs[name], Scenario.TASK_INCREMENTAL)
    scenario_stream = _random_stream(place, steps, batch_size, tasks)
    timings: dict[str, list[Timing]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder, forked_rng(place):
        runs = {
            name: _Run(strategy, configs[name], scenario_stream, model, Path(folder) / f"{number}.safetensors")
            for number, (name, strategy) in enumerate(chosen.items())
        }
        for _ in range(repeats):
            for name, run in runs.items():
                timings[name].append(run.time_last())
    return {
        "device": device_name(place),
        "threads": threads,
        "torch": torch.__version__,
        "model": model,
        "batch_size": batch_size,
        "tasks": tasks,
        "steps": steps,
        "repeats": repeats,
        "overrides": list(overrides),
        REFERENCE: _summary(timings[REFERENCE]),
        "strategies": {
            name: {
                **_summary(timings[name]),
                "ratio": statistics.median(
                    timing.step_seconds / other.step_seconds
                    for timing, other in zip(timings[name], timings[REFERENCE], strict=True)
                ),
            }
            for name in dict.fromkeys(names)
        },
    }


def render_strategies(measured: dict[str, Any]) -> str:
    """Return the measurement as text."""
    lines = [
        f"{measured['device']}, {measured['threads']} threads, torch {measured['torch']}; {measured['model']}, "
        f"batch {measured['batch_size']}, task {measured['tasks']} of {measured['tasks']}"
        + "".join(f", {override}" for override in measured["overrides"])
    ]
    for name, case in {f"{REFERENCE} (reference)": measured[REFERENCE], **measured["strategies"]}.items():
        ratio = f"; a step takes {case['ratio']:.2f} times as long" if "ratio" in case else ""
        lines.append(
            f"  {name}: {1000 * case['step_seconds']:.2f} ms per step, {case['steps']} steps, "
            f"{case['rest_seconds']:.2f} s before and after them{ratio}"
        )
    return "\n".join(lines)


class _Run:
    """One strategy that has learned all but the last experience, and can learn that again and again."""

    def __init__(self, chosen: Chosen, config: Any, scenario_stream: ScenarioStream, model: str, saved: Path) -> None:
        self._chosen, self._config, self._scenario_stream = chosen, config, scenario_stream
        self._model, self._saved = model, saved
        strategy, factory = self._fresh()
        self._meter = Meter()
        with self._meter.metering():
            for experience in scenario_stream.experiences(Hooks(self._meter)):
                if experience.index == scenario_stream.n_experiences - 1:
                    break
                _seed(experience.index)
                strategy.learn(experience)
                experience.close()
        self._built = factory.built
        save_state(saved, strategy.state_dict())

    def time_last(self) -> Timing:
        """Learn the last experience from the saved state, as a resumed run would; return its times."""
        strategy, factory = self._fresh()
        factory.built = self._built
        strategy.load_state_dict(load_state(self._saved))
        last = self._scenario_stream.n_experiences - 1
        (experience,) = self._scenario_stream.experiences(Hooks(self._meter), start=last)
        _seed(last)
        device = self._scenario_stream.info.device
        with self._meter.metering(), _marks(device) as marks:
            started = now(device)
            strategy.learn(experience)
            seconds = now(device) - started
        experience.close()
        if len(marks) < 2:
            raise RunError(f"{self._chosen.name} took {len(marks)} optimiser steps: there is nothing to time.")
        per_step = _between(marks[0], marks[-1]) / (len(marks) - 1)
        return Timing(per_step, max(0.0, seconds - per_step * len(marks)), len(marks))

    def _fresh(self) -> tuple[Strategy, ModelFactory]:
        info = self._scenario_stream.info
        factory = ModelFactory(lambda: build_network(self._model, SHAPE, info.n_outputs), info.seeds.model, info.device)
        strategy = self._chosen.cls(dataclasses.replace(self._config))
        _seed("setup")
        strategy.setup(info, factory)
        return strategy, factory


@contextmanager
def _marks(device: torch.device) -> Iterator[list[Any]]:
    """Mark the time of every optimiser step meanwhile; on a GPU in its own queue, so that nothing waits for it."""
    marks: list[Any] = []

    def mark(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            marks.append(event)
        else:
            marks.append(time.perf_counter())

    hook = register_optimizer_step_post_hook(mark)
    try:
        yield marks
    finally:
        hook.remove()


def _between(first: Any, last: Any) -> float:
    return last - first if isinstance(first, float) else first.elapsed_time(last) / 1000


def _seed(*purpose: object) -> None:
    torch.manual_seed(seed_for(0, "speed", *purpose))


def _random_stream(device: torch.device, steps: int, batch_size: int, tasks: int) -> ScenarioStream:
    """Return the stream: random images and labels, brief tasks and a last one of `steps` batches in all epochs."""
    generator = generator_for(0, "speed")
    images = torch.randint(0, 256, (STORED, *SHAPE), dtype=torch.uint8, generator=generator)

    def draw(batches: int) -> Samples:
        index = torch.randint(STORED, (max(1, batches // EPOCHS) * batch_size,), generator=generator)
        return Samples(images, torch.arange(len(index)) % len(CLASSES), index)

    data = [
        TaskData(f"task {t}", draw(steps if t == tasks - 1 else min(steps, BRIEF)), draw(1), CLASSES)
        for t in range(tasks)
    ]
    prepare = PrepareImages(mean=(0.5,) * SHAPE[0], std=(0.25,) * SHAPE[0])
    return ScenarioStream(
        "the speed stream",
        StreamData(tuple(data), prepare),
        Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=EPOCHS, batch_size=batch_size, augment=False),
        seeds=Seeds(0, 0, 0),
        device=device,
    )


def _summary(timings: Sequence[Timing]) -> dict[str, Any]:
    return {
        "step_seconds": statistics.median(timing.step_seconds for timing in timings),
        "rest_seconds": statistics.median(timing.rest_seconds for timing in timings),
        "steps": timings[0].steps,
    }
