"""Imitation: what heads mean, which moments a policy sees, and how observations are prepared."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn import functional as F

from cl_suite import DataError, DataRoot, UsageError
from cl_suite.features.frozen_networks import pinned
from cl_suite.robots import PrepareStates, embed_instructions, imitation_objective
from cl_suite.robots.imitation import SHIFT, WithInstruction, windows
from cl_suite.robots.objectives import GaussianMixture
from tests.helpers.robot_streams import moves, robot_stream

SENTENCES = ["push the puck to the goal", "push the window to the left", "hammer the nail"]


# Heads


def test_l1_and_squared_errors_are_means_over_the_action():
    outputs, targets = torch.tensor([[1.0, 0.0], [0.0, 0.5]]), torch.tensor([[0.0, 0.5], [0.0, 0.5]])
    assert imitation_objective("l1").loss(outputs, targets).tolist() == [0.75, 0.0]
    assert imitation_objective("mse").loss(outputs, targets).tolist() == [0.625, 0.0]
    for head in ("l1", "mse"):
        assert imitation_objective(head).actions(outputs) is outputs
        assert imitation_objective(head).outputs(("x", "y")) == ("x", "y")


def test_an_action_is_right_if_all_of_it_is_within_the_tolerance():
    outputs, targets = torch.tensor([[0.05, 0.0], [0.05, 0.2], [0.0, 0.0]]), torch.zeros(3, 2)
    visible = torch.ones(2, dtype=torch.bool)
    assert imitation_objective("l1").correct(outputs, targets, visible).tolist() == [1.0, 0.0, 1.0]


def a_mixture(samples=6, actions=3, modes=4):
    objective = GaussianMixture(modes=modes)
    names = objective.outputs([f"a{n}" for n in range(actions)])
    assert len(names) == len(set(names)) == modes * (2 * actions + 1)
    outputs = torch.randn(samples, len(names), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return objective, outputs, outputs.view(samples, modes, 2 * actions + 1)


def test_the_mixture_s_likelihood_is_that_of_torch():
    objective, outputs, raw = a_mixture()
    parts = Independent(Normal(raw[..., :3].tanh(), F.softplus(raw[..., 3:6]) + 1e-4), 1)
    reference = MixtureSameFamily(Categorical(logits=raw[..., 6]), parts)
    targets = torch.rand(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(objective.loss(outputs, targets), -reference.log_prob(targets))


def test_the_mixture_acts_by_the_mean_of_its_weightiest_mode():
    objective, outputs, raw = a_mixture()
    for action, modes in zip(objective.actions(outputs), raw, strict=True):
        assert action.equal(max(modes, key=lambda mode: float(mode[6]))[:3].tanh())
    right = objective.correct(outputs, objective.actions(outputs) + 0.05, torch.ones(28, dtype=torch.bool))
    assert right.tolist() == [1.0] * 6


def test_far_from_all_modes_the_likelihood_stays_finite():
    objective, outputs, raw = a_mixture()
    raw[..., 3:6] = -50.0  # deviations at their least
    outputs.requires_grad_()
    loss = objective.loss(outputs, torch.full((6, 3), 2.0, dtype=torch.float64))
    loss.sum().backward()
    assert loss.isfinite().all() and outputs.grad.isfinite().all()


def test_an_unknown_head_is_refused():
    with pytest.raises(UsageError, match=r"stream\.head=l2 is not known\. Did you mean l1"):
        imitation_objective("l2")


# Samples


def test_windows_do_not_cross_the_borders_of_episodes():
    assert windows(torch.tensor([3, 1, 2]), 3).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 2],
        [3, 3, 3],
        [4, 4, 4],
        [4, 4, 5],
    ]
    assert windows(torch.tensor([2, 2]), 1).tolist() == [[0], [1], [2], [3]]


def test_the_instruction_is_part_of_every_sample():
    states = torch.randn(5, 2, 3)
    shown = WithInstruction(torch.tensor([1.0, 2.0])).to(torch.device("cpu"))({"states": states})
    assert shown["states"] is states and shown["instruction"].tolist() == [[1.0, 2.0]] * 5


def test_states_are_centred_and_scaled_and_pictures_lie_between_minus_1_and_1():
    prepare = PrepareStates((1.0, 2.0), (10.0, 0.5))
    raw = {
        "states": torch.tensor([[[1.5, 4.0]]]),
        "front": torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 1, 2).expand(1, 1, 3, 1, 2),
        "instruction": torch.ones(1, 2),
    }
    prepared = prepare(raw)
    assert prepared["states"].tolist() == [[[5.0, 1.0]]] and prepared["instruction"] is raw["instruction"]
    assert prepared["front"][0, 0].tolist() == [[[-1.0, 1.0]]] * 3


def test_pictures_are_shifted_alike_at_all_moments_and_keep_their_size():
    one = torch.randint(0, 256, (32, 1, 3, 12, 16), dtype=torch.uint8)
    raw = {"states": torch.zeros(32, 4, 1), "front": one.expand(-1, 4, -1, -1, -1), "instruction": torch.ones(32, 1)}
    prepare = PrepareStates((0.0,), (1.0,))
    moved = prepare(raw, torch.Generator().manual_seed(0))["front"]
    plain = prepare(raw)["front"]
    assert moved.shape == plain.shape
    assert all(moved[:, moment].equal(moved[:, 0]) for moment in range(4))
    padded = F.pad(plain[:, 0], (SHIFT,) * 4, mode="replicate")
    places = set()
    for sample, picture in enumerate(moved[:, 0]):
        shifts = [(r, c) for r in range(2 * SHIFT + 1) for c in range(2 * SHIFT + 1)]
        found = [(r, c) for r, c in shifts if padded[sample, :, r : r + 12, c : c + 16].equal(picture)]
        assert found, "a picture is not a shift of what was seen"
        places.update(found)
    assert len(places) > 10  # samples move by themselves


def test_a_task_of_demonstrations_holds_out_the_last_episodes():
    first = robot_stream(history=2, episodes=5, steps=4).tasks[0]
    assert (len(first.train), len(first.test)) == (12, 8)
    raw, actions = first.test.take(torch.tensor([0, 1]))
    assert raw["states"].shape == (2, 2, 4) and raw["instruction"].tolist() == [[1.0, 0.0]] * 2
    assert raw["states"][0, 0].equal(raw["states"][0, 1])  # an episode's first moment stands for what was before
    assert raw["states"][1, 0].equal(raw["states"][0, 1])
    torch.testing.assert_close(actions, moves(0, raw["states"][:, -1]))


# Instructions


def test_instructions_by_place_and_by_words():
    assert embed_instructions(SENTENCES, "onehot").equal(torch.eye(3))
    hashed = embed_instructions(SENTENCES, "hashed")
    assert hashed.shape == (3, 32)
    torch.testing.assert_close(hashed.norm(dim=1), torch.ones(3))
    assert hashed[0] @ hashed[1] > hashed[0] @ hashed[2]  # they share more words
    turned = embed_instructions(["goal the to puck the push"], "hashed")
    assert turned[0].equal(hashed[0])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("transformers")
    from tests.helpers.tiny_encoders import save_encoder

    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny", " ".join(SENTENCES).split())


def test_instructions_by_a_frozen_encoder_are_the_mean_of_its_token_vectors(encoder, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    root = DataRoot(tmp_path, offline=True)
    found = embed_instructions(SENTENCES, "encoder", encoder=encoder, root=root)
    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    for row, sentence in zip(found, SENTENCES, strict=True):
        with torch.no_grad():
            vectors = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(row, F.normalize(vectors.mean(dim=0), dim=0), rtol=1e-4, atol=1e-5)
    assert list((tmp_path / "features").glob("tiny-*.safetensors"))  # kept, and read the next time
    assert embed_instructions(SENTENCES, "encoder", encoder=encoder, root=root).equal(found)


def test_an_encoder_of_instructions_stands_in_a_record_by_its_content(encoder):
    kept = pinned({"stream": {"language": "encoder", "encoder": encoder}})["stream"]
    assert kept["encoder"].startswith("tiny sha256:") and kept["language"] == "encoder"


@pytest.mark.parametrize(
    ("kind", "encoder", "error", "message"),
    [
        ("one_hot", None, UsageError, r"stream\.language=one_hot is not known\. Did you mean onehot"),
        ("encoder", None, UsageError, r"stream\.language=encoder has no encoder\. Set stream\.encoder="),
        ("hashed", "a/b", UsageError, r"stream\.encoder=a/b has no effect with stream\.language=hashed"),
        ("onehot", "a/b", UsageError, r"stream\.encoder=a/b has no effect"),
        ("encoder", "./nowhere", DataError, r"stream\.encoder=\./nowhere is not a folder"),
    ],
)
def test_instructions_that_cannot_be_made_are_refused_in_one_line(kind, encoder, error, message, tmp_path):
    if error is DataError:
        pytest.importorskip("transformers")
    with pytest.raises(error, match=message) as refused:
        embed_instructions(SENTENCES, kind, encoder=encoder, root=DataRoot(tmp_path, offline=True))
    assert "\n" not in str(refused.value)
