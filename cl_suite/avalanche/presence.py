"""Whether Avalanche is there; importing it takes seconds, so it is only looked for."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

from cl_suite.core.errors import UsageError

PACKAGE = "avalanche"  # its distribution is called avalanche-lib


def has_avalanche() -> bool:
    """Return whether Avalanche is installed; it is not imported."""
    return importlib.util.find_spec(PACKAGE) is not None


def need_avalanche(what: str) -> None:
    """Raise UsageError, with the command that installs it, if Avalanche is absent."""
    if not has_avalanche():
        raise UsageError(
            f"{what} needs the library Avalanche, which is not installed. Install it: pip install 'cl-suite[avalanche]'"
        )


def load_avalanche(place: str) -> Any:
    """Return `module:name` of Avalanche, whose warnings on import are not about the user's code."""
    module, _, name = place.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(module), name)
