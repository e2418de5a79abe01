"""Every installed strategy keeps every promise of the interface."""

import pytest

from cl_suite import check_strategy
from cl_suite.registry import STRATEGY, installed


@pytest.mark.parametrize("name", sorted(installed(STRATEGY)))
def test_every_installed_strategy_conforms(name):
    findings = check_strategy(name)
    assert len(findings) > 5
    assert not [str(finding) for finding in findings if finding.failed]


@pytest.mark.parametrize("infer", ["oneshot", "binary", "min_entropy"])
def test_supsup_conforms_where_the_task_is_inferred(infer):
    findings = check_strategy("supsup", overrides=[f"strategy.infer={infer}"])
    assert any("class_incremental" in finding.name for finding in findings)
    assert not [str(finding) for finding in findings if finding.failed]


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
