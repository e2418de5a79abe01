"""The five data sets of texts: the published orders, a fixed draw, and every way a table can be wrong."""

import csv
import importlib.machinery
import os
import sys
import types
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.texts.text5 import ORDERS, SOURCES, Text5
from cl_suite import DataError, DataRoot, Seeds, UsageError
from cl_suite.data.tables import read_rows
from cl_suite.data.texts import decode_texts

SEEDS = Seeds(0, 0, 0)


def write(root, name, *, n_train=6, n_test=3, folder=0, parts=("train", "test")):
    """Write a data set; a text names its set, part, label from 1 and number, with a comma, quotes and an escape."""
    source = SOURCES[name]
    place = root / source.folders[folder]
    place.mkdir(parents=True, exist_ok=True)
    for part in parts:
        rows = []
        for k in range(n_train if part == "train" else n_test):
            for label in range(1, len(source.classes) + 1):
                middle = [f"title {k}"] * (len(source.columns) - 2)
                rows.append([str(label), *middle, f'{name} {part} {label} {k}, "said"\\n so'])
        with (place / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


@pytest.fixture
def root(tmp_path):
    for name in SOURCES:
        write(tmp_path, name)
    return DataRoot(tmp_path, offline=True)


def loaded(root, *, seeds=SEEDS, **options):
    return Text5(Text5.Config(**{"train_per_class": 4, "test": 5, **options})).load(root, seeds)


def texts(samples):
    return decode_texts(samples.take(torch.arange(len(samples)))[0])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_published_orders(order, root):
    data = loaded(root, order=order)
    assert tuple(task.name for task in data.tasks) == ORDERS[order - 1]
    assert [len(task.classes) for task in data.tasks] == [len(SOURCES[task.name].classes) for task in data.tasks]
    assert sorted(ORDERS[order - 1]) == sorted(SOURCES)


def test_so_many_training_texts_of_each_class_and_test_texts_of_each_set_are_drawn(root):
    for task in loaded(root).tasks:
        assert task.train.targets.bincount().tolist() == [4] * len(task.classes) and len(task.test) == 5
        for part, samples in (("train", task.train), ("test", task.test)):
            found = texts(samples)
            assert len(set(found)) == len(found)
            for text, target in zip(found, samples.targets.tolist(), strict=True):
                assert text.startswith(f"{task.name} {part} {target + 1} ") and text.endswith(', "said"  so')
    assert [len(task.test) for task in loaded(root, test=0).tasks] == [3 * len(SOURCES[n].classes) for n in ORDERS[0]]


def test_the_draw_is_part_of_the_stream_and_not_of_the_run(root):
    first = texts(loaded(root).tasks[0].train)
    assert first == texts(loaded(root, seeds=Seeds(5, 6, 7)).tasks[0].train)
    assert first == texts(next(task for task in loaded(root, order=2).tasks if task.name == "ag_news").train)
    assert first != texts(loaded(root, data_seed=1).tasks[0].train)


def test_a_text_is_the_last_column_or_all_but_the_label(root):
    body = texts(loaded(root).tasks[3].train)
    whole = texts(loaded(root, text="all").tasks[3].train)
    assert all("title" not in text for text in body) and all(text.startswith("title") for text in whole)
    assert [text.split(" ", 4)[4] for text in whole] == body


def test_parts_that_are_there_run_as_a_shorter_sequence_that_says_so(tmp_path):
    for name in ("yelp", "dbpedia"):
        write(tmp_path, name)
    write(tmp_path, "ag_news", parts=("test",))
    root = DataRoot(tmp_path, offline=True)
    with pytest.raises(DataError) as refused:
        loaded(root)
    message = str(refused.value)
    assert "AG News: ag_news/train.csv is not in" in message and "ag_news_csv.tar.gz" in message
    assert "stream.datasets=[yelp,dbpedia]" in message and "\n" not in message
    data = loaded(root, datasets=["dbpedia", "yelp"])
    assert [task.name for task in data.tasks] == ["yelp", "dbpedia"]
    stream = Text5(Text5.Config(datasets=["dbpedia", "yelp"]))
    assert stream.card()["sequence"] == "2 of the 5 data sets: yelp, dbpedia"
    assert set(data.checksums) == {f"{name}/{part}.csv" for name in ("yelp", "dbpedia") for part in ("train", "test")}
    assert stream.fetch(root) == data.checksums


def test_one_part_is_no_sequence(tmp_path):
    write(tmp_path, "yelp")
    with pytest.raises(DataError, match=r"only yelp is there, and a sequence needs two\.$"):
        loaded(DataRoot(tmp_path, offline=True))
    with pytest.raises(DataError, match=r"none is there, and a sequence needs two\.$"):
        loaded(DataRoot(tmp_path / "empty", offline=True))


def test_the_folders_of_the_archives_are_found_too(tmp_path):
    write(tmp_path, "yelp", folder=1)
    write(tmp_path, "amazon", folder=1)
    write(tmp_path, "amazon", parts=("test",))  # our own name, but not whole
    data = loaded(DataRoot(tmp_path, offline=True), datasets=["yelp", "amazon"])
    assert "amazon_review_full_csv/train.csv" in data.checksums and len(data.tasks) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "Use 1 to 4"),
        ({"order": 5}, "Use 1 to 4"),
        ({"datasets": ["yelp"]}, "is no sequence. Name two or more"),
        ({"datasets": []}, "is no sequence"),
        ({"datasets": ["yelp", "yelp"]}, "each once"),
        ({"datasets": ["yelp", "imdb"]}, "is no choice of ag_news, yelp"),
        ({"train_per_class": 0}, "Use 1 or more"),
        ({"test": -1}, "Use 0 or more"),
        ({"text": "title"}, r"stream\.text=title is not known"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(options, message, root):
    with pytest.raises(UsageError, match=message) as refused:
        loaded(root, **options)
    assert "\n" not in str(refused.value)


def replaced(root, change, *, name="ag_news", part="train"):
    path = root.path / name / f"{part}.csv"
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b + b'"1","only two"\n', r"train\.csv, line 25: 2 columns, not the 3 of label,title,description"),
        (lambda b: b + b'"1","a","b","c"\n', r"train\.csv, line 25: 4 columns, not the 3"),
        (lambda b: b + b'"1","a","caf\xe9"\n', r"train\.csv, line 25: not UTF-8 \(byte 0xe9\)"),
        (lambda b: b + b'"5","a","b"\n', r"train\.csv, line 25: label '5' is not a number from 1 to 4, the classes"),
        (lambda b: b"label,title,description\n" + b, r"train\.csv, line 1: label 'label' is not a number"),
        (
            lambda b: b"\r\n".join(line for line in b.splitlines() if line[:3] != b'"3"'),
            r"no row has label 3 \(Business\)",
        ),
        (lambda b: b.replace(b'"2"', b'"1"', 4), r"2 rows of label 2, fewer than stream\.train_per_class=4"),
        (lambda b: b[:-4], r"train\.csv, line 24: not a row of a table \(unexpected end of data\)"),
        ("latin1 in utf-16".encode("utf-16").__add__, r"train\.csv, line 1: not UTF-8 .* iconv -f utf-16 -t utf-8"),
        (lambda b: b"", r"no row has label 1 \(World\)"),
    ],
)
def test_a_table_that_is_wrong_is_one_line_with_file_and_line(change, message, root):
    replaced(root, change)
    with pytest.raises(DataError, match=message) as refused:
        loaded(root)
    assert "\n" not in str(refused.value) and str(root.path) in str(refused.value)


def test_fewer_test_texts_than_asked_for_are_refused(root):
    with pytest.raises(
        DataError, match=r"test\.csv: 12 rows, fewer than stream\.test=13\. Is it complete\? Or ask for 12"
    ):
        loaded(root, test=13)


def test_empty_and_over_long_texts_are_kept_and_cut(root):
    replaced(root, lambda b: b'"1","a",""\n"2","a","' + b"x" * 9000 + b'"\n', part="test")
    replaced(root, lambda b: b + b'"3","a","c"\n"4","a","d"\n', part="test")
    found = texts(loaded(root, test=0).tasks[0].test)
    assert found == ["", "x" * 2048, "c", "d"]


class Hub:
    """In place of the package `datasets`: no test has a network."""

    def __init__(self, rows=None, problem=None, fails_on=None):
        self.asked, self.rows, self.problem, self.fails_on = [], rows, problem, fails_on

    def load_dataset(self, name, *, split):
        self.asked.append((name, split))
        if self.problem:
            raise self.problem
        if self.fails_on == split:
            raise ConnectionError("gone")
        return self.rows[name]


def online(monkeypatch, tmp_path, **options):
    hub = Hub(**options)
    module = types.ModuleType("datasets")
    module.__spec__ = importlib.machinery.ModuleSpec("datasets", None)
    module.load_dataset = hub.load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return hub, DataRoot(tmp_path, offline=False)


HUB_ROWS = {
    "Yelp/yelp_review_full": [{"label": k % 5, "text": f'good, "{k}"\nvery'} for k in range(25)],
    "fancyzhx/dbpedia_14": [{"title": "t", "content": f"place {k}", "label": k % 14} for k in range(70)],
}


def test_what_is_absent_comes_from_the_hub_once_and_is_such_a_table(monkeypatch, tmp_path):
    hub, root = online(monkeypatch, tmp_path, rows=HUB_ROWS)
    data = loaded(root, datasets=["dbpedia", "yelp"])
    assert hub.asked == [
        (name, part) for name in ("Yelp/yelp_review_full", "fancyzhx/dbpedia_14") for part in ("train", "test")
    ]
    assert sorted(texts(data.tasks[0].train)) == sorted(set(texts(data.tasks[0].train)))
    assert texts(data.tasks[0].train)[0].startswith('good, "') and texts(data.tasks[0].train)[0].endswith('" very')
    assert all(text.startswith("place ") for text in texts(data.tasks[1].train))
    assert data.tasks[1].train.targets.bincount().tolist() == [4] * 14
    assert list(read_rows(tmp_path / "yelp/train.csv", ("label", "text")))[3][1] == ["4", 'good, "3"\\nvery']
    again = loaded(root, datasets=["dbpedia", "yelp"])
    assert len(hub.asked) == 4 and texts(again.tasks[1].train) == texts(data.tasks[1].train)


def test_a_download_that_ends_between_the_files_begins_again(monkeypatch, tmp_path):
    hub, root = online(monkeypatch, tmp_path, rows=HUB_ROWS, fails_on="test")
    with pytest.raises(DataError, match="could not be fetched"):
        loaded(root, datasets=["dbpedia", "yelp"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    hub.fails_on = None
    assert len(loaded(root, datasets=["dbpedia", "yelp"]).tasks) == 2


def test_offline_nothing_is_asked_of_the_hub(monkeypatch, tmp_path):
    hub, _ = online(monkeypatch, tmp_path, rows=HUB_ROWS)
    with pytest.raises(DataError, match="or leave --offline out"):
        loaded(DataRoot(tmp_path, offline=True), datasets=["dbpedia", "yelp"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="or install the package datasets"):
        loaded(DataRoot(tmp_path, offline=False), datasets=["dbpedia", "yelp"])
    assert not hub.asked


def test_without_the_package_it_is_named_and_what_the_hub_has_not_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="or install the package datasets to fetch it"):
        loaded(DataRoot(tmp_path, offline=False), datasets=["yelp", "dbpedia"])
    write(tmp_path, "yelp")
    with pytest.raises(DataError, match=r"Amazon: .*\(it cannot be fetched from the Hugging Face hub\)"):
        loaded(DataRoot(tmp_path, offline=False), datasets=["amazon", "yelp"])


def test_a_set_of_which_one_file_is_there_is_not_completed_from_the_hub(monkeypatch, tmp_path):
    hub, root = online(monkeypatch, tmp_path, rows=HUB_ROWS)
    write(tmp_path, "yelp", parts=("test",))
    with pytest.raises(DataError, match=r"Yelp: yelp/train\.csv is not in .*, or remove yelp/test\.csv to fetch both"):
        loaded(root, datasets=["dbpedia", "yelp"])
    assert ("Yelp/yelp_review_full", "train") not in hub.asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": ConnectionError("no route\nto host")}, r"could not be fetched .*\(no route to host\)"),
        ({"rows": {"Yelp/yelp_review_full": [{"words": "a", "label": 0}]}}, r"row 0: no column text, but words, label"),
    ],
)
def test_a_hub_that_fails_is_one_line_and_leaves_no_half_file(monkeypatch, tmp_path, options, message):
    _, root = online(monkeypatch, tmp_path, **options)
    with pytest.raises(DataError, match=message) as refused:
        loaded(root, datasets=["dbpedia", "yelp"])
    assert "\n" not in str(refused.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_test_file_of_ag_news_is_such_a_table():
    rows = list(read_rows(Path(os.environ["CL_SUITE_DATA"]) / "ag_news/test.csv", SOURCES["ag_news"].columns))
    assert Counter(row[0] for _, row in rows) == {str(label): 1900 for label in range(1, 5)}
