"""Small streams whose layer inputs span few directions, and runs of gradient-projection methods on them."""

import torch
from torch import nn

from cl_suite import PrepareImages, PrepareVectors, Samples, Seeds, StreamData, TaskData, TrainSettings, generator_for
from cl_suite.core.listener import Silent
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from strategies.projection.cuber import CUBER
from strategies.projection.gpm import GPM
from strategies.projection.trgp import TRGP

SIZE = 20  # of an input
RANK = 4  # directions a task's inputs span, exactly
ALL = [GPM, TRGP, CUBER]
EVERYTHING = {"threshold": 1.0, "threshold_last": 1.0, "first_task_rank": "paper"}  # the basis holds every input


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


def snapshots(cls, take, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the strategy."""
    found = []
    harness = harness_of(cls, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness.strategy


def weights(strategy):
    return {name: W.clone() for name, W in strategy.projection.network.weights().items()}


def image_harness(cls, found, **options):
    """A run on tiny images with batch normalisation; after each experience its state goes into `found`."""
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images, torch.arange(count) % 2)

    tasks = tuple(TaskData(str(t), draw(24), draw(8), ("a", "b")) for t in range(3))
    prepare = PrepareImages(mean=(0.5,) * 3, std=(0.25,) * 3)
    scenario_stream = ScenarioStream(
        "images",
        StreamData(tasks, prepare),
        Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=1, batch_size=8),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )

    def keep(_):
        state = harness.strategy.model.state_dict()
        norms = {n for n, m in harness.strategy.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        found.append({n: v.clone() for n, v in state.items() if n.rpartition(".")[0] in norms})

    harness = Harness(
        cls(cls.Config(**options)),
        scenario_stream,
        lambda: build_network("conv_small", (3, 8, 8), 6, width=4),
        listener=EachExperience(keep),
    )
    return harness
