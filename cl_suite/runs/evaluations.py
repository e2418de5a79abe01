"""Which evaluations a run may be asked for. Nothing heavy is imported before one is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cl_suite.core.errors import UsageError, nearest
from cl_suite.evaluation.registry import ALWAYS, DIAGNOSTICS, EVALUATE, EVALUATIONS, Entry, entries_of

if TYPE_CHECKING:
    from cl_suite.evaluation.protocol import Settings

# Those of the folder evaluation, and films, which robots alone can make.
ENTRIES: dict[str, Entry] = {**EVALUATIONS, "video": Entry(DIAGNOSTICS, "film robots", "cl_suite.runs.films:Films")}
EVALUATED, DIAGNOSED, EVERY = (entries_of(request, ENTRIES) for request in (EVALUATE, DIAGNOSTICS, ALWAYS))


def chosen_evaluations(values: Sequence[str]) -> tuple[str, ...]:
    """Return the evaluations that `--evaluate` names: each value one name, or several with commas.

    Raise UsageError for an unknown one, and one named twice.
    """
    names = [name for value in values for name in value.split(",")]
    for name in names:
        if name not in EVALUATED:
            raise UsageError(f"--evaluate {name} is not known. {nearest(name, EVALUATED)}")
        if names.count(name) > 1:
            raise UsageError(f"--evaluate names {name} twice. Name each once.")
    return tuple(names)


def settings_of(run: Any) -> dict[str, Settings]:
    """Return the options of every evaluation that has some, by name, from a composed configuration."""
    return {name: getattr(run, name) for name in EVALUATED}
