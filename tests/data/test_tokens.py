"""Token ids: made once, rectangles with a mask; padding never changes an answer."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from cl_suite import (
    HeadBank,
    Network,
    PrepareTexts,
    Reservoir,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
    encode_texts,
    join_inputs,
)
from cl_suite.core.listener import Hooks
from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.data.tokenizers import words_of
from cl_suite.data.tokens import TextOptions, as_tokens, tokens_summary
from cl_suite.records.compatibility import GROUP_BEFORE
from cl_suite.records.record import config_hash
from cl_suite.runs.config import RunConfig
from cl_suite.runs.execute import run_one
from cl_suite.runs.harness import Harness
from cl_suite.runs.plan import Request, plan
from tests.helpers.token_streams import CPU, FIRST, OFFLINE, SECOND, SEEDS, made, shown


def toy(**options):
    cls = choose(STREAM, "toy_text").cls
    return cls(cls.Config(**{"n_tasks": 3, "n_train": 20, "n_test": 10, **options})).load(OFFLINE, SEEDS)


# -- what the ids are -------------------------------------------------------------------------------------------------


def test_ids_are_rectangles_with_a_mask_and_padding_is_zero():
    data, facts = made(max_length=20)
    for task, texts in zip(data.tasks, (FIRST, SECOND), strict=True):
        tokens, mask = task.train.inputs["tokens"], task.train.inputs["mask"]
        assert tokens.dtype == torch.int64 and mask.dtype == torch.bool and tokens.shape == mask.shape == (7, 16)
        for text, ids in zip(texts, shown(task.train), strict=True):
            assert len(ids) == max(1, len(words_of(text)))
    everything = data.tasks[0].train.inputs
    assert not everything["tokens"][~everything["mask"]].any()
    assert int(everything["tokens"].max()) < facts["vocabulary"] == data.vocabulary == 16384
    assert data.input_shape == {"tokens": (16,), "mask": (16,)}
    assert data.tasks[1].train.inputs is data.tasks[0].test.inputs  # shared storage stays shared
    assert [part.targets.tolist() for part in (data.tasks[0].train, data.tasks[1].train)] == [[0, 1, 0, 1], [0, 1, 0]]


def test_what_was_cut_empty_or_unknown_is_counted_and_said():
    data, facts = made(max_length=5)
    assert data.input_shape["tokens"] == (5,) and facts["length"] == 5
    assert shown(data.tasks[0].train)[3] == shown(made()[0].tasks[0].train)[3][:5]
    assert facts["texts"] == 7 and facts["empty_texts"] == 1 and facts["share_cut"] == pytest.approx(2 / 7, abs=1e-6)
    assert "7 texts, 1 of them empty" in tokens_summary(facts) and "28.6% cut" in tokens_summary(facts)
    json.dumps(facts)


# -- what becomes of them ---------------------------------------------------------------------------------------------


def test_a_batch_is_cut_to_its_longest_text_rounded_up_to_eight():
    data, _ = made()
    raw, _ = data.tasks[0].train.take(torch.arange(4))
    assert {value.shape[1] for value in data.prepare(raw).values()} == {16}
    short, _ = data.tasks[0].train.take(torch.tensor([0, 2]))
    assert {value.shape[1] for value in data.prepare(short).values()} == {8}
    empty, _ = data.tasks[0].train.take(torch.tensor([2]))
    prepared = data.prepare(empty)
    assert prepared["mask"].tolist() == [[True] + [False] * 7] and not prepared["tokens"].any()
    assert data.prepare({name: value[:0] for name, value in raw.items()})["tokens"].shape == (0, 16)


def test_batches_of_several_lengths_join_with_padding():
    data, _ = made()
    parts = [data.prepare(data.tasks[0].train.take(torch.tensor(rows))[0]) for rows in ([0], [3])]
    joined = join_inputs(parts)
    assert joined["tokens"].shape == joined["mask"].shape == (2, 16)
    assert joined["mask"].sum(1).tolist() == [6, 10] and not joined["tokens"][0, 8:].any()


class MeanOfVectors(nn.Module):
    """The mean of the vectors that the mask shows."""

    feature_dim = 12

    def __init__(self, vocabulary):
        super().__init__()
        self.table = nn.Embedding(vocabulary, self.feature_dim)

    def forward(self, inputs):
        mask = inputs["mask"].unsqueeze(2)
        return (self.table(inputs["tokens"]) * mask).sum(1) / mask.sum(1)


def harness(strategy, *, data=None, scenario=Scenario.CLASS_INCREMENTAL, train=None, checkpoint=None, **options):
    data = data or as_tokens(toy(), TextOptions(vocabulary=128), root=OFFLINE, seeds=SEEDS)[0]
    shown = ScenarioStream(
        "toy_text",
        data,
        scenario,
        train=train or TrainSettings(epochs=3, batch_size=8, segments=4),
        seeds=SEEDS,
        device=CPU,
    )
    info = shown.info

    def build():
        return Network(MeanOfVectors(info.vocabulary), HeadBank(12, info.n_outputs))

    cls = choose(STRATEGY, strategy).cls
    return Harness(cls(cls.Config(**options)), shown, build, checkpoint=checkpoint)


def test_neither_trimming_nor_the_batch_around_it_changes_a_networks_answer():
    data, _ = made()
    torch.manual_seed(0)
    network = MeanOfVectors(16384)
    raw, _ = data.tasks[0].train.take(torch.arange(4))
    whole = network(raw)
    for row in range(4):
        alone, _ = data.tasks[0].train.take(torch.tensor([row]))
        torch.testing.assert_close(network(data.prepare(alone))[0], whole[row])
    assert whole.isfinite().all()  # the empty text too


def test_a_strategy_is_told_the_vocabulary_and_the_whole_length():
    shown = harness("finetune").scenario_stream
    assert shown.info.vocabulary == 128 and shown.info.input_shape == {"tokens": (16,), "mask": (16,)}
    cls = choose(STREAM, "toy_gaussians").cls
    vectors = cls(cls.Config()).load(OFFLINE, SEEDS)
    assert vectors.vocabulary is None


@pytest.mark.parametrize("strategy", ["er", "der++", "gdumb", "joint"])
def test_strategies_learn_texts_and_keep_them_in_buffers(strategy):
    data = as_tokens(toy(share_own=0.6), TextOptions(), root=OFFLINE, seeds=SEEDS)[0]
    options = {"epochs": 60} if strategy == "gdumb" else {}
    results = harness(strategy, data=data, train=TrainSettings(epochs=15, batch_size=8), **options).run()
    assert sum(results.R[-1]) / 3 > 0.6  # of six classes


def test_texts_work_without_boundaries_where_a_hidden_order_joins_tasks():
    train = TrainSettings(batch_size=8, segments=4)
    results = harness("er", scenario=Scenario.TASK_AGNOSTIC, train=train).run()
    assert len(results.R) == 4 and sum(results.R[-1]) / 3 > 0.3


def test_a_buffer_keeps_texts_whole_and_hands_them_out_beside_others():
    shown = harness("finetune").scenario_stream
    first, second, _ = shown.experiences(Hooks())
    buffer = Reservoir(100, shown.info)
    for batch in first.batches(epochs=1):
        assert batch.raw["tokens"].shape[1] == 16 >= batch.inputs["tokens"].shape[1]
        buffer.add(batch)
    assert len(buffer) == 40 and buffer.bytes_stored() >= 40 * 16 * 9
    kept = {tuple(row) for row in buffer.take(torch.arange(40))[0]["tokens"].tolist()}
    assert kept == {tuple(row) for row in first_tokens(shown)}
    joint = list(second.batches(epochs=1, beside=buffer))
    assert sum(map(len, joint)) == 80
    old = [row for batch in joint for row, y in zip(batch.raw["tokens"].tolist(), batch.targets, strict=True) if y < 2]
    assert {tuple(row) for row in old} == kept


def first_tokens(shown):
    """Return the training texts of task 0 as stored, a row each."""
    (experience, *_) = shown.experiences(Hooks())
    return [row for batch in experience.batches(epochs=1) for row in batch.raw["tokens"].tolist()]


def test_a_run_on_texts_goes_on_from_its_checkpoint(tmp_path):
    straight = harness("er").run().R

    class Stop(Exception):
        pass

    interrupted = harness("er", checkpoint=tmp_path / "state")
    learn = interrupted.strategy.learn

    def stop(experience):
        if experience.index == 2:
            raise Stop
        learn(experience)

    interrupted.strategy.learn = stop
    with pytest.raises(Stop):
        interrupted.run()
    assert straight == harness("er", checkpoint=tmp_path / "state").run().R


# -- options and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "hashd"}, r"text\.tokenizer=hashd is not known\. Use hashed, words, characters"),
        ({"tokenizer": " "}, "is not known"),
        ({"vocabulary": 2}, "Use 3 or more"),
        ({"max_length": 0}, "Use 1 or more tokens"),
        ({"tokenizer": "bert-base-uncased", "vocabulary": 100}, "which has its own. Leave it out"),
        ({"tokenizer": "./nowhere"}, "is not a folder. Give one that holds a tokenizer"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as refused:
        made(**options)
    assert "\n" not in str(refused.value)


def test_options_without_effect_are_refused():
    cls = choose(STREAM, "toy_gaussians").cls
    data = cls(cls.Config()).load(OFFLINE, SEEDS)
    assert made(data) == (data, {})
    with pytest.raises(UsageError, match=r"this stream has no texts.*e\.g\. clinc150"):
        made(data, max_length=8)


def test_texts_cut_before_they_are_tokens_are_counted():
    whole, cut = "a" * 2000, "b" * 5000
    inputs = encode_texts([whole, cut, cut, "c"])
    samples = Samples(inputs, torch.tensor([0, 1, 0, 1]))
    data = StreamData((TaskData("one", samples, samples, ("a", "b")),), PrepareTexts())
    _, facts = as_tokens(data, TextOptions(tokenizer="characters", max_length=4096), root=OFFLINE, seeds=Seeds(0, 0, 0))
    assert facts["share_stored_cut"] == 0.5 and facts["share_cut"] == 0.0


def test_words_of_a_task_that_is_not_shown_first_make_no_vocabulary(tmp_path):
    agnostic = ("stream.n_tasks=2", "schedule.order=[1,0]", "text.tokenizer=words", "train.epochs=1")
    planned = plan(dataclasses.replace(request(tmp_path, *agnostic), scenario="task_agnostic"))
    with pytest.raises(UsageError, match=r"words is made of task 0, but schedule\.order shows task 1 first"):
        run_one(planned)


def test_records_of_before_texts_keep_their_hash():
    off = dataclasses.asdict(RunConfig().text)
    assert off == GROUP_BEFORE["text"]
    assert config_hash({"train": {"epochs": 1}}) == config_hash({"train": {"epochs": 1}, "text": off})
    assert config_hash({}) != config_hash({"text": {**off, "max_length": 32}})


def request(results, *overrides):
    return Request("finetune", "toy_text", results, OFFLINE, threads=1, overrides=overrides)


def test_a_run_on_texts_records_what_they_were_made_into(tmp_path):
    outcome = run_one(plan(request(tmp_path, "train.epochs=1", "stream.n_tasks=2", "text.tokenizer=words")))
    facts = json.loads(outcome.path.read_text())["diagnostics"]["text"]
    assert (
        outcome.record.status == "complete" and facts["tokenizer"] == "words" and facts["texts"] == 650
    )  # 50 of no task
    assert 0 < facts["share_unknown"] < 1 and facts["length"] == 16
    with pytest.raises(UsageError, match="Use 1 or more tokens"):
        plan(request(tmp_path, "text.max_length=0"))
