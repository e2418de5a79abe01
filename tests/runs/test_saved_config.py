"""A saved configuration gives the configuration, hash and place of the run that it was saved from."""

from pathlib import Path

import pytest

from cl_suite.core.data_root import DataRoot
from cl_suite.runs.plan import Request, plan
from cl_suite.runs.saved_config import config_text, read_config

CASES = [
    pytest.param(
        *("fpf", "split_mnist", "class_incremental", ("strategy.base=der++", "strategy.base_options.alpha=0.3")),
        marks=pytest.mark.slow,
    ),
    ("fpf", "split_mnist", None, ("strategy.base='mine.py:Mine'", "strategy.own_buffer=10")),
    ("mine.py:Mine", "toy_gaussians", None, (r"strategy.text='a b, {c}: [d] \' #'", "strategy.big=-inf")),
    ("mine.py:Mine", "toy_gaussians", None, (r"strategy.text='\${x} and \${'", "strategy.none='null'")),
    pytest.param(
        *("ibcl", "cifar100_animals", "domain_incremental", ("preferences.evaluate=true", "preferences.count=3")),
        marks=pytest.mark.slow,
    ),
    ("gpm", "five_datasets", None, ("protocol=paper",)),
    pytest.param(
        *("tame", "split_mnist", "task_agnostic", ("schedule.labels=local", "schedule.order=[0,1,0,2,3,4]")),
        marks=pytest.mark.slow,
    ),
]
MINE = """
from dataclasses import dataclass
from cl_suite import GradientStrategy

class Mine(GradientStrategy):
    '''Mine.'''
    @dataclass
    class Config(GradientStrategy.Config):
        text: str = "it's"
        flag: str = 'true'
        number: str = '1e3'
        none: str | None = None
        big: float = float('inf')
"""


@pytest.mark.parametrize(("strategy", "stream", "scenario", "overrides"), CASES, ids=lambda value: str(value)[:20])
def test_what_was_saved_is_what_is_run(strategy, stream, scenario, overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    place = {"results": Path("results"), "data_root": DataRoot(tmp_path), "dry_run": True}
    first = plan(Request(strategy=strategy, stream=stream, scenario=scenario, overrides=overrides, **place))
    Path("config.yaml").write_text(config_text(first))
    wanted = read_config(Path("config.yaml"))
    asked = {"strategy": wanted.strategy, "stream": wanted.stream, "scenario": wanted.scenario}
    second = plan(Request(**asked, overrides=wanted.as_overrides(), **place))
    assert second.config == first.config and second.record_path == first.record_path
    assert not Path("results").exists()


def test_an_edited_plugin_is_another_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    place = {"results": Path("results"), "data_root": DataRoot(tmp_path), "dry_run": True, "stream": "toy_gaussians"}
    overrides = ("strategy.base='mine.py:Mine'", "strategy.own_buffer=10")
    first = plan(Request(strategy="fpf", overrides=overrides, **place))
    Path("config.yaml").write_text(config_text(first))
    Path("mine.py").write_text(MINE + "\n# edited\n")
    second = plan(Request(strategy="fpf", overrides=read_config(Path("config.yaml")).as_overrides(), **place))
    assert second.record_path != first.record_path
