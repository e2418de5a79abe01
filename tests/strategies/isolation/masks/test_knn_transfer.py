"""Scores taken over from the masks of earlier tasks."""

import torch

from strategies.isolation.masks.knn_transfer import knn_accuracy, mean_scores, sources


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_knn_votes_and_clamps_the_number_of_neighbours():
    targets = torch.arange(60) % 2
    apart = torch.stack([targets * 10.0, torch.zeros(60)], dim=1) + torch.rand(60, 2, generator=generator())
    assert knn_accuracy(apart, targets, neighbours=5) == 1.0
    same = torch.zeros(60, 2)
    assert 0.3 < knn_accuracy(same, targets, neighbours=200) < 0.7  # every fitted sample votes
    assert knn_accuracy(apart[:1], targets[:1]) == 0.0


def test_transfer_rules():
    assert sources([0.4, 0.9, 0.6], chance=0.5, rule="knn_best") == [1]
    assert sources([0.4, 0.3], chance=0.5, rule="knn_best") == []
    assert sources([0.4, 0.3], chance=0.5, rule="knn_always") == [0]
    assert sources([0.4, 0.9, 0.6], chance=0.5, rule="knn_all") == [1, 2]
    assert sources([], chance=0.5, rule="knn_always") == []


def test_averaging_scores_leaves_the_averaged_ones_alone():
    scores = [[torch.zeros(2)], [torch.ones(2)]]
    assert mean_scores(scores)[0].tolist() == [0.5, 0.5]
    assert scores[0][0].tolist() == [0.0, 0.0]
