"""A strategy or stream given in Python: by name, as a class (also one defined in a notebook), or as an object."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cl_suite.api.code import code_digest, is_as_in_file
from cl_suite.api.overrides import config_options
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import PLUGIN_PREFIX, Chosen, Kind, check_class, choose, installed

PROMPT = "notebook"  # stands for the file of a class that was defined in a notebook, or at a prompt


@dataclass(frozen=True)
class Given:
    """A plugin, what the command line calls it (None = it cannot), and the options that an object brings."""

    chosen: Chosen
    spec: str | None
    options: dict[str, Any] = field(default_factory=dict)


def given(kind: Kind, plugin: Any) -> Given:
    """Return the plugin that was asked for. Raise UsageError or PluginError for one that cannot be used.

    plugin: a name as on the command line, a class, or an object, which stands for its class with the options of its
    config: what it has learned does not count
    """
    if isinstance(plugin, str | Path):
        return Given(replace(choose(kind, str(plugin)), spec=str(plugin)), str(plugin))
    if inspect.isclass(plugin):
        return _class(kind, plugin)
    whole = _class(kind, type(plugin))
    return Given(whole.chosen, whole.spec, config_options(kind.word, getattr(plugin, "config", None)))


def _class(kind: Kind, cls: type) -> Given:
    name = getattr(cls, "__name__", "")
    if not isinstance(cls.__module__, str) or cls.__module__ == "builtins":
        raise UsageError(f"{kind.word} cannot be a {name}. Give a name, a class, or an object of one.")
    check_class(kind, cls)
    place = f"{cls.__module__}:{cls.__qualname__}"
    for known, point in installed(kind).items():
        if point.value == place:
            return Given(Chosen(known, cls), known)
    file = _file(cls)
    if file is None or "<locals>" in cls.__qualname__ or not is_as_in_file(cls, file):
        label = f"{PROMPT if file is None else _stem(file)}:{name}"
        return Given(Chosen(label, cls, from_file=True, code=code_digest(cls)), None)
    spec = f"{_shortest(file)}:{name}"
    return Given(Chosen(f"{_stem(file)}:{name}", cls, from_file=True, spec=spec), spec)


def _file(cls: type) -> Path | None:
    """Return the file a class was defined in; None at a prompt or in a notebook."""
    module = sys.modules.get(cls.__module__)
    name = getattr(module, "__file__", None)
    if name is None and cls.__module__.startswith(PLUGIN_PREFIX):
        name = inspect.getsourcefile(cls)
    path = None if name is None else Path(name)
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _stem(file: Path) -> str:
    """Return a file's name as the record of a plugin in a file has it."""
    return re.sub(r"[^0-9a-zA-Z]", "_", file.stem)


def _shortest(file: Path) -> str:
    path = file.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
