"""For penalties and distillation: a stream on which finetuning forgets at once, and tiny images for batch norm."""

import torch

from cl_suite import (
    PrepareImages,
    PrepareVectors,
    Samples,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    build_network,
    generator_for,
)
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.runs.harness import Harness


def conflicting_stream(*, n_tasks=2, count=60, own=1.0):
    """Two classes; a feature that all tasks share changes its sign from task to task, one of a task's own does not.

    Whoever learns task 1 by the shared feature loses task 0; whoever leaves its weights alone can learn both, unless
    `own`, the strength of a task's own feature, is 0: then the tasks contradict each other.
    """
    generator = generator_for(0, "conflicting")

    def draw(task, number):
        targets = torch.arange(number) % 2
        sign = (2.0 * targets - 1)[:, None]
        inputs = torch.zeros(number, 4 * (n_tasks + 1))
        inputs[:, :4] = sign * (-1) ** task
        inputs[:, 4 * (task + 1) : 4 * (task + 2)] = own * sign
        noise = 1.5 * torch.randn(inputs.shape, generator=generator) * (inputs != 0)
        return Samples(inputs + noise, targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 100), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors(), labels="shared")


class Reports:
    """Stands for an experience in `train_on`: takes the reported losses."""

    def report(self, loss):
        assert torch.isfinite(loss)


def image_harness(strategy):
    """Return a harness for a strategy with batch norm on two tasks of tiny random images, one pass over each."""
    generator = generator_for(0, "tiny images")

    def draw():
        images = torch.randint(0, 256, (24, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images, torch.arange(24) % 2)

    tasks = tuple(TaskData(str(t), draw(), draw(), ("a", "b")) for t in range(2))
    scenario_stream = ScenarioStream(
        "images",
        StreamData(tasks, PrepareImages(mean=(0.5,) * 3, std=(0.25,) * 3)),
        Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=1, batch_size=8),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    return Harness(strategy, scenario_stream, lambda: build_network("conv_small", (3, 8, 8), 4, width=4))


def copy_of(network):
    """Return the network's tensors by name, as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}
