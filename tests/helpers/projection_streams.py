"""Small streams whose layer inputs span few directions, and runs of gradient-projection methods on them."""

import torch

from cl_suite import PrepareVectors, Samples, Seeds, StreamData, TaskData, TrainSettings, generator_for
from cl_suite.core.listener import Silent
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.run.harness import Harness

SIZE = 20  # of an input
RANK = 4  # directions a task's inputs span, exactly


def low_rank_stream(*, n_tasks=3, shared=2, count=60):
    """Two classes per task; the inputs of a task span 4 directions, of which it shares `shared` with the one before."""
    generator = generator_for(0, "low rank")
    axes = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator)).Q

    def draw(task, number):
        own = axes[:, task * (RANK - shared) : task * (RANK - shared) + RANK]
        coefficients = torch.randn(number, RANK, generator=generator)
        targets = (coefficients.sum(1) > 0).long()
        return Samples(coefficients @ own.T, targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 40), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors(), labels="shared")


class Notes(Silent):
    """Keeps what the strategy tells the user."""

    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


class EachExperience(Silent):
    """Calls a function after each experience."""

    def __init__(self, function):
        self.function = function

    def row(self, experience, scores):
        self.function(experience)


def harness_of(cls, *, scenario="task_incremental", data=None, listener=None, train=None, hidden=(16, 12), **options):
    """Return a harness for a fresh strategy with a small MLP without biases."""
    scenario_stream = ScenarioStream(
        "low rank",
        data or low_rank_stream(),
        Scenario(scenario),
        train=train or TrainSettings(epochs=3, batch_size=10),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info

    def build():
        return build_network("mlp_gpm", info.input_shape, info.n_outputs, hidden=hidden)

    return Harness(cls(cls.Config(**options)), scenario_stream, build, listener=listener)


def run_of(cls, **options):
    """Run a fresh strategy to the end; return what was measured and the strategy."""
    harness = harness_of(cls, **options)
    return harness.run(), harness.strategy
