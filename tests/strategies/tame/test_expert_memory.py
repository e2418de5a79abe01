"""The memory TAME's selector learns from."""

import numpy as np
import pytest
import torch

from cl_suite import Batch
from strategies.tame.expert_memory import ExpertMemory
from tests.helpers.hidden_streams import presented


@pytest.mark.parametrize("kind", ["global", "per_expert", "per_class"])
def test_the_memory_keeps_inputs_experts_and_labels_together(kind):
    info = presented().info
    memory = ExpertMemory(40, info, kind=kind, max_experts=4)
    for number in range(30):
        values = torch.arange(8) + 8 * number
        batch = Batch(values[:, None].float(), values % 4, values[:, None].float())
        memory.add(batch, expert=int(number // 10))
    assert len(memory) <= 40
    everything = torch.randperm(len(memory))
    raw, experts = memory.take(everything)
    assert (raw[:, 0].long() // 80).equal(experts)
    own = memory.of_expert(1)
    raw, labels = own.take(torch.arange(len(own)))
    assert (raw[:, 0].long() // 80 == 1).all() and (raw[:, 0].long() % 4).equal(labels)


def test_every_sample_is_kept_with_the_same_probability():
    from scipy.stats import chisquare

    counts = np.zeros(100)
    for seed in range(200):
        memory = ExpertMemory(20, presented(seed=seed).info, kind="global", max_experts=2)
        for start in range(0, 100, 10):
            values = torch.arange(start, start + 10)
            memory.add(Batch(values[:, None], values % 4, values[:, None]), expert=0)
        counts[memory.take(torch.arange(len(memory)))[0][:, 0].numpy()] += 1
    assert chisquare(counts).pvalue > 0.001
