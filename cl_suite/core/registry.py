"""Finds strategies and streams by entry-point name, `module:Class` or `path/to/file.py:Class`; loads what is chosen."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from cl_suite.core.errors import PluginError, UsageError, nearest


@dataclass(frozen=True)
class Kind:
    """One of the two things plugins provide."""

    word: str  # for messages and the command line
    group: str  # entry-point group
    providers: str  # entry-point group of modules that provide many, by a prefix: `avalanche/ewc`
    base: str  # "module:Class" every plugin derives from


# What runs where neither is named: a method this suite is made for, on data that it carries with it.
DEFAULT_STRATEGY, DEFAULT_STREAM = "exssnet", "split_digits"
PLUGIN_PREFIX = "cl_suite_plugin_"  # of the module names of plugins given as files
STRATEGY = Kind("strategy", "cl_suite.strategies", "cl_suite.strategy_providers", "cl_suite.core.strategy:Strategy")
STREAM = Kind("stream", "cl_suite.streams", "cl_suite.stream_providers", "cl_suite.core.stream:Stream")


class Provider(Protocol):
    """A module that makes plugins of another library's classes. Its entry point's name is the prefix of their names."""

    def names(self) -> Mapping[str, str]:
        """Return {name: summary}, without the prefix; nothing heavy is imported."""
        ...

    def load(self, name: str) -> Any:
        """Return the class. Raise UsageError, with the nearest names, if there is none or it cannot be used."""
        ...

    # One of streams may also have `facts(name)`, which returns the `StreamFacts` of one without loading it.


@dataclass(frozen=True)
class Chosen:
    """A loaded plugin. `name` goes into the record; `cls` is the class; `from_file`: given as path/to/file.py."""

    name: str
    cls: Any
    from_file: bool = False

    @property
    def digest(self) -> str:
        """12 hex digits that change with the file the plugin comes from."""
        source = inspect.getsourcefile(self.cls)
        return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12] if source else ""


def choose_strategy(spec: str) -> Chosen:
    """Load a strategy by its spec, as `choose` does; for strategies that wrap another one."""
    return choose(STRATEGY, spec)


def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Return the entry points of all installed plugins by name, sorted; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=kind.group), key=lambda point: point.name)}


def provided(kind: Kind) -> dict[str, tuple[str, str]]:
    """Return {name with prefix: (summary, its provider's module)} of what other libraries provide, where they are."""
    summaries: dict[str, tuple[str, str]] = {}
    for point in sorted(entry_points(group=kind.providers), key=lambda point: point.name):
        summaries |= {
            f"{point.name}/{name}": (text, point.value) for name, text in _provider(kind, point).names().items()
        }
    return summaries


def _provider(kind: Kind, point: EntryPoint) -> Provider:
    try:
        return cast(Provider, importlib.import_module(point.value))
    except Exception as problem:  # whatever a stranger's module does on import, it is reported in one line
        raise _import_failed(kind, point.name, problem) from problem


def choose(kind: Kind, spec: str) -> Chosen:
    """Load the plugin `spec`: an installed name, `provider/name`, `module:Class`, or `path/to/file.py[:Class]`.

    Raise UsageError for an unknown name (with the nearest ones), PluginError if it cannot be used.
    """
    known = installed(kind)
    if spec in known:
        return Chosen(spec, _checked(kind, spec, _import(kind, spec, known[spec].value)))
    prefix, slash, rest = spec.partition("/")
    for point in entry_points(group=kind.providers, name=prefix) if slash else ():
        return Chosen(spec, _checked(kind, spec, _provider(kind, point).load(rest)))
    if ".py" in spec or ":" in spec:
        from_file = ".py" in spec
        cls = _checked(kind, spec, _from_file(kind, spec) if from_file else _import(kind, spec, spec))
        return Chosen(f"{cls.__module__.removeprefix(PLUGIN_PREFIX)}:{cls.__name__}", cls, from_file)
    raise UsageError(
        f"{kind.word} {spec!r} is not installed. {nearest(spec, {**known, **provided(kind)})} "
        f"Or give path/to/file.py:Class; `cl-bench list` shows all."
    )


def summary(point: EntryPoint) -> str:
    """Return the first line of a plugin's docstring by reading its source; the plugin is not imported."""
    module, _, attribute = point.value.partition(":")
    tree = syntax_tree(module)
    if isinstance(tree, str):
        return tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def syntax_tree(module: str) -> ast.Module | str:
    """Return the syntax tree of a module that is not imported; where there is none, why, in words or ""."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return "(cannot be found)"
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return ""
    try:
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return "(cannot be read)"


def _import(kind: Kind, spec: str, value: str) -> Any:
    module_name, _, attribute = value.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name and module_name.split(".")[0] == problem.name.split(".")[0]:
            raise UsageError(
                f"{kind.word} {spec!r}: there is no module {problem.name!r} on the Python path. "
                "Install it, or give path/to/file.py:Class."
            ) from problem
        raise _import_failed(kind, spec, problem) from problem
    except Exception as problem:  # whatever a stranger's module does on import, it is reported in one line
        raise _import_failed(kind, spec, problem) from problem
    return _attribute(kind, module, attribute, spec)


def _from_file(kind: Kind, spec: str) -> Any:
    file_name, _, attribute = spec.partition(".py")
    path = Path(file_name + ".py").expanduser()
    if not path.is_file():
        raise UsageError(f"{kind.word} {spec!r}: there is no file {path}. Check the path.")
    module_name = f"{PLUGIN_PREFIX}{re.sub(r'[^0-9a-zA-Z]', '_', path.stem)}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        module_spec.loader.exec_module(module)
    except Exception as problem:  # whatever a stranger's file does on import, it is reported in one line
        del sys.modules[module_name]
        raise _import_failed(kind, spec, problem) from problem
    return _attribute(kind, module, attribute.lstrip(":"), spec)


def _attribute(kind: Kind, module: ModuleType, attribute: str, spec: str) -> Any:
    base = _base(kind)
    classes = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value.__module__ == module.__name__
    }
    if not attribute:
        if len(classes) == 1:
            return next(iter(classes.values()))
        raise UsageError(f"{kind.word} {spec!r}: say which class, as {spec}:Class. {nearest('', classes)}")
    if not hasattr(module, attribute):
        raise UsageError(f"{kind.word} {spec!r}: {module.__name__} has no {attribute!r}. {nearest(attribute, classes)}")
    return getattr(module, attribute)


def _checked(kind: Kind, spec: str, cls: Any) -> Any:
    """Refuse early what would fail late: not a class of the right kind, abstract, or with an unusable Config."""
    base = _base(kind)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise PluginError(f"{kind.word} {spec!r} is not a subclass of cl_suite.{base.__name__}. Derive it from that.")
    return _usable(kind, spec, cls)


def _usable(kind: Kind, spec: str, cls: Any) -> Any:
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{kind.word} {spec!r} does not define {', '.join(missing)}. Add what is missing.")
    if not dataclasses.is_dataclass(cls.Config):
        raise PluginError(f"{kind.word} {spec!r}: its Config is not a dataclass. Decorate it with @dataclass.")
    config_class: Any = cls.Config
    try:
        config_class()
    except TypeError as problem:
        raise PluginError(f"{kind.word} {spec!r}: its Config needs a default for every field ({problem}).") from problem
    return cls


def _base(kind: Kind) -> Any:
    module, _, name = kind.base.partition(":")
    return getattr(importlib.import_module(module), name)


def _import_failed(kind: Kind, spec: str, problem: Exception) -> PluginError:
    reason = str(problem).partition("\n")[0]
    return PluginError(
        f"{kind.word} {spec!r} could not be imported ({type(problem).__name__}: {reason}). "
        "Mend it, or see where with --debug."
    )
