"""Piggyback: masks and gradients by hand, a trunk that stays, tasks that do not know of each other."""

import pytest
import torch

from cl_suite import TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from cl_suite.core.listener import Hooks
from strategies.isolation.piggyback import Piggyback, binary, masked_weight, ternary
from tests.helpers.image_streams import harness_of as any_harness_of
from tests.helpers.image_streams import image_stream
from tests.helpers.own_heads import (
    assert_a_task_is_trained_within_its_own_outputs,
    assert_tasks_that_share_outputs_have_heads_of_their_own,
)
from tests.helpers.projection_streams import EachExperience, Notes

LONG = TrainSettings(epochs=15, batch_size=12)
VARIANTS = [{}, {"norm": "frozen_after_first"}, {"trunk": "random"}, {"mask": "ternary", "mask_init": "uniform"}]


def harness_of(cls=Piggyback, **options):
    return any_harness_of(cls, **{"scenario": "task_incremental", "model": "mlp", **options})


def after_each(take, cls=Piggyback, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the harness."""
    found = []
    harness = harness_of(cls, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness


def fixed_batch():
    return image_stream().tasks[0].test.inputs


def answers(strategy):
    """Return the logits of every finished task on a fixed batch."""
    return [strategy.predictor(task)(fixed_batch()) for task in strategy.tasks_learned]


def trunk(strategy):
    return {n: value.detach().clone() for n, value in strategy.model.named_parameters() if n.startswith("backbone.")}


def learned_in(order, **options):
    """Learn the tasks in this order; return the logits of each task, by its id."""
    harness = harness_of(**options)
    strategy = harness.strategy
    strategy.setup(harness.scenario_stream.info, harness._factory)
    experiences = list(harness.scenario_stream.experiences(Hooks()))
    for task in order:
        strategy.learn(experiences[task])
    return {task: strategy.predictor(task)(fixed_batch()) for task in order}


def test_masks_by_hand():
    scores = torch.tensor([-0.001, 0.0, 0.005, 0.0051, 0.01])
    assert binary(scores, 0.005).tolist() == [0, 0, 0, 1, 1]
    assert ternary(scores, 0.005).tolist() == [-1, 0, 0, 1, 1]


@pytest.mark.parametrize(("mask", "effective"), [(binary, [2.0, 0.0, 0.0]), (ternary, [2.0, 0.0, -5.0])])
def test_the_gradient_of_a_score_is_that_of_the_masked_weight_times_the_weight(mask, effective):
    weight = torch.tensor([2.0, -3.0, 5.0], requires_grad=True)
    scores = torch.tensor([0.01, 0.001, -0.01], requires_grad=True)
    masked = masked_weight(weight, scores, mask(scores, 0.005))
    assert masked.tolist() == effective
    (masked * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    # dL/dW_eff * W, whatever the mask and the sign of the score; nothing for W
    assert torch.allclose(scores.grad, torch.tensor([2.0, -30.0, 500.0]))
    assert weight.grad is None


@pytest.mark.parametrize("model", ["mlp", "conv_small"])
@pytest.mark.parametrize("options", VARIANTS)
def test_logits_of_finished_tasks_stay_bit_for_bit(model, options):
    found, harness = after_each(answers, model=model, weight_decay=0.01, **options)
    for task in range(3):
        for later in found[task + 1 :]:
            assert torch.equal(found[task][task], later[task])
    R = harness.results.R
    assert [R[2][task] for task in range(3)] == [R[task][task] for task in range(3)]


@pytest.mark.parametrize("model", ["mlp", "conv_small"])
@pytest.mark.parametrize("options", VARIANTS)
def test_the_order_of_later_tasks_never_matters(model, options):
    one = learned_in([0, 1, 2], model=model, **options)
    other = learned_in([0, 2, 1], model=model, **options)
    assert all(torch.equal(one[task], other[task]) for task in range(3))
    alone = learned_in([0, 2], model=model, **options)
    assert torch.equal(one[2], alone[2])
    if options.get("trunk") != "random":  # the first task does matter: it makes the trunk
        assert not torch.equal(one[2], learned_in([1, 2], model=model, **options)[2])


@pytest.mark.parametrize("model", ["mlp", "conv_small"])
def test_the_first_task_makes_the_trunk_and_no_other_moves_it(model):
    (first, second, third), harness = after_each(trunk, model=model, lr_mask=0.01)
    assert all(torch.equal(first[name], later[name]) for later in (second, third) for name in first)
    untrained = trunk_as_built(model=model)
    assert all(not torch.equal(first[name], untrained[name]) for name in first)
    shares = harness.strategy.diagnostics()["mask_shares"]
    assert set(shares) == {"1", "2"} and all(0.0 < share["1"] < 1.0 for share in shares.values())


def trunk_as_built(**options):
    harness = harness_of(**options)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    return trunk(harness.strategy)


def test_a_random_trunk_is_never_trained_and_every_task_is_a_mask():
    (first, _, third), harness = after_each(trunk, trunk="random")
    built = trunk_as_built()
    assert all(torch.equal(built[name], found[name]) for found in (first, third) for name in built)
    assert set(harness.strategy.diagnostics()["mask_shares"]) == {"0", "1", "2"}


def test_each_task_has_statistics_of_its_own_that_start_from_the_trunks():
    def statistics(strategy):
        return strategy.model.get_buffer("backbone.1.running_mean").clone()

    class Watched(Piggyback):
        def setup(self, info, build_model):
            self.begun = []
            super().setup(info, build_model)

        def start(self, experience):
            super().start(experience)
            self.begun.append(statistics(self))

    harness = harness_of(Watched, model="conv_small")
    harness.run()
    _, second, third = harness.strategy.begun
    assert torch.equal(second, third) and bool((second != 0).all())
    assert not torch.equal(third, statistics(harness.strategy))
    (first, _, last), _ = after_each(statistics, model="conv_small", norm="frozen_after_first")
    assert torch.equal(first, last)


def test_weight_decay_reaches_the_trunk_alone():
    plain = learned_in([0, 1], trunk="random", weight_decay=0.0)
    decayed = learned_in([0, 1], trunk="random", weight_decay=10.0)
    assert all(torch.equal(plain[task], decayed[task]) for task in plain)
    assert not torch.equal(learned_in([0])[0], learned_in([0], weight_decay=0.1)[0])


def test_too_low_a_rate_switches_nothing_and_it_says_so():
    def notes(**options):
        listener = Notes()
        harness = harness_of(listener=listener, **options)
        harness.run()
        return listener.texts, harness.strategy.diagnostics()["mask_shares"]

    texts, shares = notes(lr_mask=1e-4)  # 8 steps of 1e-4 do not cross the gap of 5e-3
    assert [text.split(":")[0] for text in texts] == ["task 1", "task 2"]
    assert all("strategy.lr_mask" in text for text in texts)
    assert all(share["1"] == 1.0 for share in shares.values())
    texts, shares = notes(lr_mask=0.002)
    assert texts == [] and all(share["0"] > 0.0 for share in shares.values())


def test_the_rates_of_masks_and_heads_are_a_tenth_in_the_second_half():
    class Watched(Piggyback):
        def setup(self, info, build_model):
            self.rates = []
            super().setup(info, build_model)

        def adjust_gradients(self, batch):
            self.rates.append([group["lr"] for group in self.optimizer.param_groups])

    harness = harness_of(Watched, lr_mask=0.02, lr_head=0.1)
    harness.run()
    for start in (8, 16):  # 8 steps an experience; the first trains the trunk at its own constant rate
        assert harness.strategy.rates[start : start + 4] == [[0.02, 0.1]] * 4
        for rates in harness.strategy.rates[start + 4 : start + 8]:
            assert rates == pytest.approx([0.002, 0.01])
    assert harness.strategy.rates[:8] == [[0.01]] * 8


@pytest.mark.parametrize(("mask", "bits"), [("binary", 1.0), ("ternary", 1.58496)])
def test_stored_masks_are_the_learned_ones_and_their_bits_are_counted(mask, bits):
    class Watched(Piggyback):
        def setup(self, info, build_model):
            self.learned = {}
            super().setup(info, build_model)

        def finish(self, experience):
            task = self.current
            self.learned[task] = {name: self.mask(scores.detach()) for name, scores in self.scores.items()}
            super().finish(experience)

    harness = harness_of(Watched, mask=mask, mask_init="uniform")
    harness.run()
    strategy, size = harness.strategy, 192 * 24 + 24 * 16
    for task in (1, 2):
        for name, learned in strategy.learned[task].items():
            assert torch.equal(strategy.stored_mask(task, name), learned)
            assert set(learned.unique().tolist()) == ({0, 1} if mask == "binary" else {-1, 0, 1})
    facts = strategy.diagnostics()
    assert facts["trunk"] == "first_task"
    assert facts["bytes_masks"] == pytest.approx(2 * size * bits / 8, abs=1)
    assert facts["bytes_task_tensors"] == 3 * 4 * (2 * 16 + 2)  # heads: two rows and biases each


def test_tasks_that_share_outputs_have_heads_of_their_own():
    assert_tasks_that_share_outputs_have_heads_of_their_own(Piggyback, after_each, answers, train=LONG, lr_head=0.01)


def test_a_task_is_trained_within_its_own_outputs():
    assert_a_task_is_trained_within_its_own_outputs(Piggyback, after_each, answers)


@pytest.mark.parametrize("options", [{}, {"trunk": "random", "lr_mask": 0.003}])
def test_it_learns_every_task(options):
    assert min(harness_of(train=LONG, **options).run().R[2]) > 0.9


@pytest.mark.parametrize("options", VARIANTS)
def test_interrupted_with_batch_norm_it_goes_on_bit_for_bit(options, tmp_path):
    class Stop(Exception):
        pass

    def stop(experience):
        if experience == 1:
            raise Stop

    straight = harness_of(model="conv_small", **options)
    straight.run()
    with pytest.raises(Stop):
        harness_of(model="conv_small", checkpoint=tmp_path / "state", listener=EachExperience(stop), **options).run()
    resumed = harness_of(model="conv_small", checkpoint=tmp_path / "state", **options)
    assert resumed.run().R == straight.results.R
    assert states_equal(resumed.strategy.state_dict(), straight.strategy.state_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trunk": "imagenet"}, "strategy.trunk=imagenet"),
        ({"mask": "real"}, "strategy.mask=real"),
        ({"mask_init": "zeros"}, "strategy.mask_init=zeros"),
        ({"norm": "none"}, "strategy.norm=none"),
        ({"threshold": 0.02}, "strategy.threshold=0.02"),
        ({"threshold": -0.1}, "strategy.threshold=-0.1"),
        ({"drop_at": 0.0}, "strategy.drop_at=0.0"),
    ],
)
def test_options_that_cannot_be_met_are_refused_in_one_line(options, words):
    with pytest.raises(UsageError, match=words) as problem:
        harness_of(**options).run()
    assert "\n" not in str(problem.value)
