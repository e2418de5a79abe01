"""Finds strategies and streams by entry-point name, `module:Class`, `path/to/file.py:Class` or `prefix:place`."""

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
    openers: str  # entry-point group of classes that are made of a user's own, by a prefix: `images:FOLDER`
    base: str  # "module:Class" every plugin derives from


# What runs where neither is named: a method this suite is made for, on data that it carries with it.
DEFAULT_STRATEGY, DEFAULT_STREAM = "exssnet", "split_digits"
PLUGIN_PREFIX = "cl_suite_plugin_"  # of the module names of plugins given as files
STRATEGY = Kind(
    "strategy",
    "cl_suite.strategies",
    "cl_suite.strategy_providers",
    "cl_suite.strategy_openers",
    "cl_suite.core.strategy:Strategy",
)
STREAM = Kind(
    "stream", "cl_suite.streams", "cl_suite.stream_providers", "cl_suite.stream_openers", "cl_suite.core.stream:Stream"
)


class Provider(Protocol):
    """A module that makes plugins of another library's classes. Its entry point's name is the prefix of their names."""

    def names(self) -> Mapping[str, str]:
        """Return {name: summary}, without the prefix; nothing heavy is imported."""
        ...

    def load(self, name: str) -> Any:
        """Return the class. Raise UsageError, with the nearest names, if there is none or it cannot be used."""
        ...

    # One of streams may also have `facts(name)`, which returns the `StreamFacts` of one without loading it.


class Opener(Protocol):
    """A plugin's class that is made of something of the user's: `prefix:place`, the entry point's name before it.

    place_is: what stands behind the prefix, for `cl-bench list`, e.g. FOLDER; a constant
    """

    place_is: str

    def at(self, place: str) -> tuple[str, type]:
        """Return (a name for records, without folders of this machine; the class that is of this place).

        Raise UsageError or DataError if there is nothing, or it cannot be used.
        """
        ...


@dataclass(frozen=True)
class Chosen:
    """A loaded plugin. `name` goes into the record; `cls` is the class.

    from_file: not installed, so that its code is part of the configuration: given as path/to/file.py, or as a class
    code:      identifies the code where that is not by its file: of a class that was defined at a prompt
    spec:      how a class that was given is found by name, as path/to/file.py:Class; "" = by `name`, or not at all
    """

    name: str
    cls: Any
    from_file: bool = False
    code: str = ""
    spec: str = ""

    @property
    def digest(self) -> str:
        """12 hex digits that change with the file the plugin comes from."""
        if self.code:
            return self.code
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


def openers(kind: Kind) -> dict[str, EntryPoint]:
    """Return the entry points of what can be made of a user's own, by how one writes it: {"images:FOLDER": ...}."""
    points = sorted(entry_points(group=kind.openers), key=lambda point: point.name)
    return {f"{point.name}:{_constant(point, 'place_is') or 'PLACE'}": point for point in points}


def _provider(kind: Kind, point: EntryPoint) -> Provider:
    try:
        return cast(Provider, importlib.import_module(point.value))
    except Exception as problem:  # whatever a stranger's module does on import, it is reported in one line
        raise _import_failed(kind, point.name, problem) from problem


def choose(kind: Kind, spec: str) -> Chosen:
    """Load the plugin `spec`: an installed name, `provider/name`, `module:Class`, `path/to/file.py[:Class]`, or what is
    made of the user's own, `prefix:place`.

    Raise UsageError for an unknown name (with the nearest ones), PluginError if it cannot be used.
    """
    known = installed(kind)
    if spec in known:
        return Chosen(spec, _checked(kind, spec, _import(kind, spec, known[spec].value)))
    prefix, slash, rest = spec.partition("/")
    for point in entry_points(group=kind.providers, name=prefix) if slash else ():
        return Chosen(spec, _checked(kind, spec, _provider(kind, point).load(rest)))
    prefix, colon, place = spec.partition(":")
    for point in entry_points(group=kind.openers, name=prefix) if colon else ():
        opener: Opener = _import(kind, spec, point.value)
        name, cls = opener.at(place)
        return Chosen(f"{prefix}:{name}", _checked(kind, spec, cls))
    if ".py" in spec or ":" in spec:
        from_file = ".py" in spec
        cls = _checked(kind, spec, _from_file(kind, spec) if from_file else _import(kind, spec, spec))
        return Chosen(f"{cls.__module__.removeprefix(PLUGIN_PREFIX)}:{cls.__name__}", cls, from_file)
    raise UsageError(
        f"{kind.word} {spec!r} is not installed. {nearest(spec, {**known, **provided(kind), **openers(kind)})} "
        f"Or give {', '.join(['path/to/file.py:Class', *openers(kind)])}; `cl-bench list` shows all."
    )


def load_object(kind: Kind, spec: str) -> Any:
    """Return what `module:Name` or `path/to/file.py[:Name]` names, whatever it is.

    Raise UsageError where there is no such file, module or name, PluginError where it cannot be imported.
    """
    return _from_file(kind, spec) if ".py" in spec else _import(kind, spec, spec)


def check_class(kind: Kind, cls: Any) -> None:
    """Raise PluginError for a class that cannot be used: of another kind, abstract, or with an unusable Config."""
    _checked(kind, cls.__name__, cls)


def summary(point: EntryPoint) -> str:
    """Return the first line of a plugin's docstring by reading its source; the plugin is not imported."""
    node = _class_node(point)
    return node if isinstance(node, str) else (ast.get_docstring(node) or "").partition("\n")[0]


def _constant(point: EntryPoint, name: str) -> str:
    """Return a constant of a plugin's class by reading its source; "" where there is none."""
    node = _class_node(point)
    for line in () if isinstance(node, str) else node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=value)) if found == name:
                return str(value)
    return ""


def _class_node(point: EntryPoint) -> ast.ClassDef | str:
    """Return a plugin's class in its source; where it cannot be read, why, in words or ""."""
    module, _, attribute = point.value.partition(":")
    tree = syntax_tree(module)
    if isinstance(tree, str):
        return tree
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute), "")


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
            close = nearest(spec.partition(":")[0] + ":", [form.partition(":")[0] + ":" for form in openers(kind)])
            raise UsageError(
                f"{kind.word} {spec!r}: there is no module {problem.name!r} on the Python path. "
                f"{close + ' Or install' if close.startswith('Did') else 'Install'} it, or give path/to/file.py:Class."
            ) from problem
        raise _import_failed(kind, spec, problem) from problem
    except Exception as problem:  # whatever a stranger's module does on import, it is reported in one line
        raise _import_failed(kind, spec, problem) from problem
    return _attribute(kind, module, attribute, spec)


def _from_file(kind: Kind, spec: str) -> Any:
    file_name, _, attribute = spec.rpartition(".py")
    path = Path(file_name + ".py").expanduser()
    if not path.is_file():
        raise UsageError(f"{kind.word} {spec!r}: there is no file {path}. Check the path.")
    main = sys.modules.get("__main__")
    running = getattr(main, "__file__", None)
    if main is not None and running and Path(running).resolve() == path.resolve():
        return _attribute(kind, main, attribute.lstrip(":"), spec)  # running it again would never end
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
        name = module.__name__.removeprefix(PLUGIN_PREFIX)
        raise UsageError(f"{kind.word} {spec!r}: {name} has no {attribute!r}. {nearest(attribute, classes)}")
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
