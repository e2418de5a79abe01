"""Pairs of groups of texts: vectors of the published recipe, shared labels, verified files, what the card owns to."""

import hashlib
import json
import os
import pickle
import re
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.texts.data_sets import CLINC150_ADDRESS
from benchmarks.texts.text_pairs import CLINC150Pairs, NewsgroupsComputer, tfidf_vectors
from cl_suite import DataError, DataRoot, Scenario, Seeds, UsageError
from cl_suite.core.registry import STREAM, choose

SEEDS = Seeds(0, 0, 0)
GROUPS = sorted(group for pair in NewsgroupsComputer.pairs for group in pair)
# The first ten and the last ten each lend a word to a group.
WORDS = [
    *("card", "oven", "credit", "lamp", "flight", "meter", "road", "chat", "office", "label"),
    *("bread", "bank", "lock", "visa", "bulb", "hotel", "litre", "tyre", "joke", "boss"),
]


def sentences(group, count, *, seed):
    """Return texts of five words, most of them of the group's own small vocabulary."""
    random = np.random.default_rng([seed, group])
    own = [WORDS[group], WORDS[group + 10]]
    return [" ".join([*random.choice(own, 3), *random.choice(WORDS, 2)]) for _ in range(count)]


@pytest.fixture
def clinc(tmp_path, monkeypatch):
    """A small CLINC150: two intents a domain, 6 training and 4 test texts each; validation texts too, and others."""
    domains = [domain for pair in CLINC150Pairs.pairs for domain in pair]
    intents = {domain: [f"{domain} {k}" for k in range(2)] for domain in domains}
    content = {
        part: [
            [text, intent]
            for number, domain in enumerate(domains)
            for intent in intents[domain]
            for text in sentences(number, count, seed=seed)
        ]
        for seed, (part, count) in enumerate((("train", 6), ("val", 5), ("test", 4)))
    }
    content["oos_train"] = [["something else", "oos"]]
    folder = tmp_path / "clinc150"
    folder.mkdir()
    (folder / "data_full.json").write_text(json.dumps(content))
    (folder / "domains.json").write_text(json.dumps(intents))
    sums = {
        name: f"sha256:{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}" for name in CLINC150Pairs.files
    }
    monkeypatch.setattr(CLINC150Pairs, "files", sums)
    return DataRoot(tmp_path, offline=True)


@pytest.fixture
def newsgroups(tmp_path):
    """A small 20 Newsgroups in scikit-learn's cached layout, with a header, a quote and a signature in each text."""

    def part(count, seed):
        texts = [
            f"From: someone\nSubject: headerword\n\n> quotedword again\n{text}\nmore of it\n\n--\nsignatureword"
            for number in range(len(GROUPS))
            for text in sentences(number, count, seed=seed)
        ]
        target = np.repeat(np.arange(len(GROUPS)), count)
        names = np.array([f"{k}" for k in range(len(texts))])
        return {"data": texts, "target": target, "target_names": list(GROUPS), "filenames": names}

    content = {
        name: SimpleNamespace(**part(count, seed)) for seed, (name, count) in enumerate((("train", 6), ("test", 4)))
    }
    (tmp_path / "20newsgroups").mkdir()
    write_cache(tmp_path, content)
    return DataRoot(tmp_path, offline=True)


def write_cache(root, content):
    (root / "20newsgroups/20news-bydate_py3.pkz").write_bytes(zlib.compress(pickle.dumps(content)))


def loaded(name, root, **options):
    cls = choose(STREAM, name).cls
    return cls(cls.Config(**options)).load(root, SEEDS)


@pytest.mark.parametrize(("name", "n_train", "n_test"), [("clinc150_pairs", 24, 16), ("newsgroups_computer", 12, 8)])
def test_each_task_asks_the_same_question_about_two_groups(name, n_train, n_test, clinc, newsgroups):
    data = loaded(name, clinc)
    cls = choose(STREAM, name).cls
    assert [task.name for task in data.tasks] == [" / ".join(pair) for pair in cls.pairs]
    assert data.labels == "shared" and cls.scenarios[0] is Scenario.DOMAIN_INCREMENTAL
    assert {task.classes for task in data.tasks} == {cls.classes}
    for task in data.tasks:
        assert (len(task.train), len(task.test)) == (n_train, n_test)
        for part in (task.train, task.test):
            assert part.targets.dtype == torch.int64 and part.targets.bincount().tolist() == [len(part) // 2] * 2
            assert part.inputs.dtype == torch.float32 and part.inputs.shape[1:] == data.input_shape
    assert len(loaded(name, clinc, n_tasks=2).tasks) == 2


@pytest.mark.parametrize("name", ["clinc150_pairs", "newsgroups_computer"])
def test_label_0_is_the_first_group_and_the_vectors_tell_it(name, clinc, newsgroups):
    # The groups' own words make them separable: the nearest mean of the training texts answers almost every test text.
    for task in loaded(name, clinc).tasks:
        means = torch.stack([task.train.inputs[task.train.targets == label].mean(dim=0) for label in (0, 1)])
        answers = torch.cdist(task.test.inputs, means).argmin(dim=1)
        assert (answers == task.test.targets).float().mean() >= 0.75


def test_validation_texts_and_those_out_of_scope_are_left_out(clinc):
    content = json.loads((clinc.path / "clinc150/data_full.json").read_text())
    texts = CLINC150Pairs(CLINC150Pairs.Config()).read(clinc)
    assert [text for text, _ in texts.train] == [text for text, _ in content["train"]]
    assert [text for text, _ in texts.test] == [text for text, _ in content["test"]]
    assert {group for _, group in texts.train} == {domain for pair in CLINC150Pairs.pairs for domain in pair}


def test_headers_quotes_and_signatures_are_left_out(newsgroups):
    texts = NewsgroupsComputer(NewsgroupsComputer.Config()).read(newsgroups)
    everything = " ".join(text for text, _ in [*texts.train, *texts.test])
    assert not re.search("headerword|quotedword|signatureword", everything) and "more of it" in everything


def test_vectors_are_centred_components_of_tf_idf_in_order_of_their_spread():
    train = [sentences(0, 20, seed=0), sentences(1, 20, seed=1)]
    test = [sentences(0, 10, seed=2), sentences(1, 10, seed=3)]
    vectors = tfidf_vectors(train, test, 6)
    assert [tuple(part.shape) for part in vectors] == [(20, 6), (10, 6), (20, 6), (10, 6)]
    together = torch.cat(vectors[::2]).double()
    assert together.mean(dim=0).abs().max() < 1e-6
    covariance = together.T @ together
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5
    assert covariance.diag().equal(covariance.diag().sort(descending=True).values)
    again = tfidf_vectors(train, test, 6)
    assert all(a.equal(b) for a, b in zip(vectors, again, strict=True))


def test_there_are_no_more_dimensions_than_the_training_texts_span():
    # Four different texts span three directions about their mean, however often each comes.
    texts = ["bank card", "oven bread", "road tyre", "lamp bulb"] * 5
    (train, test) = tfidf_vectors([texts], [["bank bread", "a word never read"]], 512)
    assert train.shape == (20, 3) and test.shape == (2, 3)
    assert len(train.unique(dim=0)) == 4


def test_test_texts_and_labels_do_not_reach_the_vectors_but_training_texts_of_later_tasks_do():
    train = [sentences(0, 20, seed=0), sentences(1, 20, seed=1)]
    test = [sentences(0, 10, seed=2), sentences(1, 10, seed=3)]
    vectors = tfidf_vectors(train, test, 6)
    other_test = tfidf_vectors(train, [test[0], sentences(5, 10, seed=9)], 6)
    assert all(vectors[k].equal(other_test[k]) for k in (0, 1, 2)) and not vectors[3].equal(other_test[3])
    other_task = tfidf_vectors([train[0], sentences(5, 20, seed=9)], test, 6)
    assert not vectors[0].equal(other_task[0])


@pytest.mark.parametrize("cls", [CLINC150Pairs, NewsgroupsComputer])
def test_the_card_owns_to_the_unlabelled_texts_of_later_tasks(cls):
    card = cls(cls.Config()).card()
    assert "unlabelled texts of tasks still to come are used" in card["vectors"] and card["licence"] == cls.licence


@pytest.mark.parametrize("name", ["clinc150_pairs", "newsgroups_computer"])
@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_tasks": 0}, "Use 1 to 5"), ({"n_tasks": 6}, "Use 1 to 5"), ({"dimensions": 0}, "Use 1 or more")],
)
def test_a_stream_that_cannot_be_is_refused(name, options, message, clinc, newsgroups):
    with pytest.raises(UsageError, match=message):
        loaded(name, clinc, **options)


def test_an_altered_or_absent_file_of_clinc150_is_named(clinc, tmp_path):
    with pytest.raises(DataError, match=r"data_full\.json is not in .*--offline forbids a download"):
        loaded("clinc150_pairs", DataRoot(tmp_path / "empty", offline=True))
    path = clinc.path / "clinc150/domains.json"
    path.write_text(path.read_text().replace("banking 0", "banking 9"))
    with pytest.raises(DataError, match=r"domains\.json is truncated or altered .*Delete it"):
        loaded("clinc150_pairs", clinc)


def test_clinc150_is_fetched_from_a_fixed_commit_and_verified(clinc, tmp_path, monkeypatch):
    asked = []

    def download(address, place, progress):
        asked.append(address)
        Path(place).write_bytes((clinc.path / "clinc150" / Path(place).name).read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    cls = choose(STREAM, "clinc150_pairs").cls
    assert cls(cls.Config()).fetch(DataRoot(tmp_path / "new")) == CLINC150Pairs.files
    assert asked == [f"{CLINC150_ADDRESS}/{name}" for name in ("data_full.json", "domains.json")]


def test_absent_newsgroups_name_the_file_the_place_and_the_next_move(tmp_path):
    with pytest.raises(DataError) as refused:
        loaded("newsgroups_computer", DataRoot(tmp_path / "empty", offline=True))
    message = str(refused.value)
    assert "20news-bydate_py3.pkz" in message and str(tmp_path / "empty" / "20newsgroups") in message
    assert "--offline forbids" in message and "clinc150_pairs" in message and "\n" not in message
    assert not (tmp_path / "empty").exists()


def test_newsgroups_that_cannot_be_read_or_fetched_are_one_line(newsgroups, tmp_path, monkeypatch):
    (newsgroups.path / "20newsgroups/20news-bydate_py3.pkz").write_bytes(b"no pickle")
    with pytest.raises(DataError, match="or is damaged") as refused:
        loaded("newsgroups_computer", newsgroups)
    assert "\n" not in str(refused.value)

    def no_network(**options):
        raise OSError("no route\nto host")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", no_network)
    with pytest.raises(DataError, match=r"\(no route to host\)"):
        loaded("newsgroups_computer", DataRoot(tmp_path / "other"))


def test_the_checksum_of_newsgroups_changes_with_the_texts(newsgroups):
    before, again = (loaded("newsgroups_computer", newsgroups).checksums for _ in range(2))
    path = newsgroups.path / "20newsgroups/20news-bydate_py3.pkz"
    content = pickle.loads(zlib.decompress(path.read_bytes()))
    content["test"].data[0] = content["test"].data[0].replace("more of it", "more of this")
    write_cache(newsgroups.path, content)
    after = loaded("newsgroups_computer", newsgroups).checksums
    assert before == again and before.keys() == after.keys() and before != after


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
def test_the_real_clinc150_has_1500_training_and_450_test_texts_a_domain():
    data = loaded("clinc150_pairs", DataRoot(Path(os.environ["CL_SUITE_DATA"]), offline=True))
    assert data.input_shape == (512,) and data.tasks[0].name == "banking / kitchen_and_dining"
    for task in data.tasks:
        assert task.train.targets.bincount().tolist() == [1500, 1500]
        assert task.test.targets.bincount().tolist() == [450, 450]
