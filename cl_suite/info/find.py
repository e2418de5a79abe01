"""Everything that has a name, and what is known of it: what `cl-bench info NAME` looks up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cl_suite.core.errors import CLSuiteError, UsageError, nearest
from cl_suite.core.scenario import Scenario
from cl_suite.info import metrics, networks, others, strategies, streams
from cl_suite.info.answer import Answer
from cl_suite.info.measured import measured_costs, stored

Describe = Callable[[str], Answer]


def kinds(results: Path) -> dict[str, tuple[Callable[[], Sequence[str]], Describe]]:
    """Return {kind: (its names, what is known of one)}. results: one's own records, for what was measured."""
    return {
        "strategy": (
            strategies.strategy_names,
            lambda name: strategies.describe_strategy(name, measured_costs(name, stored(results))),
        ),
        "stream": (streams.stream_names, streams.describe_stream),
        "network": (networks.network_names, networks.describe_network),
        "metric": (metrics.metric_names, metrics.describe_metric),
        "evaluation": (others.evaluation_names, others.describe_evaluation),
        "protocol": (lambda: [*others.PROTOCOLS], others.describe_protocol),
        "scenario": (lambda: [each.value for each in Scenario], others.describe_scenario),
        "options": (others.option_groups, others.describe_options),
    }


def every_name() -> list[str]:
    """Return all that `find` finds by name."""
    return [*dict.fromkeys(name for names, _ in kinds(Path("results")).values() for name in names())]


def find(name: str, results: Path) -> list[Answer]:
    """Return what is known of a name, once for each thing it is. Raise UsageError, with the nearest, if it is none.

    A plugin's file, path/to/file.py:Class, is a strategy, a stream or a network; so is module:Class.
    """
    every = kinds(results)
    if ":" in name or ".py" in name:
        return [_plugin(name, every)]
    known = {kind: set(names()) for kind, (names, _) in every.items()}
    found = [every[kind][1](name) for kind, names in known.items() if name in names]
    if not found:
        everything = [each for names in known.values() for each in names]
        raise UsageError(f"nothing is called {name!r}. {nearest_of(name, everything)}")
    return found


def nearest_of(name: str, everything: Sequence[str]) -> str:
    """Return the nearest names; where none is near, where names stand."""
    hint = nearest(name, everything)
    return hint if hint.startswith("Did") else "`cl-bench list` names strategies and streams."


def _plugin(name: str, every: Mapping[str, tuple[Callable[[], Sequence[str]], Describe]]) -> Answer:
    """Return what is known of a class that is no installed plugin. Raise the strategy's error if it is none."""
    problems = []
    for describe in (every["strategy"][1], every["stream"][1], networks.describe_other_network):
        try:
            return describe(name)
        except CLSuiteError as problem:
            problems.append(problem)
    raise problems[0]
