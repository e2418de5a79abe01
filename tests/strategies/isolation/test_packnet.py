"""PackNet: shares by hand, what pruning frees, what a task may write, and that nothing is forgotten."""

import pytest
import torch

from cl_suite import PrepareVectors, Samples, StreamData, TaskData, TrainSettings, UsageError, build_network
from strategies.isolation.packnet import PackNet, pruned_count, readable, steps_before_pruning, weakest
from tests.helpers.image_streams import harness_of as any_harness_of
from tests.helpers.image_streams import image_stream
from tests.helpers.own_heads import (
    assert_a_task_is_trained_within_its_own_outputs,
    assert_interrupted_it_goes_on_bit_for_bit,
    assert_tasks_that_share_outputs_have_heads_of_their_own,
)
from tests.helpers.projection_streams import EachExperience, Notes

LONG = TrainSettings(epochs=15, batch_size=12)
NETWORKS = [
    ("mlp", {}),
    ("mlp", {"biases": "per_task"}),
    ("conv_small", {}),
    ("conv_small", {"norm": "frozen_after_first"}),
]


def harness_of(cls=PackNet, **options):
    return any_harness_of(cls, **{"scenario": "task_incremental", "model": "mlp", **options})


def after_each(take, cls=PackNet, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the harness."""
    found = []
    harness = harness_of(cls, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness


def answers(strategy):
    """Return the logits of every finished task on a fixed batch."""
    return [strategy.predictor(task)(image_stream().tasks[0].test.inputs) for task in strategy.tasks_learned]


def copies(strategy):
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}


def small_stream(n_tasks, *, size=10):
    """Two classes per task, vectors [size]."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(2 * n_tasks, size, generator=generator)

    def draw(task):
        targets = torch.arange(60) % 2
        return Samples(means[2 * task + targets] + torch.randn(60, size, generator=generator), targets)

    return StreamData(tuple(TaskData(str(t), draw(t), draw(t), ("a", "b")) for t in range(n_tasks)), PrepareVectors())


def test_five_equal_shares_of_a_hundred_weights_are_twenty_each():
    free, kept = 100, []
    for _ in range(4):
        pruned = pruned_count(free, 100, keep=1 / 5, share=0.0)
        kept.append(free - pruned)
        free = pruned
    assert (kept, free) == ([20, 20, 20, 20], 20)  # the last task prunes nothing


def test_a_layer_of_a_hundred_weights_is_shared_out_evenly_in_a_run():
    class Wide(PackNet):  # one hidden layer: 10 inputs, 10 units
        def setup(self, info, build_model):
            super().setup(info, lambda: build_network("mlp", (10,), info.n_outputs, hidden=(10,)))

    def counts(strategy):
        (owners,) = strategy.owners.values()
        return torch.bincount(owners.flatten(), minlength=6).tolist()

    found, _ = after_each(counts, Wide, data=small_stream(5), train=TrainSettings(epochs=4, batch_size=10))
    assert found == [
        [80, 20, 0, 0, 0, 0],
        [60, 20, 20, 0, 0, 0],
        [40, 20, 20, 20, 0, 0],
        [20, 20, 20, 20, 20, 0],
        [0, 20, 20, 20, 20, 20],
    ]


@pytest.mark.parametrize(
    ("claimed", "keep", "share", "expected"),
    [
        (100, 0.0, 0.75, 75),  # prune=fixed
        (75, 0.0, 0.75, 56),
        (1, 0.0, 0.3, 0),  # rank 0
        (15, 0.2, 0.0, 0),  # less than a share is free: all of it is kept
        (0, 0.2, 0.0, 0),
        (0, 0.0, 0.75, 0),
    ],
)
def test_the_count_to_prune_stays_between_nothing_and_the_claim(claimed, keep, share, expected):
    assert pruned_count(claimed, 100, keep=keep, share=share) == expected


def test_the_weakest_owned_weights_go_first_and_zeros_go_all():
    weight = torch.tensor([[0.5, -0.1, 0.3], [-0.2, 0.0, 0.01]])
    owned = torch.tensor([[True, True, True], [True, False, False]])
    assert weakest(weight, owned, 2).tolist() == [[False, True, False], [True, False, False]]
    assert not weakest(weight, owned, 0).any()
    ties = torch.full((2, 3), 0.5)
    assert weakest(ties, torch.ones(2, 3, dtype=torch.bool), 2).tolist() == [[True, True, False], [False] * 3]
    zeros = torch.tensor([[0.0, 0.0, 0.0], [0.7, -0.0, 0.2]])
    everything = torch.ones(2, 3, dtype=torch.bool)
    assert weakest(zeros, everything, 2).tolist() == [[True, True, True], [False, True, False]]
    assert not weakest(zeros, everything, 0).any()


def test_a_task_reads_its_own_and_earlier_weights_alone():
    owners = torch.tensor([0, 1, 2, 3], dtype=torch.uint8)
    assert readable(owners, 2).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("steps", "share", "expected"), [(30, 1 / 3, 20), (5, 1 / 3, 3), (2, 0.9, 1), (2, 0.0, 1), (1, 0.5, 1), (4, 0.0, 3)]
)
def test_the_steps_of_an_experience_are_divided(steps, share, expected):
    assert steps_before_pruning(steps, share) == expected


@pytest.mark.parametrize("epochs", [1, 3])
def test_pruning_comes_inside_the_budget_and_not_in_the_last_task(epochs):
    class Counting(PackNet):
        def setup(self, info, build_model):
            self.steps, self.pruned_at = 0, []
            super().setup(info, build_model)

        def after_step(self, batch):
            self.steps += 1

        def prune(self):
            self.pruned_at.append(self.steps)
            super().prune()

    harness = harness_of(Counting, train=TrainSettings(epochs=epochs, batch_size=12), finetune_share=0.25)
    harness.run()
    assert harness.strategy.pruned_at == [3 * epochs, (4 + 3) * epochs]
    assert harness.strategy.steps == 12 * epochs
    assert harness.counted()["samples_drawn"] == 3 * 48 * epochs


@pytest.mark.parametrize(("model", "options"), NETWORKS)
@pytest.mark.parametrize("steps", [{}, {"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.1}])
def test_logits_of_finished_tasks_stay_bit_for_bit(model, options, steps):
    found, harness = after_each(answers, model=model, **options, **steps)
    for task in range(3):
        for later in found[task + 1 :]:
            assert torch.equal(found[task][task], later[task])
    assert not torch.equal(harness.strategy.model(image_stream().tasks[0].test.inputs)[:, :2], found[0][0][:, :2])
    R = harness.results.R
    assert [R[2][task] for task in range(3)] == [R[task][task] for task in range(3)]


def test_tasks_that_share_outputs_have_heads_of_their_own():
    assert_tasks_that_share_outputs_have_heads_of_their_own(PackNet, after_each, answers, train=LONG, lr=0.01)


def test_a_task_is_trained_within_its_own_outputs():
    assert_a_task_is_trained_within_its_own_outputs(PackNet, after_each, answers)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_task_moves_its_own_weights_alone_and_free_ones_are_zero(decay):
    def weights_and_owners(strategy):
        return {n: (weight.detach().clone(), strategy.owners[n].clone()) for n, weight in strategy.weights.items()}

    (first, second, third), _ = after_each(weights_and_owners, optimizer="sgd", lr=0.05, weight_decay=decay, train=LONG)
    for before, after, number in ((first, second, 2), (second, third, 3)):
        for name, (weight, owners) in after.items():
            old, old_owners = before[name]
            assert bool((old[old_owners == 0] == 0).all()) and bool((weight[owners == 0] == 0).all())
            assert torch.equal(weight[owners != number], old[owners != number])
            assert bool((weight[owners == number] != 0).any())
            assert torch.equal(owners[old_owners > 0], old_owners[old_owners > 0])


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        ({}, {"running_mean": True, "weight": True, "bias": True}),
        ({"norm": "frozen_after_first"}, {"running_mean": False, "running_var": False, "weight": False, "bias": False}),
    ],
)
def test_normalisation_is_the_first_tasks_or_each_tasks_own(options, moves):
    (first, _, third), _ = after_each(copies, model="conv_small", **options)
    for part, moved in moves.items():
        assert torch.equal(first[f"backbone.1.{part}"], third[f"backbone.1.{part}"]) is not moved


def test_biases_of_layers_are_the_first_tasks_or_each_tasks_own():
    for biases, moved in (("frozen_after_first", False), ("per_task", True)):
        (first, second, _), _ = after_each(copies, biases=biases)
        assert torch.equal(first["backbone.1.bias"], second["backbone.1.bias"]) is not moved


def test_without_free_weights_only_the_head_is_trained_and_it_says_so():
    class Listener(Notes):
        def row(self, experience, scores):
            self.rows = [*getattr(self, "rows", []), copies(harness.strategy)]

    listener = Listener()
    harness = harness_of(keep=0.5, listener=listener, train=LONG, lr=0.01)
    harness.run()
    _, second, third = listener.rows
    assert [text for text in listener.texts if "no weight is free" in text] == listener.texts != []
    assert "task 2" in listener.texts[0]
    changed = [name for name in second if not torch.equal(second[name], third[name])]
    assert changed and all(name.startswith("heads.") for name in changed)
    assert harness.results.R[2][2] > 0.8
    assert harness.strategy.diagnostics()["owned_share"][2] == 0.0


def test_what_is_left_of_a_share_is_kept_whole():
    _, harness = after_each(lambda strategy: None, keep=0.4)
    assert harness.strategy.diagnostics()["owned_share"] == pytest.approx([0.4, 0.4, 0.2], abs=0.01)


@pytest.mark.parametrize(("n_tasks", "bits"), [(3, 2), (4, 3)])
def test_an_owner_costs_as_many_bits_as_it_needs_to_name_a_task_or_none(n_tasks, bits):
    _, harness = after_each(lambda strategy: None, data=image_stream(n_tasks=n_tasks))
    facts = harness.strategy.diagnostics()
    size = 192 * 24 + 24 * 16
    assert facts["owner_bits_per_weight"] == bits
    assert facts["bytes_owners"] == size * bits / 8
    assert facts["bytes_weights"] == 4 * size
    assert facts["bytes_task_tensors"] == n_tasks * 4 * (2 * 16 + 2)  # heads: two rows and biases each
    assert sum(facts["owned_share"]) + facts["free_share"] == pytest.approx(1.0)


def test_it_learns_every_task():
    harness = harness_of(train=LONG)
    assert min(harness.run().R[2]) > 0.9
    assert 0.0 < harness.strategy.constraints()["share of the gradient blocked"] < 1.0


def test_interrupted_with_batch_norm_it_goes_on_bit_for_bit(tmp_path):
    assert_interrupted_it_goes_on_bit_for_bit(harness_of, tmp_path, model="conv_small")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prune": "global"}, "strategy.prune=global"),
        ({"norm": "none"}, "strategy.norm=none"),
        ({"biases": "none"}, "strategy.biases=none"),
        ({"keep": 1.5}, "strategy.keep=1.5"),
        ({"prune": "fixed", "prune_share": 1.0}, "strategy.prune_share=1.0"),
        ({"finetune_share": -0.1}, "strategy.finetune_share=-0.1"),
        ({"keep": 0.0001}, "none of the 4608 weights of backbone.1.weight|none of the 384 weights"),
    ],
)
def test_options_that_cannot_be_met_are_refused_in_one_line(options, words):
    with pytest.raises(UsageError, match=words) as problem:
        harness_of(**options).run()
    assert "\n" not in str(problem.value)


def test_parameters_that_no_task_can_own_are_refused():
    class Recurrent(PackNet):
        def setup(self, info, build_model):
            def build():
                network = build_model()
                network.backbone.append(torch.nn.Bilinear(16, 16, 16))
                return network

            super().setup(info, build)

    with pytest.raises(UsageError, match="Bilinear has parameters"):
        harness_of(Recurrent).run()
