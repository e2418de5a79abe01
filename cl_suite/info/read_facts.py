"""What streams say of themselves, read from their source: torch, which their modules import, takes seconds to load.

Read are a class's `facts` and the class variables in its place, where they are made of constants, scenarios, and the
facts of bases in the same file. Where something else stands there the class is imported and asked.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from cl_suite.core.errors import CLSuiteError
from cl_suite.core.registry import STREAM, choose, syntax_tree
from cl_suite.core.scenario import Scenario, StreamFacts, StreamSizes

CALLS: dict[str, Callable[..., Any]] = {
    "StreamFacts": StreamFacts,
    "StreamSizes": StreamSizes,
    "replace": dataclasses.replace,
}
BASE = "Stream"
FORMER = {"open_set"}  # class variables of earlier versions, which `Stream` takes over
PLAIN = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.Expr, ast.Pass)  # in the body of a class


class NotConstant(Exception):
    """Something that only running the code can tell."""


def facts_of(name: str, point: EntryPoint) -> StreamFacts | None:
    """Return what an installed stream says of itself; None where its module cannot be imported either."""
    try:
        return read_facts(point)
    except NotConstant:
        pass
    try:
        return choose(STREAM, name).cls.facts
    except CLSuiteError:
        return None


def provided_facts(name: str, module: str) -> StreamFacts | None:
    """Return what a provider says of one of its streams, `prefix/name`; None where it says nothing."""
    facts = getattr(importlib.import_module(module), "facts", None)
    return facts(name.partition("/")[2]) if facts else None


def opener_facts(point: EntryPoint) -> StreamFacts | None:
    """Return what a stream of the user's own says of itself before it has a place; None where its source says not."""
    try:
        return read_facts(point)
    except NotConstant:
        return None


def read_facts(point: EntryPoint) -> StreamFacts:
    """Return what a stream says of itself, without importing it. Raise NotConstant where its source does not tell."""
    module, _, attribute = point.value.partition(":")
    tree = syntax_tree(module)
    if isinstance(tree, str):
        raise NotConstant(tree)
    try:
        return Reader(tree).facts(attribute)
    except (TypeError, KeyError, RecursionError) as problem:  # no such fact, no such scenario, a class of itself
        raise NotConstant(str(problem)) from problem


class Reader:
    """Evaluates what class bodies of one module assign, as far as it is constant."""

    def __init__(self, tree: ast.Module) -> None:
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._constants = _assignments(tree.body)

    def facts(self, name: str) -> StreamFacts:
        """Return the facts of a class of the module."""
        if name not in self._classes:
            raise NotConstant(name)
        node = self._classes[name]
        bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
        assignments = _assignments(node.body)
        plain = all(isinstance(each, PLAIN) for each in node.body) and not FORMER & assignments.keys()
        if len(bases) != 1 or node.keywords or node.decorator_list or not plain:
            raise NotConstant(name)
        inherited = StreamFacts() if bases[0] == BASE else self.facts(bases[0])
        facts = self.value(assignments["facts"]) if "facts" in assignments else inherited
        names = facts.class_variables().keys() & assignments.keys()
        return facts.with_class_variables({each: self.value(assignments[each]) for each in names})

    def value(self, node: ast.expr) -> Any:
        """Return what an expression is worth. Raise NotConstant where that cannot be read."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Tuple():
                return tuple(self.value(each) for each in node.elts)
            case ast.Dict():
                pairs = zip(node.keys, node.values, strict=True)
                return {self.value(key): self.value(entry) for key, entry in pairs if key is not None}
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                positional = [self.value(each) for each in node.args]
                named = {keyword.arg: self.value(keyword.value) for keyword in node.keywords if keyword.arg}
                return CALLS[name](*positional, **named)
            case ast.Attribute(value=ast.Name(id="Scenario"), attr=name):
                return Scenario[name]
            case ast.Attribute(value=ast.Name(id=name), attr="facts"):
                return self.facts(name)
            case ast.Name(id=name) if name in self._constants:
                return self.value(self._constants[name])
        raise NotConstant(ast.unparse(node))


def _assignments(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Return {name: what is assigned to it} of the plain assignments of a module or a class."""
    values = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            values[node.target.id] = node.value
        elif isinstance(node, ast.Assign):
            values |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return values
