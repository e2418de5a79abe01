"""What was done before an option came: old records and new ones of the same computation share a hash.

An option that comes with a default which changes nothing is named here with the value that was what was done before;
at that value it does not count in a configuration's hash, and a record that lacks it is read as if it had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Options added since records were first written, at the value that is what was done before: there they do not count.
VALUE_BEFORE: dict[tuple[str, str], Any] = {
    ("model", "future"): False,
    ("model", "dimensions"): None,
    ("model", "frozen_embeddings"): False,
    ("model", "encoder"): None,
    ("model", "vision"): None,
    ("features", "pooling"): "mean",
    ("features", "max_length"): 256,
    ("stream", "first_classes"): None,
    ("schedule", "stop_after"): 0,
    ("strategy", "lr_drops"): [],
    ("strategy", "lr_drop"): 0.1,
    ("strategy", "judge"): "smoothed",
    ("strategy", "callable_after"): 0,
}
# A group of options added since, at the values that are what was done before.
GROUP_BEFORE: dict[str, Any] = {
    "schedule": {"order": None, "blur": 0, "labels": "global"},
    "text": {"tokenizer": "hashed", "vocabulary": 16384, "max_length": 64},
    "features": {"network": "none", "weights": "first_task", "epochs": 10, "lr": 0.001},
    "preferences": {"evaluate": False, "count": 10, "draw": "dirichlet", "concentration": 1.0, "grid": 11},
    "open_set": {"evaluate": False},
    "learning": {"evaluate": False, "points": 11, "keep_best": False},
    "calibration": {"evaluate": False, "bins": 15},
}


def without_unchanged(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without what does not count in its hash.

    Left out: options of VALUE_BEFORE that are at the value they had before they came, and every group whose `evaluate`
    is false (`Settings.check` allows it no other option then), so that a new evaluation changes no hash.
    """
    result = dict(config)
    for (group, option), before in VALUE_BEFORE.items():
        options = result.get(group)
        if isinstance(options, Mapping) and option in options and options[option] == before:
            result[group] = {key: value for key, value in options.items() if key != option}
    return {
        key: value
        for key, value in result.items()
        if value != GROUP_BEFORE.get(key, ...) and not (isinstance(value, Mapping) and value.get("evaluate") is False)
    }


def with_values_before(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which the options of VALUE_BEFORE that it lacks have the value of before they came."""
    filled = {**GROUP_BEFORE, **config} if config else {}
    for (group, option), before in VALUE_BEFORE.items():
        if isinstance(filled.get(group), Mapping):
            filled[group] = {option: before, **filled[group]}
    return filled
