"""The rules of the house hold, and each notices when it is broken."""

import shutil
import subprocess
import sys
from importlib import import_module

import pytest

from tests.helpers.places import ROOT
from tests.house import rules

PUBLIC = {face: set(import_module(face).__all__) for face in rules.FACES}
RULES = {
    "arrows up": rules.arrows_up,
    "circles": rules.circles,
    "empty inits": rules.empty_inits,
    "plugin imports": lambda root: rules.plugin_imports(root, PUBLIC),
    "papers imported": rules.papers_imported,
    "plugins named": rules.plugins_named,
    "crowded": rules.crowded,
}
# What breaks a rule: (rule, file, what is added to its end, part of what is said)
PLANTED = [
    ("arrows up", "cl_suite/core/types.py", "from cl_suite.networks import images\n", "core/types.py imports"),
    ("arrows up", "cl_suite/data/prepare.py", "def f():\n    import cl_suite.runs.plan\n", "data/prepare.py imports"),
    ("arrows up", "cl_suite/core/types.py", "from ..report import build\n", "core/types.py imports cl_suite.report"),
    ("arrows up", "cl_suite/runs/load.py", "from cl_suite import Strategy\n", "runs/load.py imports cl_suite.Strategy"),
    ("arrows up", "cl_suite/metrics/matrix.py", "from cl_suite.core import stream\n", "errors alone"),
    (
        "circles",
        "cl_suite/core/errors.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cl_suite.core.registry import Kind\n",
        "cl_suite.core.errors -> cl_suite.core.registry -> cl_suite.core.errors",
    ),
    ("empty inits", "cl_suite/core/__init__.py", "from cl_suite.core.types import Batch\n", "more than a docstring"),
    (
        "plugin imports",
        "strategies/replay/er.py",
        "from cl_suite.core.types import Batch\n",
        "no name of a public face",
    ),
    ("plugin imports", "strategies/replay/er.py", "from cl_suite import Batch as B, nonsense\n", "cl_suite.nonsense"),
    ("plugin imports", "strategies/replay/er.py", "from strategies.tame import expert\n", "of another family"),
    ("plugin imports", "benchmarks/toy/streams.py", "import benchmarks.texts.texts\n", "of another family"),
    ("papers imported", "strategies/replay/gem.py", "from strategies.replay.er import ER\n", "the file of a plugin"),
    ("papers imported", "strategies/replay/gem.py", "from strategies.replay import er\n", "the file of a plugin"),
    ("plugins named", "cl_suite/runs/plan.py", "import strategies\n", "plan.py names strategies"),
    ("plugins named", "cl_suite/runs/plan.py", "X = 'benchmarks.toy.streams'\n", "names benchmarks.toy.streams"),
    ("arrows up", "cl_suite/core/types.py", "X = __import__('cl_suite.runs.plan')\n", "core/types.py imports"),
    ("arrows up", "cl_suite/runs/load.py", "from cl_suite.robots import RobotTask\n", "which is for plugins"),
    ("arrows up", "cl_suite/metrics/matrix.py", "from cl_suite.core import errors_other\n", "errors alone"),
    ("plugin imports", "strategies/replay/er.py", "X = 'strategies.tame.expert:Expert'\n", "of another family"),
    ("plugin imports", "strategies/replay/er.py", "from tests.helpers import image_streams\n", "imports tests"),
    ("plugin imports", "strategies/loose.py", "", "lies in no family"),
    ("plugins named", "cl_suite/runs/plan.py", "X = 'see strategies/replay/er.py'\n", "names see strategies"),
    ("crowded", "cl_suite/core/types.py", "\n" * rules.LINES, "lines"),
    ("crowded", "cl_suite/at_the_root.py", "", "lies at the root"),
    ("crowded", "cl_suite/cellar/thing.py", "", "not in the table of folders"),
]


@pytest.mark.parametrize("name", RULES)
def test_the_house_keeps_its_rules(name):
    assert RULES[name](ROOT) == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The house without anything but its modules."""
    root = tmp_path_factory.mktemp("house")
    for package in ("cl_suite", *rules.PLUGINS):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.mark.parametrize(("name", "file", "added", "said"), PLANTED)
def test_a_broken_rule_is_noticed(copy, name, file, added, said):
    path = copy / file
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text((before or "") + added, encoding="utf-8")
    try:
        found = RULES[name](copy)
    finally:
        if before is not None:
            path.write_text(before, encoding="utf-8")
        else:
            path.unlink()
    assert any(said in violation for violation in found), found


def test_a_crowded_folder_is_noticed(copy):
    added = [copy / "cl_suite" / "data" / f"more_{number}.py" for number in range(rules.MODULES)]
    for path in added:
        path.write_text("")
    assert any("modules" in violation for violation in rules.crowded(copy))
    for path in added:
        path.unlink()


def test_a_folder_that_the_wheel_would_lack_is_noticed(copy):
    init = copy / "strategies" / "replay" / "__init__.py"
    before = init.read_text()
    init.unlink()
    assert any("no __init__.py" in violation for violation in rules.empty_inits(copy))
    init.write_text(before)


def loads_torch(root, names):
    """Whether torch is loaded once modules of the house at `root` are imported."""
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    return done.stdout.strip() == "True"


def test_torch_in_a_folder_that_loads_without_it_is_noticed(copy):
    path = copy / "cl_suite" / "records" / "fields.py"
    before = path.read_text()
    assert not loads_torch(copy, ["cl_suite.records.fields"])
    path.write_text(before + "import torch\n")
    assert loads_torch(copy, ["cl_suite.records.fields"])
    path.write_text(before)


def test_metrics_records_report_and_the_command_line_load_without_torch():
    paths = [path for folder in rules.TORCH_FREE for path in rules.modules(ROOT, f"cl_suite/{folder}")]
    assert not loads_torch(ROOT, [rules.name_of(ROOT, path) for path in paths])
