"""The documentation holds together: links, the API page, commands, the README's method."""

import importlib.util
import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.house.rules import ALLOWED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)\n(?P<code>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`+[^`\n]*`+")
LINK = re.compile(r"!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\((?P<target>[^)\s]+)\)")


def script(name):
    """Load a script of docs/scripts, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page):
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    met = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        heading = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip()
        slug = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        found.add(f"{slug}-{met[slug]}" if met[slug] else slug)
        met[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_points_at_a_file_and_a_heading_that_are_there(page):
    broken = []
    for match in LINK.finditer(INLINE.sub("`code`", prose(page))):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_the_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_the_readme_and_the_page_of_strategies_name_what_is_installed():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    strategies, streams = (groups[f"cl_suite.{kind}"] for kind in ("strategies", "streams"))
    assert f"{len(strategies)} strategies" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(streams)} streams" in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs/reference/strategies.md").read_text(encoding="utf-8")
    assert [name for name in strategies if f"`{name}`" not in page] == []


def test_contributing_tells_what_each_folder_may_import():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    told = {folder: set(re.findall(r"\w+", re.sub(r"\(.*\)", "", names))) for folder, names in rows}
    assert told == {folder: set(names) for folder, names in ALLOWED.items()}


def test_in_the_site_links_that_leave_docs_are_text():
    class Nothing:
        def get_file_from_path(self, path):
            return None

    hook = script("mkdocs_hook")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="guides/a.md"))
    links = "[the loop](../../cl_suite/x.py), [`cl_suite/y.py`](../../cl_suite/y.py), [b](b.md#c)"
    text = links + "\n```\n[kept](../../x)\n```\n"
    assert hook.on_page_markdown(text, page, None, Nothing()) == (
        "the loop (`cl_suite/x.py`), `cl_suite/y.py`, [b](b.md#c)\n```\n[kept](../../x)\n```\n"
    )


def test_every_public_name_stands_on_the_api_page_and_no_other():
    from importlib import import_module

    api = script("write_api_page")
    text = api.PAGE.read_text(encoding="utf-8")
    assert text == api.page(), "run: python docs/scripts/write_api_page.py"
    shown = re.findall(r"^::: cl_suite\.[\w.]+\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(name for face in api.FACES for name in import_module(face).__all__)


def commands(page):
    """Return the arguments of each `cl-bench` in a page's blocks of code that is written out, without variables."""
    found = []
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["language"] not in ("", "bash", "sh", "console"):
            continue
        code = re.sub(r"\\\n\s*", " ", block["code"])
        for line in re.sub(r"(^|\s)#.*", "", code, flags=re.MULTILINE).splitlines():
            for piece in re.split(r"&&|;|\|", line):
                match = re.match(r"\s*(?:\w+ )*(?:uv run )?(?:--extra \w+ )?cl-bench (?P<rest>.*)", piece)
                if match and "$" not in piece:
                    found.append(shlex.split(match["rest"]))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_can_be_parsed(page):
    from cl_suite.cli import COMMANDS
    from cl_suite.cli.main import DEFAULT, _parser

    for arguments in commands(page):
        name, rest = (arguments[0], arguments[1:]) if arguments[0] in COMMANDS else (DEFAULT, arguments)
        _parser(name).parse_intermixed_args(rest)


def test_the_page_of_commands_tells_every_verb_and_flag():
    from cl_suite.cli import COMMANDS
    from cl_suite.cli.main import _parser

    text = (ROOT / "docs/guides/commands.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`{name}`" in text
        for action in _parser(name)._actions:
            missing = [flag for flag in action.option_strings if flag.startswith("--") and f"`{flag}" not in text]
            assert not missing or missing == ["--help"], name


def test_the_method_of_the_readme_runs(bench, tmp_path):
    blocks = FENCE.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    (code,) = [block["code"] for block in blocks if block["language"] == "python"]
    assert len(code.splitlines()) <= 25
    (tmp_path / "my_method.py").write_text(code, encoding="utf-8")
    status, shown, _ = bench(
        *("--strategy", "my_method.py:Replay", "--stream", "split_digits"), "--device", "cpu", "train.epochs=1"
    )
    assert status == 0
    assert "record: results/split_digits/" in shown


def test_the_version_is_the_same_wherever_it_stands():
    from cl_suite.core.version import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert project["version"] == __version__ == cited[1].strip("\"'")
