"""Options that came later change no hash while they do nothing, also those of a strategy that another one wraps."""

from dataclasses import fields
from pathlib import Path

import pytest

from cl_suite import DataRoot, RateDrops, TrainSettings
from cl_suite.records.compatibility import VALUE_BEFORE, with_values_before, without_unchanged
from cl_suite.records.record import config_hash
from cl_suite.runs.plan import Request, plan
from tests.helpers.slow import slow_but

LATER = [("strategy", "lr_schedule"), ("strategy", "lr_final"), ("strategy", "lr_warmup_epochs")]


def test_what_counts_as_before_is_the_default():
    defaults = {field.name: getattr(RateDrops(), field.name) for field in fields(RateDrops)}
    for group, option in LATER:
        assert VALUE_BEFORE[group, option] == VALUE_BEFORE[f"{group}.base_options", option] == defaults[option]
    assert VALUE_BEFORE["train", "early_stopping"] == TrainSettings().early_stopping


@pytest.mark.parametrize("strategy", slow_but({"er", "fpf"}, ["er", "fpf", "wsn", "hat", "gem", "packnet", "k_fpf"]))
def test_at_their_defaults_later_options_do_not_count(tmp_path, strategy):
    request = Request(strategy, "toy_gaussians", tmp_path, DataRoot(Path("unused"), offline=True), threads=1)
    config = plan(request).config
    older = {**config, "train": dict(config["train"]), "strategy": dict(config["strategy"])}
    del older["train"]["early_stopping"], older["classes"]
    inner = "base_options" if strategy == "fpf" else None
    if inner:
        older["strategy"][inner] = dict(older["strategy"][inner])
    for _, option in LATER:
        del (older["strategy"][inner] if inner else older["strategy"])[option]
    assert config_hash(older) == config_hash(config)
    assert with_values_before(older)["train"]["early_stopping"] == 0
    changed = {**config, "train": {**config["train"], "early_stopping": 5}}
    assert config_hash(changed) != config_hash(config)


def test_an_option_of_a_wrapped_strategy_counts_where_it_does_something():
    def config(kind):
        return {"strategy": {"base": "er", "base_options": {"lr": 0.1, "lr_drops": [], "lr_schedule": kind}}}

    left = without_unchanged(config("auto"))["strategy"]["base_options"]
    assert left == {"lr": 0.1, "lr_drops": []}  # lr_drops counted when records of wrapped strategies were written
    assert config_hash(config("cosine")) != config_hash(config("auto"))
    filled = with_values_before({"strategy": {"base_options": {"lr": 0.1}}})["strategy"]["base_options"]
    assert filled["lr_schedule"] == "auto" and filled["lr"] == 0.1
