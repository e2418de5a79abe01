"""What a strategy is, needs, costs and can be told: read from its source, or from its class where that cannot tell."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_suite.core.registry import STRATEGY, choose, installed, provided
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.info.answer import Answer, Option, paragraphs
from cl_suite.info.options import asked, stated
from cl_suite.info.source import Class, NotConstant, class_at

Needs = frozenset[Requirement]


@dataclass(frozen=True)
class StrategyFacts:
    """What a strategy says of itself.

    needs: under its default options; modes: (options, needs under them), those that need less
    """

    what: str
    about: str
    paper: str
    costs: str
    resumable: bool
    needs: Needs
    modes: tuple[tuple[Mapping[str, Any], Needs], ...]
    options: Sequence[Option]


def strategy_facts(name: str) -> StrategyFacts:
    """Return what a strategy says of itself; name: installed, `provider/name`, or path/to/file.py:Class.

    Raise UsageError or PluginError where there is none, or it cannot be used.
    """
    try:
        return _stated(strategy_source(name))
    except NotConstant:
        return _asked(choose(STRATEGY, name).cls)


def strategy_source(name: str) -> Class:
    """Return the source of a strategy's class. Raise NotConstant where there is none to read."""
    points = installed(STRATEGY)
    place = points[name].value if name in points else name
    if ":" not in place or place.rpartition(":")[0].endswith("/"):
        raise NotConstant(name)
    source = class_at(place)
    if not source.is_a(STRATEGY.base):
        raise NotConstant(f"{name} is no strategy")
    return source


def scenarios_of(needs: Needs) -> list[str]:
    """Return the scenarios that give what is needed."""
    return [scenario.value for scenario in Scenario if needs <= scenario.provides]


def runs_in(name: str, scenario: Scenario) -> list[str]:
    """Return the options under which a strategy runs in a scenario: "" = by default; [] = under none that it names."""
    facts = strategy_facts(name)
    if facts.needs <= scenario.provides:
        return [""]
    return [as_options(mode) for mode, needs in facts.modes if needs <= scenario.provides]


def as_options(mode: Mapping[str, Any]) -> str:
    """Return options of a strategy as one writes them: strategy.infer=oneshot."""
    return " ".join(f"strategy.{key}={value}" for key, value in mode.items())


def strategy_names() -> list[str]:
    """Return every installed strategy, and those of other libraries that are there."""
    return [*installed(STRATEGY), *provided(STRATEGY)]


def describe_strategy(name: str, measured: Sequence[object]) -> Answer:
    """Return what is known of a strategy. measured: what records say of its costs; each prints itself."""
    facts = strategy_facts(name)
    scenarios = scenarios_of(facts.needs)
    more = {
        as_options(mode): ", ".join(each for each in scenarios_of(needs) if each not in scenarios)
        for mode, needs in facts.modes
    }
    return Answer(
        kind="strategy",
        name=name,
        what=facts.what,
        facts={
            "about": paragraphs(facts.about),
            "paper": facts.paper,
            "needs": sorted(each.value for each in facts.needs) or ["nothing: it runs in every scenario"],
            "scenarios": scenarios,
            "also_in": {options: f"it runs in {names} too" for options, names in more.items() if names},
            "resumes": "an interrupted run goes on where it was" if facts.resumable else "no: it starts anew",
            "costs": facts.costs or "not stated by its author",
            "measured": list(measured) or ["no record of it beside one of finetune; a first run tells"],
        },
        options=facts.options,
    )


def _stated(source: Class) -> StrategyFacts:
    if source.defines("requirements") or source.defines("config_for"):
        raise NotConstant("what it needs depends on its options")
    needs = source.variable("requires")
    if source.variable("modes"):
        raise NotConstant("what its modes need is for its class to say")
    return StrategyFacts(
        what=source.summary,
        about=source.description,
        paper=source.variable("source"),
        costs=source.variable("costs"),
        resumable=source.variable("resumable"),
        needs=needs,
        modes=(),
        options=stated(source.inner("Config"), "strategy."),
    )


def _asked(cls: Any) -> StrategyFacts:
    config = cls.config_for({})
    what, _, about = (inspect.getdoc(cls) or "").partition("\n")
    return StrategyFacts(
        what=what,
        about=about.strip(),
        paper=cls.source,
        costs=cls.costs,
        resumable=cls.resumable,
        needs=cls.requirements(config()),
        modes=tuple((mode, cls.requirements(cls.Config(**mode))) for mode in cls.modes),
        options=asked(config, "strategy."),
    )
