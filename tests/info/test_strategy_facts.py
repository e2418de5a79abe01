"""What strategies and streams say of themselves, read from their source, is what their classes have."""

import dataclasses
import subprocess
import sys

import pytest

from cl_suite.core.registry import STRATEGY, STREAM, choose, installed
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.info.options import asked, group, groups, stated
from cl_suite.info.source import NotConstant, class_at
from cl_suite.info.strategies import as_options, runs_in, scenarios_of, strategy_facts, strategy_source
from cl_suite.info.streams import stream_card
from cl_suite.runs.config import RunConfig

OWN = """
from dataclasses import dataclass, field

from cl_suite import GradientStrategy, ReplayOptions

SIZES = (3, 4)


class MyMethod(GradientStrategy):
    '''A method in a file.

    With more to say.
    '''

    source = "Me 2030"
    costs = "nothing"

    @dataclass
    class Config(ReplayOptions, GradientStrategy.Config):
        lr: float = 0.5
        # what stands above
        # in two lines
        sizes: list[int] = field(default_factory=lambda: [1, 2])
        many: tuple[int, ...] = SIZES
        share: float = (
            1 / 4  # in the middle
        )
"""


@pytest.mark.parametrize("name", list(installed(STRATEGY)))
def test_what_is_read_of_a_strategy_is_what_its_class_has(name):
    cls = choose(STRATEGY, name).cls
    source = strategy_source(name)
    fields = {each.name: each for each in dataclasses.fields(cls.Config)}
    read = source.inner("Config").fields
    assert [each.name for each in read] == list(fields)
    assert {each.name: each.default for each in read} == dataclasses.asdict(cls.Config())
    assert source.variable("requires") == cls.requires
    assert (source.variable("source"), source.variable("costs")) == (cls.source, cls.costs)
    assert source.variable("resumable") == cls.resumable


@pytest.mark.parametrize("name", list(installed(STRATEGY)))
def test_a_strategy_of_ours_says_what_it_costs_and_what_every_option_means(name):
    assert "costs" in vars(choose(STRATEGY, name).cls), "a statement of its own, not one that it inherits"
    facts = strategy_facts(name)
    assert facts.costs and facts.what
    assert [option.name for option in facts.options if not option.meaning] == []


@pytest.mark.parametrize("name", list(installed(STREAM)))
def test_a_stream_of_ours_says_what_every_option_means(name):
    cls = choose(STREAM, name).cls
    card = stream_card(name)
    assert [option.name for option in card.options if not option.meaning] == []
    assert {each.name.removeprefix("stream."): each.default for each in card.options} == dataclasses.asdict(
        cls.Config()
    )
    assert card.facts == cls.facts


def test_modes_are_those_that_need_less():
    for name in installed(STRATEGY):
        facts = strategy_facts(name)
        for mode, needs in facts.modes:
            assert needs < facts.needs, (name, mode)
    assert as_options(strategy_facts("exssnet").modes[0][0]) == "strategy.infer=oneshot"
    assert runs_in("exssnet", Scenario.CLASS_INCREMENTAL) == ["strategy.infer=oneshot"]
    assert runs_in("hat", Scenario.CLASS_INCREMENTAL) == []
    assert runs_in("er", Scenario.TASK_AGNOSTIC) == [""]
    assert scenarios_of(frozenset({Requirement.TASK_ID_AT_TEST})) == ["task_incremental"]


def test_options_of_what_a_wrapper_wraps_are_among_its_own():
    names = {option.name: option for option in strategy_facts("fpf").options}
    assert names["strategy.base_options.buffer_size"].default == 500
    assert names["strategy.base_options.buffer_size"].meaning


def test_a_plugin_of_ones_own_is_read_with_what_it_inherits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    facts = strategy_facts("mine.py:MyMethod")
    assert (facts.what, facts.about, facts.paper, facts.costs) == (
        "A method in a file.",
        "With more to say.",
        "Me 2030",
        "nothing",
    )
    options = {option.name.removeprefix("strategy."): option for option in facts.options}
    assert [*options][:3] == ["optimizer", "lr", "momentum"] and options["lr"].default == 0.5
    assert "0.05" in options["lr"].meaning, "no comment of its own: the parent's"
    assert options["sizes"].meaning == "what stands above in two lines" and options["sizes"].default == [1, 2]
    assert options["many"].default == (3, 4)
    assert options["share"].meaning == "in the middle" and options["share"].default == 0.25
    assert options["buffer_size"].meaning == "samples, whole stream"
    assert not facts.needs


def test_an_edited_plugin_is_read_anew(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    assert class_at(f"{file}:MyMethod").variable("costs") == "nothing"
    file.write_text(OWN.replace('costs = "nothing"', 'costs = "much"'))
    assert class_at(f"{file}:MyMethod").variable("costs") == "much"


def test_what_only_running_can_tell_is_asked_of_the_class(tmp_path):
    file = tmp_path / "computed.py"
    file.write_text(OWN.replace("1 / 4 ", "round(0.26, 1) "))
    with pytest.raises(NotConstant, match="round"):
        stated(class_at(f"{file}:MyMethod").inner("Config"), "")
    facts = strategy_facts(f"{file}:MyMethod")
    assert {option.name: option.default for option in facts.options}["strategy.share"] == 0.3
    assert {option.name: option.meaning for option in facts.options}["strategy.sizes"].startswith("what stands above")


def test_groups_that_every_run_has_are_those_of_the_configuration():
    typed = {field.name: type(getattr(RunConfig(), field.name)) for field in dataclasses.fields(RunConfig)}
    assert set(groups()) == {name for name, kind in typed.items() if dataclasses.is_dataclass(kind)}
    for name in groups():
        read = group(name)[1]
        assert [(each.name, each.default) for each in read] == [
            (each.name, each.default) for each in asked(typed[name], f"{name}.")
        ]


def test_reading_a_strategy_imports_no_torch():
    code = (
        "import sys\nfrom cl_suite.info.strategies import strategy_facts\n"
        "from cl_suite.info.keys import keys_of\n"
        "assert strategy_facts('er').options and keys_of({'strategy': 'fpf', 'stream': 'split_mnist'})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
