"""Which preferences are asked for: `preferences.<field>=...`. Drawn once per seed, alike for every strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cl_suite.core.errors import CLSuiteError, UsageError, check_choices
from cl_suite.core.registry import STRATEGY, Chosen, choose, installed
from cl_suite.core.scenario import Requirement, Scenario
from cl_suite.core.seeding import seed_for
from cl_suite.evaluation.preferences.protocols import PreferenceConditioned
from cl_suite.evaluation.protocol import Settings


@dataclass
class PreferenceSettings(Settings):
    """After each experience `count` preferences over the tasks learned so far; one, (1.0), after the first.

    Over two tasks they are a grid instead, as their trade-off is a curve that can be drawn.
    """

    without: ClassVar[str] = "preferences.* says what to ask for, but nothing is asked. Add --evaluate preferences."

    count: int = 10  # preferences drawn after each experience (IBCL: 10)
    draw: str = "dirichlet"  # dirichlet: uniform on the simplex; normalised: uniforms over their sum (IBCL's program)
    concentration: float = 1.0  # of the Dirichlet distribution: below 1 extreme preferences, above 1 even ones
    grid: int = 11  # evenly spaced preferences over two tasks, both ends included; 0 = draw there too

    def check_values(self) -> None:
        """Raise UsageError for a value outside its range."""
        check_choices(self, {"draw": ("dirichlet", "normalised")}, group="preferences")
        if self.count < 1:
            raise UsageError(f"preferences.count={self.count} is too small. Use 1 or more.")
        if self.grid < 0 or self.grid == 1:
            raise UsageError(f"preferences.grid={self.grid} has not both ends. Use 2 or more, or 0 for none.")
        if not 0 < self.concentration < float("inf"):
            raise UsageError(f"preferences.concentration={self.concentration} is not possible. Use a number above 0.")

    def refuse(self, strategy: Chosen, stream: Chosen, scenario: Scenario) -> None:
        """Raise UsageError where the strategy cannot answer or no tasks are told apart."""
        if Requirement.BOUNDARIES not in scenario.provides:
            raise UsageError(
                f"--evaluate preferences asks for trade-offs between tasks, and {scenario} does not say where one "
                f"ends. Use --scenario {Scenario.DOMAIN_INCREMENTAL}."
            )
        if not issubclass(strategy.cls, PreferenceConditioned):
            can = [name for name in installed(STRATEGY) if _answers_preferences(name)]
            raise UsageError(
                f"--evaluate preferences asks for predictor_for(preference), which {strategy.name} does not have. "
                f"Use --strategy {', '.join(can)}."
            )

    def preferences_for(self, tasks: int, seed: int) -> list[tuple[float, ...]]:
        """Return the preferences over `tasks` tasks, the same for one data seed whatever the strategy."""
        if tasks == 1:
            return [(1.0,)]
        if tasks == 2 and self.grid:
            return [(1.0 - step / (self.grid - 1), step / (self.grid - 1)) for step in range(self.grid)]
        generator = np.random.default_rng(seed_for(seed, "preferences", tasks))
        if self.draw == "normalised":
            raw = generator.random((self.count, tasks))
            rows = raw / raw.sum(1, keepdims=True)
        else:
            rows = generator.dirichlet([self.concentration] * tasks, self.count)
        return [tuple(row) for row in rows.tolist()]


def _answers_preferences(name: str) -> bool:
    try:
        return issubclass(choose(STRATEGY, name).cls, PreferenceConditioned)
    except CLSuiteError:
        return False
