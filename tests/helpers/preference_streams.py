"""Runs on conflicting tasks that share their outputs, asked for trade-offs."""

import torch

from cl_suite import Seeds, TrainSettings, build_network
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.evaluation.preferences.evaluation import PreferenceEvaluation
from cl_suite.evaluation.preferences.settings import PreferenceSettings
from cl_suite.runs.harness import Harness
from tests.helpers.conflicting_streams import conflicting_stream

TRAIN = TrainSettings(epochs=8, batch_size=20)


def harness_asked(
    cls, *, n_tasks=2, own=1.0, preferences=None, hidden=(), train=TRAIN, checkpoint=None, seed=0, **options
):
    """Return a harness for a fresh strategy, with a linear network unless `hidden`; `options` are the strategy's."""
    scenario_stream = ScenarioStream(
        "conflicting",
        conflicting_stream(n_tasks=n_tasks, own=own),
        Scenario.DOMAIN_INCREMENTAL,
        train=train,
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info

    def build():
        return build_network("mlp", info.input_shape, info.n_outputs, hidden=hidden)

    strategy = cls(cls.Config(**options))
    settings = PreferenceSettings(evaluate=True, **{"count": 4, "grid": 5, **(preferences or {})})
    evaluation = PreferenceEvaluation(settings, strategy, scenario_stream)
    return Harness(strategy, scenario_stream, build, checkpoint=checkpoint, evaluations={"preferences": evaluation})
