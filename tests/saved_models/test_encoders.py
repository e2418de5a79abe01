"""Encoders of texts, in front of a network or inside it, travel with the model: their own files may be gone."""

import shutil

import pytest
import torch

import cl_suite
from cl_suite.saved_models.save import save_model
from tests.helpers.saved_runs import live_answers, stored_tests, trained

SMALL = ("train.epochs=1", "stream.n_tasks=2", "stream.n_train=10", "stream.n_test=10")


@pytest.fixture
def encoder(tmp_path):
    pytest.importorskip("transformers")
    from tests.helpers.tiny_encoders import save_encoder

    return save_encoder(tmp_path / "encoder", ["ba", "de", "fi", "go", "mu", "na", "bafi", "figo", "bade"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "exactly"),
    [
        (["text.tokenizer={}", "model.name=text_bag"], True),
        (["text.tokenizer={}", "model.name=transformer_encoder", "model.encoder={}"], True),
        (["text.tokenizer={}", "model.name=text_cnn", "model.encoder={}", "model.width=4"], True),
        # Vectors were made of other batches, with other padding: equal but for the last digits.
        (["features.network=encoder", "features.weights={}", "model.hidden=[8]"], False),
    ],
    ids=["tokenizer", "finetuned", "token vectors", "features"],
)
def test_an_encoder_and_its_tokenizer_are_part_of_the_model(options, exactly, encoder, tmp_path):
    options = [option.format(encoder) for option in options]
    run = trained(tmp_path, "er", "toy_text", *SMALL, *options, scenario="class_incremental", root=tmp_path)
    path = save_model(run, tmp_path / "model.safetensors")
    expected = [live_answers(run, task) for task in run.harness.scenario_stream.tasks]
    stored = stored_tests(run)
    shutil.rmtree(encoder)
    saved = cl_suite.load_predictor(path)
    for number, texts in enumerate(stored):
        found = saved(texts, number)
        assert torch.equal(found, expected[number]) if exactly else torch.allclose(found, expected[number], atol=1e-5)
