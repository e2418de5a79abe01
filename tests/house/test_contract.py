"""Every installed strategy keeps every promise of the interface."""

import pytest

from cl_suite import check_strategy
from cl_suite.core.registry import STRATEGY, choose, installed
from cl_suite.core.scenario import Scenario
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but

LEAST_FIRST = [
    Scenario.TASK_AGNOSTIC,
    Scenario.CLASS_INCREMENTAL,
    Scenario.DOMAIN_INCREMENTAL,
    Scenario.TASK_INCREMENTAL,
]  # by what is told
OPTIONS = {  # the suite trains each strategy dozens of times, so fewer passes over the memory than by default
    "gdumb": ["strategy.epochs=8"],
    "fpf": ["strategy.fpf_epochs=3"],
    "k_fpf": ["strategy.fpf_epochs=2", "strategy.k=4"],
    "ibcl": ["strategy.lr=0.03"],  # a short stream
    "tame": ["strategy.window=10", "strategy.selector_epochs=2", "strategy.prune_experts=0.5"],  # a short stream
}

# One of each family, here or there; of the others this is slow, together: pytest -m slow.
TOLD_LEAST = ONE_OF_EACH_FAMILY - {"tame"}
ALSO_TOLD = {"icarl", "tame", "ibcl"}


def fitting(name):
    """Return the scenarios that a strategy does not exclude, the one that tells least first."""
    cls = choose(STRATEGY, name).cls
    needed = cls.requirements(cls.config_for({})())
    return [scenario for scenario in LEAST_FIRST if needed <= scenario.provides]


def assert_conforms(name, scenarios):
    findings = check_strategy(name, overrides=OPTIONS.get(name, []), scenarios=scenarios)
    assert len(findings) > 5
    assert not [str(finding) for finding in findings if finding.failed]


@pytest.mark.parametrize("name", slow_but(TOLD_LEAST, sorted(installed(STRATEGY))))
def test_every_installed_strategy_conforms_where_it_is_told_least(name):
    assert_conforms(name, fitting(name)[:1])


@pytest.mark.parametrize("name", slow_but(ALSO_TOLD, sorted(installed(STRATEGY))))
def test_every_installed_strategy_conforms_where_task_ids_are_told(name):
    if len(fitting(name)) == 1:
        pytest.skip("it is told the task above")
    assert_conforms(name, fitting(name)[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(installed(STRATEGY)))
def test_every_installed_strategy_conforms_in_the_scenarios_between(name):
    if len(fitting(name)) < 3:
        pytest.skip("there are none")
    assert_conforms(name, fitting(name)[1:-1])


@pytest.mark.parametrize(
    "infer",
    ["oneshot", pytest.param("binary", marks=pytest.mark.slow), pytest.param("min_entropy", marks=pytest.mark.slow)],
)
def test_supsup_conforms_where_the_task_is_inferred(infer):
    findings = check_strategy("supsup", overrides=[f"strategy.infer={infer}"])
    assert any("class_incremental" in finding.name for finding in findings)
    assert not [str(finding) for finding in findings if finding.failed]


@pytest.mark.slow
def test_supsup_conforms_where_no_task_is_ever_told():
    options = ["strategy.allocation=uncertainty", "strategy.infer=min_entropy", "strategy.decide_every=10"]
    findings = check_strategy("supsup", overrides=options)
    assert any("task_agnostic" in finding.name for finding in findings)
    assert not [str(finding) for finding in findings if finding.failed]


def test_cuber_conforms_where_every_old_task_may_be_helped():
    findings = check_strategy("cuber", overrides=["strategy.eps1=0.1", "strategy.eps2=-1"])
    # Then nothing is protected, so that the projection has nothing to do.
    failed = [str(finding) for finding in findings if finding.failed and "declared" not in finding.name]
    assert not failed
