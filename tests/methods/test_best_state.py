"""The best state of a training is the one that is kept."""

import torch

from cl_suite.methods.best_state import BestState


def test_the_best_state_is_put_back_the_latest_of_equals():
    value = torch.zeros(1)
    best = BestState([value])
    for accuracy, number in ((0.5, 1.0), (0.7, 2.0), (0.7, 3.0), (0.6, 4.0)):
        value.fill_(number)
        best.offer(accuracy)
    best.restore()
    assert value.item() == 3.0
