"""Options of a strategy or stream out of the signature of an Avalanche constructor or function."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from typing import Any, Union, get_args, get_origin

# What the harness gives to every constructor.
GIVEN = {
    *("self", "model", "optimizer", "criterion", "train_mb_size", "train_epochs", "eval_mb_size", "device", "plugins"),
    *("evaluator", "eval_every", "peval_mode", "verbose"),
}
VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
SIMPLE = (bool, int, float, str)


def options_of(
    function: Callable[..., Any], *, filled: tuple[str, ...], defaults: Mapping[str, Any]
) -> dict[str, tuple]:
    """Return {argument: (type, default)} of a function or constructor, without what the harness or a recipe gives.

    Arguments without a default and without one in `defaults` are None, and must be set.
    """
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in GIVEN or name in filled or parameter.kind in VARIABLE:
            continue
        own = None if parameter.default is inspect.Parameter.empty else parameter.default
        default = defaults.get(name, own)
        options[name] = (_type(parameter.annotation, default), default)
    return options


def options_class(base: type, options: Mapping[str, tuple], *, defaults: Mapping[str, Any], module: str) -> type:
    """Return a dataclass with the fields of `base`, some with another of the `defaults`, and these options.

    An argument of the constructor that is called as one of `base` takes its place.
    """
    own: Any = base
    fields: list[Any] = [
        (each.name, each.type, field(default=defaults[each.name]))
        for each in dataclasses.fields(own)
        if each.name in defaults and each.name not in options
    ]
    for name, (kind, default) in options.items():
        if isinstance(default, list | dict):
            fields.append((name, kind, field(default_factory=lambda value=default: type(value)(value))))  # type: ignore
        else:
            fields.append((name, kind, field(default=default)))
    return make_dataclass("Config", fields, bases=(base,), namespace={"__module__": module})


def _type(annotation: Any, default: Any) -> Any:
    """Return a type that a configuration can check; Any where several would do."""
    plain = _plain_type(annotation)
    if isinstance(default, float) and plain is int:  # Avalanche's annotations are not checked
        return float
    if plain is not None:
        return plain | None if default is None else plain
    if type(default) in SIMPLE and annotation is inspect.Parameter.empty:
        return type(default)
    return Any


def _plain_type(annotation: Any) -> type | None:
    if annotation in SIMPLE:
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        named = [each for each in get_args(annotation) if each is not type(None)]
        return named[0] if len(named) == 1 and named[0] in SIMPLE else None
    return None
