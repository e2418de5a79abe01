"""Streams of intents: every text in the task of its intent, verified files, sizes that differ, what is refused."""

import os
from pathlib import Path

import pytest
import torch

from benchmarks.texts.data_sets import CLINC150_FILES, read_clinc150, read_hwu64
from benchmarks.texts.hwu64_files import HWU64_FILES
from benchmarks.texts.intent_sources import TOPICS, IntentSources
from benchmarks.texts.intents import CLINC150, HWU64, Banking77
from cl_suite import DataError, DataRoot, PrepareTexts, Scenario, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose
from cl_suite.data.texts import decode_texts
from tests.helpers.text_writers import sums_of, write_banking77, write_clinc150, write_hwu64

SEEDS = Seeds(0, 0, 0)
DOMAINS = {
    "banking": ["balance", "transfer"],
    "home": ["lights", "oven"],
    "everything": sorted({intent for sources in TOPICS.values() for intent in sources["clinc150"]}),
}
INTENTS = [f"intent_{k}" for k in range(6)]
SINGLES = ["cooking", "news", "weather"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with small files of all three, and their checksums in place of the real ones."""
    monkeypatch.setattr(CLINC150, "files", write_clinc150(tmp_path, DOMAINS))
    monkeypatch.setattr(IntentSources, "clinc150_files", CLINC150.files)
    monkeypatch.setattr(Banking77, "files", write_banking77(tmp_path, INTENTS))
    monkeypatch.setattr(HWU64, "files", write_hwu64(tmp_path))
    monkeypatch.setattr(IntentSources, "hwu64_files", HWU64.files)
    return DataRoot(tmp_path, offline=True)


def loaded(name, root, *, seeds=SEEDS, **options):
    cls = choose(STREAM, name).cls
    options = {**({"n_tasks": 3} if name in ("clinc150", "banking77") else {}), **options}
    return cls(cls.Config(**options)).load(root, seeds)


def texts_of(samples):
    """Return [(text, target)]."""
    stored, targets = samples.take(torch.arange(len(samples)))
    return list(zip(decode_texts(stored), targets.tolist(), strict=True))


@pytest.mark.parametrize("name", ["clinc150", "banking77", "hwu64", "intent_sources"])
def test_every_text_is_in_the_part_and_the_task_of_its_intent(name, root):
    data = loaded(name, root)
    assert isinstance(data.prepare, PrepareTexts) and data.checksums
    for task in data.tasks:
        for part, samples, count in (("train", task.train, 3), ("test", task.test, 2)):
            found = texts_of(samples)
            assert len({text for text, _ in found}) == len(found)
            assert all(part in text for text, _ in found)
            if name == "intent_sources":
                continue
            assert len(found) == count * len(task.classes)
            for text, target in found:
                assert text.split()[0].rstrip(",") == task.classes[target]
    classes = [name for task in data.tasks for name in task.classes]
    assert data.labels == "shared" or len(set(classes)) == len(classes)


@pytest.mark.parametrize("name", ["clinc150", "banking77", "hwu64"])
def test_tasks_share_what_is_stored_and_labels_have_no_common_meaning(name, root):
    data = loaded(name, root)
    assert len({id(task.train.inputs) for task in data.tasks}) == 1
    scenarios = choose(STREAM, name).cls.scenarios
    assert scenarios[0] is Scenario.TASK_INCREMENTAL and Scenario.DOMAIN_INCREMENTAL not in scenarios


def test_a_task_of_clinc150_is_a_domain_in_natural_or_seeded_order(root):
    assert [task.name for task in loaded("clinc150", root).tasks] == list(DOMAINS)
    assert [task.classes for task in loaded("clinc150", root, n_tasks=2).tasks] == [
        ("balance", "transfer"),
        ("lights", "oven"),
    ]
    orders = {
        tuple(task.name for task in loaded("clinc150", root, task_order="seeded", seeds=Seeds(0, 0, k)).tasks)
        for k in range(8)
    }
    assert len(orders) > 1 and all(sorted(order) == sorted(DOMAINS) for order in orders)


def test_banking77_is_cut_along_the_order_of_its_intents(root):
    tasks = loaded("banking77", root).tasks
    assert [task.classes for task in tasks] == [tuple(INTENTS[k : k + 2]) for k in (0, 2, 4)]
    assert texts_of(tasks[0].test)[0] == ("intent_0, test\n0", 0)  # a comma and a newline within quotes
    seeded = loaded("banking77", root, class_order="seeded").tasks
    assert sorted(name for task in seeded for name in task.classes) == INTENTS


def test_scenarios_of_hwu64_with_one_intent_are_one_task_unless_asked_otherwise(root):
    tasks = loaded("hwu64", root).tasks
    assert len(tasks) == 16 and sum(len(task.classes) for task in tasks) == 64
    assert tasks[-1].name == "cooking, news, weather"
    assert tasks[-1].classes == ("cooking_recipe", "news_query", "weather_query")
    assert {len(task.classes) for task in tasks} == {2, 3, 4, 5, 9, 10}
    apart = loaded("hwu64", root, singles="apart", n_tasks=18).tasks
    assert [task.name for task in apart if len(task.classes) == 1] == SINGLES
    assert [task.name for task in apart] == sorted(task.name for task in apart)


def test_the_topics_of_intent_sources_are_intents_of_both_and_none_is_in_two(root):
    data = loaded("intent_sources", root)
    assert data.labels == "shared" and IntentSources.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert [task.name for task in data.tasks] == ["clinc150", "hwu64"]
    assert [task.name for task in loaded("intent_sources", root, first="hwu64").tasks] == ["hwu64", "clinc150"]
    for task in data.tasks:
        assert task.classes == tuple(TOPICS)
        used = [intent for sources in TOPICS.values() for intent in sources[task.name]]
        assert len(set(used)) == len(used)
        for text, target in texts_of(task.test):
            assert text.split()[0] in TOPICS[task.classes[target]][task.name]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clinc150", {"n_tasks": 0}, "Use 1 to 3"),
        ("clinc150", {"n_tasks": 4}, "Use 1 to 3"),
        ("clinc150", {"task_order": "random"}, r"stream\.task_order=random is not known\. Use natural or seeded"),
        ("banking77", {"n_tasks": 4}, "does not divide the 6 classes. Use one of 1, 2, 3, 6"),
        ("hwu64", {"n_tasks": 17}, "Use 1 to 16"),
        ("hwu64", {"singles": "gone"}, r"stream\.singles=gone is not known"),
        ("intent_sources", {"first": "banking77"}, r"stream\.first=banking77 is not known"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(name, options, message, root):
    with pytest.raises(UsageError, match=message) as refused:
        loaded(name, root, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["clinc150", "banking77", "hwu64", "intent_sources"])
def test_absent_files_name_the_place_and_altered_ones_are_not_read(name, root, tmp_path):
    with pytest.raises(DataError, match=r"is not in .*--offline forbids a download\. Put it there") as refused:
        loaded(name, DataRoot(tmp_path / "empty", offline=True))
    assert "\n" not in str(refused.value)
    for file in ("clinc150/domains.json", "banking77/test.csv", "hwu64/KFold_1/trainset/music_query.csv"):
        (root.path / file).write_text("altered")
    with pytest.raises(DataError, match="is truncated or altered"):
        loaded(name, root)


def test_an_intent_that_is_tested_must_have_been_trained(root, monkeypatch):
    path = root.path / "banking77/train.csv"
    path.write_text(path.read_text().replace("intent_4", "intent_3"))
    monkeypatch.setattr(Banking77, "files", sums_of(root.path, Banking77.files))
    with pytest.raises(DataError, match=r"Banking77: no training text has the label intent_4, but test texts do"):
        loaded("banking77", root)
    monkeypatch.setattr(CLINC150, "files", write_clinc150(root.path, {**DOMAINS, "more": ["nothing"]}, n_test=0))
    with pytest.raises(DataError, match=r"CLINC150: there is no text of balance"):
        loaded("clinc150", root)


def test_files_come_from_fixed_commits(root, tmp_path, monkeypatch):
    asked = []

    def download(address, place, progress):
        asked.append(address)
        Path(place).write_bytes((root.path / Path(place).relative_to(tmp_path / "new")).read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for cls in (CLINC150, Banking77, HWU64):
        assert cls(cls.Config()).fetch(DataRoot(tmp_path / "new")) == cls.files
    assert len(asked) == 2 + 3 + 128 and len(set(asked)) == len(asked)
    assert all("raw.githubusercontent.com" in address for address in asked)
    assert any(address.endswith("CrossValidation/KFold_1/testset/csv/alarm_query.csv") for address in asked)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
@pytest.mark.parametrize(
    ("name", "n_tasks", "n_classes", "n_train", "n_test"),
    [
        ("clinc150", 10, 150, 15000, 4500),
        ("banking77", 7, 77, 10003, 3080),
        ("hwu64", 16, 64, 9960, 1076),
        ("intent_sources", 2, 28, 6560, 1208),
    ],
)
def test_the_real_files_have_the_published_sizes(name, n_tasks, n_classes, n_train, n_test):
    cls = choose(STREAM, name).cls
    data = cls(cls.Config()).load(DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True), SEEDS)
    assert len(data.tasks) == n_tasks and sum(len(task.classes) for task in data.tasks) == n_classes
    assert sum(len(task.train) for task in data.tasks) == n_train
    assert sum(len(task.test) for task in data.tasks) == n_test


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_readers_read_the_real_files_by_default():
    root = DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True)
    assert len(read_clinc150(root).groups) == 10 and len(CLINC150_FILES) == 2
    hwu64 = read_hwu64(root)
    assert len(hwu64.groups) == 18 and len(HWU64_FILES) == 128
    assert {len(intents) for name, intents in hwu64.groups.items() if name in SINGLES} == {1}
