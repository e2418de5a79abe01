"""The file a model is saved in: tensors as safetensors, everything else as JSON in its header. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from cl_suite.core.checkpoint import load_state, read_facts, save_state
from cl_suite.core.errors import DataError, RunError, UsageError

FORMAT, FORMAT_VERSION = "cl-suite model", 1
OLDEST = 1  # the oldest format version that is still read
# What a reader relies on: name -> type.
PARTS: dict[str, type | tuple[type, ...]] = {
    "made_by": dict,
    "strategy": dict,
    "stream": dict,
    "scenario": str,
    "seed": int,
    "seeds": dict,
    "tasks": list,
    "info": dict,
    "encoders": list,
    "model": dict,
    "config": dict,
    "run": dict,
    "state": dict,
}


def write_model(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a model whole or not at all; return where. Raise UsageError where nothing can be written there."""
    try:
        save_state(path, dict(content), facts={"format": FORMAT, "format_version": str(FORMAT_VERSION)})
    except RunError as problem:
        raise UsageError(f"the model cannot be saved: {problem}") from problem
    except (OSError, SafetensorError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise UsageError(f"the model cannot be written to {path} ({reason}). Name another place.") from problem
    return path


def read_model(path: Path) -> dict[str, Any]:
    """Return what `write_model` wrote, tensors on the CPU.

    Raise DataError for a file that is not there, is no saved model, is damaged, or is of another format version.
    """
    if path.suffix == ".json":
        raise DataError(f"{path} is a record. Name the model beside it: {path.with_suffix('.model.safetensors').name}.")
    try:
        facts = read_facts(path)
    except OSError as problem:
        raise DataError(
            f"saved model {path} cannot be read ({problem.strerror or problem}). Save one with --save-model."
        ) from problem
    except ValueError as problem:
        raise _damaged(path, problem) from problem
    if facts.get("format") != FORMAT:
        raise DataError(f"{path} is no saved model of cl-suite. Save one with --save-model.")
    version = facts.get("format_version", "")
    if not version.isdecimal():
        raise _damaged(path, f"its format version is {version!r}")
    if int(version) > FORMAT_VERSION:
        raise DataError(
            f"saved model {path} has format version {version}, newer than the {FORMAT_VERSION} known here. "
            "Update cl-suite."
        )
    if int(version) < OLDEST:
        raise DataError(
            f"saved model {path} has format version {version}, older than the {OLDEST} still read here. "
            "Read it with the cl-suite that saved it, or train it anew."
        )
    try:
        content = load_state(path)
        for name, kind in PARTS.items():
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} cannot be a {type(content[name]).__name__}")
    except (UsageError, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as problem:
        raise _damaged(path, problem.__cause__ or problem) from problem
    return content


def _damaged(path: Path, reason: object) -> DataError:
    what = f"it has no {reason}" if isinstance(reason, KeyError) else str(reason).partition("\n")[0]
    return DataError(f"saved model {path} is damaged ({what}). Copy it anew, or save it again.")
