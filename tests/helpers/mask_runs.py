"""Small streams for methods that search masks, and runs of these methods on them."""

import torch

from cl_suite import (
    PrepareVectors,
    Requirement,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    generator_for,
)
from cl_suite.core.listener import Hooks
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from strategies.isolation.exssnet import ExSSNeT, SSNeT
from strategies.isolation.supsup import SupSup

FAMILY = [SupSup, SSNeT, ExSSNeT]


def clusters(*, tasks=3, classes=2, repeat=None, permuted=False, sizes=None, labels="disjoint"):
    """Gaussian clusters in 16 dimensions; `permuted`: each task is the first one with its inputs permuted."""
    generator = generator_for(0, "test clusters")
    centres = 4 * torch.nn.functional.normalize(torch.randn(8 * tasks, 16, generator=generator), dim=1)
    made = []
    for number in range(tasks):
        count = classes if sizes is None else sizes[number]
        like = 0 if permuted else number if repeat is None else repeat[number]
        order = torch.randperm(16, generator=generator) if permuted else torch.arange(16)

        def draw(each, count=count, like=like, order=order):
            targets = torch.arange(count).repeat(each)
            noise = torch.randn(len(targets), 16, generator=generator)
            return Samples((centres[8 * like + targets] + noise)[:, order], targets)

        made.append(TaskData(f"task {number}", draw(100), draw(50), tuple(map(str, range(count)))))
    return StreamData(tuple(made), PrepareVectors(), labels=labels)


def presented(data=None, scenario=Scenario.TASK_INCREMENTAL, *, seed=0, **train):
    settings = TrainSettings(**{"epochs": 4, "batch_size": 20, **train})
    return ScenarioStream(
        "clusters",
        data or clusters(),
        scenario,
        train=settings,
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )


def images(tasks=2):
    generator = generator_for(0, "test images")
    made = []
    for number in range(tasks):
        targets = torch.arange(2).repeat(20)
        inputs = torch.randn(40, 3, 8, 8, generator=generator) + 2.0 * (targets * 2 - 1).view(-1, 1, 1, 1) + number
        made.append(TaskData(f"images {number}", Samples(inputs, targets), Samples(inputs, targets), ("a", "b")))
    return StreamData(tuple(made), PrepareVectors())


def ready(cls, scenario_stream, *, network="mlp", hidden=(32, 32), **options):
    strategy = cls(cls.Config(**{"density": 0.2, **options}))
    shape, outputs = scenario_stream.info.input_shape, scenario_stream.info.n_outputs
    sizes = {"hidden": hidden} if network == "mlp" else {"width": 4}
    strategy.setup(scenario_stream.info, lambda: build_network(network, shape, outputs, **sizes))
    return strategy


def learn_all(strategy, scenario_stream, *, start=0, stop=None):
    for experience in scenario_stream.experiences(Hooks(), start=start):
        if stop is not None and experience.index >= stop:
            break
        strategy.learn(experience)
        experience.close()


def learned(cls, scenario_stream=None, **options):
    scenario_stream = scenario_stream or presented()
    strategy = ready(cls, scenario_stream, **options)
    learn_all(strategy, scenario_stream)
    return strategy, scenario_stream


def logits_of(strategy, scenario_stream, task):
    inputs, _ = scenario_stream.tasks[task].test.take(torch.arange(40))
    with torch.no_grad():
        return strategy.predictor(task)(inputs)


def accuracy(strategy, scenario_stream, task, seen=None):
    tells = Requirement.TASK_ID_AT_TEST in scenario_stream.scenario.provides
    seen = scenario_stream.seen_after(len(scenario_stream.tasks)) if seen is None else seen
    return scenario_stream.tasks[task].score(strategy.predictor(task if tells else None), seen).value


def permuted(scenario, **train):
    data = clusters(tasks=4, classes=4, permuted=True, labels="shared")
    return presented(data, scenario, epochs=12, batch_size=16, **train)
