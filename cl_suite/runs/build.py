"""What a run is made of: its stream under the scenario, the strategy, its networks, and what is asked beside."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cl_suite.core.errors import CLSuiteError, PluginError, RunError
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.core.strategy import Strategy
from cl_suite.core.types import StreamInfo
from cl_suite.evaluation.protocol import Evaluation
from cl_suite.networks.encoders import check_encoder
from cl_suite.networks.network import build_network
from cl_suite.runs.config import ModelConfig
from cl_suite.runs.evaluations import DIAGNOSED, ENTRIES, EVALUATED, EVERY, settings_of
from cl_suite.runs.load import Loaded
from cl_suite.runs.plan import Plan


def scenario_stream_of(plan: Plan, loaded: Loaded) -> ScenarioStream:
    """Return the loaded stream as the plan's scenario shows it."""
    return ScenarioStream(
        plan.stream.name,
        loaded.data,
        plan.scenario,
        train=plan.composed.run.train,
        seeds=plan.seeds,
        device=plan.device,
        card=loaded.card,
        schedule=plan.composed.run.schedule,
    )


def strategy_of(plan: Plan, scenario_stream: ScenarioStream) -> tuple[Strategy, int]:
    """Return the strategy and the samples it expects to draw. Raise PluginError if it cannot even be made."""
    try:
        strategy: Strategy = plan.strategy.cls(plan.composed.run.strategy)
        return strategy, int(strategy.expected_samples(scenario_stream.info))
    except CLSuiteError:
        raise
    except Exception as problem:  # a stranger's constructor may raise anything
        raise PluginError(f"{plan.strategy.name} could not be made: {one_line(problem)}. Mend it.") from problem


def network_factory_of(plan: Plan, scenario_stream: ScenarioStream) -> Callable[[], torch.nn.Module]:
    """Return what makes a fresh network. Raise UsageError if it does not fit the stream; one is made to see."""
    run = plan.composed.run
    return network_factory(
        run.model, scenario_stream.info, tokenizer=run.text.tokenizer, offline=plan.request.data_root.offline
    )


def network_factory(
    model: ModelConfig, info: StreamInfo, *, tokenizer: str, offline: bool
) -> Callable[[], torch.nn.Module]:
    """Return what makes a fresh network of these options for such a stream.

    tokenizer: what made the token ids, where there are some; offline: whether nothing may be downloaded

    Raise UsageError if it does not fit the stream; one is made to see.
    """
    shape: Any = info.input_shape
    options: dict[str, Any] = {
        "future": model.future,
        "width": model.width,
        "hidden": None if model.hidden is None else tuple(model.hidden),
        "dimensions": model.dimensions,
        "frozen_embeddings": model.frozen_embeddings or None,
        "encoder": model.encoder,
        "vision": model.vision,
    }
    if isinstance(shape, Mapping):
        options["vocabulary"] = info.vocabulary  # of token ids; None for dictionaries of something else

    if model.encoder is not None and info.vocabulary is not None:
        check_encoder(
            model.encoder,
            tokenizer=tokenizer,
            length=shape["tokens"][0],
            offline=offline,
        )

    def build() -> torch.nn.Module:
        return build_network(model.name, shape, info.n_outputs, **options)

    build()  # refuse an unfit network before anything is trained
    return build


def evaluations_of(plan: Plan, strategy: Strategy, scenario_stream: ScenarioStream) -> dict[str, Evaluation]:
    """Return what is to be asked beside a run's scores, by name, in the order of its record.

    Raise UsageError where the strategy or the stream has no answer.
    """
    options = settings_of(plan.composed.run)
    arguments: dict[str, Any] = {name: options[name] for name in EVALUATED if options[name].evaluate}
    arguments |= {name: plan.record_path for name in DIAGNOSED if name in plan.request.diagnostics}
    arguments |= {name: None for name, entry in EVERY.items() if entry.evaluation.applies(strategy, scenario_stream)}
    return {
        name: ENTRIES[name].evaluation(arguments[name], strategy, scenario_stream)
        for name in ENTRIES
        if name in arguments
    }


def one_line(problem: BaseException) -> str:
    """Return an error as one line; for one not raised on purpose, with the place it came from."""
    text = str(problem).partition("\n")[0]
    if isinstance(problem, RunError):
        return text
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{type(problem).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"
