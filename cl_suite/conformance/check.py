"""The conformance suite: what every strategy promises, tried on a small synthetic stream in seconds."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_suite.conformance.case import Case
from cl_suite.conformance.promises import PROMISES, Broken, Skipped, refusals
from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.registry import STRATEGY, Chosen, choose
from cl_suite.core.scenario import Scenario
from cl_suite.core.strategy import Strategy
from cl_suite.runs.config import strategy_config


@dataclass(frozen=True)
class Finding:
    """One promise and whether it is kept: status is "passed", "failed" or "skipped"."""

    name: str
    status: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the promise is broken."""
        return self.status == "failed"

    def __str__(self) -> str:
        return f"{self.status:8}{self.name}{f' ({self.detail})' if self.detail else ''}"


def check_strategy(
    spec: str | type[Strategy], *, overrides: Sequence[str] = (), scenarios: Sequence[str] | None = None
) -> list[Finding]:
    """Try every promise of the interface on a strategy, in each scenario that it does not exclude.

    spec:      an installed name, `module:Class`, `path/to/file.py:Class`, or the class itself
    overrides: options of the strategy, e.g. ["strategy.lr=0.1"]; the stream, network and schedule are the suite's own
    scenarios: only these, as far as the strategy does not exclude them; None = all

    Raise UsageError or PluginError if the strategy cannot be loaded or configured.
    """
    chosen = choose(STRATEGY, spec) if isinstance(spec, str) else Chosen(spec.__name__, spec)
    config = strategy_config(chosen, overrides, of="a check")
    wanted = [_scenario(each) for each in (list(Scenario) if scenarios is None else scenarios)]
    findings = [_try("scenarios that withhold what it needs are refused", chosen, refusals, chosen, config)]
    if findings[0].failed:
        return findings  # it is not known where the others would apply
    needed = chosen.cls.requirements(config)
    for scenario in (each for each in wanted if needed <= each.provides):
        case = Case(chosen, config, scenario)
        findings += [_try(f"{scenario}: {name}", chosen, check, case) for name, check in PROMISES.items()]
    return findings


def _scenario(name: str) -> Scenario:
    try:
        return Scenario(name)
    except ValueError as problem:
        raise UsageError(f"scenario {name!r} is not known. {nearest(name, list(Scenario))}") from problem


def _try(name: str, chosen: Chosen, check: Callable[..., str | None], *arguments: Any) -> Finding:
    try:
        return Finding(name, "passed", check(*arguments) or "")
    except Skipped as reason:
        return Finding(name, "skipped", str(reason))
    except Broken as reason:
        return Finding(name, "failed", str(reason))
    except Exception as problem:  # whatever a stranger's method raises is one failed promise, not the end of the suite
        text = str(problem).partition("\n")[0]
        return Finding(name, "failed", f"{type(problem).__name__}: {text} [{_place(problem, chosen)}]")


def _place(problem: Exception, chosen: Chosen) -> str:
    """Return the innermost line of the strategy's own file that led to `problem`, else the innermost of all."""
    frames = traceback.extract_tb(problem.__traceback__)
    file = getattr(sys.modules.get(chosen.cls.__module__), "__file__", None)
    frame = next((each for each in reversed(frames) if each.filename == file), frames[-1])
    return f"{Path(frame.filename).name}, line {frame.lineno}"
