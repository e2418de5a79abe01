"""Imports go one way: strategies and benchmarks know the public API, cl_suite knows neither."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cl_suite

ROOT = Path(__file__).parent.parent


def imports(path):
    """Yield (module, name or None) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("cl_suite"), ids=lambda path: path.stem)
def test_the_harness_does_not_import_strategies_or_benchmarks(path):
    assert not [module for module, _ in imports(path) if module.split(".")[0] in ("strategies", "benchmarks")]
    texts = [
        node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    ]
    assert not [text for text in texts if isinstance(text, str) and text.startswith(("strategies.", "benchmarks."))]


@pytest.mark.parametrize("path", [*files("strategies"), *files("benchmarks")], ids=lambda path: path.stem)
def test_plugins_use_the_public_api_alone_and_not_each_other(path):
    for module, name in imports(path):
        top = module.split(".")[0]
        assert top not in ("", "strategies", "benchmarks"), f"{module} is another plugin's module"
        if top == "cl_suite":
            assert module == "cl_suite" and name in cl_suite.__all__, f"{module}.{name} is not public"


def test_every_public_name_is_there_and_none_is_a_module():
    for name in cl_suite.__all__:
        assert not isinstance(getattr(cl_suite, name), ModuleType), name


def test_the_public_api_is_declared_to_type_checkers_in_full():
    tree = ast.parse((ROOT / "cl_suite/__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert declared == set(cl_suite.__all__)


def test_importing_cl_suite_imports_nothing_heavy():
    code = (
        "import sys, cl_suite, cl_suite.cli; print({'torch', 'torchvision', 'hydra', 'avalanche'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("package", ["cl_suite", "strategies", "benchmarks"])
def test_files_stay_short(package):
    assert not [(path.name, lines) for path in files(package) if (lines := len(path.read_text().splitlines())) > 330]
