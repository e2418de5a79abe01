"""Preparations and transforms as plain values, and made again of them: no pickle, no code.

A dataclass describes itself by its class and its fields, which may be numbers, texts, tensors, lists and dictionaries
of them, and further dataclasses.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.errors import DataError, UsageError

OURS = "cl_suite"


def described(value: Any, what: str) -> Any:
    """Return a value in tensors, numbers, texts, lists, tuples and dictionaries of them.

    what: of what it is a part, for messages

    Raise UsageError for a part that is none of these and no dataclass of a module.
    """
    if value is None or isinstance(value, str | bool | int | float | Tensor):
        return value
    if isinstance(value, list | tuple):
        return type(value)([described(each, what) for each in value])
    if isinstance(value, Mapping):
        return {"mapping": {key: described(each, what) for key, each in value.items()}}
    cls = type(value)
    if dataclasses.is_dataclass(value) and _found(cls.__module__, cls.__qualname__) is cls:
        fields = {
            each.name: described(getattr(value, each.name), what) for each in dataclasses.fields(value) if each.init
        }
        return {"dataclass": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}
    kind = getattr(value, "__qualname__", cls.__qualname__)
    raise UsageError(
        f"{what} cannot be saved: {kind} is no dataclass of a module, with numbers, texts and tensors as its fields. "
        "Write it as one, as cl_suite.PrepareImages is."
    )


def made_again(description: Any, *, packages: Collection[str] = (OURS,)) -> Any:
    """Return the value that `described` wrote.

    packages: whose dataclasses may be made; modules of others are not even imported

    Raise DataError for a class of another package, one that is not there, or one that does not take these fields.
    """
    if isinstance(description, list | tuple):
        return type(description)([made_again(each, packages=packages) for each in description])
    if not isinstance(description, Mapping):
        return description
    if "mapping" in description:
        return {key: made_again(each, packages=packages) for key, each in description["mapping"].items()}
    name = str(description["dataclass"])
    module, _, place = name.partition(":")
    if module.partition(".")[0] not in packages:
        raise DataError(f"it is prepared by {name}, of neither cl-suite nor its stream. Do not use this model.")
    cls = _found(module, place)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise DataError(f"it is prepared by {name}, which is not there any more. Use the cl-suite that saved it.")
    fields = {key: made_again(each, packages=packages) for key, each in description["fields"].items()}
    try:
        return cls(**fields)
    except TypeError as problem:
        raise DataError(
            f"it is prepared by {name}, which takes other fields now ({problem}). Use the cl-suite that saved it."
        ) from problem


def classes_in(description: Any) -> set[str]:
    """Return the modules whose dataclasses a description names."""
    if isinstance(description, list | tuple):
        return {name for each in description for name in classes_in(each)}
    if not isinstance(description, Mapping):
        return set()
    inner = description.get("mapping") or description.get("fields") or {}
    own = {str(description["dataclass"]).partition(":")[0]} if "dataclass" in description else set()
    return own | {name for each in inner.values() for name in classes_in(each)}


def same(one: Any, other: Any) -> bool:
    """Whether two descriptions are equal, tensors in every entry."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _found(module: str, place: str) -> Any:
    """Return what a module has at a dotted place; None where there is no such module or place."""
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for part in place.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found
