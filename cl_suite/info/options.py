"""The options of plugins and of the harness: names, types, defaults, and what the comments on their lines say."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from cl_suite.info.answer import Option
from cl_suite.info.source import Class, Module, NotConstant, class_at, module_named

RUN = "cl_suite.runs.config:RunConfig"  # the groups that every run has


def stated(config: Class, prefix: str) -> list[Option]:
    """Return the options of a Config dataclass from its source. Raise NotConstant where it does not tell."""
    return [Option(f"{prefix}{each.name}", each.type, each.default, each.meaning) for each in config.fields]


def asked(config: type, prefix: str) -> list[Option]:
    """Return the options of a Config dataclass that was imported; a group inside it as `group.name`."""
    options = []
    defaults: Any = config()
    for field in dataclasses.fields(config):
        value = getattr(defaults, field.name)
        if dataclasses.is_dataclass(value):
            options += asked(type(value), f"{prefix}{field.name}.")
            continue
        if field.metadata.get("derived"):  # worked out from what else is chosen
            continue
        kind, meaning = _written(config, field.name)
        plain = value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
        options.append(Option(f"{prefix}{field.name}", kind or _kind(field.type), plain, meaning))
    return options


def groups() -> dict[str, str]:
    """Return {group of options: the class of them, as it is written}, those that every run has beside the plugins'."""
    return {
        field.name: field.type
        for field in class_at(RUN).fields_as_written()
        if field.type[0].isupper() and field.type != "Any"
    }


def group(name: str) -> tuple[Class, list[Option]]:
    """Return a group of options that every run has: its class and its options."""
    config = class_at(RUN).module.find(groups()[name])
    return config, stated(config, f"{name}.")


def _written(config: type, name: str) -> tuple[str, str]:
    """Return (type, comment) of a field as the nearest class states it that says something."""
    kind = ""
    for each in config.__mro__:
        if name not in vars(each).get("__annotations__", {}):
            continue
        try:
            first, meaning = _source(each.__module__).find(each.__qualname__).comment_of(name)
        except NotConstant:
            continue
        kind = kind or first
        if meaning:
            return kind, meaning
    return kind, ""


def _source(module: str) -> Module:
    """Return the source of a module that was imported, a plugin's file too."""
    try:
        return module_named(module)
    except NotConstant:
        return Module(Path(getattr(sys.modules.get(module), "__file__", None) or module))


def _kind(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
