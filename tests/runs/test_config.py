"""Configuration: layers in order, typed, and every preset that is shipped fits the classes it is for."""

from dataclasses import dataclass, field
from importlib.resources import files

import pytest

from cl_suite.core.errors import UsageError
from cl_suite.core.registry import STRATEGY, STREAM, choose, installed
from cl_suite.runs.config import compose_config, resolve_scenario
from tests.helpers.slow import ONE_OF_EACH_FAMILY, slow_but


@dataclass
class Options:
    lr: float = 0.1
    sizes: list[int] = field(default_factory=lambda: [1, 2])


def composed(*overrides, strategy="x", stream="y", strategy_config=lambda options: Options, stream_config=Options):
    return compose_config(
        strategy=strategy,
        strategy_config=strategy_config,
        stream=stream,
        stream_config=stream_config,
        scenario="task_incremental",
        overrides=overrides,
    )


def test_the_dataclass_is_the_schema_and_values_are_typed():
    run = composed("strategy.lr=1", "strategy.sizes=[3,4]").run
    assert isinstance(run.strategy, Options)
    assert run.strategy.lr == 1.0 and isinstance(run.strategy.lr, float)
    assert run.strategy.sizes == [3, 4]
    assert run.stream.lr == 0.1


def test_later_layers_win():
    quick, standard = composed().run, composed("protocol=standard").run
    assert standard.train.epochs > quick.train.epochs
    assert composed("protocol=standard", "train.epochs=2").run.train.epochs == 2


def test_the_plain_form_holds_every_option_for_the_record():
    plain = composed("train.epochs=3").plain
    assert plain["train"]["epochs"] == 3
    assert plain["strategy"] == {"lr": 0.1, "sizes": [1, 2]}
    assert plain["protocol"] == "quick" and plain["scenario"] == "task_incremental"


# A protocol's settings depend on the stream alone, so each strategy is tried on one, and each stream with one.
CASES = [("quick", each, "split_digits") for each in sorted(installed(STRATEGY))]
CASES += [(protocol, "er", each) for protocol in ("quick", "standard") for each in sorted(installed(STREAM))]
# One strategy and one stream of each family; the others are slow.
STREAMS = ("split_cifar100", "permuted_mnist", "clinc150", "metaworld_cw3", "libero_goal", "toy_gaussians")
DEFAULT = {case for case in CASES if case[1] in ONE_OF_EACH_FAMILY and case[2] in (*STREAMS, "split_digits")}


@pytest.mark.parametrize(("protocol", "strategy", "stream"), slow_but(DEFAULT, CASES))
def test_every_protocol_fits_every_strategy_and_stream(protocol, strategy, stream):
    run = composed(
        f"protocol={protocol}",
        strategy=strategy,
        stream=stream,
        strategy_config=choose(STRATEGY, strategy).cls.config_for,
        stream_config=choose(STREAM, stream).cls.Config,
    ).run
    assert run.protocol == protocol


def published():
    return sorted(entry.name.removesuffix(".yaml") for entry in (files("configs") / "reproduce").iterdir())


PUBLISHED = [name for name in published() if not name.startswith("__")]
FIRST = {name.partition("_")[0]: name for name in reversed(PUBLISHED)}  # of each strategy, or of names that begin alike


@pytest.mark.parametrize("name", slow_but(FIRST.values(), PUBLISHED))
def test_every_published_setting_fits_and_its_target_says_where_it_stands(name):
    strategy = max((s for s in installed(STRATEGY) if name.startswith(f"{s}_")), key=len)
    stream = name.removeprefix(f"{strategy}_")
    cls, stream_cls = choose(STRATEGY, strategy).cls, choose(STREAM, stream).cls
    settings = compose_config(
        strategy=strategy,
        strategy_config=cls.config_for,
        stream=stream,
        stream_config=stream_cls.Config,
        scenario="task_incremental",
        overrides=["protocol=paper"],
    )
    assert not settings.target or set(settings.target) == {"metric", "value", "source"}
    scenario = resolve_scenario(["protocol=paper"], None, strategy=strategy, stream=stream)
    assert scenario in stream_cls.scenarios
    assert resolve_scenario(["protocol=paper"], "class_incremental", strategy=strategy, stream=stream) == (
        "class_incremental"
    )


def test_a_paper_setting_that_is_not_there_names_those_that_are():
    with pytest.raises(UsageError, match=r"no published setting for x on y.*exssnet_split_cifar100"):
        composed("protocol=paper")
