"""Options given in Python arrive unharmed, whatever signs they have, under names one would guess."""

import random
from dataclasses import dataclass, field, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_suite.api.overrides import config_options, overrides_of, text_of
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.runs.config import compose_config

SIGNS = "ab\\'\"${}[]():=,; \t\n#/@!*~+-.%äé1漢|&<>?`^_"


class Colour(Enum):
    RED = 1


@dataclass
class Options:
    value: Any = None
    text: str = ""
    numbers: list[int] = field(default_factory=list)


@dataclass
class Nothing:
    pass


def arrived(values, kind=Any):
    """Return what a run is configured with where its strategy is given each of these as an option."""
    options = make_dataclass("Many", [(f"x{number}", kind, field(default="")) for number in range(len(values))])
    composed = compose_config(
        strategy="s",
        strategy_config=lambda asked: options,
        stream="t",
        stream_config=Nothing,
        scenario="task_incremental",
        overrides=[text_of(f"strategy.x{number}", value) for number, value in enumerate(values)],
    )
    return list(composed.plain["strategy"].values())


def odd_texts(count):
    draw = random.Random(0)
    return ["".join(draw.choice(SIGNS) for _ in range(draw.randint(1, 8))) for _ in range(count)]


TEXTS = [
    "",
    " ",
    "null",
    "true",
    "1",
    "1e5",
    "a,b",
    "${oc.env:HOME}",
    r"\${x}",
    r"\\${x}",
    "a\\",
    "it's",
    r"\'",
    "'",
    '"',
]
TEXTS += ["a=b", "~/x", "C:\\dir\\", "[1,2]", "{a:1}", "inf", "nan", "/tmp/ö ü/a'b\".pt", "der++", "${a", "a\nb"]
PLAIN = [True, False, None, 0, -3, 1e-12, 1.0, -0.0, 10**18, float("inf"), [1, 2], [], ["a b", "c,d"], [True, None]]
PLAIN += [[["a"], ["b'"]], {"a": 1, "b": "x y"}]


def test_values_arrive_as_they_are():
    values = [*TEXTS, *PLAIN, *odd_texts(60)]
    for value, got in zip(values, arrived(values), strict=True):
        assert got == value and type(got) is type(value)


def test_texts_arrive_as_they_are_where_a_text_is_asked_for():
    texts = [*TEXTS, *odd_texts(30)]
    assert arrived(texts, kind=str) == texts


def test_values_of_other_libraries_become_plain_ones():
    given = [np.float64(0.5), np.arange(3), (1, 2), {2, 1}, Path("a b/c"), Colour.RED]
    assert arrived(given) == [0.5, [0, 1, 2], [1, 2], [1, 2], "a b/c", "RED"]


@pytest.mark.parametrize("value", [object(), b"x", lambda: 0, {1: 2}])
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(UsageError, match=r"the option strategy\.value cannot be a"):
        text_of("strategy.value", value)


def asked(strategy="er", stream="split_digits", **options):
    return overrides_of(options, choose(STRATEGY, strategy), choose(STREAM, stream))


def test_a_name_without_its_group_is_found_where_it_is_one():
    found = asked(buffer_size=200, n_tasks=5, epochs=1, width=8, protocol="standard")
    assert found == [
        "strategy.buffer_size=200",
        "stream.n_tasks=5",
        "train.epochs=1",
        "model.width=8",
        "protocol=standard",
    ]


def test_two_underscores_a_dot_and_a_dictionary_name_the_group():
    named = asked(train__epochs=1, features__lr=0.1) == ["train.epochs=1", "features.lr=0.1"]
    assert named and asked(train={"epochs": 1}, features={"lr": 0.1}) == asked(
        **{"train.epochs": 1, "features.lr": 0.1}
    )


def test_options_of_a_wrapped_strategy_are_told_by_their_full_name():
    assert asked("fpf", base="er", strategy__base_options__lr=0.2) == [
        "strategy.base=er",
        "strategy.base_options.lr=0.2",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bufer_size": 3}, "there is no option bufer_size. Did you mean buffer_size"),
        ({"seed": 3}, "Did you mean seeds"),
        ({"epochs": 1, "train__epochs": 2}, "train.epochs is given twice"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(options, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        asked(**options)


def test_a_name_in_two_groups_is_refused(monkeypatch):
    stream = choose(STREAM, "split_digits")

    @dataclass
    class Both:
        lr: float = 0.1

    monkeypatch.setattr(stream.cls, "Config", Both)
    with pytest.raises(UsageError, match="lr is an option of strategy and of stream"):
        overrides_of({"lr": 1}, choose(STRATEGY, "er"), stream)


def test_an_object_brings_every_option_of_its_config():
    found = config_options("strategy", Options(value=1, numbers=[1]))
    assert found == {"strategy.value": 1, "strategy.text": "", "strategy.numbers": [1]}
    with pytest.raises(UsageError, match="needs a config"):
        config_options("strategy", None)
