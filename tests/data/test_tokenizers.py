"""Tokenizers: words, characters, hashes and those of others; ids alike everywhere, of nothing a task may not see."""

import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from cl_suite import (
    DataError,
    DataRoot,
    UsageError,
    hold_out,
)
from cl_suite.core.seeding import generator_for
from cl_suite.data.tokenizers import Hashed, Words, pinned_tokenizer, words_of
from cl_suite.data.tokens import TextOptions
from tests.helpers.token_streams import FIRST, made, shown, stream


def test_the_same_word_has_the_same_id_in_every_text_and_case():
    data, _ = made()
    whats, card, _, _ = shown(data.tasks[0].train)
    assert whats[3:5] == [card[0], card[4]] and card[0] == card[3]  # my balance; MY
    assert whats[3:5] == shown(data.tasks[1].train)[1][2:]
    assert all(0 < number < 16384 for ids in (whats, card) for number in ids)


def test_hashed_ids_are_the_same_in_every_process_and_stay_what_they_are():
    code = "from cl_suite.data.tokenizers import Hashed; print(list(Hashed(16384)(['My café, my balance'], 9)[0].ids))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {"[15642, 1990, 12198, 15642, 14044]"}
    assert Hashed(16384)(["My café, my balance"], 9)[0].ids == json.loads(outputs.pop())


def test_characters_are_bytes():
    data, facts = made(tokenizer="characters", max_length=100)
    assert shown(data.tasks[1].train)[2] == list("naïve lights".encode())
    assert facts["vocabulary"] == 256 and facts["share_unknown"] == 0


def test_nothing_of_later_tasks_or_test_or_validation_texts_reaches_a_vocabulary_of_words():
    data, facts = made(tokenizer="words")
    other, _ = made(stream(second=["entirely different", "other words", "here"]), tokenizer="words")
    assert shown(data.tasks[0].train) == shown(other.tasks[0].train)
    turn, what, naive = shown(data.tasks[1].train)
    assert turn == [1, 1, 1, 1] and naive == [1, 1]  # id 1: unknown
    assert what[0] > 1 and what[1] == 1 and what[2:] == shown(data.tasks[0].train)[0][3:5]
    known = {word for text in FIRST for word in words_of(text)}
    assert facts["words"] == len(known) and facts["vocabulary"] == len(known) + 2
    kept, held = hold_out(stream().tasks[0].train, 0.5, generator_for(0, "validation", 0))
    seen = {word for row in kept.index.tolist() for word in words_of(FIRST[row])}
    assert len(held) == 2 and made(tokenizer="words", validation=0.5)[1]["words"] == len(seen) < len(known)


def test_a_vocabulary_keeps_the_most_frequent_words_and_does_not_depend_on_their_order():
    words = Words(["b b a", "c a d"], 4)
    assert words.size == 4 and words(["a b c d"], 9)[0].ids == [2, 3, 1, 1] and words(["c d"], 9)[0].unknown == 2
    assert Words(["d a c", "a b b"], 4)(["a b c"], 9) == words(["a b c"], 9)
    assert words.facts == {"words": 2, "words_left_out": 2}


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"not installed\. Install it with: pip install 'cl-suite\[text\]'") as refused:
        made(tokenizer="bert-base-uncased")
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"has no tokenizer \(tokenizer\.json, .*save_pretrained") as refused:
        made(tokenizer=str(tmp_path))
    assert "\n" not in str(refused.value)


class BracketTokenizer:
    """What `transformers.AutoTokenizer` gives, in small: [CLS]=1 words=5.. [SEP]=2, cut before the last."""

    unk_token_id = 3

    def __len__(self):
        return 50

    def num_special_tokens_to_add(self):
        return 2

    def __call__(self, texts, truncation, max_length=None, verbose=True):
        ids = [[1, *(3 if word == "lights" else 5 + len(word) for word in text.split()), 2] for text in texts]
        if truncation:
            ids = [row if len(row) <= max_length else [*row[: max_length - 1], 2] for row in ids]
        return {"input_ids": ids}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for transformers; returns what was asked of it."""
    asked = []

    def from_pretrained(name, local_files_only):
        asked.append((name, local_files_only))
        if "absent" in name:
            raise OSError("no such\nmodel")
        return BracketTokenizer()

    module = types.SimpleNamespace(AutoTokenizer=types.SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "transformers", module)
    return asked


def test_a_tokenizer_of_hugging_faces_has_its_own_ids_and_special_tokens(hub):
    data, facts = made(tokenizer="some/encoder", max_length=6)
    assert hub == [("some/encoder", True)] and data.vocabulary == 50
    assert shown(data.tasks[1].train)[0] == [1, 9, 8, 3, 8, 2]
    assert shown(data.tasks[0].train)[3] == [1, 8, 8, 10, 9, 2]  # cut, and closed all the same
    assert shown(data.tasks[0].train)[2] == [1, 2] and facts["empty_texts"] == 0
    assert facts["share_unknown"] > 0 and facts["share_cut"] == pytest.approx(1 / 7, abs=1e-6)
    made(tokenizer="some/encoder", root=DataRoot(Path("unused")))
    assert hub[-1] == ("some/encoder", False)
    with pytest.raises(DataError, match=r"could not be loaded and --offline forbids a download \(no such model\)"):
        made(tokenizer="some/absent")


def test_a_real_tokenizer_made_here_is_read_from_its_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "turn", "the", "lights", "off"]
    folder = tmp_path / "tokenizer"
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    data, facts = made(tokenizer=str(folder), max_length=5)
    assert shown(data.tasks[1].train)[0] == [2, 5, 6, 7, 3]  # the last word cut, and closed all the same
    assert shown(data.tasks[0].train)[2] == [2, 3]
    assert facts["vocabulary"] == 9 and facts["tokenizer"] == "tokenizer"


def test_a_length_that_special_tokens_fill_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "turn"]
    folder = tmp_path / "tokenizer"
    transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    with pytest.raises(UsageError, match=r"text\.max_length=2 leaves nothing of a text .* Use 3 or more\."):
        made(tokenizer=str(folder), max_length=2)


def test_a_tokenizers_folder_counts_by_its_content_and_not_by_its_place(tmp_path, hub):
    def pinned(folder):
        return pinned_tokenizer({"text": dataclasses.asdict(TextOptions(tokenizer=str(folder)))})["text"]["tokenizer"]

    for place in ("one", "two"):
        (tmp_path / place / "enc").mkdir(parents=True)
        (tmp_path / place / "enc" / "vocab.txt").write_text("a\nb\n")
    assert pinned(tmp_path / "one/enc") == pinned(tmp_path / "two/enc")
    assert str(tmp_path) not in pinned(tmp_path / "one/enc")
    (tmp_path / "two/enc/vocab.txt").write_text("a\nc\n")
    assert pinned(tmp_path / "one/enc") != pinned(tmp_path / "two/enc")
    before = pinned(tmp_path / "one/enc")
    (tmp_path / "one/enc/model.safetensors").write_bytes(b"weights that no tokenizer reads")
    assert pinned(tmp_path / "one/enc") == before
    (tmp_path / "one/enc/tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert pinned(tmp_path / "one/enc") != before
    assert made(tokenizer=str(tmp_path / "one/enc"))[1]["tokenizer"] == "enc"
    assert pinned_tokenizer({"text": {"tokenizer": "words"}}) == {"text": {"tokenizer": "words"}}
