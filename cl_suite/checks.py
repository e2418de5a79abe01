"""The conformance suite: what every strategy promises, tried on a small synthetic stream in seconds."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_suite.config import compose_config
from cl_suite.promises import PROMISES, Broken, Skipped, refusals
from cl_suite.registry import STRATEGY, Chosen, choose
from cl_suite.scenario import Scenario
from cl_suite.strategy import Strategy


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


def check_strategy(spec: str | type[Strategy], *, overrides: Sequence[str] = ()) -> list[Finding]:
    """Try every promise of the interface on a strategy, in each scenario that it does not exclude.

    spec:      an installed name, `module:Class`, `path/to/file.py:Class`, or the class itself
    overrides: options, e.g. ["strategy.lr=0.1"]

    Raise UsageError or PluginError if the strategy cannot be loaded or configured.
    """
    chosen = choose(STRATEGY, spec) if isinstance(spec, str) else Chosen(spec.__name__, spec)
    config = _configure(chosen, overrides)
    needed = chosen.cls.requirements(config)
    scenarios = [scenario for scenario in Scenario if needed <= scenario.provides]
    findings = [_try("scenarios that withhold what it needs are refused", refusals, chosen, config, None)]
    for scenario in scenarios:
        findings += [_try(f"{scenario}: {name}", check, chosen, config, scenario) for name, check in PROMISES.items()]
    return findings


def _configure(chosen: Chosen, overrides: Sequence[str]) -> Any:
    composed = compose_config(
        strategy=chosen.name,
        strategy_config=chosen.cls.Config,
        stream="the conformance stream",
        stream_config=_NoOptions,
        scenario=Scenario.TASK_INCREMENTAL.value,
        overrides=overrides,
    )
    return composed.run.strategy


@dataclass
class _NoOptions:
    """The conformance stream has none."""


def _try(name: str, check: Callable[..., str | None], chosen: Chosen, config: Any, scenario: Any) -> Finding:
    try:
        return Finding(name, "passed", check(chosen, config, scenario) or "")
    except Skipped as reason:
        return Finding(name, "skipped", str(reason))
    except Broken as reason:
        return Finding(name, "failed", str(reason))
    except Exception as problem:  # whatever a stranger's method raises is one failed promise, not the end of the suite
        frame = traceback.extract_tb(problem.__traceback__)[-1]
        text = str(problem).partition("\n")[0]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        return Finding(name, "failed", f"{type(problem).__name__}: {text} [{place}]")
