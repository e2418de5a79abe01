"""The rules of the house, as functions of a folder: each returns the violations it finds, in words."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

# Each folder of cl_suite and what it may import of the others, from the ground up.
ALLOWED = {
    "core": {},
    "metrics": {"core"},
    "data": {"core"},
    "networks": {"core", "data"},
    "records": {"core", "metrics"},
    "methods": {"core", "networks"},
    "features": {"core", "data", "networks"},
    "avalanche": {"core", "data", "networks"},
    "loggers": {"core", "metrics", "records"},
    "report": {"core", "metrics", "records"},
    "robots": {"core", "data", "networks", "features"},
    "evaluation": {"core", "metrics", "networks", "methods"},
    "runs": {"core", "metrics", "data", "networks", "records", "features", "loggers", "robots", "evaluation"},
    "saved_models": {"core", "data", "networks", "records", "features", "evaluation", "runs"},
    "conformance": {"core", "data", "networks", "runs"},
    "api": {"core", "loggers", "records", "report", "runs", "saved_models"},
    "speed": {"core", "data", "networks", "methods", "runs"},
    "cards": {"core", "data", "records", "report", "robots", "runs"},
    "info": {"core", "metrics", "networks", "records", "report", "evaluation", "runs"},
    "cli": {"core", "records", "loggers", "report", "runs", "saved_models", "conformance", "speed", "cards", "info"},
}
TORCH_FREE = ("metrics", "records", "report", "info", "cli")
METRICS_MAY_IMPORT = "cl_suite.core.errors"  # of core, so that R can be read without anything else
FACES = ("cl_suite", "cl_suite.robots", "cl_suite.avalanche")  # what plugins may import
NOT_EMPTY = (
    "cl_suite/__init__.py",
    "cl_suite/robots/__init__.py",
    "cl_suite/avalanche/__init__.py",
    "cl_suite/cli/__init__.py",
)
PLUGINS = ("strategies", "benchmarks")
MODULES = 20  # in one folder of cl_suite
LINES = 330  # in one file
ROOT_MODULES = {"__init__.py", "__main__.py"}


def modules(root: Path, package: str) -> list[Path]:
    """Return every Python file of a package."""
    return sorted((root / package).rglob("*.py"))


def name_of(root: Path, path: Path) -> str:
    """Return the dotted name of a file's module."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: Path, path: Path) -> Iterator[str]:
    """Yield what a file imports, wherever it stands: modules, and `module.name` for `from module import name`."""
    package = name_of(root, path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def strings(path: Path) -> Iterator[str]:
    """Yield every string constant of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named_modules(root: Path, path: Path) -> Iterator[str]:
    """Yield the modules of the house that a file names in a string, as for `import_module`."""
    for text in strings(path):
        module = text.partition(":")[0]
        if re.fullmatch(r"(cl_suite|strategies|benchmarks)(\.\w+)+", module):
            place = root / Path(*module.split("."))
            if place.is_dir() or place.with_suffix(".py").exists():
                yield module


def arrows_up(root: Path) -> list[str]:
    """A folder imports only those below it that the table names, and nobody inside imports the public face."""
    found = []
    for path in modules(root, "cl_suite"):
        parts = path.relative_to(root / "cl_suite").parts
        own = parts[0] if len(parts) > 1 else ""
        for module in [*imports(root, path), *named_modules(root, path)]:
            top, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            face = module.rpartition(".")[0] in FACES or module in FACES
            if own and top == "cl_suite" and face and not (own == other and path.name == "__init__.py"):
                found.append(f"{path.relative_to(root)} imports {module}, which is for plugins")
            if top != "cl_suite" or own == other:
                continue
            if own and (other not in ALLOWED or other not in ALLOWED[own]):
                found.append(f"{path.relative_to(root)} imports {module}")
            if own == "metrics" and other == "core" and not f"{module}.".startswith(f"{METRICS_MAY_IMPORT}."):
                found.append(
                    f"{path.relative_to(root)} imports {module}; metrics may import {METRICS_MAY_IMPORT} alone"
                )
    return found


def circles(root: Path) -> list[str]:
    """No module imports itself by way of others. Imports for type checkers and inside functions count."""
    files = {name_of(root, path): path for package in ("cl_suite", *PLUGINS) for path in modules(root, package)}
    faces = set(FACES)  # lazy: what they name is imported on use
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        targets = set()
        for module in imports(root, path):
            target = module if module in files else module.rpartition(".")[0]
            if target in files and target not in faces and target != name:
                targets.add(target)
        graph[name] = set() if name in faces else targets
    done: set[str] = set()
    found = []

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" -> ".join([*way[way.index(name) :], name]))
            return
        if name in done:
            return
        for target in sorted(graph[name]):
            visit(target, [*way, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def empty_inits(root: Path) -> list[str]:
    """A folder's `__init__.py` holds a docstring and nothing else, but for the faces and the table of commands."""
    found = []
    for package in ("cl_suite", *PLUGINS):
        for folder in sorted({path.parent for path in modules(root, package)}):
            init = folder / "__init__.py"
            if not init.exists():
                found.append(f"{folder.relative_to(root)} has no __init__.py: the wheel would lack it")
                continue
            body = ast.parse(init.read_text(encoding="utf-8")).body
            only_docstring = (
                len(body) == 1 and isinstance(body[0], ast.Expr) and ast.get_docstring(ast.Module(body, []))
            )
            if str(init.relative_to(root)) not in NOT_EMPTY and not only_docstring:
                found.append(f"{init.relative_to(root)} is more than a docstring")
    return found


def plugin_imports(root: Path, public: dict[str, set[str]]) -> list[str]:
    """A plugin imports names of the public faces, and modules of its own family. public: {face: its names}."""
    found = []
    for package in PLUGINS:
        for path in modules(root, package):
            parts = path.relative_to(root).parts
            family = ".".join(parts[:2]) + "." if len(parts) > 2 else "-"
            if len(parts) == 2 and parts[1] != "__init__.py":
                found.append(f"{path.relative_to(root)} lies in no family")
            for module in [*imports(root, path), *named_modules(root, path)]:
                top = module.split(".")[0]
                face, _, name = module.rpartition(".")
                if top == "tests":
                    found.append(f"{path.relative_to(root)} imports {module}")
                if top in PLUGINS and not module.startswith(family):
                    found.append(f"{path.relative_to(root)} imports {module}, of another family")
                if top == "cl_suite" and name not in public.get(face, ()):
                    found.append(f"{path.relative_to(root)} imports {module}, which is no name of a public face")
    return found


def entry_points(root: Path) -> set[str]:
    """Return the modules that pyproject.toml names as plugins."""
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {value.partition(":")[0] for points in groups.values() for value in points.values()}


def papers_imported(root: Path) -> list[str]:
    """A file that an entry point names (a paper, a stream) is imported by no other file."""
    papers = entry_points(root)
    found = []
    for package in ("cl_suite", *PLUGINS):
        for path in modules(root, package):
            for module in [*imports(root, path), *named_modules(root, path)]:
                if module in papers or module.rpartition(".")[0] in papers:
                    found.append(f"{path.relative_to(root)} imports {module}, the file of a plugin")
    return found


def plugins_named(root: Path) -> list[str]:
    """The harness neither imports plugins nor names their modules in a string."""
    found = []
    for path in modules(root, "cl_suite"):
        named = [module for module in imports(root, path) if module.split(".")[0] in PLUGINS]
        named += [text for text in strings(path) if re.search(r"\b(strategies|benchmarks)[./]\w", text)]
        found += [f"{path.relative_to(root)} names {name}" for name in named]
    return found


def crowded(root: Path) -> list[str]:
    """Folders and files keep to their sizes, and cl_suite's root holds its two modules alone."""
    found = []
    for path in (path for package in ("cl_suite", *PLUGINS) for path in modules(root, package)):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LINES:
            found.append(f"{path.relative_to(root)} has {lines} lines")
    for folder in sorted({path.parent for path in modules(root, "cl_suite")}):
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        if count > MODULES:
            found.append(f"{folder.relative_to(root)} has {count} modules")
    others = {path.name for path in (root / "cl_suite").glob("*.py")} - ROOT_MODULES
    found += [f"cl_suite/{name} lies at the root" for name in sorted(others)]
    folders = {path.name for path in (root / "cl_suite").iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    found += [f"cl_suite/{name} is not in the table of folders" for name in sorted(folders - {*ALLOWED})]
    return found
