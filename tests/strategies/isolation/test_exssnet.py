"""SSNeT and ExSSNeT: which weights move, what is forgotten, how epochs are divided, EWC, model selection."""

from itertools import pairwise

import pytest
import torch

from cl_suite import (
    QuadraticPenalty,
    UsageError,
    flatten,
)
from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.core.listener import Hooks
from strategies.isolation.exssnet import ExSSNeT, SSNeT, exclusive, fisher, split_epochs
from strategies.isolation.supsup import SupSup
from tests.helpers.mask_runs import accuracy, images, learn_all, learned, logits_of, presented, ready


@pytest.mark.parametrize(("cls", "changes"), [(SupSup, False), (ExSSNeT, False), (SSNeT, True)])
@pytest.mark.parametrize("network", ["mlp", "conv_small"])
def test_old_logits_are_bit_identical_but_for_ssnet(cls, changes, network):
    scenario_stream = presented(images() if network == "conv_small" else None, batch_size=8)
    strategy = ready(cls, scenario_stream, network=network)
    history = []  # row i: logits of tasks 0..i on a fixed batch after task i
    for experience in scenario_stream.experiences(Hooks()):
        strategy.learn(experience)
        history.append([logits_of(strategy, scenario_stream, task) for task in range(experience.index + 1)])
    kept = [after.equal(row[task]) for row, later in pairwise(history) for task, after in enumerate(later[:-1])]
    assert len(kept) == sum(range(len(history)))
    assert not any(kept) if changes else all(kept)


class Watched(ExSSNeT):
    """Records what phase 2 is given, and what it moves."""

    def train_weights(self, experience, trainable, **options):
        layers = self.masked.layers
        before = [layer.weight.detach().clone() for layer in layers]
        scores = [layer.scores.detach().clone() for layer in layers]
        super().train_weights(experience, trainable, **options)
        moved = [layer.weight.detach() != old for layer, old in zip(layers, before, strict=True)]
        self.seen = [*getattr(self, "seen", []), (trainable, moved, [union.clone() for union in self.union])]
        assert all(layer.scores.detach().equal(old) for layer, old in zip(layers, scores, strict=True))
        assert all(layer.scores.grad is None for layer in layers)


def test_only_exclusive_weights_move_and_the_union_does_not():
    strategy, _ = learned(Watched)
    for number, (trainable, moved, union) in enumerate(strategy.seen):
        masks = strategy.masked.spread(strategy.subnetworks[number])
        for free, changed, taken, mask in zip(trainable, moved, union, masks, strict=True):
            assert free.equal(exclusive(mask, taken))
            assert not bool((free & taken).any())
            assert not bool((changed & ~free).any())
        assert any(bool(changed.any()) for changed in moved)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_weight_decay_moves_only_weights_in_training(optimizer):
    strategy, _ = learned(
        Watched, optimizer=optimizer, weight_decay_weights=0.1, weight_decay_mask=0.01, lr_weights=0.01
    )
    for trainable, moved, _ in strategy.seen:
        for free, changed in zip(trainable, moved, strict=True):
            assert not bool((changed & ~free).any())


def test_masks_have_the_declared_density_in_every_layer():
    strategy, _ = learned(ExSSNeT)
    for subnetwork in strategy.subnetworks:
        for layer, mask in zip(strategy.masked.layers, strategy.masked.masks_of(subnetwork), strict=True):
            n = layer.weight.numel()
            assert int(mask.sum()) == n - int((1 - 0.2) * n)


def test_with_no_free_weight_left_phase_two_does_nothing():
    strategy, scenario_stream = learned(Watched, density=1.0)
    assert len(strategy.seen) == 1  # the first task takes every weight
    assert strategy.diagnostics()["free_fraction"] == 0.0
    assert strategy.diagnostics()["overlap"] == [0.0, 1.0, 1.0]
    assert all(accuracy(strategy, scenario_stream, task) > 0.5 for task in range(3))


def test_union_over_the_last_task_only_lets_older_ones_be_forgotten():
    strategy, scenario_stream = ready(ExSSNeT, presented(), union_last=1), presented()
    learn_all(strategy, scenario_stream, stop=2)
    before = [logits_of(strategy, scenario_stream, task) for task in (0, 1)]
    learn_all(strategy, scenario_stream, start=2)
    assert not logits_of(strategy, scenario_stream, 0).equal(before[0])
    assert logits_of(strategy, scenario_stream, 1).equal(before[1])


@pytest.mark.parametrize(
    ("epochs", "share", "expected"),
    [(1, 0.5, (1, 0)), (2, 0.5, (1, 1)), (5, 0.5, (3, 2)), (10, 0.5, (5, 5)), (4, 0.0, (1, 3)), (4, 1.0, (3, 1))],
)
def test_the_epochs_are_divided_not_added(epochs, share, expected):
    assert split_epochs(epochs, share) == expected


def test_answering_never_moves_the_statistics_of_a_task():
    scenario_stream = presented(images(), batch_size=8)
    strategy, _ = learned(ExSSNeT, scenario_stream, network="conv_small")
    before = [norm.running_mean.clone() for norm in strategy.masked.norms]
    inputs, _ = scenario_stream.tasks[0].test.take(torch.arange(8))
    strategy.network.train()
    strategy._view(strategy.subnetworks[0]).outputs(inputs)
    strategy.inference(strategy.subnetworks).infer(inputs)
    assert all(a.equal(norm.running_mean) for a, norm in zip(before, strategy.masked.norms, strict=True))
    assert strategy.network.training


def test_heads_of_their_own_share_no_weights():
    strategy, _ = learned(ExSSNeT, head="per_task")
    heads = [strategy.masked.spread(s)[-1] for s in strategy.subnetworks]
    assert not bool((heads[0] & heads[1]).any())
    assert strategy.masked.layers[-1].weight.shape[0] == 6
    assert [s.rows for s in strategy.subnetworks] == [(0, 2), (2, 4), (4, 6)]


@pytest.mark.parametrize("network", ["mlp", "conv_small"])
def test_predicting_changes_nothing_and_predictors_do_not_disturb_each_other(network):
    scenario_stream = presented(images() if network == "conv_small" else None, batch_size=8)
    strategy, _ = learned(ExSSNeT, scenario_stream, network=network)
    before = {name: value.clone() for name, value in strategy.network.state_dict().items()}
    inputs, _ = scenario_stream.tasks[0].test.take(torch.arange(10))
    first, second = strategy.predictor(0), strategy.predictor(1)
    alone = first(inputs)
    second(inputs)
    assert first(inputs).equal(alone)
    assert torch.allclose(first(inputs[:1]), alone[:1], atol=1e-5)  # one sample keeps its batch axis
    assert all(value.equal(before[name]) for name, value in strategy.network.state_dict().items())


def test_the_task_in_training_answers_at_evaluation_points_without_side_effects():
    answers = []

    def run(every):
        scenario_stream = presented(evaluate_every=every)
        strategy = ready(ExSSNeT, scenario_stream)
        hooks = Hooks(on_evaluation_point=lambda e, step: answers.append(logits_of(strategy, scenario_stream, e)))
        for experience in scenario_stream.experiences(hooks):
            strategy.learn(experience)
        return logits_of(strategy, scenario_stream, 2)

    assert run(7).equal(run(0))
    assert len(answers) == 3 * (40 // 7)
    assert not answers[0].equal(answers[1])


@pytest.mark.parametrize("score_init", ["knn_best", "knn_all", "running_mean"])
@pytest.mark.parametrize("options", [{}, {"head": "per_task"}])
def test_every_score_start_learns_and_leaves_old_tasks_alone(score_init, options):
    scenario_stream = presented()
    strategy = ready(ExSSNeT, scenario_stream, score_init=score_init, **options)
    learn_all(strategy, scenario_stream, stop=2)
    before = logits_of(strategy, scenario_stream, 0)
    learn_all(strategy, scenario_stream, start=2)
    assert logits_of(strategy, scenario_stream, 0).equal(before)
    assert all(accuracy(strategy, scenario_stream, task) > 0.8 for task in range(3))
    assert strategy.diagnostics()["bytes_scores"] > 0


def test_the_fisher_information_is_the_mean_squared_gradient_of_single_samples():
    scenario_stream = presented(batch_size=50)
    strategy = ready(SSNeT, scenario_stream, ewc_samples=50)
    experience = next(scenario_stream.experiences(Hooks()))
    strategy.learn(experience)
    passes = experience._passes
    estimated = fisher(strategy, experience)
    experience._passes = passes
    batch = next(experience.batches(epochs=1, augment=False))
    learned_one = strategy.subnetworks[0]
    expected = [torch.zeros_like(layer.weight) for layer in strategy.masked.layers]
    weights = [layer.weight.requires_grad_(True) for layer in strategy.masked.layers]
    with strategy.masked.bound(strategy.masked.masks_of(learned_one), 0, None):
        for sample, target in zip(batch.inputs, batch.targets, strict=True):
            loss = torch.nn.functional.cross_entropy(strategy.network(sample[None]), target[None])
            for total, gradient in zip(expected, torch.autograd.grad(loss, weights), strict=True):
                total += gradient.square() / 50
    assert torch.allclose(estimated, flatten(expected), rtol=1e-3, atol=1e-7)
    assert bool((estimated > 0).any())


def test_ewc_is_a_quadratic_well_around_each_anchor():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    ewc = QuadraticPenalty([weight], strength=3.0 / 2, mode="summed")
    ewc.hold(torch.tensor([2.0, 0.0]))
    with torch.no_grad():
        weight.add_(0.5)
    (gradient,) = torch.autograd.grad(ewc(), weight)
    assert gradient.tolist() == [3.0, 0.0]  # lambda F (W - W*)


def test_ewc_holds_ssnet_back():
    def drift(strength):
        scenario_stream = presented()
        strategy = ready(SSNeT, scenario_stream, ewc_lambda=strength, ewc_samples=100, lr_weights=0.01)
        learn_all(strategy, scenario_stream, stop=1)
        before = logits_of(strategy, scenario_stream, 0)
        learn_all(strategy, scenario_stream, start=1)
        return float((logits_of(strategy, scenario_stream, 0) - before)[:, :2].abs().mean())

    assert drift(1e4) < drift(1e-9)


@pytest.mark.parametrize("options", [{"select": "best_per_phase"}, {"scheduler": "released"}])
def test_validation_data_is_needed_where_it_is_read(options):
    with pytest.raises(UsageError, match="validation"):
        ready(ExSSNeT, presented(), **options)
    strategy, scenario_stream = learned(ExSSNeT, presented(validation=0.2), **options)
    assert strategy.model_selection() == ("validation" if "select" in options else "none")
    assert all(accuracy(strategy, scenario_stream, task) > 0.8 for task in range(3))


@pytest.mark.parametrize(
    "options",
    [
        {"head": "two"},
        {"scheduler": "step"},
        {"score_init": "best"},
        {"mask_type": "soft"},
        {"density_mode": "global"},
        {"weight_init": "ones"},
        {"head": "per_task", "infer": "oneshot"},
        {"optimizer": "lbfgs"},
    ],
)
def test_a_wrong_option_is_one_clear_line(options):
    with pytest.raises(UsageError) as caught:
        learned(ExSSNeT, **options)
    assert "\n" not in str(caught.value)
    assert next(iter(options)) in str(caught.value) or "infer" in str(caught.value)


def test_images_with_statistics_resume_bit_for_bit(tmp_path):
    data = images(3)
    scenario_stream = presented(data, batch_size=8)
    straight, _ = learned(ExSSNeT, scenario_stream, network="conv_small")
    first = ready(ExSSNeT, scenario_stream, network="conv_small")
    learn_all(first, scenario_stream, stop=1)
    save_state(tmp_path / "state", first.state_dict())
    second = ready(ExSSNeT, scenario_stream, network="conv_small")
    second.load_state_dict(load_state(tmp_path / "state"))
    learn_all(second, scenario_stream, start=1)
    for task in range(3):
        assert logits_of(second, scenario_stream, task).equal(logits_of(straight, scenario_stream, task))
