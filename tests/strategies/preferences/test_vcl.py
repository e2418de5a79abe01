"""VCL: each posterior is the next prior, answers are means over fixed draws, and VCL-reg weighs the likelihoods."""

import pytest
import torch

import strategies.preferences.vcl as module
from cl_suite import Batch, TrainSettings, UnseenTask, UsageError, build_network
from cl_suite.conformance.case import conformance_stream, states_equal
from strategies.preferences.vcl import VCL
from tests.helpers.conflicting_streams import conflicting_stream
from tests.helpers.preference_runs import (
    ENDS,
    accuracy,
    another_second_task,
    answers,
    assert_resumes_alike,
    told_run,
)
from tests.helpers.projection_streams import harness_of

REG = {"per_preference": True}


def inputs_of_nine():
    return torch.randn(9, 12, generator=torch.Generator().manual_seed(2))


def test_the_prior_of_a_task_is_the_posterior_of_the_one_before(monkeypatch):
    fit, found = module.fit_posterior, []

    def watched(*arguments, **options):
        posterior = fit(*arguments, **options)
        found.append((options["prior"], options["start"], posterior))
        return posterior

    monkeypatch.setattr(module, "fit_posterior", watched)
    strategy = told_run(VCL, data=conflicting_stream(n_tasks=3), plain=True, prior_deviation=0.3).strategy
    (first, _, q1), (second, start, q2), (third, _, q3) = found
    assert not first.mean.any() and first.deviation.unique().tolist() == pytest.approx([0.3])
    assert second is q1 and start is q1 and third is q2 and strategy.posterior is q3
    assert not torch.equal(q1.mean, q2.mean)


def test_every_posterior_of_a_preference_has_the_same_prior_and_the_even_one_is_passed_on(monkeypatch):
    fit, found = module.fit_posterior, []

    def watched(*arguments, **options):
        found.append((options["prior"], fit(*arguments, **options)))
        return found[-1][1]

    monkeypatch.setattr(module, "fit_posterior", watched)
    strategy = told_run(VCL, **REG).strategy
    assert len(found) == 4 and all(prior is found[0][1] for prior, _ in found[1:])
    assert strategy.posterior is found[1][1]
    assert strategy.diagnostics()["trainings"] == [1, 3] and strategy.diagnostics()["models_kept"] == 3


def test_answers_are_the_mean_probability_of_the_draws_whatever_the_global_generator():
    strategy = told_run(VCL, plain=True, samples=4).strategy
    inputs = inputs_of_nine()
    torch.manual_seed(1)
    found = strategy.predictor()(inputs)
    before = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(strategy.predictor()(inputs), found)
    draws = strategy.predictors_for((0.3, 0.7))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn from it
    assert len(draws) == 4 and not torch.equal(draws[0](inputs), draws[1](inputs))
    mean = torch.stack([draw(inputs).softmax(1) for draw in draws]).mean(0)
    assert torch.allclose(found.exp(), mean, atol=1e-6)
    assert torch.allclose(found.exp().sum(1), torch.ones(9), atol=1e-5)


def test_one_model_for_all_is_the_same_for_every_preference_announced_or_not():
    harness = told_run(VCL)
    strategy, inputs = harness.strategy, inputs_of_nine()
    assert strategy.diagnostics()["trainings"] == [1, 1]
    for one, other in zip(strategy.predictors_for((0.9, 0.1)), strategy.predictors_for((0.2, 0.8)), strict=True):
        assert torch.equal(one(inputs), other(inputs))
    assert torch.equal(strategy.predictor_for((0.9, 0.1))(inputs), strategy.predictor()(inputs))
    assert harness.meter.samples_drawn == strategy.expected_samples(harness.scenario_stream.info)
    with pytest.raises(UsageError, match=r"sums to 1\.1"):
        strategy.predictors_for((0.9, 0.2))


def test_even_preference_is_plain_vcl_bit_for_bit():
    plain = told_run(VCL, plain=True).strategy
    reg = told_run(VCL, preferences=[(0.5, 0.5)], **REG).strategy
    assert states_equal(reg.state_dict(), plain.state_dict())
    assert torch.equal(answers(reg, (0.5, 0.5)), answers(plain, (0.5, 0.5)))


def test_the_surprise_is_the_weighted_sum_over_tasks_times_their_number():
    strategy = told_run(VCL, plain=True, memory_per_task=5).strategy
    inputs = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    batch, theta = Batch(inputs, torch.arange(8) % 2, inputs), strategy.posterior.mean
    strategy.visible = torch.cat([strategy.visible, strategy.visible[:1]])  # a third task is being learned
    own = torch.nn.functional.cross_entropy(strategy.parameters.answers(theta, inputs), batch.targets, reduction="sum")
    terms = []
    for task in (0, 1):
        kept = strategy.memory.draw([task])
        logits = strategy.parameters.answers(theta, kept.inputs)
        terms.append(8 * torch.nn.functional.cross_entropy(logits, kept.targets))
    found = strategy._surprise((0.2, 0.5, 0.3))(theta, batch)
    assert torch.allclose(found, 3 * (0.2 * terms[0] + 0.5 * terms[1] + 0.3 * own), rtol=1e-5)


def test_a_new_task_that_weighs_nothing_has_no_influence():
    data = conflicting_stream()
    for count in (0, 20):
        one = told_run(VCL, data=data, memory_per_task=count, **REG).strategy
        other = told_run(VCL, data=another_second_task(data), memory_per_task=count, **REG).strategy
        assert torch.equal(answers(one, (1.0, 0.0)), answers(other, (1.0, 0.0)))
        assert not torch.equal(answers(one, (0.0, 1.0)), answers(other, (0.0, 1.0)))


def test_the_front_moves_with_the_preference():
    train = TrainSettings(epochs=10, batch_size=10)
    options = {"data": conflicting_stream(count=200), "train": train, "lr": 0.01} | REG
    harness = told_run(VCL, **options)
    old, new = ([accuracy(harness, w, task) for w in ENDS] for task in (0, 1))
    assert old[0] > old[1] + 0.1 and new[1] > new[0] + 0.1, (old, new)


def test_a_strong_prior_holds_the_posterior():
    train = TrainSettings(epochs=10, batch_size=10)
    shifts = []
    for weight in (0.0, 1.0, 1000.0):
        strategy = told_run(VCL, plain=True, train=train, lr=0.01, kl_weight=weight, init="prior").strategy
        shifts.append(float(strategy.posterior.mean.norm()))
    assert shifts[0] > shifts[1] > 2 * shifts[2]


def test_what_was_not_announced_is_refused_in_one_line():
    strategy = told_run(VCL, **REG).strategy
    with pytest.raises(UsageError, match="trains one for each, and was not told of it"):
        strategy.predictors_for((0.25, 0.75))
    harness = harness_of(VCL, data=conflicting_stream(), scenario="domain_incremental")
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    with pytest.raises(UnseenTask):
        harness.strategy.predictors_for((1.0,))


@pytest.mark.parametrize("options", [{}, REG, {"memory_per_task": 0}])
def test_a_resumed_run_answers_every_preference_alike(options, tmp_path):
    assert_resumes_alike(VCL, tmp_path, asked=[*ENDS, (0.5, 0.5)], **options)


def test_where_the_task_is_known_only_its_classes_compete():
    harness = harness_of(VCL, data=conformance_stream(), scenario="task_incremental", lr=0.01)
    harness.run()
    outputs = harness.strategy.predictor(1)(inputs_of_nine())
    assert torch.isfinite(outputs).tolist() == [[False, False, True, True, False, False]] * 9
    assert torch.allclose(outputs.exp().sum(1), torch.ones(9), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior_deviation": 0.0}, "prior_deviation=0.0 is not possible"),
        ({"samples": 0}, "samples=0 draws no model"),
        ({"memory_per_task": -1}, "memory_per_task=-1 is a number of samples"),
        ({"kl_scale": "exakt"}, "kl_scale=exakt is not known. Did you mean exact"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        told_run(VCL, **options)


def test_batch_norm_is_refused():
    harness = harness_of(VCL)
    with pytest.raises(UsageError, match="batch norm keeps statistics"):
        harness.strategy.setup(harness.scenario_stream.info, lambda: build_network("conv_small", (3, 8, 8), 6))
