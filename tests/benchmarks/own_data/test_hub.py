"""`hub:NAME`: fetched once by the library `datasets`, a double here, then read from the data root."""

import io
import sys
from types import SimpleNamespace

import pytest
import torch

from cl_suite import DataError, DataRoot, PrepareTexts, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose
from cl_suite.data.texts import decode_texts
from tests.helpers.own_data import digest, image, own


class ClassLabel:
    dtype = "int64"

    def __init__(self, *names):
        self.names = list(names)


class Image:
    def __init__(self, decode=True):
        self.decode = decode


class Rows(list):
    """A split as the library has it: rows, and what it says of their columns."""

    def __init__(self, rows, **features):
        super().__init__(rows)
        self.features = features

    def cast_column(self, name, feature):
        assert not feature.decode  # the files as they are
        return Rows(self, **{**self.features, name: feature})


def png(seed):
    content = io.BytesIO()
    image(seed).save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": None}


def pets(count, start=0):
    rows = [{"picture": png(start + k), "kind": k % 4, "note": "-"} for k in range(count)]
    return Rows(
        rows, picture=Image(), kind=ClassLabel("dog", "cat", "fox", "eel"), note=SimpleNamespace(dtype="string")
    )


def moods(count):
    rows = [{"text": f"text {k}", "mood": k % 2, "source": "ab"[k // 2 % 2]} for k in range(count)]
    string = SimpleNamespace(dtype="string")
    return Rows(rows, text=string, mood=ClassLabel("good", "bad"), source=string)


@pytest.fixture
def hub(monkeypatch):
    """Stand in for the library; return what was asked of it. Names that are not there have no network."""
    asked = []
    sets = {
        "me/pets": {"train": pets(24), "test": pets(8, 100)},
        "moods": {"train": moods(24)},
    }

    def load_dataset(name, subset=None, revision=None):
        asked.append((name, subset, revision))
        if name not in sets:
            raise ConnectionError(f"Couldn't reach {name!r} on the Hub\n(no network)")
        return sets[name]

    double = SimpleNamespace(load_dataset=load_dataset, Image=Image)
    monkeypatch.setitem(sys.modules, "datasets", double)
    return asked


def test_images_are_fetched_once_and_kept(hub, tmp_path, monkeypatch):
    first = own("hub:me/pets", tmp_path, revision="v1")
    assert [task.classes for task in first.tasks] == [("cat", "dog"), ("eel", "fox")]
    assert [(len(task.train), len(task.test)) for task in first.tasks] == [(12, 4), (12, 4)]
    assert first.input_shape == (3, 8, 8) and first.facts["test_set"] == "test"
    assert hub == [("me/pets", None, "v1")]
    monkeypatch.setitem(sys.modules, "datasets", None)  # neither library nor network is needed any more
    cls = choose(STREAM, "hub:me/pets").cls
    again = cls(cls.Config(revision="v1")).load(DataRoot(tmp_path, offline=True), Seeds(0, 0, 0))
    assert again.tasks[0].train.inputs.equal(first.tasks[0].train.inputs) and again.checksums == first.checksums


def test_samples_keep_their_labels(hub, tmp_path):
    rows = {
        tuple(torch.frombuffer(bytearray(row["picture"]["bytes"]), dtype=torch.uint8).tolist()): row for row in pets(24)
    }
    assert len(rows) == 24
    task = own("hub:me/pets", tmp_path).tasks[0]  # cat (1), dog (0): of rows 1, 5, ... and 0, 4, ...
    raw, targets = task.train.take(torch.arange(12))
    for k, target in zip(range(12), targets.tolist(), strict=True):
        row = task.train.index[k].item()
        assert (row % 4 == 1) == (target == 0)
        assert raw[k].permute(1, 2, 0).flatten().tolist() == list(image(row).tobytes())


def test_texts_and_the_column_that_names_tasks(hub, tmp_path):
    data = own("hub:moods", tmp_path, input="text", task="source")
    assert isinstance(data.prepare, PrepareTexts) and data.labels == "shared"
    assert [task.name for task in data.tasks] == ["a", "b"]
    assert "held out" in data.facts["test_set"]
    raw, _ = data.tasks[0].train.take(torch.arange(3))
    assert all(text.startswith("text ") for text in decode_texts(raw))


def test_what_is_known_of_it_changes_with_its_content(hub, tmp_path):
    first = digest("hub:moods", tmp_path / "a", input="text")
    assert first == digest("hub:moods", tmp_path / "b", input="text")
    assert first != digest("hub:moods", tmp_path / "a", input="source")
    assert choose(STREAM, "hub:me/pets").name == "hub:me/pets"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moods", {}, r"2 columns could be its input.*stream\.input=COLUMN: text, source"),
        ("moods", {"input": "txet"}, r"no column 'txet'\. Did you mean text"),
        ("moods", {"input": "text", "train_split": "all"}, r"no split 'all'.*Its splits: train"),
        ("moods", {"input": "text", "test_split": "test"}, r"no split 'test'\. Set stream\.test_split"),
        ("moods", {"input": "text", "size": 8}, r"has texts, so that stream\.size has no effect"),
        ("me/pets", {"n_tasks": 3}, "n_tasks=3 does not divide the 4 classes"),
        ("me/none", {}, r"could not be fetched.*Couldn't reach 'me/none' on the Hub \(no network\)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name, options, message, hub, tmp_path):
    with pytest.raises(UsageError, match=message) as refused:
        own(f"hub:{name}", tmp_path, **options)
    assert "\n" not in str(refused.value)


def test_offline_nothing_is_fetched(hub, tmp_path):
    cls = choose(STREAM, "hub:me/pets").cls
    with pytest.raises(DataError, match=r"is not kept in .*--offline forbids a download"):
        cls(cls.Config()).load(DataRoot(tmp_path, offline=True), Seeds(0, 0, 0))
    assert not hub


def test_without_the_library_the_message_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the library datasets.*pip install 'cl-suite\[hub\]'"):
        own("hub:ag_news", tmp_path)


@pytest.mark.parametrize("place", ["", "/", "a/b/c", "../x", "a b", "a\nb", "./x"])
def test_names_that_cannot_be_are_refused(place, tmp_path):
    with pytest.raises(UsageError, match="is no name of a data set") as refused:
        choose(STREAM, f"hub:{place}")
    assert "\n" not in str(refused.value).replace(place, "")


def test_a_download_that_breaks_off_leaves_nothing_that_is_taken_for_it(hub, tmp_path, monkeypatch):
    import datasets

    whole = datasets.load_dataset
    broken = pets(24)
    broken[20]["picture"] = {"bytes": None, "path": None}
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **more: {"train": broken})
    with pytest.raises(DataError, match="me/pets, train, row 20 has no sample"):
        own("hub:me/pets", tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", whole)
    assert len(own("hub:me/pets", tmp_path).tasks) == 2
