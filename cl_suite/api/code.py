"""What identifies the code of a class that no file holds: an edited one is another configuration.

A class defined in a notebook has no file of its own. Its digest is made of its functions as Python compiled them, its
constants, and whatever they name beside it in the same place: helpers, constants, parent classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

DIGITS = 12
# What Python or a decorator makes of a class, not its author; the first two change with every definition.
MADE = {"__dict__", "__weakref__", "__module__", "__doc__", "__abstractmethods__", "_abc_impl", "__firstlineno__"}
MADE |= {"__static_attributes__", "__dataclass_params__", "__match_args__", "__annotations_cache__"}


def code_digest(cls: type) -> str:
    """Return 12 hex digits that change with the code of a class, in this version of Python."""
    words = _Words(cls.__module__)
    return hashlib.sha256("\n".join([f"{sys.version_info[:2]}", *words.of(cls)]).encode()).hexdigest()[:DIGITS]


_met: WeakKeyDictionary[type, bytes] = WeakKeyDictionary()  # the file of a class as it was when it was first asked of


def is_as_in_file(cls: type, file: Path) -> bool:
    """Whether a class is what its file holds now: the file may have been edited after it was imported."""
    own = [each for each in map(_function, vars(cls).values()) if each is not None]
    loaded = [each.__code__ for each in own if Path(each.__code__.co_filename) == file]
    try:
        text = file.read_bytes()
        known = {code.co_qualname: code for code in _inside(compile(text, str(file), "exec", dont_inherit=True))}
    except (OSError, SyntaxError, ValueError):
        return False
    if cls.__qualname__ not in known or _met.setdefault(cls, text) != text:
        return False
    return all(_alike(code, known.get(code.co_qualname)) for code in loaded)


def _alike(loaded: CodeType, there: CodeType | None) -> bool:
    if there is None:
        return False
    return _Words("").code(loaded) == _Words("").code(there)


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


def _function(value: Any) -> FunctionType | None:
    """Return the function behind an attribute of a class, or None."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, functools.cached_property):
        value = value.func
    return value if isinstance(value, FunctionType) else None


class _Words:
    """Words that tell what code does. module: where names are followed further; other modules are told by name."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._told: set[int] = set()

    def of(self, value: Any) -> list[str]:
        """Return the words of a class, a function, or another value."""
        if inspect.isclass(value):
            return self._class(value)
        function = _function(value)
        if function is not None:
            return self._function(function)
        return [self.plain(value)]

    def plain(self, value: Any) -> str:
        """Return a value in words that are the same in every process; of an object its class and what it holds."""
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(map(self.plain, value)))}}}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self.plain, value))}]"
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{self.plain(key)}: {self.plain(each)}' for key, each in value.items())}}}"
        if isinstance(value, CodeType):
            return " ".join(self.code(value))
        if isinstance(value, dataclasses.Field):
            default = value.default_factory if value.default is dataclasses.MISSING else value.default
            return f"{value.name} {self.plain(value.type)} {self.plain(default)}"
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, FunctionType):
            return " ".join(self._named(value))
        if hasattr(value, "tolist"):
            return f"{type(value).__qualname__} {value.tolist()!r}"
        return self._object(value)

    def _object(self, value: Any) -> str:
        """Return an object by its class and what it holds; one that is met again by its class alone."""
        name = f"a {type(value).__module__}.{type(value).__qualname__}"
        if id(value) in self._told:
            return name
        self._told.add(id(value))
        if isinstance(value, functools.partial):
            return f"{name} {self.plain(value.func)} {self.plain(value.args)} {self.plain(value.keywords)}"
        held = getattr(value, "__dict__", None) or {
            slot: getattr(value, slot) for slot in getattr(type(value), "__slots__", ()) if hasattr(value, slot)
        }
        return f"{name} {self.plain(held)}" if held else name

    def code(self, code: CodeType) -> list[str]:
        """Return a compiled function without its places in the file."""
        # A text that begins a function and is used nowhere is its docstring: kept, for it costs nothing.
        parts = [code.co_code.hex(), *map(self.plain, code.co_consts), *code.co_names, *code.co_varnames]
        return [*parts, *code.co_freevars, str(code.co_flags)]

    def _named(self, value: Any) -> list[str]:
        if getattr(value, "__module__", None) == self._module:
            return self.of(value)
        return [f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"]

    def _class(self, cls: type) -> list[str]:
        if id(cls) in self._told:
            return [cls.__qualname__]
        self._told.add(id(cls))
        words = [f"class {cls.__qualname__}", *(word for base in cls.__bases__ for word in self._named(base))]
        for name, value in sorted(vars(cls).items()):
            if name in MADE or _generated(value):
                continue
            words += [name, *(self.of(value) if _function(value) else self._value(value))]
        return words

    def _value(self, value: Any) -> list[str]:
        return self._named(value) if inspect.isclass(value) or inspect.isroutine(value) else [self.plain(value)]

    def _function(self, function: FunctionType) -> list[str]:
        if id(function) in self._told:
            return [function.__qualname__]
        self._told.add(id(function))
        words = self.code(function.__code__)
        words += map(self.plain, [function.__defaults__, function.__kwdefaults__])
        inside = {name for code in [function.__code__, *_inside(function.__code__)] for name in code.co_names}
        there = {name: function.__globals__[name] for name in inside if name in function.__globals__}
        for name, value in sorted({**there, **_enclosed(function)}.items()):
            words += [name, *self._value(value)]
        return words


def _enclosed(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing is in it yet
            found[name] = cell.cell_contents
    return found


def _generated(value: Any) -> bool:
    """Whether a function was written by a decorator, as those of dataclasses are: it follows from the fields."""
    function = _function(value)
    return function is not None and function.__code__.co_filename.startswith("<string")
