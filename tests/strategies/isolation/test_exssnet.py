"""SupSup, SSNeT, ExSSNeT: what is promised about weights, masks, forgetting, inference and resuming."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits

from cl_suite import (
    PrepareVectors,
    Requirement,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UnseenTask,
    UsageError,
    generator_for,
)
from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.core.listener import Hooks
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from strategies.isolation.exssnet import EWC, ExSSNeT, SSNeT, exclusive, fisher, split_epochs
from strategies.isolation.supsup import SupSup

FAMILY = [SupSup, SSNeT, ExSSNeT]


def clusters(*, tasks=3, classes=2, repeat=None, permuted=False, sizes=None, labels="disjoint"):
    """Gaussian clusters in 16 dimensions; `permuted`: each task is the first one with its inputs permuted."""
    generator = generator_for(0, "test clusters")
    centres = 4 * torch.nn.functional.normalize(torch.randn(8 * tasks, 16, generator=generator), dim=1)
    made = []
    for number in range(tasks):
        count = classes if sizes is None else sizes[number]
        like = 0 if permuted else number if repeat is None else repeat[number]
        order = torch.randperm(16, generator=generator) if permuted else torch.arange(16)

        def draw(each, count=count, like=like, order=order):
            targets = torch.arange(count).repeat(each)
            noise = torch.randn(len(targets), 16, generator=generator)
            return Samples((centres[8 * like + targets] + noise)[:, order], targets)

        made.append(TaskData(f"task {number}", draw(100), draw(50), tuple(map(str, range(count)))))
    return StreamData(tuple(made), PrepareVectors(), labels=labels)


def presented(data=None, scenario=Scenario.TASK_INCREMENTAL, *, seed=0, **train):
    settings = TrainSettings(**{"epochs": 4, "batch_size": 20, **train})
    return ScenarioStream(
        "clusters",
        data or clusters(),
        scenario,
        train=settings,
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )


def images(tasks=2):
    generator = generator_for(0, "test images")
    made = []
    for number in range(tasks):
        targets = torch.arange(2).repeat(20)
        inputs = torch.randn(40, 3, 8, 8, generator=generator) + 2.0 * (targets * 2 - 1).view(-1, 1, 1, 1) + number
        made.append(TaskData(f"images {number}", Samples(inputs, targets), Samples(inputs, targets), ("a", "b")))
    return StreamData(tuple(made), PrepareVectors())


def ready(cls, scenario_stream, *, network="mlp", hidden=(32, 32), **options):
    strategy = cls(cls.Config(**{"density": 0.2, **options}))
    shape, outputs = scenario_stream.info.input_shape, scenario_stream.info.n_outputs
    sizes = {"hidden": hidden} if network == "mlp" else {"width": 4}
    strategy.setup(scenario_stream.info, lambda: build_network(network, shape, outputs, **sizes))
    return strategy


def learn_all(strategy, scenario_stream, *, start=0, stop=None):
    for experience in scenario_stream.experiences(Hooks(), start=start):
        if stop is not None and experience.index >= stop:
            break
        strategy.learn(experience)
        experience.close()


def learned(cls, scenario_stream=None, **options):
    scenario_stream = scenario_stream or presented()
    strategy = ready(cls, scenario_stream, **options)
    learn_all(strategy, scenario_stream)
    return strategy, scenario_stream


def logits_of(strategy, scenario_stream, task):
    inputs, _ = scenario_stream.tasks[task].test.take(torch.arange(40))
    with torch.no_grad():
        return strategy.predictor(task)(inputs)


def accuracy(strategy, scenario_stream, task, seen=None):
    tells = Requirement.TASK_ID_AT_TEST in scenario_stream.scenario.provides
    seen = scenario_stream.seen_after(len(scenario_stream.tasks)) if seen is None else seen
    return scenario_stream.tasks[task].score(strategy.predictor(task if tells else None), seen).value


# what is promised about forgetting and weights (section 6.2 of the paper's restatement)


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


def test_supsup_never_moves_a_weight():
    strategy, scenario_stream = learned(SupSup)
    fresh = ready(SupSup, scenario_stream)
    for layer, untouched in zip(strategy.masked.layers, fresh.masked.layers, strict=True):
        assert layer.weight.equal(untouched.weight)


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


# the budget


@pytest.mark.parametrize(
    ("epochs", "share", "expected"),
    [(1, 0.5, (1, 0)), (2, 0.5, (1, 1)), (5, 0.5, (3, 2)), (10, 0.5, (5, 5)), (4, 0.0, (1, 3)), (4, 1.0, (3, 1))],
)
def test_the_epochs_are_divided_not_added(epochs, share, expected):
    assert split_epochs(epochs, share) == expected


@pytest.mark.parametrize("cls", FAMILY)
def test_every_variant_draws_the_same_number_of_samples(cls):
    scenario_stream = presented()
    strategy, hooks = ready(cls, scenario_stream), Hooks()
    for experience in scenario_stream.experiences(hooks):
        strategy.learn(experience)
    assert hooks.meter.samples_drawn == 3 * 4 * 200


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ExSSNeT, {"mask_share": 1.5}, "mask_share"),
        (ExSSNeT, {"weight_training": "some"}, "Use exclusive, all or none"),
        (ExSSNeT, {"union_last": -1}, "union_last"),
        (SSNeT, {"ewc_samples": 0}, "ewc_samples"),
        (SupSup, {"density": 0.0}, "density"),
        (SupSup, {"min_per_row": -1}, "min_per_row"),
        (SupSup, {"density_mode": "erdos_renyi", "er_scale": 0.0}, "er_scale"),
        (SupSup, {"knn_neighbours": 0}, "knn_neighbours"),
        (SupSup, {"knn_share": -0.1}, "knn_share"),
        (SupSup, {"max_masks": 0}, "Use 1 or more"),
        (SupSup, {"mask_invalid_logits": True, "infer": "oneshot", "infer_objective": "G"}, "superfluous"),
        (SupSup, {"allocation": "uncertainty", "infer": "oneshot", "infer_objective": "G"}, "superfluous"),
        (SupSup, {"allocation": "uncertainty", "infer": "none"}, "infers the task at test"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused_before_anything_is_learned(cls, options, message):
    with pytest.raises(UsageError, match=message):
        ready(cls, presented(), **options)


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


# answers


@pytest.mark.parametrize("cls", FAMILY)
@pytest.mark.parametrize("options", [{}, {"head": "per_task"}, {"mask_invalid_logits": True}, {"norm": "shared"}])
def test_tasks_of_different_sizes_are_learned(cls, options):
    scenario_stream = presented(clusters(sizes=[4, 2, 3]))
    strategy, _ = (
        learned(cls, scenario_stream, lr_weights=0.01, **options)
        if cls is not SupSup
        else learned(cls, scenario_stream, **options)
    )
    for task, classes in enumerate([(0, 1, 2, 3), (4, 5), (6, 7, 8)]):
        logits = logits_of(strategy, scenario_stream, task)
        assert logits.shape == (40, 9)
        finite = torch.isfinite(logits).all(dim=0).nonzero().flatten().tolist()
        assert tuple(finite) == classes
        assert not bool(torch.isnan(logits).any())
        assert accuracy(strategy, scenario_stream, task) > 0.6


def test_heads_of_their_own_share_no_weights():
    strategy, _ = learned(ExSSNeT, head="per_task")
    heads = [strategy.masked.spread(s)[-1] for s in strategy.subnetworks]
    assert not bool((heads[0] & heads[1]).any())
    assert strategy.masked.layers[-1].weight.shape[0] == 6
    assert [s.rows for s in strategy.subnetworks] == [(0, 2), (2, 4), (4, 6)]


@pytest.mark.parametrize("cls", FAMILY)
def test_a_task_not_learned_yet_has_no_answer(cls):
    scenario_stream = presented()
    strategy = ready(cls, scenario_stream)
    with pytest.raises(UnseenTask):
        strategy.predictor(0)
    learn_all(strategy, scenario_stream, stop=1)
    strategy.predictor(0)
    for task in (1, -1, 7):
        with pytest.raises(UnseenTask):
            strategy.predictor(task)
    with pytest.raises(UnseenTask, match="infer"):
        strategy.predictor(None)


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


# task inference


def test_requirements_follow_the_options():
    at_train = {Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES}
    for cls in FAMILY:
        assert cls.requirements(cls.Config()) == at_train | {Requirement.TASK_ID_AT_TEST}
        assert cls.requirements(cls.Config(infer="oneshot")) == at_train
    assert SupSup.requirements(SupSup.Config(allocation="uncertainty", infer="oneshot")) == frozenset()


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


def permuted(scenario, **train):
    data = clusters(tasks=4, classes=4, permuted=True, labels="shared")
    return presented(data, scenario, epochs=12, batch_size=16, **train)


@pytest.mark.parametrize("infer", ["oneshot", "binary", "min_entropy"])
@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("objective", ["H", "G"])
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
    for infer in ("oneshot", "binary", "min_entropy"):
        strategy, _ = learned(SupSup, scenario_stream, infer=infer)
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


def test_batch_norm_networks_infer_too():
    scenario_stream = presented(images(), Scenario.CLASS_INCREMENTAL, batch_size=8)
    for options in ({"infer_norm": "averaged"}, {"infer_norm": "batch"}):
        for infer in ("oneshot", "binary"):
            strategy, _ = learned(ExSSNeT, scenario_stream, network="conv_small", infer=infer, **options)
            inputs, _ = scenario_stream.tasks[0].test.take(torch.arange(8))
            assert bool(torch.isfinite(strategy.predictor(None)(inputs)).all())


@pytest.mark.parametrize("infer", ["oneshot", "binary", "min_entropy"])
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


# KKT


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


# EWC on SSNeT


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
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-7) for a, b in zip(estimated, expected, strict=True))
    assert any(bool((value > 0).any()) for value in estimated)


def test_ewc_is_a_quadratic_well_around_each_anchor():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    ewc = EWC([weight], 3.0)
    ewc.anchor([torch.tensor([2.0, 0.0])])
    with torch.no_grad():
        weight.add_(0.5)
    (gradient,) = torch.autograd.grad(ewc.penalty(), weight)
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


# model selection


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


def test_too_few_outputs_are_refused_with_the_number_that_does():
    with pytest.raises(UsageError, match="outputs=3"):
        learned(SupSup, presented(None, Scenario.CLASS_INCREMENTAL), infer="oneshot", infer_objective="G", outputs=2)


# accounting


@pytest.mark.parametrize("cls", FAMILY)
def test_storage_is_counted_from_the_masks(cls):
    strategy, _ = learned(cls)
    facts = strategy.diagnostics()
    n = 16 * 32 + 32 * 32 + 32 * 2
    assert facts["masked_weights"] == strategy.model_parameters() == n
    assert facts["bytes_masks_dense"] == 3 * n // 8
    assert facts["bytes_masks_entropy"] < facts["bytes_masks_dense"]
    assert facts["bytes_weights"] == (8 if cls is SupSup else 4 * n)
    assert facts["bytes_norm"] == 0
    union = strategy.masked.union(strategy.subnetworks)
    assert facts["free_fraction"] == pytest.approx(1 - sum(int(u.sum()) for u in union) / n)
    assert facts["overlap"][0] == 0.0
    assert all(0 < share < 1 for share in facts["overlap"][1:])


def test_statistics_are_counted_per_task():
    strategy, _ = learned(SupSup, presented(images(), batch_size=8), network="conv_small")
    assert strategy.diagnostics()["bytes_norm"] == 8 * (4 + 8 + 16) * 2


# resuming


RESUMED = [
    (SupSup, Scenario.TASK_INCREMENTAL, {}),
    (SSNeT, Scenario.TASK_INCREMENTAL, {}),
    (SSNeT, Scenario.TASK_INCREMENTAL, {"ewc_lambda": 10.0, "ewc_samples": 50}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {"score_init": "knn_best", "head": "per_task"}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {"union_last": 1, "norm": "shared"}),
    (ExSSNeT, Scenario.CLASS_INCREMENTAL, {"infer": "oneshot", "score_init": "running_mean"}),
    (SupSup, Scenario.DOMAIN_INCREMENTAL, {"infer": "binary"}),
    (SupSup, Scenario.TASK_AGNOSTIC, {"infer": "oneshot", "allocation": "uncertainty", "decide_every": 7}),
]


@pytest.mark.parametrize(("cls", "scenario", "options"), RESUMED)
def test_saved_and_loaded_it_goes_on_bit_for_bit(cls, scenario, options, tmp_path):
    def outputs(strategy, scenario_stream):
        tells = Requirement.TASK_ID_AT_TEST in scenario.provides
        inputs = [task.test.take(torch.arange(10))[0] for task in scenario_stream.tasks]
        with torch.no_grad():
            return [strategy.predictor(t if tells else None)(x) for t, x in enumerate(inputs)]

    straight, scenario_stream = learned(cls, presented(None, scenario), **options)
    expected = outputs(straight, scenario_stream)

    first = ready(cls, presented(None, scenario), **options)
    learn_all(first, presented(None, scenario), stop=2)
    save_state(tmp_path / "state", first.state_dict())
    second = ready(cls, presented(None, scenario), **options)
    second.load_state_dict(load_state(tmp_path / "state"))
    learn_all(second, presented(None, scenario), start=2)
    found = outputs(second, scenario_stream)
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))
    assert second.diagnostics() == straight.diagnostics()


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


def test_the_seed_of_the_model_decides_weights_and_first_scores():
    def weights(seeds):
        scenario_stream = presented()
        scenario_stream.info = dataclasses.replace(scenario_stream.info, seeds=seeds)
        return [layer.weight.detach().clone() for layer in ready(SupSup, scenario_stream).masked.layers]

    same, data, model = weights(Seeds(0, 0, 0)), weights(Seeds(0, 5, 5)), weights(Seeds(1, 0, 0))
    assert all(a.equal(b) for a, b in zip(same, data, strict=True))
    assert not all(a.equal(b) for a, b in zip(same, model, strict=True))
