"""What streams say of themselves is true of their data, and a stream may say it in either way."""

import dataclasses
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from benchmarks.images.cifar import SplitCIFAR10
from benchmarks.texts.text5 import SOURCES
from cl_suite import DataError, DataRoot, Scenario, Seeds, Stream, StreamFacts, StreamSizes
from cl_suite.core.registry import STREAM, choose, installed
from tests.helpers.stream_sizes import measured_modality, measured_sizes

SEEDS = Seeds(0, 0, 0)
CARDS = Path(__file__).parents[2] / "docs/cards"
STREAMS = {name: choose(STREAM, name).cls for name in installed(STREAM)}
EMBEDDED = [name for name, cls in STREAMS.items() if cls.facts.embedded]
ROBOTS = [name for name, cls in STREAMS.items() if cls.facts.modality == "robots" and not cls.facts.embedded]
IN_FILES = [name for name in STREAMS if name not in EMBEDDED and name not in ROBOTS]


def check(name, data):
    """Compare what a stream says with its data."""
    facts = STREAMS[name].facts
    stated, measured = dataclasses.asdict(facts.sizes), dataclasses.asdict(measured_sizes(data))
    assert {key: measured[key] for key, value in stated.items() if value is not None} == {
        key: value for key, value in stated.items() if value is not None
    }
    assert facts.modality == measured_modality(data)
    assert facts.out_of_distribution == (data.ood is not None)
    assert facts.embedded == (not data.checksums)


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_streams_without_files_say_is_true_of_their_data(name, tmp_path):
    cls = STREAMS[name]
    data = cls(cls.Config()).load(DataRoot(tmp_path / "nothing", offline=True), SEEDS)
    check(name, data)
    known = measured_sizes(data)
    assert known == cls.facts.sizes  # nothing is left out where everything can be known


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
@pytest.mark.parametrize("name", IN_FILES)
def test_what_streams_in_files_say_is_true_of_the_real_data(name):
    cls = STREAMS[name]
    try:
        data = cls(cls.Config()).load(DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True), SEEDS)
    except DataError as problem:
        pytest.skip(str(problem))
    check(name, data)


@pytest.mark.parametrize("name", ROBOTS)
def test_what_streams_of_robots_say_is_true_of_their_outline(name, tmp_path):
    cls = STREAMS[name]
    tasks = cls(cls.Config()).outline(DataRoot(tmp_path, offline=True))
    sizes = cls.facts.sizes
    assert (sizes.tasks, sizes.episodes or 0) == (len(tasks), sum(task.episodes or 0 for task in tasks))
    assert sizes.classes is None and sizes.classes_per_task is None


@pytest.mark.parametrize("name", [path.stem for path in sorted(CARDS.glob("*.md")) if path.stem in STREAMS])
def test_sizes_are_those_of_the_cards(name):
    card, sizes = (CARDS / f"{name}.md").read_text(), STREAMS[name].facts.sizes
    tasks, train, scored = (
        int(number.replace(",", ""))
        for number in re.search(r"^\|  \| all (\d+) \|  \| ([\d,]+) \| ([\d,]+) \|", card, re.MULTILINE).groups()
    )
    assert (sizes.tasks, sizes.train, sizes.episodes or sizes.test) == (tasks, train, scored)
    if name in ROBOTS:
        shape = "; ".join(f"{key} {' x '.join(map(str, each))}, float32" for key, each in sizes.input_shape.items())
        assert f"- Sample: {shape}\n" in card


def test_split_cifar10_has_the_tasks_it_says(tmp_path):
    """Its files are not always at hand: small ones of the same layout."""
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        content = {"data": random.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(10))}
        (tmp_path / part).write_bytes(pickle.dumps(content, protocol=2))
    stream = SplitCIFAR10(SplitCIFAR10.Config())
    meta = {"label_names": [f"class {k}" for k in range(10)]}
    tasks = stream.cut([tmp_path / "train"], tmp_path / "test", meta, SEEDS)
    sizes = stream.facts.sizes
    assert len(tasks) == sizes.tasks and {len(task.classes) for task in tasks} == {sizes.classes_per_task}
    assert sum(len(task.classes) for task in tasks) == sizes.classes
    assert tuple(tasks[0].train.inputs.shape[1:]) == sizes.input_shape


def test_text5_draws_what_it_says_or_refuses():
    """`load` takes exactly so many texts of each class and of each test file: see tests of that stream."""
    cls = STREAMS["text5"]
    config, counts = cls.Config(), [len(source.classes) for source in SOURCES.values()]
    assert cls.facts.sizes == StreamSizes(
        tasks=len(config.datasets),
        classes=sum(counts),
        classes_per_task=(min(counts), max(counts)),
        train=config.train_per_class * sum(counts),
        test=config.test * len(counts),
    )


def test_newsgroups_has_the_pairs_it_says():
    cls = STREAMS["newsgroups_computer"]
    sizes = cls.facts.sizes
    assert sizes.tasks == len(cls.pairs) == cls.Config().n_tasks
    assert sizes.classes == sizes.classes_per_task == len(cls.classes)


def test_every_stream_says_what_it_is_and_under_which_licence():
    for name, cls in STREAMS.items():
        facts = cls.facts
        assert facts.modality and facts.licence and facts.origin and facts.sizes.tasks, name
        card = cls(cls.Config()).card()
        assert (card["source"], card["licence"], card["version"], card["embedded"]) == (
            facts.origin,
            facts.licence,
            facts.version,
            facts.embedded,
        ), name


class Plain(Stream):
    """States class variables, as streams did before there were facts."""

    source = "Someone 2020, Data; somewhere"
    licence = "MIT"
    scenarios = (Scenario.DOMAIN_INCREMENTAL,)

    def load(self, root, seeds):
        raise NotImplementedError


class Typed(Plain):
    """States facts."""

    facts = StreamFacts(citation="Another 2021", source="elsewhere", version="2", embedded=True)


def test_facts_are_made_of_class_variables_where_a_stream_states_those():
    assert Plain.facts == StreamFacts(
        source="Someone 2020, Data; somewhere", licence="MIT", scenarios=(Scenario.DOMAIN_INCREMENTAL,)
    )


def test_facts_fill_in_the_class_variables_and_take_over_what_was_inherited():
    assert (Typed.source, Typed.licence, Typed.version, Typed.embedded) == ("Another 2021; elsewhere", "", "2", True)
    assert Typed.scenarios == tuple(Scenario)
    assert Typed(None).card()["source"] == "Another 2021; elsewhere"


def test_a_class_variable_beside_or_below_facts_counts():
    class Raised(Typed):
        version = "3"
        out_of_distribution = True

    assert Raised.facts == dataclasses.replace(Typed.facts, version="3", out_of_distribution=True)
    assert Raised.facts.citation == "Another 2021"

    class Sourced(Typed):
        source = "a mirror"

    assert (Sourced.facts.citation, Sourced.facts.source, Sourced.source) == (None, "a mirror", "a mirror")


def test_what_a_mixin_states_counts():
    class Mixin:
        version = "7"

    class Mixed(Mixin, Typed):
        pass

    assert Mixed.version == Mixed.facts.version == "7"


def test_a_class_variable_by_its_former_name_counts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Former(Plain):
            open_set = True

    assert Former.facts.out_of_distribution and Former.out_of_distribution
