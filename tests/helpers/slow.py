"""A long list of cases that repeat one promise: some run by default, the others where slow tests are asked for."""

import pytest

# Strategies that stand for their families where a promise is tried on every one that is installed.
ONE_OF_EACH_FAMILY = {"finetune", "er", "fpf", "ewc", "packnet", "exssnet", "gpm", "preference_replay", "tame"}


def slow_but(kept, values):
    """Return `values` for `parametrize`; those not in `kept` are marked slow. All of `kept` must be there."""
    values, kept = list(values), set(kept)
    assert kept <= set(values), f"no case for {sorted(map(str, kept - set(values)))}"
    return [value if value in kept else _slow(value) for value in values]


def _slow(value):
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
