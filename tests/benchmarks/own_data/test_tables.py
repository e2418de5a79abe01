"""`table:FILE`: which columns mean what, standardised numbers, texts, arrays, and what is refused."""

import json
import sys

import numpy as np
import pandas
import pytest
import torch

from benchmarks.own_data.tables import TableFile
from cl_suite import PrepareImages, PrepareTexts, UsageError
from cl_suite.data.texts import decode_texts
from tests.helpers.own_data import digest, own


def measured(count=60, classes=6):
    """Return a table of two columns on very different scales, and labels."""
    labels = np.arange(count) % classes
    noise = np.random.default_rng(0).normal(size=(count, 2))
    return pandas.DataFrame(
        {
            "length": noise[:, 0] + labels,
            "weight": 5000 + 300 * (noise[:, 1] - labels),
            "label": [f"kind {label}" for label in labels],
        }
    )


def write(table, path):
    table.to_csv(path, index=False)
    return f"table:{path}"


@pytest.fixture
def plain(tmp_path):
    return write(measured(), tmp_path / "plain.csv")


def everything(data, part="train"):
    return torch.cat([getattr(task, part).take(torch.arange(len(getattr(task, part))))[0] for task in data.tasks])


def test_numbers_are_standardised_with_training_statistics(plain, tmp_path):
    data = own(plain, tmp_path)
    assert [task.classes for task in data.tasks] == [(f"kind {k}", f"kind {k + 1}") for k in (0, 2, 4)]
    training = data.prepare(everything(data))
    assert training.dtype == torch.float32 and data.input_shape == (2,)
    assert training.mean(0).abs().max() < 1e-5 and (training.std(0, correction=0) - 1).abs().max() < 1e-5
    test = data.prepare(everything(data, "test"))
    assert test.mean(0).abs().max() > 1e-3  # by the training samples', not by its own


def test_rows_keep_their_labels(plain, tmp_path):
    table = pandas.read_csv(tmp_path / "plain.csv")
    labels = {np.float32(row.length).item(): row.label for row in table.itertuples()}
    for task in own(plain, tmp_path).tasks:
        for part in (task.train, task.test):
            raw, targets = part.take(torch.arange(len(part)))
            pairs = zip(raw[:, 0].tolist(), targets.tolist(), strict=True)
            assert all(labels[length] == task.classes[target] for length, target in pairs)


def test_a_column_may_say_the_task_and_another_the_part(tmp_path):
    table = measured()
    table["site"] = ["north", "south"] * 15 + ["south", "north"] * 15
    table["part"] = ["train", "train", "Test", "val"] * 15
    spec = write(table, tmp_path / "sites.csv")
    data = own(spec, tmp_path, task="site", split="part")
    assert [task.name for task in data.tasks] == ["north", "south"] and data.labels == "shared"
    assert sum(len(task.test) for task in data.tasks) == 15 and sum(len(task.train) for task in data.tasks) == 30
    assert data.facts["columns"] == ["length", "weight"] and data.facts["test_set"] == "rows of part"


def test_one_column_of_texts_makes_a_stream_of_texts(tmp_path):
    table = pandas.DataFrame(
        {"what": [f"NA thing {k}" for k in range(20)], "mood": ["good", "bad"] * 10, "id": range(20)}
    )
    data = own(write(table, tmp_path / "moods.csv"), tmp_path, label="mood", features=["what"])
    assert isinstance(data.prepare, PrepareTexts) and data.tasks[0].classes == ("bad", "good")
    assert set(decode_texts(everything(data))) < set(table["what"])


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path):
    table = measured().assign(label=[(2, 10, 1, 33, 4, 5)[k % 6] for k in range(60)])
    names = [name for task in own(write(table, tmp_path / "years.csv"), tmp_path).tasks for name in task.classes]
    assert names == ["1", "2", "4", "5", "10", "33"]
    chosen = own(f"table:{tmp_path / 'years.csv'}", tmp_path, class_order=[33, 2], n_tasks=2)
    assert [task.classes for task in chosen.tasks] == [("33",), ("2",)]


def test_arrays_are_vectors_or_images(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 5)), np.arange(40) % 4
    np.savez(tmp_path / "numbers.npz", x=x, y=y, task=y // 2, split=np.array(["train"] * 30 + ["test"] * 10))
    data = own(f"table:{tmp_path / 'numbers.npz'}", tmp_path)
    assert [task.name for task in data.tasks] == ["0", "1"] and sum(len(task.test) for task in data.tasks) == 10
    pixels = random.integers(0, 256, (40, 8, 6, 3), dtype=np.uint8)
    parts = {"x_train": pixels[:30], "y_train": y[:30, None], "x_test": pixels[30:], "y_test": y[30:, None]}
    np.savez(tmp_path / "bytes.npz", **parts)
    np.savez(tmp_path / "floats.npz", **{key: a / 255 if key[0] == "x" else a for key, a in parts.items()})
    as_bytes, as_floats = (own(f"table:{tmp_path / name}.npz", tmp_path) for name in ("bytes", "floats"))
    assert isinstance(as_bytes.prepare, PrepareImages) and as_bytes.input_shape == (3, 8, 6)
    assert everything(as_floats).equal(everything(as_bytes)) and everything(as_floats).dtype == torch.uint8


def test_a_test_set_of_ones_own_is_a_file_like_it(plain, tmp_path):
    test = measured(24).iloc[::-1, ::-1]  # columns in another order
    data = own(plain, tmp_path, test=write(test, tmp_path / "test.csv").removeprefix("table:"))
    assert sum(len(task.test) for task in data.tasks) == 24 and sum(len(task.train) for task in data.tasks) == 60
    assert set(everything(data, "test")[:, 0].tolist()) == set(test["length"].astype(np.float32).tolist())


def test_a_table_is_known_by_its_content(plain, tmp_path):
    first = digest(plain, tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "plain.csv").rename(tmp_path / "deep/plain.csv")
    assert digest(f"table:{tmp_path / 'deep/plain.csv'}", tmp_path) == first
    write(measured(66), tmp_path / "deep/plain.csv")
    assert digest(f"table:{tmp_path / 'deep/plain.csv'}", tmp_path) != first


def test_a_parquet_file_is_the_same_table(plain, tmp_path):
    pytest.importorskip("pyarrow")
    measured().to_parquet(tmp_path / "plain.parquet")
    assert everything(own(f"table:{tmp_path / 'plain.parquet'}", tmp_path)).equal(everything(own(plain, tmp_path)))


def test_parquet_without_pyarrow_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"need pyarrow.*pip install 'cl-suite\[parquet\]'"):
        own(f"table:{tmp_path / 't.parquet'}", tmp_path)


def changed(table, row, column, value):
    return table.astype({column: object}).assign(**{column: [*table[column][:row], value, *table[column][row + 1 :]]})


BAD_TABLES = {
    "no label": (
        measured().rename(columns={"label": "kind"}),
        {},
        r"no column 'label'.*Its columns: length, weight, kind",
    ),
    "unknown task": (measured(), {"task": "site"}, r"no column 'site'.*stream\.task=COLUMN"),
    "unknown feature": (measured(), {"features": ["lenght"]}, r"no column 'lenght'\. Did you mean length"),
    "label as feature": (measured(), {"features": ["label"]}, "names 'label', which is the label"),
    "no features": (measured()[["label"]], {}, "has no column but label"),
    "a word": (
        changed(measured(), 6, "weight", "heavy"),
        {},
        r"'weight' is not of numbers \('heavy'\).*features=\[length\]",
    ),
    "two of texts": (measured().assign(a="x", b="y"), {}, r"'a' is not of numbers"),
    "empty cell": (changed(measured(), 6, "weight", ""), {}, "row 7, column 'weight', holds no number"),
    "NaN": (changed(measured(), 6, "weight", "nan"), {}, "row 7, column 'weight', holds no number"),
    "infinity": (changed(measured(), 6, "weight", "inf"), {}, "row 7, column 'weight', holds infinity"),
    "empty label": (changed(measured(), 3, "label", ""), {}, "row 4 has nothing in 'label'"),
    "one class": (measured().assign(label="same"), {}, "has one class, 'same'"),
    "one sample": (changed(measured(), 3, "label", "rare"), {}, "class 'rare' has one sample"),
    "no rows": (measured()[:0], {}, "has no rows"),
    "odd part": (measured().assign(part="dev"), {"split": "part"}, "row 1 is of the part 'dev'. Write train or test"),
    "only test": (measured().assign(part="test"), {"split": "part"}, "has no training samples"),
    "offset": (measured().assign(weight=1e9 + np.arange(60)), {}, "'weight' lies around 1e.09 .*Subtract its mean"),
    "no images": (measured(), {"flip": True}, r"has vectors, so that stream\.flip has no effect"),
    "tasks": (measured(), {"n_tasks": 4}, "n_tasks=4 does not divide the 6 classes"),
    "first task": (measured(), {"first_task": 9}, "first_task=9 is not a number of classes"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_that_cannot_be_is_refused_in_one_line(case, tmp_path):
    table, options, message = BAD_TABLES[case]
    with pytest.raises(UsageError, match=message) as refused:
        own(write(table, tmp_path / "bad.csv"), tmp_path, **options)
    assert "\n" not in str(refused.value)


BAD_FILES = {
    "t.xlsx": (b"", r"\.xlsx is none of \.csv, \.tsv, \.parquet, \.npz"),
    "t": (b"", "a name without an ending"),
    "empty.csv": (b"", r"cannot be read \(No columns"),
    "ragged.csv": (b"a,label\n1,x\n2,y,z,u\n", "cannot be read"),
    "long.csv": (b"a,label\n1,x,u\n2,y,u\n", "cannot be read"),
    "latin.csv": (b"a,label\n1,\xe9\n", "cannot be read .*UTF-8"),
    "zip.npz": (b"PK", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_table_is_refused_in_one_line(name, tmp_path):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        own(f"table:{tmp_path / name}", tmp_path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_names_the_nearest(plain, tmp_path):
    with pytest.raises(UsageError, match=r"there is no file .*palin\.csv\. Did you mean plain\.csv\?"):
        own(f"table:{tmp_path / 'palin.csv'}", tmp_path)
    with pytest.raises(UsageError, match="table: needs a file"):
        own("table:", tmp_path)


X, Y = np.zeros((8, 3)), np.arange(8) % 2
BAD_ARRAYS = {
    "names": ({"a": X, "b": Y}, "has a, b. It needs x and y"),
    "length": ({"x": X, "y": Y[:5]}, r"label has the shape \[5\], and x \[8, 3\]"),
    "axes": ({"x": np.zeros((8, 2, 2, 2, 2)), "y": Y}, r"x has the shape \[8, 2, 2, 2, 2\]"),
    "half a split": ({"x_train": X}, "has x_train, but no y_train"),
    "unlike": ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "do not fit together"),
    "nan": ({"x": np.full((8, 3), np.nan), "y": Y}, "row 1, number 0, holds no number and 23 more"),
    "words": ({"x": np.full((8, 3), "a"), "y": Y}, "not of numbers"),
    "floats": ({"x": np.random.default_rng(0).normal(size=(8, 4, 4)), "y": Y}, "are no bytes"),
    "objects": ({"x": X, "y": np.array([None] * 8)}, "without objects"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_cannot_be_are_refused_in_one_line(case, tmp_path):
    arrays, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UsageError, match=message) as refused:
        own(f"table:{tmp_path / 'bad.npz'}", tmp_path)
    assert "\n" not in str(refused.value)


def test_test_sets_that_do_not_fit_are_refused(plain, tmp_path):
    with pytest.raises(UsageError, match=r"plain\.csv of the test set is plain\.csv of the training set"):
        own(plain, tmp_path, test=str(tmp_path / "plain.csv"))
    np.savez(tmp_path / "test.npz", x=np.zeros((8, 3)), y=["kind 0", "kind 1"] * 4)
    with pytest.raises(UsageError, match="has vectors of 2, its test set vectors of 3"):
        own(plain, tmp_path, test=str(tmp_path / "test.npz"))


def test_a_run_learns_a_table_and_keeps_no_place(plain, tmp_path, bench):
    status, _, error = bench(
        "--strategy",
        "finetune",
        "--stream",
        plain,
        "--quiet",
        "train.epochs=60",
        "--data-root",
        tmp_path,
        "stream.n_tasks=1",
    )
    assert status == 0, error
    (record,) = (tmp_path / "results/table-plain.csv").rglob("seed_0.json")
    content = json.loads(record.read_text())
    assert content["metrics"]["acc"] > 0.5  # chance is 1/6
    assert str(tmp_path) not in record.read_text() and "plain.csv" in record.read_text()
    assert TableFile.place_is == "FILE"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            measured().reset_index().rename(columns={"index": ""}),
            r"column 1 has no name; row numbers, perhaps.*\[length,weight\]",
        ),
        (measured().assign(task=0), r"has a column 'task', which would be learned from.*stream\.task=task"),
        (measured().assign(split="train"), r"has a column 'split'.*stream\.split=split"),
    ],
)
def test_what_nobody_would_learn_from_on_purpose_is_not(table, message, tmp_path):
    spec = write(table, tmp_path / "odd.csv")
    with pytest.raises(UsageError, match=message):
        own(spec, tmp_path)
    assert own(spec, tmp_path, features=["length", "weight"]).input_shape == (2,)
