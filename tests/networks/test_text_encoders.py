"""Encoders of Hugging Face: frozen with kept vectors, frozen beneath a text CNN, finetuned; and what is refused."""

import csv
import json
import shutil
import sys

import pytest
import torch

from cl_suite import DataError, DataRoot, UsageError, build_network
from cl_suite.core.registry import STREAM, choose
from cl_suite.core.seeding import Seeds
from cl_suite.data.tokenizers import TextOptions
from cl_suite.data.tokens import as_tokens
from cl_suite.features.extract import as_features
from cl_suite.features.frozen_networks import FeatureOptions
from cl_suite.runs.execute import run_one
from cl_suite.runs.plan import Request, plan
from tests.helpers.text_streams import padded

SEEDS = Seeds(0, 0, 0)
CPU = torch.device("cpu")


def test_without_transformers_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"model\.encoder needs the package transformers.*cl-suite\[text\]") as refused:
        build_network("transformer_encoder", {"tokens": (4,), "mask": (4,)}, 2, vocabulary=9, encoder=str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"features\.network=encoder has no encoder\. Set features\.weights"),
        ({"weights": "torchvision:resnet18"}, "has no encoder"),
        ({"weights": "a/b", "pooling": "max"}, r"features\.pooling=max is not known\. Use mean or cls"),
        ({"weights": "a/b", "max_length": 1}, r"features\.max_length=1 is too small"),
        ({"network": "conv_small", "pooling": "cls"}, r"have no effect on features\.network=conv_small"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        FeatureOptions(**{"network": "encoder", **options}).check()


def toy(**options):
    chosen = choose(STREAM, "toy_text").cls
    config = chosen.Config(**{"n_tasks": 2, "n_train": 6, "n_test": 4, **options})
    return chosen(config).load(DataRoot(None, offline=True), SEEDS)


def words_of(data):
    from cl_suite.data.texts import decode_texts

    parts = [part for task in data.tasks for part in (task.train, task.test)]
    return {word for part in parts for word in " ".join(decode_texts(part.inputs)).split()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("transformers")
    from tests.helpers.tiny_encoders import save_encoder

    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny", words_of(toy()))


def featured(data, root, encoder, **options):
    options = FeatureOptions(network="encoder", weights=encoder, **options)
    options.check()
    return as_features(data, options, root=DataRoot(root, offline=True), seeds=SEEDS, device=CPU)


def vectors(data):
    return torch.cat([part.inputs for task in data.tasks for part in (task.train, task.test)])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_what_the_encoder_says_of_each_text(encoder, tmp_path, pooling):
    from transformers import AutoModel, AutoTokenizer

    from cl_suite.data.texts import decode_texts

    data = toy()
    made, facts = featured(data, tmp_path, encoder, pooling=pooling)
    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    for row, text in enumerate(decode_texts(data.tasks[1].train.inputs)):
        with torch.no_grad():
            layer = model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0]
        expected = layer[0] if pooling == "cls" else layer.mean(0)
        torch.testing.assert_close(made.tasks[1].train.inputs[row], expected, rtol=0, atol=1e-5)
    assert facts["dimensions"] == 16 and facts["weights"] == "tiny" and facts["revision"].startswith("sha256:")


def test_vectors_are_kept_read_again_and_made_anew_where_they_are_damaged(encoder, tmp_path):
    first, facts = featured(toy(), tmp_path, encoder)
    files = sorted((tmp_path / "features").iterdir())
    assert facts["cache"] == "made" and len(files) == 5  # training and test texts of two tasks, and those of none
    again, facts = featured(toy(), tmp_path, encoder)
    assert facts["cache"] == "read from the cache" and vectors(again).equal(vectors(first))
    content = bytearray(files[0].read_bytes())
    content[-3] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(b"")
    mended, facts = featured(toy(), tmp_path, encoder)
    assert all(f"{file.name} was damaged and is made anew" in facts["cache"] for file in files[:2])
    assert vectors(mended).equal(vectors(first))
    assert featured(toy(), tmp_path, encoder)[1]["cache"] == "read from the cache"
    _, facts = featured(toy(data_seed=1), tmp_path, encoder)  # other texts
    assert "made" in facts["cache"]
    assert featured(toy(), tmp_path, encoder, pooling="cls")[1]["cache"] == "made"


def test_another_encoder_has_other_vectors(encoder, tmp_path):
    from tests.helpers.tiny_encoders import save_encoder

    other = save_encoder(tmp_path / "other" / "tiny", words_of(toy()), seed=1)
    first, _ = featured(toy(), tmp_path, encoder)
    second, facts = featured(toy(), tmp_path, other)
    assert facts["cache"] == "made" and not vectors(first).equal(vectors(second))


def test_a_data_root_that_cannot_be_written_is_said(encoder, tmp_path):
    (tmp_path / "features").write_text("a file where the folder would be")
    _, facts = featured(toy(), tmp_path, encoder)
    assert "not kept" in facts["cache"]


@pytest.mark.parametrize("model", ["transformer_encoder", "text_cnn"])
def test_texts_longer_than_an_encoder_reads_are_refused(tmp_path, model):
    pytest.importorskip("transformers")
    from tests.helpers.tiny_encoders import save_encoder

    small = save_encoder(tmp_path / "small", words_of(toy()), places=8)
    options = (f"model.name={model}", f"model.encoder={small}", f"text.tokenizer={small}")
    with pytest.raises(UsageError, match=r"reads texts of at most 8 tokens, .* Set text\.max_length=8\."):
        ran(tmp_path, *options, "stream.words=20", strategy="finetune", stream="toy_text")


def test_another_encoders_tokenizer_is_refused_though_it_knows_as_many_tokens(encoder, tmp_path):
    from tests.helpers.tiny_encoders import save_encoder

    other = save_encoder(tmp_path / "other", [f"other{k}" for k in range(len(set(words_of(toy()))))])
    with pytest.raises(UsageError, match=r"reads its own tokens, not those of text\.tokenizer="):
        ran(tmp_path, f"model.encoder={encoder}", f"text.tokenizer={other}", strategy="finetune", stream="toy_text")


def test_an_encoder_whose_tokenizer_knows_more_than_it_does_is_refused(tmp_path):
    pytest.importorskip("transformers")
    from cl_suite.networks.encoders import load_encoder
    from tests.helpers.tiny_encoders import save_encoder

    small = save_encoder(tmp_path / "small", ["one"])
    large = save_encoder(tmp_path / "large", ["one", "two", "three"])
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{large}/{file}", f"{small}/{file}")
    with pytest.raises(DataError, match="its tokenizer knows 7 tokens, but the encoder only 5"):
        load_encoder(small)


def test_ssnet_s_penalty_is_measured_beneath_an_encoder(encoder, tmp_path):
    options = (f"model.encoder={encoder}", f"text.tokenizer={encoder}", "model.name=text_cnn", "model.width=4")
    small = (
        "strategy.ewc_lambda=10",
        "strategy.ewc_samples=4",
        "train.epochs=2",
        "stream.n_tasks=2",
        "stream.n_train=6",
    )
    record = ran(tmp_path, *options, *small, strategy="ssnet", stream="toy_text").record
    assert record.status == "complete", record.error


def test_images_have_no_encoder_and_texts_no_backbone(encoder, tmp_path):
    with pytest.raises(UsageError, match=r"features\.network=conv_small reads images.*Use features\.network=encoder"):
        as_features(
            toy(),
            FeatureOptions(network="conv_small", weights="random"),
            root=DataRoot(tmp_path),
            seeds=SEEDS,
            device=CPU,
        )
    digits = choose(STREAM, "split_digits").cls
    with pytest.raises(UsageError, match=r"reads texts, but this stream's samples are no texts"):
        featured(digits(digits.Config()).load(DataRoot(tmp_path), SEEDS), tmp_path, encoder)


def tokens(encoder, tmp_path):
    data, _ = as_tokens(toy(), TextOptions(tokenizer=encoder), root=DataRoot(tmp_path, offline=True), seeds=SEEDS)
    return data


@pytest.mark.parametrize("name", ["transformer_encoder", "text_cnn"])
def test_padding_changes_no_answer_of_an_encoder(encoder, tmp_path, name):
    data = tokens(encoder, tmp_path)
    network = build_network(name, data.input_shape, 4, vocabulary=data.vocabulary, encoder=encoder).eval()
    network.heads.open()
    texts, _ = data.tasks[0].test.take(torch.arange(3))
    texts = {key: value.clone() for key, value in texts.items()}
    texts["mask"][1] = False  # a text without any token
    answers = network(texts)
    assert answers.isfinite().all()
    torch.testing.assert_close(network(padded(texts)), answers, rtol=0, atol=1e-5)


def test_a_frozen_encoder_is_no_part_of_the_network_s_parameters_or_state(encoder, tmp_path):
    import copy

    data = tokens(encoder, tmp_path)
    network = build_network("text_cnn", data.input_shape, 4, vocabulary=data.vocabulary, encoder=encoder, width=2)
    assert {name.split(".")[1] for name in network.state_dict()} == {"convolutions", "linear", "0"} - {"0"} | {"opened"}
    assert sum(p.numel() for p in network.backbone.parameters()) == 2 * 16 * (3 + 4 + 5) + 3 * 2
    copied = copy.deepcopy(network)
    assert copied.backbone.vectors._held is network.backbone.vectors._held
    network.train()
    network.heads.open()
    texts, _ = data.tasks[0].test.take(torch.arange(3))
    network(texts).sum().backward()
    assert all(p.grad is None for p in network.backbone.vectors._held.model.parameters())
    assert not network.backbone.vectors._held.model.training  # its dropout is off


def test_an_encoder_can_be_finetuned_after_another_network_has_frozen_it(encoder, tmp_path):
    data = tokens(encoder, tmp_path)
    for name in ("text_cnn", "transformer_encoder"):
        network = build_network(name, data.input_shape, 4, vocabulary=data.vocabulary, encoder=encoder)
    network.heads.open()
    texts, _ = data.tasks[0].test.take(torch.arange(3))
    network(texts).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    first = build_network(name, data.input_shape, 4, vocabulary=data.vocabulary, encoder=encoder)
    with torch.no_grad():
        next(first.parameters()).zero_()  # a copy of its own
    assert next(network.parameters()).any()


def test_tokens_that_are_not_the_encoder_s_own_are_refused(encoder):
    with pytest.raises(UsageError, match=r"made into tokens of 9999\. Set text\.tokenizer="):
        build_network("text_cnn", {"tokens": (4,), "mask": (4,)}, 2, vocabulary=9999, encoder=encoder)


def ran(tmp_path, *overrides, strategy="finetune", stream="toy_text", root=None):
    chosen = Request(
        strategy, stream, tmp_path / "results", DataRoot(root or tmp_path, offline=True), threads=1, overrides=overrides
    )
    return run_one(plan(chosen))


SMALL = ("stream.n_tasks=2", "stream.n_train=6", "stream.n_test=4", "train.epochs=1")


@pytest.mark.parametrize("strategy", ["finetune", "ewc", "er", "gpm"])
def test_an_encoder_is_finetuned(encoder, tmp_path, strategy):
    own = (f"model.encoder={encoder}", f"text.tokenizer={encoder}", "model.name=transformer_encoder")
    record = ran(tmp_path, *own, *SMALL, strategy=strategy).record
    assert record.status == "complete", record.error
    assert record.config["model"]["encoder"].startswith("tiny sha256:")


def test_a_run_on_kept_vectors_records_what_they_are(encoder, tmp_path):
    overrides = ("features.network=encoder", f"features.weights={encoder}", *SMALL)
    outcome = ran(tmp_path, *overrides, strategy="er")
    facts = json.loads(outcome.path.read_text())["diagnostics"]["features"]
    assert outcome.record.status == "complete" and facts["network"] == "encoder" and facts["pooling"] == "mean"
    assert str(tmp_path) not in outcome.path.read_text().replace(json.dumps(str(tmp_path)), "")


def test_masks_refuse_to_draw_the_weights_of_a_pretrained_encoder_anew(encoder, tmp_path):
    own = (f"model.encoder={encoder}", f"text.tokenizer={encoder}", "model.name=transformer_encoder")
    with pytest.raises(UsageError, match=r"Embedding has parameters.*text_cnn, also with model\.encoder"):
        ran(tmp_path, *own, *SMALL, strategy="exssnet")


def test_exssnet_s_text_setting_runs_from_end_to_end_and_forgets_nothing(encoder, tmp_path):
    from tests.helpers.tiny_encoders import save_encoder

    words = ["good", "bad", "news", "sport", "film", "shop"]
    small = save_encoder(tmp_path / "bert", words)
    for name, classes, columns in (("ag_news", 4, 3), ("yelp", 5, 2)):
        for part, count in (("train", 4), ("test", 2)):
            file = tmp_path / name / f"{part}.csv"
            file.parent.mkdir(exist_ok=True)
            with file.open("w", newline="", encoding="utf-8") as table:
                for row in range(classes * count):
                    text = " ".join(words[(row + place) % len(words)] for place in range(3 + row % 3))
                    csv.writer(table, quoting=csv.QUOTE_ALL).writerow(
                        [row % classes + 1, *["title"] * (columns - 2), text]
                    )
    record = ran(
        tmp_path,
        "protocol=paper",
        "stream.datasets=[ag_news,yelp]",
        "stream.train_per_class=4",
        f"model.encoder={small}",
        f"text.tokenizer={small}",
        "text.max_length=64",
        strategy="exssnet",
        stream="text5",
    ).record
    assert record.status == "complete", record.error
    assert record.metrics["forgetting"] == 0.0
    assert record.config["model"]["width"] == 200 and record.config["strategy"]["scheduler"] == "released"
    n = 200 * 16 * (3 + 4 + 5) + 600 * 5  # filters, and a head as large as the larger task
    assert record.diagnostics["bytes_masks_dense"] == 2 * -(-n // 8)
    assert record.costs["model_parameters"] == n


def test_folders_and_names_that_are_no_encoder_are_refused_in_one_line(encoder, tmp_path):
    from cl_suite.networks.encoders import load_encoder
    from tests.helpers.tiny_encoders import save_encoder

    bare = save_encoder(tmp_path / "bare", ["word"], tokenizer=False)
    (tmp_path / "empty").mkdir()
    broken = shutil.copytree(encoder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"none")
    for name, message in (
        (bare, r"holds no tokenizer"),
        (str(tmp_path / "empty"), r"has no config\.json|holds no config\.json"),
        (str(tmp_path / "nowhere"), r"is not a folder\. Give a folder"),
        (str(broken), r"broken cannot be read"),
        ("nobody/has-this", r"is not in Hugging Face's cache, and --offline forbids a download"),
    ):
        with pytest.raises(DataError, match=message) as refused:
            load_encoder(name, offline=True)
        assert "\n" not in str(refused.value) and str(refused.value).startswith("model.encoder=")
