"""Learning rates over a phase of training."""

import math

import pytest
import torch
from torch import nn

from strategies.isolation.masks.learning_rate import LearningRate


def optimiser(lr=1.0):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def test_cosine_falls_to_zero_over_the_phase_and_constant_stays():
    falling, flat = optimiser(), optimiser()
    cosine = LearningRate("cosine", falling, steps=10, epochs=2)
    constant = LearningRate("constant", flat, steps=10, epochs=2)
    rates = []
    for _ in range(10):
        cosine.after_step()
        constant.after_step()
        rates.append(falling.param_groups[0]["lr"])
    assert rates == sorted(rates, reverse=True)
    assert rates[4] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0)
    assert flat.param_groups[0]["lr"] == 1.0


def test_the_released_schedule_cuts_the_rate_while_the_accuracy_does_not_fall():
    optimizer = optimiser()
    released = LearningRate("released", optimizer, steps=500, epochs=50)
    rates = []
    optimizer.step()  # torch warns of schedules that run ahead of their optimiser
    for epoch in range(50):
        released.after_epoch(0.5 + epoch / 200)  # rising: the plateau rule waits for a fall
        rates.append(optimizer.param_groups[0]["lr"])
    plain = [0.5 * (1 + math.cos(math.pi * (epoch + 1) / 50)) for epoch in range(50)]
    cuts = [round(math.log10(rate / usual)) for rate, usual in zip(rates[:-1], plain[:-1], strict=True)]
    assert cuts[0] == 0 and cuts[20] == -1 and cuts[45] == -4
