"""How a strategy of Avalanche is built for a run: what a table of them says. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cl_suite.core.scenario import Requirement

TOLD_BOUNDARIES = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})


@dataclass(frozen=True)
class AvalancheRecipe:
    """One strategy of Avalanche.

    target:   "module:Class" of the strategy, or of the plugin whose options it has
    summary:  one line for `cl-bench list`
    requires: what it needs of a scenario. All act when an experience ends, and Avalanche's experiences tell classes
    defaults: of constructor arguments that have none, or none that fits, {name: value}
    filled:   constructor arguments that the recipe itself fills in; they are no options
    build:    what makes it, by its name in `builders.py`; "plain" = its constructor with our network
    rows:     what counts the samples a step takes from tensors of its own, by its name there
    anew:     whether it is made anew for each experience and learns all so far at once
    mini:     whether each mini-batch is an experience of its own, for methods that are defined on such streams
    at_end:   whether it answers only between experiences, as what it answers by is made when one ends
    penalty:  name of what it adds to the loss from the second experience on; "" = it adds none
    prepared: whether its samples are prepared beforehand, as it computes with them; then they are not augmented
    broken:   why the current release cannot run it on any stream of ours; "" = it can
    """

    target: str
    summary: str
    requires: frozenset[Requirement] = TOLD_BOUNDARIES
    defaults: Mapping[str, Any] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    build: str = "plain"
    rows: str = "none"
    anew: bool = False
    mini: bool = False
    at_end: bool = False
    penalty: str = ""
    prepared: bool = False
    broken: str = ""
