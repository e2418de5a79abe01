"""Strategies that train a model for each preference: what is trained, from where, and that the weights weigh."""

import pytest
import torch

from cl_suite import Batch, TrainSettings, UnseenTask, UsageError, build_network, flatten
from cl_suite.conformance.case import conformance_stream, states_equal
from strategies.bounds.finetune import Finetune
from strategies.preferences.preference_ewc import PreferenceEWC
from strategies.preferences.preference_joint import PreferenceJoint
from strategies.preferences.preference_replay import PreferenceReplay
from tests.helpers.conflicting_streams import conflicting_stream, copy_of, image_harness
from tests.helpers.preference_runs import (
    ENDS,
    accuracy,
    announce_to,
    another_second_task,
    answers,
    assert_resumes_alike,
    told_run,
)
from tests.helpers.projection_streams import harness_of, low_rank_stream

ALL = [PreferenceReplay, PreferenceEWC, PreferenceJoint]
FROM_TRUNK = [PreferenceReplay, PreferenceEWC]
TRAIN = TrainSettings(epochs=3, batch_size=10)  # 6 batches of a task's 60 samples


def in_force(strategy, preference):
    strategy.prefer(tuple(preference))
    return strategy


def gradient(strategy, batch):
    return flatten(torch.autograd.grad(strategy.loss(batch), list(strategy.model.parameters())))


@pytest.mark.parametrize("cls", ALL)
def test_each_distinct_preference_is_one_training_and_even_weights_always(cls):
    harness = told_run(cls, train=TRAIN, preferences=[*ENDS, (0.5, 0.5), (1.0, 0.0), (1.0 - 1e-8, 1e-8)])
    assert harness.strategy.diagnostics()["trainings"] == [1, 3]
    assert harness.strategy.diagnostics()["models_kept"] == 3
    second = 2 if cls is PreferenceJoint else 1  # it goes over both tasks
    assert harness.meter.optimizer_steps == 3 * 6 + 3 * 3 * 6 * second


@pytest.mark.parametrize("cls", ALL)
def test_where_nothing_is_announced_only_even_weights_are_trained_for(cls):
    harness = told_run(cls, plain=True)
    strategy = harness.strategy
    assert strategy.diagnostics()["trainings"] == [1, 1]
    inputs = torch.randn(9, 12, generator=torch.Generator().manual_seed(2))
    assert torch.equal(answers(strategy, (0.5, 0.5)), strategy.predictor()(inputs))
    assert harness.meter.samples_drawn == strategy.expected_samples(harness.scenario_stream.info)
    announced = told_run(cls, preferences=[(0.5, 0.5)]).strategy
    assert states_equal(announced.state_dict(), strategy.state_dict())


@pytest.mark.parametrize("cls", ALL)
def test_every_training_starts_alike_with_an_optimiser_of_its_own(cls):
    harness = harness_of(cls, data=conflicting_stream(), scenario="domain_incremental")
    strategy, begun, optimizers, ended = harness.strategy, [], [], []
    announce_to(strategy, ENDS)
    train_on, finish = strategy.train_on, strategy.finish

    def watched(experience, batches):
        begun.append(copy_of(strategy.model))
        optimizers.append(strategy.optimizer)
        assert not strategy.optimizer.state
        train_on(experience, batches)
        ended.append(copy_of(strategy.model))

    finished = []
    strategy.train_on, strategy.finish = (
        watched,
        lambda experience: (finished.append(experience.index), finish(experience)),
    )
    harness.run()
    assert len(begun) == 4 and len(set(map(id, optimizers))) == 4
    assert states_equal(begun[1], begun[2]) and states_equal(begun[1], begun[3])
    assert states_equal(begun[1], begun[0] if cls is PreferenceJoint else ended[0])
    assert states_equal(ended[1], copy_of(strategy.model))  # even weights are passed on
    assert finished == [0, 1]


@pytest.mark.parametrize("cls", FROM_TRUNK)
def test_who_prefers_the_new_task_alone_gets_finetuning_bit_for_bit(cls):
    finetuned = told_run(Finetune, plain=True).strategy
    strategy = told_run(cls, preferences=[(0.0, 1.0)]).strategy
    inputs = torch.randn(9, 12, generator=torch.Generator().manual_seed(2))
    assert torch.equal(answers(strategy, (0.0, 1.0)), finetuned.predictor()(inputs))
    assert not torch.equal(answers(strategy, (0.5, 0.5)), finetuned.predictor()(inputs))


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (PreferenceReplay, {}),
        (PreferenceReplay, {"project": True}),
        (PreferenceEWC, {}),
        (PreferenceJoint, {}),
    ],
)
def test_a_new_task_that_weighs_nothing_has_no_influence(cls, options):
    data = conflicting_stream()
    one = told_run(cls, data=data, **options).strategy
    other = told_run(cls, data=another_second_task(data), **options).strategy
    assert torch.equal(answers(one, (1.0, 0.0)), answers(other, (1.0, 0.0)))
    assert not torch.equal(answers(one, (0.0, 1.0)), answers(other, (0.0, 1.0)))


@pytest.mark.parametrize("cls", ALL)
def test_the_gradient_is_the_weighted_sum_of_the_tasks_gradients(cls):
    options = {"cap": False} if cls is PreferenceEWC else {}
    harness = told_run(cls, plain=True, data=low_rank_stream(), **options)
    strategy = harness.strategy
    if cls is PreferenceJoint:
        batch, tasks = strategy.memory.draw([0, 1, 2]), 3
    else:
        inputs = torch.randn(8, 20, generator=torch.Generator().manual_seed(1))
        batch, tasks = Batch(inputs, torch.arange(8) % 2, inputs), 4  # a fourth task, which is being learned
    with torch.no_grad():
        for parameter in strategy.model.parameters():
            parameter.add_(0.05)  # from where EWC's latest anchor pulls too
    alone = [gradient(in_force(strategy, torch.eye(tasks)[k].tolist()), batch) for k in range(tasks)]
    assert all(each.abs().max() > 1e-4 for each in alone)
    preference = [0.1, 0.2, 0.7] if tasks == 3 else [0.1, 0.0, 0.3, 0.6]
    if cls is PreferenceEWC:
        theta, kept = (
            flatten(list(strategy.model.parameters())).detach(),
            zip(strategy.penalty.importances, strategy.penalty.anchors, strict=True),
        )
        for each, (F, anchor) in zip(alone, kept, strict=False):
            assert torch.allclose(each, 2 * 100 * F * (theta - anchor), atol=1e-6)
    found = gradient(in_force(strategy, preference), batch)
    expected = sum(weight * each for weight, each in zip(preference, alone, strict=True))
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_memory_weighs_as_much_as_its_preference_whatever_it_holds():
    strategy = told_run(PreferenceReplay, plain=True, memory_per_task=7).strategy
    memory = strategy.memory
    replay = memory.draw([0, 1])
    shares = memory.shares(torch.tensor([0.25, 0.5]), replay)
    assert shares.tolist() == pytest.approx([0.25 / 7] * 7 + [0.5 / 7] * 7)
    alone = in_force(strategy, [0.0, 1.0, 0.0]).replayed()
    assert len(alone) == 7 and alone.extras["order"].tolist() == [1] * 7
    assert memory.bytes_stored() == 14 * (12 * 4 + 3 * 8)  # inputs; target, task and order
    with pytest.raises(UsageError, match="memory_per_task=0 is a number of samples"):
        told_run(PreferenceReplay, memory_per_task=0)


def test_all_of_a_small_task_is_kept_and_each_replay_is_counted():
    harness = told_run(PreferenceReplay, plain=True, memory_per_task=500)
    assert len(harness.strategy.memory.samples) == 120
    assert harness.meter.samples_replayed == 3 * 6 * 60


def test_with_project_no_step_goes_against_the_memories():
    harness = harness_of(
        PreferenceReplay, data=conflicting_stream(), scenario="domain_incremental", project=True, momentum=0.0, lr=0.1
    )
    strategy, found = harness.strategy, []
    announce_to(strategy, [(0.8, 0.2), (0.0, 1.0)])
    adjust = strategy.adjust_gradients

    def gradients():
        return torch.cat([p.grad.flatten() for p in strategy.model.parameters()])

    def watched(batch):
        before = gradients()
        adjust(batch)
        if len(strategy.preference) == 1 or not strategy.preference[0]:
            assert torch.equal(before, gradients())  # nothing is remembered, or it weighs nothing
            return
        reference = torch.autograd.grad(
            strategy.remembered(strategy.memory.draw([0])), list(strategy.model.parameters())
        )
        reference = flatten(reference)
        found.append((float(before @ reference), float(gradients() @ reference)))

    strategy.adjust_gradients = watched
    harness.run()
    assert len(found) == 2 * 18
    violated = [(before, after) for before, after in found if before < -1e-6]
    assert violated and all(abs(after) < 1e-4 * abs(before) + 1e-6 for before, after in violated)
    assert all(before == after for before, after in found if before > 1e-6)
    assert 0 < strategy.diagnostics()["projected_share_of_steps"] <= 1
    assert strategy.constraints()["cosine with the memories' gradient"] != 0


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (PreferenceReplay, {}),
        (PreferenceReplay, {"project": True}),
        (PreferenceEWC, {}),
        (PreferenceJoint, {}),
    ],
)
def test_the_front_moves_with_the_preference(cls, options):
    train = TrainSettings(epochs=5, batch_size=10)
    harness = told_run(cls, data=conflicting_stream(count=200), train=train, **options)
    front = [[accuracy(harness, w, task) for w in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))] for task in (0, 1)]
    old, new = front
    assert old[0] >= old[1] - 0.02 and old[1] >= old[2] - 0.02 and old[0] > old[2] + 0.1, front
    assert new[2] >= new[1] - 0.02 and new[1] >= new[0] - 0.02 and new[2] > new[0] + 0.1, front


@pytest.mark.parametrize("cls", ALL)
def test_what_was_not_announced_is_refused_in_one_line(cls):
    harness = harness_of(cls, data=conflicting_stream(), scenario="domain_incremental")
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    with pytest.raises(UnseenTask):
        harness.strategy.predictor_for((1.0,))
    strategy = told_run(cls).strategy
    with pytest.raises(UsageError, match=r"trains one for each, and was not told of it\. Announce it") as raised:
        strategy.predictor_for((0.25, 0.75))
    assert "\n" not in str(raised.value) and "(0.25, 0.75)" in str(raised.value)
    strategy.predictor_for((1.0 - 1e-7, 1e-7))
    with pytest.raises(UsageError, match="of 3 weights does not fit 2"):
        strategy.predictor_for((0.2, 0.2, 0.6))
    with pytest.raises(UsageError, match="does not fit 2 learned tasks"):
        told_run(cls, preferences=[(1.0,)])


@pytest.mark.parametrize("cls", ALL)
def test_a_resumed_run_answers_every_preference_alike(cls, tmp_path):
    assert_resumes_alike(cls, tmp_path, asked=[*ENDS, (0.5, 0.5)])


def test_the_models_of_preferences_have_their_own_statistics_of_batch_norm():
    strategy = PreferenceReplay(PreferenceReplay.Config())
    harness = image_harness(strategy)
    announce_to(strategy, ENDS)
    harness.run()
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    tensors = strategy.models.of((0.0, 1.0))
    predictor = strategy.predictor_for((0.0, 1.0))
    found = predictor(images)
    other = build_network("conv_small", (3, 8, 8), 4, width=4)
    other.load_state_dict(tensors)
    assert torch.equal(found, other.eval()(images))
    moved = [name for name, value in strategy.model.state_dict().items() if not torch.equal(value, tensors[name])]
    assert any("running_mean" in name for name in moved)
    before = copy_of(strategy.model)
    assert torch.equal(predictor(images), found) and states_equal(before, strategy.model.state_dict())


def test_the_rate_drops_anew_in_each_training():
    harness = harness_of(
        PreferenceReplay, data=conflicting_stream(), scenario="domain_incremental", lr=0.1, lr_drops=[1], lr_drop=0.5
    )
    strategy, rates = harness.strategy, []
    announce_to(strategy, ENDS)
    strategy.after_step = lambda batch: rates.append(strategy.optimizer.param_groups[0]["lr"])
    harness.run()
    assert rates == ([0.1] * 6 + [0.05] * 12) * 4


def test_joint_weighs_samples_so_that_each_task_counts_as_the_preference_says():
    strategy = told_run(PreferenceJoint, plain=True).strategy
    everything = strategy.memory.draw([0, 1])
    losses = strategy.losses(everything).detach()
    expected = 0.3 * losses[:60].mean() + 0.7 * losses[60:].mean()
    assert torch.allclose(in_force(strategy, [0.3, 0.7]).loss(everything), expected)


def test_the_weighted_penalty_acts_from_the_second_experience_on():
    found = []
    for data in (conflicting_stream(n_tasks=1), conflicting_stream(), conflicting_stream(n_tasks=3)):
        strategy = told_run(PreferenceEWC, plain=True, data=data).strategy
        found.append(strategy.constraints()["weighted EWC penalty"])
        assert len(strategy.penalty.importances) == len(strategy.penalty.anchors) == len(data.tasks)
    assert found[0] == 0.0 and all(0 < each < float("inf") for each in found[1:])


@pytest.mark.parametrize("scenario", ["task_incremental", "class_incremental"])
@pytest.mark.parametrize("cls", ALL)
def test_disjoint_classes_are_no_obstacle(cls, scenario):
    harness = harness_of(cls, data=conformance_stream(), scenario=scenario)
    learn = harness.strategy.learn

    def told(experience):
        last = experience.index
        harness.strategy.announce([tuple(float(k == last) for k in range(last + 1))])
        learn(experience)

    harness.strategy.learn = told
    harness.run()
    assert torch.isfinite(answers(harness.strategy, (0.0, 0.0, 1.0))).any(1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"ewc_lambda": -1.0}, "ewc_lambda=-1.0 is not a weight"), ({"fisher_samples": -1}, "fisher_samples=-1")],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        told_run(PreferenceEWC, **options)
    harness = harness_of(PreferenceEWC)
    with pytest.raises(UsageError, match=r"preference_ewc needs a gradient for each sample, but backbone\.1"):
        harness.strategy.setup(harness.scenario_stream.info, lambda: build_network("resnet18_gpm", (3, 32, 32), 6))
