"""Samples held out for validation: early stopping is refused where it cannot read them; a note where nothing does."""

from __future__ import annotations

from typing import Any

from cl_suite.core.errors import UsageError
from cl_suite.core.registry import Chosen
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.types import TrainSettings


def check_early_stopping(strategy: Chosen, config: Any, train: TrainSettings, scenario: Scenario) -> None:
    """Raise UsageError where train.early_stopping was asked for and cannot be had."""
    if not train.early_stopping:
        return
    if Requirement.BOUNDARIES not in scenario.provides:
        raise UsageError(
            f"train.early_stopping={train.early_stopping} ends an experience by its held-out samples, and {scenario} "
            "tells no experiences apart and holds nothing out. Leave it out."
        )
    if why := strategy.cls.early_stopping_refusal(config):
        raise UsageError(
            f"train.early_stopping={train.early_stopping} cannot end the training of {strategy.name}: {why}. "
            "Leave it out."
        )


def unused_validation(strategy: Chosen, config: Any, train: TrainSettings, scenario: Scenario) -> str:
    """Return a line for the user where train.validation does nothing, or nothing but take samples away; else ""."""
    if not train.validation:
        return ""
    asked = f"train.validation={train.validation}"
    if Requirement.BOUNDARIES not in scenario.provides:
        return f"{asked} has no effect: {scenario} tells no experiences apart, and nothing is held out of them"
    if strategy.cls.uses_validation(config, train):
        return ""
    stop = "" if strategy.cls.early_stopping_refusal(config) else ", or add train.early_stopping=5"
    return (
        f"{asked} holds samples out of training and {strategy.name} looks at none of them as it is set: leave it out"
        f"{stop}"
    )
