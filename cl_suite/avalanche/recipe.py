"""How a strategy of Avalanche is built for a run: what a table of them says. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cl_suite.scenario import Requirement

if TYPE_CHECKING:
    from cl_suite.avalanche.workshop import Workshop

TOLD_BOUNDARIES = frozenset({Requirement.BOUNDARIES, Requirement.TASK_ID_AT_TRAIN})


def _plain(workshop: Workshop) -> Any:
    return workshop.make(workshop.target, model=workshop.model())


def _none(inner: Any) -> int:
    return 0


@dataclass(frozen=True)
class AvalancheRecipe:
    """One strategy of Avalanche.

    target:   "module:Class" of the strategy, or of the plugin whose options it has
    summary:  one line for `cl-bench list`
    requires: what it needs of a scenario. All act when an experience ends, and Avalanche's experiences tell classes
    defaults: of constructor arguments that have none, or none that fits, {name: value}
    filled:   constructor arguments that the recipe itself fills in; they are no options
    build:    makes it; by default its constructor with our network
    rows:     (the strategy at the beginning of a step) -> samples that the step takes from tensors of its own
    anew:     whether it is made anew for each experience and shown all so far at once
    mini:     whether each mini-batch is an experience of its own, for methods that are defined on such streams
    at_end:   whether it answers only between experiences, as what it answers by is made when one ends
    prepared: whether its samples are prepared beforehand, as it computes with them; then they are not augmented
    broken:   why the current release cannot run it on any stream of ours; "" = it can
    """

    target: str
    summary: str
    requires: frozenset[Requirement] = TOLD_BOUNDARIES
    defaults: Mapping[str, Any] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    build: Callable[[Workshop], Any] = _plain
    rows: Callable[[Any], int] = _none
    anew: bool = False
    mini: bool = False
    at_end: bool = False
    prepared: bool = False
    broken: str = ""
