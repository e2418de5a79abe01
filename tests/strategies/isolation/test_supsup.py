"""SupSup: weights that never move, the task inferred from masks, tasks found where none is told, KKT."""

import dataclasses
from itertools import product

import pytest
import torch
from sklearn.datasets import load_digits

from cl_suite import (
    PrepareVectors,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    UsageError,
    generator_for,
)
from strategies.isolation.supsup import SupSup
from tests.helpers.mask_runs import (
    accuracy,
    clusters,
    images,
    learn_all,
    learned,
    permuted,
    presented,
    ready,
)
from tests.helpers.slow import slow_but


def test_supsup_never_moves_a_weight():
    strategy, scenario_stream = learned(SupSup)
    fresh = ready(SupSup, scenario_stream)
    for layer, untouched in zip(strategy.masked.layers, fresh.masked.layers, strict=True):
        assert layer.weight.equal(untouched.weight)


PER = ["sample", "batch"]
INFER = ["oneshot", "binary", "min_entropy"]
INFERRED = {("H", "sample", "oneshot"), ("G", "batch", "binary"), ("H", "batch", "min_entropy")}  # the others are slow


def permuted_digits():
    """Five tasks: scikit-learn's digits with the pixels in another order in each."""
    pixels, values = load_digits(return_X_y=True)
    pixels, targets = torch.tensor(pixels).float() / 16 - 0.3, torch.tensor(values)
    generator = generator_for(0, "permuted digits")
    shuffled = torch.randperm(len(pixels), generator=generator)
    train, test = shuffled[:1200], shuffled[1200:]
    tasks = []
    for number in range(5):
        seen = pixels[:, torch.randperm(64, generator=generator)]
        parts = [Samples(seen[part], targets[part]) for part in (train, test)]
        tasks.append(TaskData(f"order {number}", *parts, tuple("0123456789")))
    return StreamData(tuple(tasks), PrepareVectors(), labels="shared")


@pytest.mark.parametrize(("objective", "per", "infer"), slow_but(INFERRED, product("HG", PER, INFER)))
def test_the_right_mask_is_found_on_permuted_inputs(infer, per, objective):
    scenario_stream = presented(permuted_digits(), Scenario.DOMAIN_INCREMENTAL, epochs=10, batch_size=64)
    options = {"infer": infer, "infer_per": per, "infer_batch": 50, "infer_objective": objective, "density": 0.2}
    strategy, _ = learned(SupSup, scenario_stream, hidden=(300, 100), outputs=50 if objective == "G" else 0, **options)
    inference = strategy.inference(strategy.subnetworks)
    right = 0.0
    for task in scenario_stream.tasks:
        inputs, _ = task.test.take(torch.arange(200))
        with torch.no_grad():
            right += float((inference.infer(inputs) == task.index).float().mean()) / 5
        assert accuracy(strategy, scenario_stream, task.index) > 0.7  # chance is 0.1
    assert right > 0.8  # chance is 0.2


def test_per_sample_inference_does_not_depend_on_the_batch():
    scenario_stream = permuted(Scenario.CLASS_INCREMENTAL)
    trained, _ = learned(SupSup, scenario_stream, infer="oneshot")
    for infer in INFER:  # which decides nothing while training
        strategy = ready(SupSup, scenario_stream, infer=infer)
        strategy.load_state_dict(trained.state_dict())
        inputs = torch.cat([task.test.take(torch.arange(5))[0] for task in scenario_stream.tasks])
        together = strategy.predictor(None)(inputs)
        alone = torch.cat([strategy.predictor(None)(one) for one in inputs.split(1)])
        assert torch.allclose(together, alone, atol=1e-4)
        assert together.shape == (20, 16)


def test_gradients_equal_those_of_a_backward_pass():
    scenario_stream = permuted(Scenario.CLASS_INCREMENTAL)
    strategy, _ = learned(SupSup, scenario_stream, infer="oneshot")
    inference = strategy.inference(strategy.subnetworks)
    inputs, _ = scenario_stream.tasks[1].test.take(torch.arange(6))
    with torch.no_grad():
        candidates = torch.tensor([[True, True, False, True]]).expand(6, 4)
        forward = inference.gradients(inputs, candidates)[:, [0, 1, 3]]
    alphas = torch.full((3,), 1 / 3, requires_grad=True)
    views = [inference._views[i] for i in (0, 1, 3)]
    masks = [sum(a * v.masks[layer] for a, v in zip(alphas, views, strict=True)) for layer in range(3)]
    with strategy.masked.bound(masks, None, None):
        logits = strategy.network(inputs)
    entropies = torch.distributions.Categorical(logits=logits).entropy()
    backward = torch.stack([torch.autograd.grad(e, alphas, retain_graph=True)[0] for e in entropies])
    assert torch.allclose(forward, backward, atol=1e-5)


def test_class_incremental_answers_name_the_inferred_task_and_rank_within_every_task():
    scenario_stream = permuted(Scenario.CLASS_INCREMENTAL)
    strategy, _ = learned(SupSup, scenario_stream, infer="min_entropy")
    inputs, _ = scenario_stream.tasks[2].test.take(torch.arange(50))
    with torch.no_grad():
        logits = strategy.predictor(None)(inputs)
        chosen = strategy.inference(strategy.subnetworks).infer(inputs)
    assert bool(torch.isfinite(logits).all())
    assert (logits.argmax(dim=1) // 4).equal(chosen)
    own = strategy._view(strategy.subnetworks[2]).outputs(inputs)[:, :4].argmax(dim=1)
    assert logits[:, 8:12].argmax(dim=1).equal(own)


@pytest.mark.parametrize("infer", slow_but({"oneshot"}, INFER))
def test_without_ids_and_boundaries_supsup_finds_tasks(infer):
    data = clusters(tasks=3, classes=4, permuted=True, labels="shared")
    scenario_stream = presented(data, Scenario.TASK_AGNOSTIC, epochs=12, batch_size=16)
    strategy, _ = learned(
        SupSup, scenario_stream, allocation="uncertainty", infer=infer, decide_every=25, infer_objective="H"
    )
    assert 1 < len(strategy.subnetworks) <= 50
    assert all(s.task_id is None for s in strategy.subnetworks)
    scores = [accuracy(strategy, scenario_stream, task) for task in range(3)]
    assert sum(scores) / 3 > 0.5  # chance is 0.25


def test_the_budget_of_masks_is_kept():
    scenario_stream = presented(None, Scenario.TASK_AGNOSTIC)
    strategy, _ = learned(
        SupSup, scenario_stream, allocation="uncertainty", infer="oneshot", decide_every=3, epsilon=100.0, max_masks=3
    )
    assert len(strategy.subnetworks) == 3


@pytest.mark.parametrize("repeated", [0, 1])
def test_kkt_copies_the_scores_of_the_task_that_comes_again(repeated):
    scenario_stream = presented(clusters(tasks=3, classes=3, repeat=[0, 1, repeated]), epochs=6)

    class Peeking(SupSup):
        def search_masks(self, experience, *, epochs):
            self.start = [layer.scores.detach().clone() for layer in self.masked.layers]
            super().search_masks(experience, epochs=epochs)

    strategy = ready(Peeking, scenario_stream, score_init="knn_best", knn_share=0.9)
    learn_all(strategy, scenario_stream, stop=2)
    kept = [[scores.clone() for scores in s.scores] for s in strategy.subnetworks]
    learn_all(strategy, scenario_stream, start=2)
    source = strategy.subnetworks[2].source
    assert source == repeated
    assert all(a.equal(b) for a, b in zip(strategy.start, kept[source], strict=True))
    for subnetwork, scores in zip(strategy.subnetworks, kept, strict=False):  # no one's scores were touched
        assert all(a.equal(b) for a, b in zip(subnetwork.scores, scores, strict=True))
    assert strategy.diagnostics()["transferred_from"][2] == source


def test_too_few_outputs_are_refused_with_the_number_that_does():
    with pytest.raises(UsageError, match="outputs=3"):
        learned(SupSup, presented(None, Scenario.CLASS_INCREMENTAL), infer="oneshot", infer_objective="G", outputs=2)


def test_statistics_are_counted_per_task():
    strategy, _ = learned(SupSup, presented(images(), batch_size=8), network="conv_small")
    assert strategy.diagnostics()["bytes_norm"] == 8 * (4 + 8 + 16) * 2


def test_the_seed_of_the_model_decides_weights_and_first_scores():
    def weights(seeds):
        scenario_stream = presented()
        scenario_stream.info = dataclasses.replace(scenario_stream.info, seeds=seeds)
        return [layer.weight.detach().clone() for layer in ready(SupSup, scenario_stream).masked.layers]

    same, data, model = weights(Seeds(0, 0, 0)), weights(Seeds(0, 5, 5)), weights(Seeds(1, 0, 0))
    assert all(a.equal(b) for a, b in zip(same, data, strict=True))
    assert not all(a.equal(b) for a, b in zip(same, model, strict=True))
