"""Pruned experts of TAME answer the same and store only what is kept."""

import statistics

import pytest
import torch
from torch import nn

from cl_suite import build_network
from strategies.tame.sparse import Pruning, expand, is_compact, load_network, stored_parameters
from strategies.tame.tame import TAME
from tests.helpers.hidden_streams import harness_of, permuted_clusters
from tests.helpers.tame_runs import FAST


@pytest.mark.slow
def test_a_pruned_expert_is_judged_by_its_own_losses():
    frozen = harness_of(TAME, remeasure=False, data=permuted_clusters(n_tasks=2), **FAST)
    anew = harness_of(TAME, data=permuted_clusters(n_tasks=2), **FAST)
    frozen.run(), anew.run()
    old, new = (harness.strategy.experts[0].detector for harness in (frozen, anew))
    assert old.losses != new.losses
    assert new.smoothed == pytest.approx(statistics.fmean(new.losses))


def conv_net(seed=0):
    torch.manual_seed(seed)
    network = build_network("conv_small", (3, 12, 10), 4, width=4)
    network.heads.open()
    return network.eval()


def test_the_smallest_weights_of_the_whole_network_go():
    network = conv_net()
    weights = torch.cat(
        [m.weight.detach().flatten() for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    )
    pruning = Pruning.by_magnitude(network, 0.9)
    kept = torch.cat([mask.flatten() for mask in pruning.masks.values()])
    assert int((~kept).sum()) == round(0.9 * len(weights))
    assert weights[kept].abs().min() >= weights[~kept].abs().max()


def test_a_compact_network_answers_the_same_and_stores_only_what_is_kept():
    network, inputs = conv_net(), torch.randn(5, 3, 12, 10)
    pruning = Pruning.by_magnitude(network, 0.9)
    pruning.apply(network)
    others = stored_parameters(network) - sum(mask.numel() for mask in pruning.masks.values())
    with torch.no_grad():
        before = network(inputs)
        pruning.compact(network)
        torch.testing.assert_close(network(inputs), before)
    kept = sum(int(mask.sum()) for mask in pruning.masks.values())
    assert stored_parameters(network) == others + kept
    assert not any("weight" in name and value.dim() > 1 for name, value in network.state_dict().items())
    again = conv_net(seed=1)
    load_network(again, network.state_dict(), compact=True)
    assert is_compact(again)
    with torch.no_grad():
        assert again(inputs).equal(network(inputs))


def test_an_expert_called_back_keeps_what_was_pruned_at_zero():
    network = conv_net()
    pruning = Pruning.by_magnitude(network, 0.9)
    pruning.apply(network)
    dense = {name: value.clone() for name, value in network.state_dict().items()}
    pruning.compact(network)
    back, kept = expand(network, conv_net(seed=1))
    assert all(value.equal(dense[name]) for name, value in back.state_dict().items())
    assert all(mask.equal(pruning.masks[name]) for name, mask in kept.masks.items())


def test_pruning_shows_in_the_record_of_sizes_and_in_the_state():
    harness = harness_of(TAME, **{**FAST, "prune_experts": 0.9, "prune_selector": 0.5})
    harness.run()
    facts, strategy = harness.strategy.diagnostics(), harness.strategy
    layers = 24 * 32 + 32 * 16
    expert = layers + 16 * 4
    selector = layers + 16 * 4
    biases = 5 * (32 + 16) + 4 * 4 + 4
    assert facts["parameters_before_pruning"] == 4 * expert + selector + biases
    kept = 4 * (expert - round(0.9 * expert)) + selector - round(0.5 * selector)
    assert facts["parameters_after_pruning"] == strategy.model_parameters() == kept + biases
    assert all(is_compact(each.network) for each in strategy.experts)


def test_an_unpruned_expert_stays_dense():
    harness = harness_of(TAME, **{**FAST, "prune_experts": 0.0, "prune_selector": 0.0})
    harness.run()
    assert not any(is_compact(each.network) for each in harness.strategy.experts)


@pytest.mark.slow
def test_pruning_at_the_end_uses_the_samples_of_the_selector():
    harness = harness_of(TAME, prune_when="end", **FAST)
    results = harness.run()
    assert all(is_compact(each.network) for each in harness.strategy.experts)
    assert statistics.fmean(results.R[-1]) > 0.85
