"""Text networks: padding changes nothing, empty texts have an answer, and masks find their layers."""

import pytest
import torch
from torch import nn

from cl_suite import UsageError, build_network, freeze_token_vectors
from cl_suite.core.objective import Classification
from cl_suite.methods.fisher import squared_gradients
from cl_suite.networks.embeddings import TokenVectors
from cl_suite.networks.module_groups import module_groups
from strategies.isolation.masks.layers import MaskRule, to_masked
from strategies.isolation.masks.subnetworks import MaskedNetwork
from strategies.projection.projected_network import ProjectedNetwork
from strategies.tame.sparse import Pruning
from tests.helpers.text_streams import LENGTH, VOCABULARY, padded, some

SHAPE = {"tokens": (LENGTH,), "mask": (LENGTH,)}
NAMES = ("text_cnn", "text_transformer", "text_bag")


def network(name, *, outputs=4, **options):
    torch.manual_seed(0)
    made = build_network(name, SHAPE, outputs, vocabulary=VOCABULARY, **options).eval()
    made.heads.open()
    return made


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_no_answer_and_an_empty_text_has_one(name):
    made, texts = network(name), some()
    answers = made(texts)
    assert answers.shape == (3, 4) and answers.isfinite().all()
    torch.testing.assert_close(made(padded(texts)), answers, rtol=0, atol=1e-6)
    shorter = {key: value[:, :5] for key, value in texts.items()}  # its longest text has five tokens
    torch.testing.assert_close(made(shorter), answers, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_alone_is_answered_as_in_a_batch(name):
    made, texts = network(name), some()
    alone = torch.cat([made({key: value[[row]] for key, value in texts.items()}) for row in range(3)])
    torch.testing.assert_close(made(texts), alone, rtol=0, atol=1e-6)
    nothing = {key: value[1:2, :0] for key, value in texts.items()}  # no place at all
    torch.testing.assert_close(made(nothing), alone[1:2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter_and_are_finite(name):
    made = network(name).train()
    made(some()).square().sum().backward()
    for parameter_name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


def test_text_cnn_is_what_the_paper_says():
    """Kim 2014: max over time of relu(w . x_{i:i+h} + b), for h = 3, 4, 5, windows inside the text."""
    made = network("text_cnn", width=2, dimensions=8).backbone
    tokens = torch.randint(1, VOCABULARY, (1, 6))
    found = made({"tokens": tokens, "mask": torch.ones(1, 6, dtype=torch.bool)})[0]
    vectors = nn.functional.pad(made.vectors.weight[tokens[0]], (0, 0, 0, 4))
    expected = []
    for span, layer in zip((3, 4, 5), made.convolutions, strict=True):
        windows = torch.stack([vectors[i : i + span].T for i in range(6)])  # [6, D, span]
        scores = torch.einsum("nds,fds->nf", windows, layer.weight[..., 0]) + layer.bias
        expected.append(scores.relu().amax(0))
    torch.testing.assert_close(found, torch.cat(expected))
    assert made.feature_dim == 6


def test_the_number_of_masked_weights_of_exssnet_s_text_cnn():
    """Its frozen encoder has 768 numbers a token: 1,843,200 weights of 200 filters a width, and 600 an output."""
    made = network("text_cnn", width=200, dimensions=768, outputs=14)
    masked = MaskedNetwork(to_masked(made, rule=MaskRule(0.1), n_tasks=2))
    assert masked.n_weights == 1_843_200 + 600 * 14


def test_auto_takes_text_cnn_for_tokens():
    assert network("auto").backbone.feature_dim == 300


@pytest.mark.parametrize("name", NAMES)
def test_frozen_embeddings_are_no_parameters_but_part_of_the_state(name):
    made = network(name, frozen_embeddings=True)
    tables = {n for n in made.state_dict() if n.endswith("weight")} - {n for n, _ in made.named_parameters()}
    assert tables and all("vectors" in n or "places" in n or n == "backbone.0.weight" for n in tables)
    torch.testing.assert_close(made(some()), network(name)(some()))  # the same numbers as if they were trained


def test_freezing_keeps_the_numbers_and_can_be_repeated():
    made = network("text_transformer")
    before = made(some())
    freeze_token_vectors(made)
    freeze_token_vectors(made)
    assert made(some()).equal(before)
    assert not any("vectors" in name or "places" in name for name, _ in made.named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_masks_cover_every_parameter_and_tables_are_frozen(name):
    made = to_masked(network(name), rule=MaskRule(0.5), n_tasks=2)
    assert {n.rpartition(".")[2] for n, _ in made.named_parameters()} == {"weight", "scores"}
    assert not any(isinstance(m.weight, nn.Parameter) for m in made.modules() if isinstance(m, TokenVectors))
    assert made(some()).isfinite().all()


def test_layers_with_weights_of_their_own_are_refused_by_masks():
    with pytest.raises(UsageError, match=r"Embedding has parameters \(weight\) that masks do not cover"):
        to_masked(nn.Sequential(nn.Embedding(4, 2)), rule=MaskRule(0.5), n_tasks=1)


@pytest.mark.parametrize("name", NAMES)
def test_the_inputs_of_layers_have_no_direction_of_padding(name):
    projected = ProjectedNetwork(network(name), heads=False)
    short = projected.input_vectors(some(), {}, 10_000)
    for layer, vectors in projected.input_vectors(padded(some()), {}, 10_000).items():
        torch.testing.assert_close(vectors @ vectors.T, short[layer] @ short[layer].T, rtol=1e-4, atol=1e-4)


def test_modules_are_named():
    assert list(module_groups(network("text_cnn")))[:4] == ["embeddings", "conv1", "conv2", "conv3"]
    assert "embeddings" in module_groups(network("text_bag"))


def test_a_pruned_transformer_answers_as_the_dense_one():
    made = network("text_transformer")
    pruning = Pruning.by_magnitude(made, 0.5)
    pruning.apply(made)
    dense = made(some()).detach()
    pruning.compact(made)
    torch.testing.assert_close(made(some()), dense, rtol=1e-4, atol=1e-5)


def test_one_sample_at_a_time_gives_the_squares_of_all_at_once():
    made, targets = network("text_bag"), torch.tensor([0, 1, 2])
    visible = torch.ones(3, 4, dtype=torch.bool)
    together = squared_gradients(made, Classification(), some(), targets, visible)
    made.backbone.one_at_a_time = True
    torch.testing.assert_close(squared_gradients(made, Classification(), some(), targets, visible), together)


@pytest.mark.parametrize(
    ("name", "shape", "vocabulary", "options", "message"),
    [
        ("mlp", SHAPE, 9, {}, r"model\.name=mlp reads images or vectors, not tokens of texts\. Use text_cnn"),
        ("text_cnn", (3, 32, 32), None, {}, r"model\.name=text_cnn reads tokens of texts"),
        ("auto", {"image": (3, 8, 8), "state": (4,)}, None, {}, "no backbone of cl-suite reads dictionaries of image"),
        ("text_bag", SHAPE, 9, {"width": 4}, r"model\.width has no meaning for model\.name=text_bag, which takes"),
        ("text_transformer", SHAPE, 9, {"dimensions": 48}, r"model\.dimensions=48 does not divide"),
        ("transformer_encoder", SHAPE, 9, {}, r"transformer_encoder has no encoder\. Set model\.encoder"),
        ("text_cnn", SHAPE, 9, {"encoder": "x", "dimensions": 4}, r"model\.dimensions has no meaning with model\.enc"),
        ("text_cnm", SHAPE, 9, {}, "Did you mean text_cnn"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, shape, vocabulary, options, message):
    with pytest.raises(UsageError, match=message) as refused:
        build_network(name, shape, 4, vocabulary=vocabulary, **options)
    assert "\n" not in str(refused.value)


def test_a_text_longer_than_the_places_is_refused():
    with pytest.raises(UsageError, match=r"longer than the 12 places .*text\.max_length"):
        network("text_transformer")(some(LENGTH + 1))
