"""The public faces: complete, declared to type checkers, light to import, and kind to plugins written before a move."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cl_suite
from tests.helpers.places import ROOT
from tests.house.rules import FACES, PLUGINS, imports, modules

# What plugins could import from cl_suite before it had further faces.
BEFORE = ("RobotTask", "RobotPool", "SuccessRate", "demonstrations", "imitation_task", "BehaviourCloning")


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_is_there_and_none_is_a_module(face):
    module = importlib.import_module(face)
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), name


@pytest.mark.parametrize("face", FACES)
def test_a_public_face_is_declared_to_type_checkers_in_full(face):
    module = importlib.import_module(face)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert declared == set(module.__all__)


def code_of(page):
    """Return a script whole, of a page of docs its code: blocks and spans."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        return text
    return "\n".join([*re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL), *re.findall(r"`[^`\n]+`", text)])


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_is_used_by_a_plugin_or_named_in_the_docs(face):
    used = {name for package in PLUGINS for path in modules(ROOT, package) for name in imports(ROOT, path)}
    pages = [page for kind in ("*.md", "*.py") for page in (ROOT / "docs").rglob(kind) if page.name != "api.md"]
    code = "\n".join(code_of(page) for page in pages)
    words = set(re.findall(r"\w+", code))
    names = importlib.import_module(face).__all__
    assert not [name for name in names if f"{face}.{name}" not in used and name not in words]


def test_what_moved_to_a_further_face_is_still_found_where_it_was():
    from cl_suite import robots

    for name in BEFORE:
        assert getattr(cl_suite, name) is getattr(robots, name)
    with pytest.raises(ImportError, match="no_such_name"):
        from cl_suite import no_such_name  # noqa: F401


def test_importing_cl_suite_imports_nothing_heavy():
    code = (
        "import sys, cl_suite.cli.main, cl_suite.robots, cl_suite.avalanche; "
        "print({'torch', 'hydra', 'avalanche', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
