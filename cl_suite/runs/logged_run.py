"""A plan as loggers see it."""

from __future__ import annotations

from collections.abc import Sequence

from cl_suite.loggers.curve_logger import LoggedRun
from cl_suite.loggers.series import flat
from cl_suite.runs.plan import Plan


def logged_run(plan: Plan, *, tasks: Sequence[str]) -> LoggedRun:
    """Return a plan as loggers see it. tasks: the names of the columns of R."""
    place = plan.record_path.relative_to(plan.request.results).with_suffix("")
    facts = {"strategy": plan.strategy.name, "stream": plan.stream.name, "scenario": plan.scenario.value}
    return LoggedRun(
        root=plan.request.log_dir,
        place=place.as_posix(),
        title=f"{plan.strategy.name} on {plan.stream.name}, {plan.scenario}, seed {plan.request.seed}",
        row=place.parent.as_posix(),
        config=flat(plan.config),
        facts=flat({**facts, "seed": plan.request.seed, "device": str(plan.device)}),
        tasks=tuple(tasks),
        offline=plan.request.data_root.offline,
    )
