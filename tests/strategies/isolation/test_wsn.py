"""WSN: threshold and gradients by hand, what is protected, which masks are stored, and that nothing is forgotten."""

from itertools import pairwise

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from strategies.isolation.masks.layers import MaskedLinear
from strategies.isolation.wsn import WSN, WinningTickets, capacity, threshold_rank
from tests.helpers.image_streams import harness_of as any_harness_of
from tests.helpers.image_streams import image_stream
from tests.helpers.own_heads import (
    assert_a_task_is_trained_within_its_own_outputs,
    assert_interrupted_it_goes_on_bit_for_bit,
    assert_tasks_that_share_outputs_have_heads_of_their_own,
)
from tests.helpers.projection_streams import EachExperience

LONG = TrainSettings(epochs=15, batch_size=12)


def harness_of(cls=WSN, **options):
    return any_harness_of(cls, **{"scenario": "task_incremental", "model": "mlp", **options})


def after_each(take, cls=WSN, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the harness."""
    found = []
    harness = harness_of(cls, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness


def answers(strategy):
    """Return the logits of every finished task on a fixed batch."""
    return [strategy.predictor(task)(image_stream().tasks[0].test.inputs) for task in strategy.tasks_learned]


def weights_and_masks(strategy):
    masked = strategy.masked
    masks = masked.masks_of(strategy.subnetworks[-1])
    return [
        (layer.weight.detach().clone(), layer.scores.detach().clone(), mask)
        for layer, mask in zip(masked.layers, masks, strict=True)
    ]


@pytest.mark.parametrize(
    ("density", "rank", "mask"),
    [
        (0.5, 3, [1, 0, 1, 0, 1]),  # 1 + round(0.5 * 4)
        (0.1, 5, [0, 0, 0, 0, 1]),  # 1 + round(3.6)
        (0.3, 4, [1, 0, 0, 0, 1]),  # 1 + round(2.8)
        (1.0, 1, [1, 1, 1, 1, 1]),
    ],
)
def test_the_threshold_is_the_magnitude_of_the_papers_rank(density, rank, mask):
    assert threshold_rank(5, density) == rank
    scores = torch.tensor([[-0.4, 0.1, 0.3, -0.2, 0.5]])
    assert WinningTickets(density).mask(scores).tolist() == [mask]


def test_scores_that_tie_with_the_threshold_are_all_selected():
    assert WinningTickets(0.2).mask(torch.tensor([0.5, -0.5, 0.1, 0.5, 0.2])).tolist() == [1, 1, 0, 1, 0]


def test_gradients_by_hand():
    layer = MaskedLinear(3, 1, rule=WinningTickets(0.5))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -3.0, 5.0]]))
        layer.scores.copy_(torch.tensor([[-0.3, 0.1, 0.2]]))
    output = layer(torch.tensor([[1.0, 10.0, 100.0]]))
    assert output.item() == 2.0 + 500.0  # the rank of the threshold is 2: 0.2
    (3 * output).sum().backward()
    assert layer.weight.grad.tolist() == [[3.0, 0.0, 300.0]]  # dL/dW_eff = 3 x, where selected
    # dL/ds = dL/dW_eff * W * sign(s): the unselected one too
    assert layer.scores.grad.tolist() == [[-6.0, -90.0, 1500.0]]


def test_capacity_by_hand():
    assert capacity(0.5, 10) == pytest.approx(0.5 + 0.22 * 10 / 32)


@pytest.mark.parametrize("model", ["mlp", "conv_small"])
@pytest.mark.parametrize("norm", ["per_task", "frozen_after_first", "batch_stats"])
@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "lr": 0.1, "reset_scores": True}])
def test_logits_of_finished_tasks_stay_bit_for_bit(model, norm, options):
    found, harness = after_each(answers, model=model, norm=norm, **options)
    for task in range(3):
        for later in found[task + 1 :]:
            assert torch.equal(found[task][task], later[task])
    R = harness.results.R
    assert [R[2][task] for task in range(3)] == [R[task][task] for task in range(3)]


def test_each_task_moves_statistics_of_its_own_or_none_after_the_first():
    def statistics(strategy):
        return strategy.model.get_buffer("backbone.1.running_mean").clone()

    (first, second, _), _ = after_each(statistics, model="conv_small")
    assert first.shape == (3, 4)  # tasks, channels
    assert torch.equal(first[0], second[0]) and bool((first[1] == 0).all()) and bool((second[1] != 0).all())
    (first, second, _), _ = after_each(statistics, model="conv_small", norm="frozen_after_first")
    assert first.shape == (1, 4) and torch.equal(first, second) and bool((first != 0).all())


def test_weights_of_earlier_masks_stay_and_their_scores_move():
    found, harness = after_each(weights_and_masks, train=LONG)
    protected = [torch.zeros_like(mask) for _, _, mask in found[0]]
    for before, after in pairwise(found):
        protected = [old | mask for old, (_, _, mask) in zip(protected, before, strict=True)]
        for held, (old, old_scores, _), (new, new_scores, _) in zip(protected, before, after, strict=True):
            assert torch.equal(old[held], new[held])
            assert bool((old[~held] != new[~held]).any())
            assert bool((old_scores[held] != new_scores[held]).any())
    assert 0.0 < harness.strategy.constraints()["share of the gradient blocked"] < 1.0


@pytest.mark.parametrize("reset", [False, True])
def test_scores_go_on_from_task_to_task_unless_they_are_reset(reset):
    class Watched(WSN):
        def setup(self, info, build_model):
            self.begun, self.ended = [], []
            super().setup(info, build_model)

        def start(self, experience):
            super().start(experience)
            self.begun.append(self.masked.layers[0].scores.detach().clone())

        def finish(self, experience):
            super().finish(experience)
            self.ended.append(self.masked.layers[0].scores.detach().clone())

    harness = harness_of(Watched, reset_scores=reset)
    harness.run()
    for begun, ended in zip(harness.strategy.begun[1:], harness.strategy.ended, strict=False):
        assert torch.equal(begun, ended) is not reset


def test_masks_are_those_of_the_restored_scores_of_the_best_epoch():
    class Watched(WSN):
        def setup(self, info, build_model):
            self.offered, self.kept = [], []
            super().setup(info, build_model)

        def start(self, experience):
            self.offered.append([])
            self.steps = 0
            super().start(experience)

        def after_step(self, batch):
            self.steps += 1
            if self.steps == 18:  # the last of 6 epochs of 3 steps ends with every answer turned round
                with torch.no_grad():
                    for parameter in self.model.heads.parameters():
                        parameter.neg_()

        def offer(self, experience):
            super().offer(experience)
            right = [
                self.predictor(experience.task_id)(batch.inputs).argmax(dim=1) == batch.targets
                for batch in experience.validation()
            ]
            now = [layer.scores.detach().clone() for layer in self.masked.layers]
            self.offered[-1].append((float(torch.cat(right).float().mean()), now))

        def finish(self, experience):
            super().finish(experience)
            self.kept.append([layer.scores.detach().clone() for layer in self.masked.layers])

    settings = TrainSettings(epochs=6, batch_size=12, validation=0.25)
    harness = harness_of(Watched, select="best", lr=0.01, train=settings)
    harness.run()
    strategy = harness.strategy
    for offered, kept, subnetwork in zip(strategy.offered, strategy.kept, strategy.subnetworks, strict=True):
        assert len(offered) == 6
        best = max(range(6), key=lambda epoch: (offered[epoch][0], epoch))
        assert best < 5
        for scores, expected, mask in zip(kept, offered[best][1], strategy.masked.masks_of(subnetwork), strict=True):
            assert torch.equal(scores, expected)
            assert torch.equal(WinningTickets(0.5).mask(scores).bool(), mask)
    assert strategy.model_selection() == "validation"


def test_capacity_and_reuse_are_counted_from_the_masks():
    found, harness = after_each(weights_and_masks, density=0.3)
    facts, size = harness.strategy.diagnostics(), 192 * 24 + 24 * 16
    union = [torch.stack([masks[layer][2] for masks in found]).any(dim=0) for layer in range(2)]
    used = sum(int(mask.sum()) for mask in union) / size
    assert facts["used_share"] == pytest.approx(used)
    assert facts["capacity"] == pytest.approx(used + 0.22 * 3 / 32)
    assert facts["selected_share"] == pytest.approx([0.3] * 3, abs=0.001)
    shared = sum(int((a & b).sum()) for (_, _, a), (_, _, b) in zip(found[0], found[1], strict=True))
    ones = sum(int(mask.sum()) for _, _, mask in found[1])
    assert facts["reused_share"][0] == 0.0
    assert facts["reused_share"][1] == pytest.approx(shared / ones)
    assert facts["bytes_masks"] == 3 * size / 8


def test_with_density_one_later_tasks_train_their_head_alone():
    found, harness = after_each(weights_and_masks, density=1.0, train=LONG, lr=0.01)
    for (first, _, _), (last, _, _) in zip(found[0], found[2], strict=True):
        assert torch.equal(first, last)
    assert harness.strategy.constraints()["share of the gradient blocked"] == pytest.approx(1.0)
    assert min(harness.results.R[2]) > 0.6


def test_the_first_weights_are_those_the_network_was_built_with():
    built = []

    class Watched(WSN):
        def setup(self, info, build_model):
            def build():
                built.append(build_model())
                built.append({name: value.clone() for name, value in built[0].state_dict().items()})
                return built[0]

            super().setup(info, build)
            self.first = [layer.weight.detach().clone() for layer in self.masked.layers]

    harness = harness_of(Watched)
    harness.run()
    names = ["backbone.1.weight", "backbone.3.weight"]  # the heads are not masked
    for weight, name in zip(harness.strategy.first, names, strict=True):
        assert torch.equal(weight, built[1][name])


def test_tasks_that_share_outputs_have_heads_of_their_own():
    assert_tasks_that_share_outputs_have_heads_of_their_own(WSN, after_each, answers, train=LONG, lr=0.01)


def test_a_task_is_trained_within_its_own_outputs():
    assert_a_task_is_trained_within_its_own_outputs(WSN, after_each, answers)


def test_it_learns_every_task():
    assert min(harness_of(train=LONG).run().R[2]) > 0.9


def test_interrupted_with_batch_norm_it_goes_on_bit_for_bit(tmp_path):
    assert_interrupted_it_goes_on_bit_for_bit(harness_of, tmp_path, model="conv_small")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"density": 0.0}, "strategy.density=0.0"),
        ({"density": 1.1}, "strategy.density=1.1"),
        ({"norm": "none"}, "strategy.norm=none"),
        ({"select": "first"}, "strategy.select=first"),
        ({"select": "best"}, "train.validation"),
        ({"optimizer": "lbfgs"}, "strategy.optimizer=lbfgs"),
    ],
)
def test_options_that_cannot_be_met_are_refused_in_one_line(options, words):
    with pytest.raises(UsageError, match=words) as problem:
        harness_of(**options).run()
    assert "\n" not in str(problem.value)
