"""Task inference as pure functions: entropy, one shot, halving, and when a mask is new."""

import math

import pytest
import torch

from strategies.isolation.masks.task_inference import (
    confidences,
    entropy,
    halve,
    is_new_task,
    one_shot,
    superfluous_energy,
)


def test_entropy_and_its_extremes():
    assert float(entropy(torch.zeros(4))) == pytest.approx(math.log(4))
    assert float(entropy(torch.tensor([50.0, 0.0, 0.0]))) == pytest.approx(0.0, abs=1e-6)


def test_objective_g_has_a_gradient_only_through_superfluous_outputs():
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    value = superfluous_energy(logits, 2)
    assert float(value.detach()) == pytest.approx(float(logits.detach().logsumexp(dim=1)))
    value.backward()
    assert logits.grad[0, :2].tolist() == [0.0, 0.0]
    assert bool((logits.grad[0, 2:] > 0).all())
    with pytest.raises(ValueError, match="superfluous"):
        superfluous_energy(logits, 4)


def test_one_shot_takes_the_steepest_descent():
    assert one_shot(torch.tensor([[0.3, -0.2, 0.1], [-1.0, 0.0, 0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_halving_ends_with_one_candidate_even_when_all_are_tied(count):
    candidates = torch.ones(2, count, dtype=torch.bool)
    rounds = 0
    while int(candidates[0].sum()) > 1:
        candidates = halve(torch.zeros(2, count), candidates)
        rounds += 1
    assert rounds <= math.ceil(math.log2(count)) if count > 1 else rounds == 0
    assert candidates.int().argmax(dim=1).tolist() == [0, 0]


def test_halving_keeps_gradients_up_to_the_median():
    gradients = torch.tensor([[0.4, -0.1, 0.2, 0.3]])
    kept = halve(gradients, torch.tensor([[True, True, True, True]]))
    assert kept.tolist() == [[False, True, True, False]]
    assert halve(gradients, torch.tensor([[True, False, True, True]])).tolist() == [[False, False, True, True]]


def test_a_new_mask_is_asked_for_when_none_claims_the_batch():
    assert is_new_task(confidences(torch.zeros(5)))
    assert not is_new_task(confidences(torch.tensor([-1.0, 0.0, 0.0, 0.0, 0.0])))
    assert is_new_task(confidences(torch.tensor([-0.1, 0.0, 0.0, 0.0, 0.0])))  # 5 max nu = 1.08 < 1.125
