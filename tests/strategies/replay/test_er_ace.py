"""ER-ACE: who competes with whom, by hand; where that makes no difference; and what it is for."""

import math

import pytest
import torch

from cl_suite import (
    Batch,
    MultiLabel,
    PrepareVectors,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
    build_network,
)
from cl_suite.conformance.case import conformance_stream, states_equal
from cl_suite.core.scenario_stream import ScenarioStream
from strategies.bounds.finetune import Finetune
from strategies.replay.er_ace import ERACE
from tests.helpers.projection_streams import harness_of

LOGITS = (1.0, 2.0, 3.0, 4.0)


def by_hand(*, scenario="class_incremental", n_tasks=1, objective=None, **options):
    """Return the strategy with one linear layer whose four outputs are 1, 2, 3, 4 whatever the input."""
    names = tuple("abcd"[: 4 // n_tasks])
    samples = Samples(torch.zeros(4, 2), torch.arange(4) % len(names))
    data = StreamData(
        tuple(TaskData(str(t), samples, samples, names) for t in range(n_tasks)),
        PrepareVectors(),
        **({} if objective is None else {"objective": objective}),
    )
    scenario_stream = ScenarioStream(
        "four classes",
        data,
        Scenario(scenario),
        train=TrainSettings(),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    strategy = ERACE(ERACE.Config(**options))
    strategy.setup(scenario_stream.info, lambda: build_network("mlp", (2,), 4, hidden=()))
    with torch.no_grad():
        strategy.model.heads.linear.bias.copy_(torch.tensor(LOGITS))
    strategy.model.heads.open()
    return strategy


def batch(*targets, task=None):
    zeros = torch.zeros(len(targets), 2)
    return Batch(zeros, torch.tensor(targets), zeros, None if task is None else torch.full((len(targets),), task))


def among(target, *classes):
    """Return the cross-entropy of `target` where only `classes` compete."""
    return math.log(sum(math.exp(LOGITS[c]) for c in classes)) - LOGITS[target]


def test_incoming_samples_compete_within_their_batch_and_replayed_ones_among_all_classes_met():
    strategy = by_hand()
    assert strategy.loss(batch(0, 1)).item() == pytest.approx((among(0, 0, 1) + among(1, 0, 1)) / 2)
    strategy.buffer.add(batch(0))
    # Class 3 was never met: it competes with neither, although its output is open.
    expected = among(2, 2) + among(0, 0, 1, 2)
    assert strategy.loss(batch(2, 2)).item() == pytest.approx(expected)
    expected = (among(1, 1, 2) + among(2, 1, 2)) / 2 + among(0, 0, 1, 2)
    assert strategy.loss(batch(1, 2)).item() == pytest.approx(expected)


def test_by_option_classes_not_met_compete_with_both():
    strategy = by_hand(unmet_compete=True)
    assert strategy.loss(batch(0, 1)).item() == pytest.approx((among(0, *range(4)) + among(1, *range(4))) / 2)
    strategy.buffer.add(batch(0))
    assert strategy.loss(batch(2)).item() == pytest.approx(among(2, 2, 3) + among(0, 0, 1, 2, 3))


def test_where_the_task_is_known_replayed_samples_compete_within_their_own():
    strategy = by_hand(scenario="task_incremental", n_tasks=2)
    strategy.loss(batch(0, 1, task=0))
    strategy.buffer.add(batch(0, task=0))
    expected = (among(2, 2, 3) + among(3, 2, 3)) / 2 + among(0, 0, 1)
    assert strategy.loss(batch(2, 3, task=1)).item() == pytest.approx(expected)


def test_new_samples_do_not_push_old_classes_away():
    strategy = by_hand()
    strategy.loss(batch(0, 1))
    strategy.loss(batch(2, 3)).backward()
    gradient = strategy.model.heads.linear.bias.grad
    assert gradient[:2].tolist() == [0.0, 0.0]
    assert gradient[2] > 0 > gradient[3] or gradient[3] > 0 > gradient[2]


def test_without_a_second_class_anywhere_nothing_is_learned_and_nothing_is_nan():
    strategy = by_hand()
    strategy.buffer.add(batch(1))
    loss = strategy.loss(batch(1, 1))
    loss.backward()
    assert loss.item() == 0.0
    assert strategy.model.heads.linear.bias.grad.abs().max() == 0.0


def test_the_first_step_has_no_replay_and_each_later_one_a_batch():
    train = TrainSettings(epochs=2, batch_size=10)
    harness = harness_of(ERACE, data=conformance_stream(), scenario="task_agnostic", train=train, replay_batch=5)
    strategy, held, sizes = harness.strategy, [], []
    loss, setup = strategy.loss, strategy.setup

    def watched(each):
        held.append(strategy.buffer.seen)
        return loss(each)

    def watched_setup(info, build_model):
        setup(info, build_model)
        strategy.model.backbone.register_forward_hook(
            lambda module, inputs, output: sizes.append(len(output)) if module.training else None
        )

    strategy.loss, strategy.setup = watched, watched_setup
    harness.run()
    info = harness.scenario_stream.info
    assert held[:3] == [0, 10, 20]  # inserted after the step
    assert sizes[:5] == [10, 10, 5, 10, 5]  # a forward pass for each term
    assert harness.meter.samples_replayed == 5 * (info.planned_steps - 1)
    assert strategy.expected_samples(info) == round(1.5 * info.planned_samples)


def test_the_classes_met_are_part_of_the_state():
    strategy, other = by_hand(), by_hand()
    strategy.loss(batch(0, 2))
    strategy.buffer.add(batch(0, 2))
    other.load_state_dict(strategy.state_dict())
    assert states_equal(other.state_dict(), strategy.state_dict())
    assert other.loss(batch(1)).item() == strategy.loss(batch(1)).item()
    assert other.loss(batch(1)).item() > by_hand().loss(batch(1)).item()


def test_it_forgets_less_than_finetuning():
    means = []
    for cls in (Finetune, ERACE):
        setting = {"train": TrainSettings(epochs=4, batch_size=10), "hidden": (32,), "lr": 0.02}
        harness = harness_of(cls, scenario="class_incremental", data=conformance_stream(), **setting)
        means.append(sum(harness.run().R[-1]) / 3)
    assert means[1] > 0.8 > 0.4 > means[0], means


def test_several_labels_per_sample_are_refused():
    with pytest.raises(UsageError, match="needs one class per sample; four classes is trained by multi_label"):
        by_hand(objective=MultiLabel())
