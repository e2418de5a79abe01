"""The version of cl-suite, and names of earlier ones: plugins written with them go on, and are warned."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any

__version__ = "0.1.0"


def renamed(**current: str) -> Callable[[Any], Any]:
    """Let a function, or a dataclass's constructor, take keyword arguments by their former names: renamed(old="new").

    An instance of such a dataclass also answers to the former names of its fields. Where both are given, the former
    one counts: so `dataclasses.replace` works with either.
    """

    def decorate(target: Any) -> Any:
        if isinstance(target, type):
            for old, new in current.items():
                setattr(target, old, property(attrgetter(new)))
            target.__init__ = _taking(target.__init__, target.__name__, current)  # type: ignore[misc]
            return target
        return _taking(target, target.__name__, current)

    return decorate


def _taking(function: Callable[..., Any], name: str, current: dict[str, str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        for old in [each for each in keywords if each in current]:
            warn(f"{name}({old}=...)", f"{current[old]}=...", level=3)
            keywords[current[old]] = keywords.pop(old)
        return function(*arguments, **keywords)

    return call


def renamed_class_variable(cls: type, old: str, new: str) -> None:
    """Take over a class variable that a subclass sets by its former name; for `__init_subclass__`."""
    if old in vars(cls) and new not in vars(cls):
        warn(f"{cls.__name__}.{old}", new, level=4)
        setattr(cls, new, vars(cls)[old])


def warn(former: str, current: str, *, level: int) -> None:
    """Say that a name has changed, at the line `level` calls up."""
    warnings.warn(f"{former} is now {current}", DeprecationWarning, stacklevel=level)
