"""`cl-bench list`: what plugins are, read without importing them, and laid out for a terminal."""

import dataclasses
import json
import runpy
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from benchmarks.avalanche.provider import STREAMS
from cl_suite.cli import list_plugins
from cl_suite.cli.list_plugins import laid_out
from cl_suite.core.registry import STREAM, choose, installed
from cl_suite.core.scenario import Scenario, StreamFacts
from cl_suite.info.read_facts import NotConstant, facts_of, provided_facts, read_facts

ROOT = Path(__file__).parents[2]
GAINED = {"modality", "source", "licence", "citation", "version", "sizes", "scenarios", "needs"}
HEAD = "from cl_suite import Scenario, Stream, StreamFacts, StreamSizes\nfrom dataclasses import replace\n"
BODY = "    def load(self, root, seeds): ...\n"


@pytest.mark.parametrize("name", list(installed(STREAM)))
def test_facts_read_from_the_source_are_those_of_the_class(name):
    assert read_facts(installed(STREAM)[name]) == choose(STREAM, name).cls.facts


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Write a module of somebody else's; return the entry point of its class Mine."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text, module):
        (tmp_path / f"{module}.py").write_text(text)
        return EntryPoint("mine", f"{module}:Mine", STREAM.group)

    return write


def test_class_variables_of_before_there_were_facts_are_read(stranger):
    text = f"{HEAD}class Mine(Stream):\n    source = 'here'\n    embedded = True\n{BODY}"
    text += "    scenarios = (Scenario.TASK_AGNOSTIC,)\n"
    facts = read_facts(stranger(text, "stranger_plain"))
    assert facts == StreamFacts(source="here", embedded=True, scenarios=(Scenario.TASK_AGNOSTIC,))
    assert "stranger_plain" not in sys.modules


def test_a_base_in_the_same_file_is_read_too(stranger):
    text = f"{HEAD}ALL = (Scenario.TASK_INCREMENTAL,)\n"
    text += "class Base(Stream):\n    facts = StreamFacts(source='a', scenarios=ALL)\n"
    text += "class Mine(Base):\n    facts = replace(Base.facts, citation='b')\n    version = '2'\n"
    facts = read_facts(stranger(text, "stranger_base"))
    assert facts == StreamFacts(source="a", citation="b", version="2", scenarios=(Scenario.TASK_INCREMENTAL,))


@pytest.mark.parametrize(
    ("number", "text"),
    list(
        enumerate(
            [
                f"class Mine(Stream):\n    version = str(1 + 2)\n{BODY}",
                f"class Mixin:\n    version = '3'\nclass Mine(Mixin, Stream):\n{BODY}",
                f"class Mine(Stream):\n    if True:\n        version = '3'\n{BODY}",
                f"class Base(Stream):\n    version = '3'\nOther = Base\nclass Mine(Other):\n{BODY}",
            ]
        )
    ),
)
def test_what_only_running_can_tell_is_asked_of_the_class(number, text, stranger, monkeypatch):
    point = stranger(HEAD + text, f"stranger_{number}")
    with pytest.raises(NotConstant):
        read_facts(point)
    monkeypatch.setattr("cl_suite.core.registry.installed", lambda kind: {"mine": point})
    assert facts_of("mine", point).version == "3"


def test_of_a_stream_that_cannot_be_imported_nothing_is_known(stranger, monkeypatch):
    point = stranger("import nothing_of_this_name\nclass Mine(nothing_of_this_name.Base): ...\n", "stranger_broken")
    monkeypatch.setattr("cl_suite.core.registry.installed", lambda kind: {"mine": point})
    assert facts_of("mine", point) is None
    entry = list_plugins._public(None)
    assert set(entry) >= GAINED and entry["modality"] is None and list_plugins._size(entry) == "-"


def test_a_fact_that_there_is_not_is_not_read(stranger):
    with pytest.raises(NotConstant, match="colour"):
        read_facts(stranger(f"{HEAD}class Mine(Stream):\n    facts = StreamFacts(colour='red')\n", "stranger_colour"))


def test_streams_of_a_provider_say_what_they_are(monkeypatch):
    facts = provided_facts("avalanche/split_mnist", "benchmarks.avalanche.provider")
    assert facts == STREAMS["split_mnist"].facts and facts.modality == "images"
    assert provided_facts("avalanche/ewc", "strategies.avalanche.provider") is None


def test_json_has_what_streams_say(bench):
    streams = {entry["name"]: entry for entry in json.loads(bench("list", "streams", "--json")[1])["streams"]}
    for name, entry in streams.items():
        assert {"name", "summary", "class", *GAINED} <= set(entry), name
        if name in installed(STREAM):
            facts = choose(STREAM, name).cls.facts
            assert entry["sizes"] == json.loads(json.dumps(dataclasses.asdict(facts.sizes)))
            assert entry["scenarios"] == list(facts.scenarios) and entry["citation"] == facts.citation


def test_a_line_for_each_stream_has_its_size_and_what_it_needs(bench):
    lines = {line.split()[0]: line.split() for line in bench("list", "streams")[1].splitlines()[1:]}
    assert lines["split_cifar100"][1:6] == ["images", "20", "x", "5", "files"]
    assert lines["hwu64"][1:5] == ["texts", "16", "x", "2-10"]
    assert lines["toy_reach"][1:4] == ["robots", "3", "nothing"]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_longer_than_the_terminal(width, bench, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = bench("list")[1].splitlines()
    assert max(map(len, lines)) <= width
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert set(installed(STREAM)) <= set(listed)


def test_a_summary_stands_below_where_there_is_no_room_beside():
    assert laid_out([("a", "b")], ["word " * 30], 40)[0] == "  a b"
    assert laid_out([("a", "b")], ["word"], 80) == ["  a b word"]
    assert laid_out([], [], 80) == []


def test_listing_does_not_import_torch():
    code = (
        "import sys\nfrom cl_suite.cli.main import main\n"
        "try: main(['list', '--json'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == "False"


def test_the_page_of_streams_is_the_one_that_the_script_writes():
    script = runpy.run_path(str(ROOT / "docs/scripts/write_streams_page.py"))
    text = (ROOT / "docs/reference/streams.md").read_text(encoding="utf-8")
    assert text == script["page"](), "run: python docs/scripts/write_streams_page.py"


def names_of(bench, *arguments):
    listed = json.loads(bench("list", *arguments, "--json")[1])
    return {what: {entry["name"] for entry in entries} for what, entries in listed.items()}


@pytest.mark.parametrize("word", ["text", "texts"])
def test_streams_of_one_modality(bench, word):
    found = names_of(bench, "--modality", word)
    assert set(found) == {"streams"}
    ours = {name for name in installed(STREAM) if choose(STREAM, name).cls.facts.modality == "texts"}
    assert ours <= found["streams"] and "split_digits" not in found["streams"]


def test_streams_that_need_no_files(bench):
    found = names_of(bench, "--embedded", "--modality", "vector")["streams"]
    assert "toy_gaussians" in found and not found & {"split_digits", "split_mnist"}


def test_what_runs_in_a_scenario(bench):
    found = names_of(bench, "--scenario", "domain_incremental")
    assert {"er", "ibcl", "exssnet"} <= found["strategies"] and not found["strategies"] & {"hat", "cuber"}
    assert {"permuted_mnist", "toy_reach"} <= found["streams"]
    assert "toy_reach" not in names_of(bench, "streams", "--scenario", "class_incremental")["streams"]
    line = next(line for line in bench("list", "--scenario", "class_incremental")[1].splitlines() if "exssnet" in line)
    assert line.split()[:2] == ["exssnet", "strategy.infer=oneshot"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modality", "txt"], "Did you mean text"),
        (["strategies", "--embedded"], "are of streams"),
        (["--scenario", "class_incr"], "Did you mean class_incremental"),
    ],
)
def test_a_filter_that_is_none_gets_one_line(bench, arguments, message):
    status, out, err = bench("list", *arguments)
    assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1
