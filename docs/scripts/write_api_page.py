"""Write docs/reference/api.md: every name of the three public faces, under the folder that defines it.

    uv run python docs/scripts/write_api_page.py

Which names are public is told by the faces' own tables (`_HOME`); this script adds none and leaves none out.
A test holds that the page is what this script gives.
"""

import ast
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/api.md"

FACES = {
    "cl_suite": "Strategies and streams import from here: `from cl_suite import GradientStrategy, Stream`.",
    "cl_suite.robots": "For streams of robot tasks: `from cl_suite.robots import RobotTask, imitation_task`.",
    "cl_suite.avalanche": "For Avalanche, both ways: `from cl_suite.avalanche import to_avalanche`.",
}
QUESTIONS = {
    "core": "What do the harness, strategies and streams say to each other?",
    "metrics": "Which numbers are computed from R?",
    "data": "How are stored samples read, and how do they become inputs of a network?",
    "networks": "What is a network made of, and how is it looked into?",
    "records": "What is kept of a run?",
    "methods": "What are strategies made of: the training loop, replay buffers, Fisher information, gradient vectors?",
    "features": "How does a frozen network take the place of raw samples?",
    "evaluation": "What else is asked of a strategy than R?",
    "api": "How is a run asked for in Python, and what comes back?",
    "conformance": "Does a strategy keep the promises of the interface?",
    "robots": "What does a stream of robot tasks need?",
    "avalanche": "What passes between Avalanche and cl-suite?",
}
OPENING = """\
# The API

What a strategy or a stream may import. There are three modules to import from, and names are imported from these alone:
the paths below say where a name is defined, and may change; `from cl_suite import ...` does not. Names are loaded on
first use, so that importing a module is quick.

How they are put to use: [add a strategy](../guides/add_a_strategy.md), [add a stream](../guides/add_a_stream.md).
Shapes are written as `[B, C]`: B samples, C classes of the whole stream.

In the repository this page is a list of names; `uv run --group docs mkdocs serve` shows each with its signature and
docstring. It is written by `docs/scripts/write_api_page.py` from the three modules themselves.
"""


def homes(face: str) -> dict[str, list[str]]:
    """Return {module below cl_suite: its public names} for a face."""
    own = face.partition(".")[2]
    table = import_module(face)._HOME
    return {".".join(filter(None, [own, module])): list(names) for module, names in table.items()}


def purpose(module: str) -> str:
    """Return the first line of a module's docstring, without importing it."""
    path = ROOT / "cl_suite" / Path(*module.split(".")).with_suffix(".py")
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def page() -> str:
    """Return the page."""
    lines = [OPENING]
    for face, sentence in FACES.items():
        lines += [f"## From `{face}`", "", sentence, ""]
        table = homes(face)
        for folder in dict.fromkeys(module.partition(".")[0] for module in table):
            if face == "cl_suite":
                lines += [f"### {folder}", "", QUESTIONS.get(folder, ""), ""]
            for module, names in table.items():
                if module.partition(".")[0] != folder:
                    continue
                lines += [f"#### `{module}`", "", purpose(module), ""]
                lines += [f"::: cl_suite.{module}.{name}\n" for name in names]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
