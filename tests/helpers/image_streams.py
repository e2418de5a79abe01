"""A small stream of images for networks with convolutions and batch norm, and harnesses on it."""

import torch

from cl_suite import PrepareVectors, Samples, Seeds, StreamData, TaskData, TrainSettings, generator_for
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from tests.helpers.evaluations import asked_of


def image_stream(*, n_tasks=3, count=48, size=8):
    """Two classes per task: images [3, size, size] around a mean image of their class."""
    generator = generator_for(0, "images")
    means = torch.randn(2 * n_tasks, 3, size, size, generator=generator)

    def draw(task, number):
        targets = torch.arange(number) % 2
        noise = torch.randn(number, 3, size, size, generator=generator)
        return Samples(means[2 * task + targets] + noise + 0.3 * task, targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 40), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors())


def harness_of(
    cls,
    *,
    scenario="class_incremental",
    data=None,
    train=None,
    model="conv_small",
    checkpoint=None,
    listener=None,
    ask=(),
    seed=0,
    **options,
):
    """Return a harness for a fresh strategy with a small network; `options` are the strategy's.

    ask: evaluations by name
    """
    scenario_stream = ScenarioStream(
        "images",
        data or image_stream(),
        Scenario(scenario),
        train=train or TrainSettings(epochs=2, batch_size=12),
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info
    sizes = {"hidden": (24, 16)} if model == "mlp" else {"width": 4}

    def build():
        return build_network(model, info.input_shape, info.n_outputs, **sizes)

    config = options.pop("config", None) or cls.Config(**options)
    strategy = cls(config)
    evaluations = asked_of(strategy, scenario_stream, ask)
    return Harness(strategy, scenario_stream, build, checkpoint=checkpoint, listener=listener, evaluations=evaluations)


def run_of(cls, **options):
    """Run a fresh strategy to the end; return what was measured and the strategy."""
    harness = harness_of(cls, **options)
    return harness.run(), harness.strategy
