"""LwF and LwF-MC: losses computed by hand, a warm-up that moves new outputs alone, and finetuning as the limit."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_suite import Batch, MultiLabel, PrepareVectors, Samples, StreamData, TaskData, TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from cl_suite.core.checkpoint import load_state, save_state
from strategies.bounds.finetune import Finetune
from strategies.regularisation.lwf import LwF, LwFMC, distillation, groups_of, share_of_old
from tests.helpers.conflicting_streams import conflicting_stream, copy_of, image_harness
from tests.helpers.projection_streams import EachExperience, harness_of, low_rank_stream, run_of

SCENARIOS = ["task_incremental", "class_incremental", "domain_incremental"]


def in_second_experience(cls, scenario, data=None, **options):
    """Return a strategy that has learned two of three tasks and has begun the third (classes 4 and 5)."""
    harness = harness_of(cls, scenario=scenario, data=data, **options)
    strategy, begun = harness.strategy, {}

    def train_on(experience, batches):
        if experience.index == 2:
            begun["state"] = copy_of(strategy.model)
            raise KeyboardInterrupt
        cls.train_on(strategy, experience, batches)

    strategy.train_on = train_on
    with pytest.raises(KeyboardInterrupt):
        harness.run()
    return strategy, begun["state"]


def a_batch(task=2, count=6):
    generator = torch.Generator().manual_seed(3)
    inputs, raw = torch.randn(2, count, 20, generator=generator)  # inputs stand for an augmented view of raw
    return Batch(inputs, 2 * task + torch.arange(count) % 2, raw, torch.full((count,), task))


def disturb(strategy):
    """Move the weights, so that the new network differs from the old one."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in strategy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def test_the_distillation_loss_is_the_one_computed_by_hand():
    """Old logits (0, 2 ln 3) at T = 2 are softened to (1/4, 3/4); new ones (0, 0) to (1/2, 1/2)."""
    old = torch.tensor([[0.0, 2 * math.log(3.0)]])
    new = torch.zeros(1, 2, requires_grad=True)
    loss = distillation(new, old, temperature=2.0)
    assert loss.item() == pytest.approx(math.log(2.0))
    loss.backward()
    assert new.grad[0].tolist() == pytest.approx([(1 / 2 - 1 / 4) / 2, (1 / 2 - 3 / 4) / 2])


def test_softening_is_the_papers_root_of_probabilities_made_to_sum_to_1():
    old, new = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    roots = [logits.softmax(1) ** (1 / 3) for logits in (old, new)]
    p_old, p_new = (root / root.sum(1, keepdim=True) for root in roots)
    expected = -(p_old * p_new.log()).sum(1).mean()
    assert torch.allclose(distillation(new, old, temperature=3.0), expected, atol=1e-6)


def test_each_old_task_has_a_softmax_of_its_own_only_where_the_task_is_known_at_test():
    past = torch.tensor([True, True, True, True, False, False])
    blocks = ((0, 1), (2, 3), (4, 5))
    assert [group.tolist() for group in groups_of(past, blocks)] == [[0, 1], [2, 3]]
    assert [group.tolist() for group in groups_of(past, None)] == [[0, 1, 2, 3]]
    shared = ((0, 1), (0, 1), (0, 1))
    assert [group.tolist() for group in groups_of(past[:2], shared)] == [[0, 1]]


@pytest.mark.parametrize(
    ("scenario", "own", "groups"),
    [
        ("task_incremental", [4, 5], [[0, 1], [2, 3]]),
        ("class_incremental", [0, 1, 2, 3, 4, 5], [[0, 1, 2, 3]]),
    ],
)
def test_the_loss_is_cross_entropy_and_alpha_times_the_old_answers_to_the_plain_samples(scenario, own, groups):
    strategy, _ = in_second_experience(LwF, scenario, alpha=0.7)
    disturb(strategy)
    batch = a_batch()
    new = strategy.model.heads.linear(strategy.model.features(batch.inputs))
    old = strategy.old_network.heads.linear(strategy.old_network.features(batch.raw))
    expected = F.cross_entropy(new[:, own], batch.targets - own[0])
    for group in groups:
        p_old, p_new = (logits[:, group].div(2).softmax(1) for logits in (old, new))
        expected = expected - 0.7 * (p_old * p_new.log()).sum(1).mean()
    assert torch.allclose(strategy.loss(batch), expected, atol=1e-5)
    strategy.loss(batch).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in strategy.model.parameters())
    assert all(parameter.grad is None for parameter in strategy.old_network.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_warm_up_moves_the_new_outputs_alone(optimizer):
    strategy, warm = in_second_experience(LwF, "class_incremental", optimizer=optimizer, weight_decay=0.1)
    before = strategy.old_network.state_dict()
    for name, value in warm.items():
        if name == "heads.linear.weight":
            assert torch.equal(value[:4], before[name][:4])
            assert (value[4:] != before[name][4:]).any(dim=1).all()
        elif name != "heads.opened":
            assert torch.equal(value, before[name]), name


def test_the_warm_up_leaves_running_statistics_alone():
    strategy, found = LwF(LwF.Config()), []
    warm_up = strategy.warm_up

    def watched(experience, new):
        found.append(copy_of(strategy.model))
        warm_up(experience, new)
        found.append(copy_of(strategy.model))

    strategy.warm_up = watched
    image_harness(strategy).run()
    before, after = found
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "heads.linear.weight",
        "heads.linear.bias",
    }
    norms = [module for module in strategy.old_network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_drops_of_the_learning_rate_count_the_training_passes_alone():
    harness = harness_of(LwF, lr_drops=[2], warmup_epochs=3)
    strategy, rates = harness.strategy, []
    strategy.after_step = lambda batch: rates.append(strategy.optimizer.param_groups[0]["lr"])
    harness.run()
    per_pass = [rates[place] for place in range(0, len(rates), 6)]  # 60 samples in batches of 10, 3 passes, 3 tasks
    assert per_pass == pytest.approx([0.01, 0.01, 0.001] * 3)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_alpha_0_and_no_warm_up_it_is_finetuning_bit_for_bit(scenario):
    results, strategy = run_of(LwF, alpha=0.0, warmup_epochs=0, scenario=scenario)
    finetuned, plain = run_of(Finetune, scenario=scenario)
    assert results.R == finetuned.R
    assert states_equal(strategy.model.state_dict(), plain.model.state_dict())
    warm, _ = run_of(LwF, alpha=0.0, warmup_epochs=1, scenario=scenario)
    other, _ = run_of(LwF, alpha=1.0, warmup_epochs=0, scenario=scenario)
    assert other.R[0] == warm.R[0] == finetuned.R[0]  # the first task has nothing to distil or to warm up


@pytest.mark.parametrize(("passes", "extra"), [(-1, 3), (0, 0), (2, 2)])
def test_warm_up_passes_are_those_asked_for_and_expected(passes, extra):
    harness = harness_of(LwF, warmup_epochs=passes)
    harness.run()
    drawn = harness.meter.samples_drawn
    assert drawn == 3 * 60 * 3 + 2 * 60 * extra == harness.strategy.expected_samples(harness.scenario_stream.info)


@pytest.mark.parametrize("cls", [LwF, LwFMC])
def test_the_old_network_is_the_one_before_the_experience_and_counts_as_state(cls, tmp_path):
    found = []
    harness = harness_of(cls, scenario="class_incremental")
    strategy = harness.strategy

    def train_on(experience, batches):
        before = copy_of(strategy.old_network)
        cls.train_on(strategy, experience, batches)
        assert states_equal(before, strategy.old_network.state_dict())
        assert not states_equal(before, strategy.model.state_dict())
        found.append(before)

    ends = []
    strategy.train_on = train_on
    harness.listener = EachExperience(lambda _: ends.append(copy_of(strategy.model)))
    harness.run()
    assert states_equal(found[1:], ends[:-1])
    state = strategy.state_dict()
    assert states_equal(state["old_network"], state["model"])
    save_state(tmp_path / "state", state)
    other = harness_of(cls, scenario="class_incremental")
    other.strategy.setup(other.scenario_stream.info, other._factory)
    other.strategy.load_state_dict(load_state(tmp_path / "state"))
    assert states_equal(other.strategy.state_dict(), state)


@pytest.mark.parametrize("cls", [LwF, LwFMC])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_distillation_acts_from_the_second_experience_on(cls, scenario):
    found = []
    harness = harness_of(
        cls,
        scenario=scenario,
        listener=EachExperience(lambda _: found.extend(harness.strategy.constraints().values())),
    )
    harness.run()
    assert found[0] == 0.0
    assert all(0 < value < float("inf") for value in found[1:])


def test_old_answers_change_less_than_in_finetuning():
    """What is promised: the old task's outputs on the new task's samples."""
    data = conflicting_stream(count=100)
    inputs, drift = data.tasks[1].train.inputs, {}
    for name, cls, options in (("finetune", Finetune, {}), ("lwf", LwF, {"warmup_epochs": 0, "alpha": 3.0})):
        answers = []
        harness = harness_of(cls, data=data, train=TrainSettings(epochs=5, batch_size=10), **options)
        harness.listener = EachExperience(
            lambda _, answers=answers, harness=harness: answers.append(
                harness.strategy.predictor(0)(inputs)[:, :2].softmax(1)
            )
        )
        harness.run()
        drift[name] = float((answers[1] - answers[0]).abs().mean())
    assert drift["lwf"] < 0.5 * drift["finetune"]


def test_lwf_mc_has_the_old_sigmoids_and_the_labels_as_targets():
    strategy, _ = in_second_experience(LwFMC, "class_incremental")
    disturb(strategy)
    batch = a_batch()
    old = strategy.old_network.heads.linear(strategy.old_network.features(batch.inputs)).sigmoid()
    p = strategy.model.heads.linear(strategy.model.features(batch.inputs)).sigmoid()
    targets = torch.cat([old[:, :4], F.one_hot(batch.targets - 4, 2).float()], dim=1)
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    assert torch.allclose(strategy.loss(batch), expected, atol=1e-5)


def test_lwf_mc_leaves_out_outputs_that_are_not_opened():
    harness = harness_of(LwFMC, scenario="class_incremental", data=low_rank_stream(n_tasks=2), hidden=())
    strategy = harness.strategy
    strategy.setup(harness.scenario_stream.info, harness._factory)
    (experience, *_) = harness.scenario_stream.experiences(None)
    strategy.start(experience)
    with torch.no_grad():
        strategy.model.heads.linear.weight.zero_()
    # Both outputs that answer say 1/2: ln 2 each, whatever the label; the other two are not in the mean.
    assert strategy.loss(a_batch(task=0)).item() == pytest.approx(math.log(2.0))


def test_where_tasks_share_labels_lwf_mc_takes_the_mean_of_both_targets():
    past, present = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    assert share_of_old(past, present).tolist() == [1.0, 0.5, 0.0]
    strategy, _ = in_second_experience(LwFMC, "domain_incremental")
    disturb(strategy)
    batch = a_batch(task=0)
    old = strategy.old_network(batch.inputs).sigmoid()
    outputs = strategy.model(batch.inputs)
    labels = F.one_hot(batch.targets, 2).float()
    either = [F.binary_cross_entropy_with_logits(outputs, targets) for targets in (old, labels)]
    assert torch.allclose(strategy.loss(batch), (either[0] + either[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_lwf_mc_learns_and_keeps_more_than_finetuning_where_that_forgets(scenario):
    train = TrainSettings(epochs=5, batch_size=10)
    options = {"data": conflicting_stream(count=200), "scenario": scenario, "train": train, "lr": 0.05}
    results, _ = run_of(LwFMC, **options)
    finetuned, _ = run_of(Finetune, **options)
    assert results.R[0][0] > 0.8
    assert results.R[1][1] > 0.8
    assert results.R[1][0] > finetuned.R[1][0] + 0.1 or finetuned.R[1][0] > 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": -1.0}, "alpha=-1.0 is not a weight"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"temperature": 0.0}, "temperature=0.0 is not a temperature. Use more than 0"),
        ({"warmup_epochs": -2}, "warmup_epochs=-2 is too small"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(LwF, **options)


@pytest.mark.parametrize("cls", [LwF, LwFMC])
def test_streams_without_classes_are_refused(cls):
    samples = Samples(torch.randn(20, 20), torch.randint(0, 2, (20, 2)))
    tasks = tuple(TaskData(str(t), samples, samples, ("a", "b")) for t in range(2))
    data = StreamData(tasks, PrepareVectors(), objective=MultiLabel(), labels="shared")
    with pytest.raises(UsageError, match="distils answers among classes, but low rank is multi_label"):
        run_of(cls, data=data, scenario="domain_incremental")
