"""Classes as their source states them, read without importing anything: bases, class variables, fields, comments.

torch, which modules of plugins import, takes seconds to load; reading their source takes milliseconds. What only
running the code can tell raises NotConstant: then a reader imports the class and asks it.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import operator
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cl_suite.core.scenario import Requirement, Scenario

ENUMS: dict[str, Any] = {"Requirement": Requirement, "Scenario": Scenario}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
}
BARE = {"object", "ABC", "Protocol", "Generic"}  # bases that say nothing
EMPTY: dict[str, Callable[[], Any]] = {"list": list, "dict": dict, "tuple": tuple, "frozenset": frozenset, "set": set}


class NotConstant(Exception):
    """Something that only running the code can tell."""


@dataclass(frozen=True)
class Field:
    """A field of a dataclass: its type and default as they are written, and what the comment on its line says."""

    name: str
    type: str
    default: Any
    meaning: str


class Module:
    """The source of one module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shadows: dict[int, type] = {}  # {line of a class: its shadow}: one each, or a diamond would be none
        try:
            text = path.read_text(encoding="utf-8")
            self.tree = ast.parse(text)
            self._text = text
        except (OSError, SyntaxError, ValueError) as problem:
            raise NotConstant(f"{path} cannot be read") from problem

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @cached_property
    def comments(self) -> dict[int, tuple[str, bool]]:
        """{line: (comment without its sign, whether it has the line to itself)}."""
        lines = self._text.splitlines()
        found = {}
        for token in tokenize.generate_tokens(io.StringIO(self._text).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                found[row] = (token.string.lstrip("# ").rstrip(), not lines[row - 1][:column].strip())
        return found

    @cached_property
    def names(self) -> dict[str, ast.AST]:
        """What the module binds at its top, and for type checkers: {name: class, import, or what is assigned}."""
        return dict(_bindings(self.tree.body))

    def comment(self, node: ast.stmt) -> str:
        """Return the comment on the lines of a statement, else the one that stands right above it."""
        own = [self.comments[row][0] for row in range(node.lineno, (node.end_lineno or 0) + 1) if row in self.comments]
        row = node.lineno - 1
        above: list[str] = []
        while not own and self.comments.get(row, ("", False))[1]:
            above.insert(0, self.comments[row][0])
            row -= 1
        return " ".join(own or above)

    def find(self, dotted: str) -> Class:
        """Return a class by its name in this module, `Outer.Inner` too, wherever it was imported from."""
        first, _, rest = dotted.partition(".")
        module, node = self.resolve(first)
        if not isinstance(node, ast.ClassDef):
            raise NotConstant(f"{first} is no class of {self.path.name}")
        found = Class(module, node)
        for name in filter(None, rest.split(".")):
            found = found.inner(name)
        return found

    def resolve(self, name: str, depth: int = 8) -> tuple[Module, ast.AST]:
        """Return (module, node) of what a name is bound to, through imports."""
        node = self.names.get(name)
        if node is None or not depth:
            raise NotConstant(f"{name} is not bound in {self.path.name}")
        if not isinstance(node, ast.ImportFrom):
            return self, node
        if node.level or node.module is None:
            raise NotConstant(f"{name} is imported relatively")
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        return module_named(node.module).resolve(original, depth - 1)

    def value(self, node: ast.AST | None) -> Any:
        """Return what an expression of this module is worth. Raise NotConstant where that cannot be read."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Tuple() | ast.List() | ast.Set():
                values = [self.value(each) for each in node.elts]
                return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](values)
            case ast.Dict():
                return {self.value(k): self.value(v) for k, v in zip(node.keys, node.values, strict=True)}
            case ast.UnaryOp(op=ast.USub()):
                return -self.value(node.operand)
            case ast.BinOp(op=op) if type(op) in OPERATORS:
                return OPERATORS[type(op)](self.value(node.left), self.value(node.right))
            case ast.Attribute(value=ast.Name(id=name), attr=member) if name in ENUMS:
                return ENUMS[name][member]
            case ast.Attribute(value=ast.Name(id=name), attr=variable):
                return self.find(name).variable(variable)
            case ast.Call(func=ast.Name(id="frozenset"), args=[inner], keywords=[]):
                return frozenset(self.value(inner))
            case ast.Call(func=ast.Name(id=name), args=[], keywords=[]) if name in EMPTY:
                return EMPTY[name]()
            case ast.Call(func=ast.Name(id="list" | "tuple" as name), args=[ast.Name(id=table)], keywords=[]):
                module, bound = self.resolve(table)
                keys = bound.keys if isinstance(bound, ast.Dict) else getattr(bound, "elts", [None])
                return EMPTY[name]().__class__(module.value(key) for key in keys)
            case ast.Call(func=ast.Name(id="field"), args=[]):
                return self._field_default({each.arg: each.value for each in node.keywords})
            case ast.Name(id=name):
                module, bound = self.resolve(name)
                if not isinstance(bound, ast.expr):
                    raise NotConstant(f"{name} is no constant")
                return module.value(bound)
        raise NotConstant("nothing" if node is None else ast.unparse(node))

    def _field_default(self, given: dict[str | None, ast.expr]) -> Any:
        match given.get("default_factory"):
            case ast.Name(id=name) if name in EMPTY:
                return EMPTY[name]()
            case ast.Lambda(body=body):
                return self.value(body)
        return self.value(given.get("default"))


class Class:
    """The source of one class, with what it inherits."""

    def __init__(self, module: Module, node: ast.ClassDef) -> None:
        self.module, self.node = module, node

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """The rest of its docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[2].strip()

    @cached_property
    def lineage(self) -> list[Class]:
        """The class and all it inherits from, in the order in which Python looks names up."""
        return [vars(each)["source"] for each in _shadow(self).__mro__ if "source" in vars(each)]

    def inner(self, name: str) -> Class:
        """Return a class that this one or one of its bases defines inside itself."""
        for each in self.lineage:
            for node in each.node.body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return Class(each.module, node)
        raise NotConstant(f"{self.node.name} has no {name}")

    def variable(self, name: str) -> Any:
        """Return the value of a class variable, its own or inherited."""
        for each in self.lineage:
            for node in each.node.body:
                if name in _targets(node) and getattr(node, "value", None) is not None:
                    return each.module.value(node.value)  # type: ignore[attr-defined]
        raise NotConstant(f"{self.node.name} states no {name}")

    def defines(self, function: str) -> bool:
        """Whether this class or a base other than the last defines a function."""
        return any(
            isinstance(node, ast.FunctionDef) and node.name == function
            for each in self.lineage[:-1]
            for node in each.node.body
        )

    def is_a(self, dotted: str) -> bool:
        """Whether it derives from `module:Class`."""
        module, _, name = dotted.partition(":")
        return any(each.node.name == name and each.module.path == module_named(module).path for each in self.lineage)

    @property
    def fields(self) -> list[Field]:
        """The fields of the dataclass, inherited ones first, as `dataclasses.fields` has them."""
        found: dict[str, Field] = {}
        for each in reversed(self.lineage):
            for node in each.node.body:
                if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                    continue
                name, kind = node.target.id, ast.unparse(node.annotation)
                if kind.startswith("ClassVar"):
                    continue
                meaning = each.module.comment(node) or (found[name].meaning if name in found else "")
                found[name] = Field(name, kind, each.module.value(node.value), meaning)
        return list(found.values())

    def fields_as_written(self) -> list[Field]:
        """The fields that this very class states; a default that cannot be read is its text."""
        found = []
        for node in self.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                default = ast.unparse(node.value) if node.value else ""
                found.append(Field(node.target.id, ast.unparse(node.annotation), default, self.module.comment(node)))
        return found

    def comment_of(self, field: str) -> tuple[str, str]:
        """Return (type, comment) of a field as this very class states it; ("", "") if it does not."""
        for node in self.node.body:
            if isinstance(node, ast.AnnAssign) and field in _targets(node):
                return ast.unparse(node.annotation), self.module.comment(node)
        return "", ""


@cache
def module_named(name: str) -> Module:
    """Return the source of a module by its dotted name; only the packages above it are imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as problem:
        raise NotConstant(f"there is no module {name}") from problem
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise NotConstant(f"{name} has no source")
    return Module(Path(spec.origin))


def class_at(place: str) -> Class:
    """Return a class by `module:Class` or `path/to/file.py:Class`."""
    head, _, name = place.rpartition(":")
    return (Module(Path(head).expanduser()) if head.endswith(".py") else module_named(head)).find(name)


def _shadow(source: Class) -> type:
    """Return an empty class whose bases are those of the source, so that Python orders them."""
    bases = []
    for base in source.node.bases:
        dotted = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        if dotted.rpartition(".")[2] not in BARE:
            bases.append(_shadow(source.module.find(dotted)))
    if source.node.keywords:
        raise NotConstant(f"{source.node.name} has a metaclass or arguments")
    shadows = source.module.shadows
    if source.node.lineno not in shadows:
        try:
            shadows[source.node.lineno] = type(source.node.name, tuple(bases), {"source": source})
        except TypeError as problem:  # bases that no order fits
            raise NotConstant(str(problem)) from problem
    return shadows[source.node.lineno]


def _bindings(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            yield from ((name, node.value) for name in _targets(node))
            match node:
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    pairs = zip(names, values, strict=False)
                    yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _bindings(node.body)


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
