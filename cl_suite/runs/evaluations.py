"""Which evaluations a run may be asked for. Nothing heavy is imported before one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cl_suite.evaluation.registry import ALWAYS, DIAGNOSTICS, EVALUATE, EVALUATIONS, Entry, entries_of

if TYPE_CHECKING:
    from cl_suite.evaluation.protocol import Settings

# Those of the folder evaluation, and films, which robots alone can make.
ENTRIES: dict[str, Entry] = {**EVALUATIONS, "video": Entry(DIAGNOSTICS, "film robots", "cl_suite.runs.films:Films")}
EVALUATED, DIAGNOSED, EVERY = (entries_of(request, ENTRIES) for request in (EVALUATE, DIAGNOSTICS, ALWAYS))


def settings_of(run: Any) -> dict[str, Settings]:
    """Return the options of every evaluation that has some, by name, from a composed configuration."""
    return {name: getattr(run, name) for name in EVALUATED}
