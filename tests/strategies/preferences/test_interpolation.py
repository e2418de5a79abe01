"""Interpolation: a preference's network is the average of the tasks' networks, and nothing is trained for it."""

import pytest
import torch

from cl_suite import ModelPredictor, TrainSettings, UnseenTask, UsageError
from cl_suite.conformance.case import conformance_stream, states_equal
from strategies.bounds.finetune import Finetune
from strategies.preferences.interpolation import Interpolation
from tests.helpers.conflicting_streams import conflicting_stream, copy_of, image_harness
from tests.helpers.preference_runs import ENDS, accuracy, answers, assert_resumes_alike, told_run
from tests.helpers.projection_streams import Notes, harness_of


def watched_run(**options):
    """Run on three tasks; return (harness, networks before each training, networks after it)."""
    data = conflicting_stream(n_tasks=3)
    harness = harness_of(Interpolation, data=data, scenario="domain_incremental", **options)
    strategy, begun, ended = harness.strategy, [], []
    train, finish = strategy.train, strategy.finish
    strategy.train = lambda experience: (begun.append(copy_of(strategy.model)), train(experience))
    strategy.finish = lambda experience: (ended.append(copy_of(strategy.model)), finish(experience))
    harness.run()
    return harness, begun, ended


def test_who_prefers_one_task_alone_gets_its_network_bit_for_bit():
    harness, _, ended = watched_run()
    strategy = harness.strategy
    inputs = torch.randn(9, 16, generator=torch.Generator().manual_seed(2))
    for task, state in enumerate(ended):
        found = strategy.predictor_for([float(k == task) for k in range(3)])(inputs)
        strategy.model.load_state_dict(state)
        assert torch.equal(found, ModelPredictor(strategy.model)(inputs))


def test_a_linear_network_answers_with_the_average_of_the_answers():
    strategy = told_run(Interpolation, plain=True, hidden=()).strategy
    expected = 0.3 * answers(strategy, (1.0, 0.0)) + 0.7 * answers(strategy, (0.0, 1.0))
    assert torch.allclose(answers(strategy, (0.3, 0.7)), expected, atol=1e-5)
    assert not torch.allclose(answers(strategy, (1.0, 0.0)), expected, atol=1e-2)


def test_nothing_is_drawn_stepped_or_changed_for_a_preference():
    harness = told_run(Interpolation, plain=True)
    counts, state = harness.counted(), {k: v for k, v in harness.strategy.state_dict().items() if k != "networks"}
    before = copy_of(harness.strategy.model)
    with harness.meter.metering():
        for step in range(11):
            harness.strategy.predictor_for((step / 10, 1 - step / 10))(torch.zeros(1, 12))
    assert harness.counted() == counts
    assert states_equal(before, copy_of(harness.strategy.model))
    assert states_equal(state, {k: v for k, v in harness.strategy.state_dict().items() if k != "networks"})


@pytest.mark.parametrize("start", ["previous", "first", "initial"])
def test_a_tasks_network_begins_where_it_is_told_to(start):
    _, begun, ended = watched_run(start=start)
    expected = {"previous": ended[:2], "first": [ended[0]] * 2, "initial": [begun[0]] * 2}[start]
    assert states_equal(begun[1], expected[0]) and states_equal(begun[2], expected[1])


def test_from_one_network_to_the_next_it_is_finetuning():
    harness, _, ended = watched_run()
    plain = harness_of(Finetune, data=conflicting_stream(n_tasks=3), scenario="domain_incremental")
    plain.run()
    assert states_equal(ended[2], plain.strategy.model.state_dict())
    assert harness.meter.samples_drawn == plain.meter.samples_drawn


def test_the_front_moves_with_the_preference():
    train = TrainSettings(epochs=5, batch_size=10)
    harness = told_run(Interpolation, plain=True, data=conflicting_stream(count=200), train=train)
    old, new = ([accuracy(harness, w, task) for w in ENDS] for task in (0, 1))
    assert old[0] > old[1] + 0.1 and new[1] > new[0] + 0.1, (old, new)


def test_named_tasks_answer_with_their_own_networks_and_none_with_even_weights():
    harness = told_run(Interpolation, plain=True)
    inputs = torch.randn(9, 12, generator=torch.Generator().manual_seed(2))
    strategy = harness.strategy
    assert torch.equal(strategy.predictor()(inputs), answers(strategy, (0.5, 0.5)))
    told = harness_of(Interpolation, data=conformance_stream(), scenario="task_incremental")
    told.run()
    own = told.strategy.predictor_for((0.0, 1.0, 0.0))(inputs)
    found = told.strategy.predictor(1)(inputs)
    assert torch.isfinite(found).tolist() == [[False, False, True, True, False, False]] * 9
    assert torch.equal(found[:, 2:4], own[:, 2:4])


def test_statistics_of_batch_norm_are_averaged_too_and_the_user_is_told():
    strategy = Interpolation(Interpolation.Config())
    harness = image_harness(strategy)
    harness.listener = notes = Notes()
    harness.run()
    assert any("running statistics" in text for text in notes.texts)
    name = next(name for name in strategy.networks[0] if name.endswith("running_mean"))
    one, other = (network[name] for network in strategy.networks)
    assert not torch.equal(one, other)
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = strategy.predictor_for((0.25, 0.75))(images)
    averaged = {n: 0.25 * v + 0.75 * strategy.networks[1][n] for n, v in strategy.networks[0].items()}
    strategy.model.load_state_dict(averaged, strict=False)
    assert torch.equal(found, ModelPredictor(strategy.model)(images))


@pytest.mark.parametrize("start", ["previous", "first", "initial"])
def test_a_resumed_run_answers_every_preference_alike(start, tmp_path):
    assert_resumes_alike(Interpolation, tmp_path, asked=[*ENDS, (0.3, 0.7)], announced=None, start=start)


def test_what_cannot_be_answered_is_refused():
    harness = harness_of(Interpolation, data=conflicting_stream(), scenario="domain_incremental")
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    with pytest.raises(UnseenTask):
        harness.strategy.predictor_for((1.0,))
    with pytest.raises(UsageError, match="of 3 weights does not fit 2"):
        told_run(Interpolation, plain=True).strategy.predictor_for((0.2, 0.2, 0.6))
    with pytest.raises(UsageError, match=r"start=previos is not known\. Did you mean previous"):
        told_run(Interpolation, plain=True, start="previos")
