"""Streams for the task-agnostic scenario: permuted clusters whose tasks contradict each other, and harnesses."""

import torch

from cl_suite import PrepareVectors, Samples, Seeds, StreamData, TaskData, TrainSettings, build_network, generator_for
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.schedule import Schedule
from cl_suite.evaluation.expert_routing import Routing
from cl_suite.runs.harness import Harness
from tests.helpers.evaluations import asked_of

CLASSES = 4
TRAIN = TrainSettings(epochs=4, batch_size=16, segments=5)


def permuted_clusters(*, n_tasks=4, count=400, labels="shared", names="task"):
    """Four clusters in 24 dimensions; each task shuffles the labels of the clusters and the dimensions."""
    generator = generator_for(0, "permuted clusters")
    centres = 5.0 * torch.nn.functional.normalize(torch.randn(CLASSES, 24, generator=generator), dim=1)

    def draw(order, number):
        targets = torch.arange(number) % CLASSES
        inputs = centres[targets] + 0.5 * torch.randn(number, 24, generator=generator)
        return Samples(inputs[:, order], targets)

    tasks = []
    for task in range(n_tasks):
        order = torch.randperm(24, generator=generator)
        tasks.append(TaskData(f"{names} {task}", draw(order, count), draw(order, 100), ("a", "b", "c", "d")))
    return StreamData(tuple(tasks), PrepareVectors(), labels=labels)


def presented(data=None, *, schedule=None, train=TRAIN, seed=0):
    return ScenarioStream(
        "permuted clusters",
        data or permuted_clusters(),
        Scenario.TASK_AGNOSTIC,
        train=train,
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
        schedule=Schedule(**(schedule or {})),
    )


def harness_of(cls, *, data=None, schedule=None, train=TRAIN, seed=0, checkpoint=None, listener=None, **options):
    """Return a harness for a fresh strategy with a small MLP; `options` are the strategy's."""
    scenario_stream = presented(data, schedule=schedule, train=train, seed=seed)
    info = scenario_stream.info

    def build():
        return build_network("mlp", info.input_shape, info.n_outputs, hidden=(32, 16))

    strategy = cls(cls.Config(**options))
    asked = asked_of(strategy, scenario_stream, ["detection", "routing"] if isinstance(strategy, Routing) else [])
    return Harness(strategy, scenario_stream, build, checkpoint=checkpoint, listener=listener, evaluations=asked)
