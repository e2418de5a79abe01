"""IBCL: distances and regions by hand, re-use, models without training, trade-offs that follow the preference."""

import itertools
import math

import pytest
import torch

from cl_suite import UnseenTask, UsageError, build_network
from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.metering import Meter
from cl_suite.records.record import RunRecord
from strategies.preferences.ibcl import IBCL, normalised_distance, region_mass, rms_distance
from strategies.preferences.mean_field import MeanField, Parameters, convex_combination, divergence, wasserstein
from tests.helpers.preference_streams import harness_asked

FAST = {"lr": 0.1, "threshold": 0.0, "samples": 3}


def gaussian(mean, deviation):
    return MeanField(torch.tensor(mean), torch.tensor(deviation))


@pytest.fixture(scope="module")
def learned():
    harness = harness_asked(IBCL, **FAST)
    harness.run()
    return harness


# ---- by hand


def test_wasserstein_in_closed_form():
    a, b = gaussian([0.0, 3.0], [1.0, 2.0]), gaussian([4.0, 3.0], [1.0, 5.0])
    assert wasserstein(a, b) == pytest.approx(5.0)
    assert rms_distance(a, b) == pytest.approx(5.0 / math.sqrt(2))
    assert normalised_distance(a, b) == pytest.approx((4.0 + 3.0) / 2)
    assert wasserstein(a, a) == 0.0


def test_divergence_in_closed_form_is_the_mean_of_the_sampled_one():
    q, p = gaussian([0.5, -1.0], [0.5, 2.0]), gaussian([0.0, 0.0], [1.0, 1.5])
    by_hand = sum(
        math.log(sp / sq) + (sq**2 + m**2) / (2 * sp**2) - 0.5 for m, sq, sp in ((0.5, 0.5, 1.0), (-1.0, 2.0, 1.5))
    )
    assert float(divergence(q, p)) == pytest.approx(by_hand, rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    draws = [q.sample(generator) for _ in range(4000)]
    sampled = sum(float(q.log_density(theta) - p.log_density(theta)) for theta in draws) / len(draws)
    assert sampled == pytest.approx(by_hand, abs=0.1)


def test_combination_of_means_and_deviations():
    parts = [gaussian([0.0, 2.0], [1.0, 2.0]), gaussian([4.0, 2.0], [3.0, 2.0])]
    linear = convex_combination(parts, [0.25, 0.75])
    assert linear.mean.tolist() == [3.0, 2.0] and linear.deviation.tolist() == [2.5, 2.0]
    independent = convex_combination(parts, [0.25, 0.75], power=2)
    assert independent.deviation[0].item() == pytest.approx(math.hypot(0.25, 0.75 * 3.0))


@pytest.mark.parametrize(
    ("alpha", "convention", "mass", "half"),
    [(None, "code", 0.01, 0.012533), (0.01, "code", 0.01, 0.012533), (0.01, "theory", 0.99, 2.575829)],
)
def test_both_conventions_of_the_region(alpha, convention, mass, half):
    """The program's alpha is the mass itself, the paper's what is left outside."""
    assert region_mass(0.01, alpha, convention) == pytest.approx(mass)
    low, high = gaussian([1.0], [2.0]).interval(mass)
    assert (high - low).item() / 4.0 == pytest.approx(half, rel=1e-4)


def test_a_network_answers_with_other_parameters_in_place_of_its_own():
    network = build_network("mlp", (4,), 3, hidden=(5,))
    network.heads.open()
    parameters, inputs = Parameters(network, method="this"), torch.randn(7, 4)
    assert parameters.vector().numel() == parameters.count == 4 * 5 + 5 + 5 * 3 + 3
    assert parameters.answers(parameters.vector(), inputs).equal(network(inputs))
    assert not parameters.answers(torch.zeros(parameters.count), inputs).any()


# ---- learning


def test_it_learns_both_tasks(learned):
    first, second = zip(*learned.evaluations["preferences"].record()["front"], strict=True)
    assert max(first) > 0.85 and max(second) > 0.85


def test_a_model_follows_the_preference_between_tasks_that_contradict_each_other():
    harness = harness_asked(IBCL, own=0.0, preferences={"grid": 11}, **FAST)
    harness.run()
    first, second = zip(*harness.evaluations["preferences"].record()["front"], strict=True)
    assert first[0] > 0.75 and second[-1] > 0.75  # all weight on a task
    assert first[-1] < 0.2 and second[0] < 0.2
    slack = 0.02  # two test samples
    assert all(later <= now + slack for now, later in itertools.pairwise(first))
    assert all(later >= now - slack for now, later in itertools.pairwise(second))


def test_passes_over_the_data_are_the_number_of_priors_however_many_preferences(learned):
    many = harness_asked(IBCL, preferences={"grid": 41}, **FAST)
    many.run()
    for harness in (learned, many):
        entries = harness.evaluations["preferences"].entries
        assert [entry["passes"] for entry in entries] == [3.0, 3.0]
        assert [entry["steps"] for entry in entries] == [3 * 8 * 3] * 2  # priors x epochs x batches
        assert [entry["steps_in_answering"] for entry in entries] == [0, 0]
    assert many.evaluations["preferences"].entries[1]["asked"] == 41
    assert many.results.R == learned.results.R


def test_a_model_for_a_preference_needs_no_gradient_and_no_data(learned, monkeypatch):
    strategy = learned.strategy
    before = [(each.mean.clone(), each.deviation.clone()) for each in strategy.extreme_points]

    def refuse(*arguments, **options):
        raise AssertionError("something was learned")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.optim.Adam, "step", refuse)
    meter = Meter()
    with meter.metering():
        models = [strategy.predictor_for((0.3, 0.7)), *strategy.predictors_for((0.3, 0.7))]
    assert meter.samples_drawn == meter.optimizer_steps == 0
    assert len(models) == 1 + FAST["samples"]
    inputs = torch.randn(5, 12)
    for model in models:
        assert not model(inputs).requires_grad
    assert all(
        kept.mean.equal(m) and kept.deviation.equal(s)
        for kept, (m, s) in zip(strategy.extreme_points, before, strict=True)
    )


def test_models_are_the_same_whoever_has_drawn_before(learned):
    inputs = torch.randn(5, 12)
    first = [model(inputs) for model in learned.strategy.predictors_for((0.5, 0.5))]
    torch.randn(100)
    learned.strategy.predictors_for((0.2, 0.8))
    again = [model(inputs) for model in learned.strategy.predictors_for((0.5, 0.5))]
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(first[1])


def test_all_weight_on_a_task_is_the_middle_of_its_own_posteriors(learned):
    strategy = learned.strategy
    means = torch.stack([strategy.extreme_points[role].mean for role in strategy.roles[0]]).mean(0)
    inputs = torch.randn(5, 12)
    expected = strategy.parameters.answers(means, inputs)
    assert torch.allclose(strategy.predictor_for((1.0, 0.0))(inputs), expected, atol=1e-5)


def test_priors_of_a_task_are_the_posteriors_of_the_one_before():
    met = []

    class Watched(IBCL):
        def _priors(self):
            met.append(super()._priors())
            return met[-1]

    harness = harness_asked(Watched, **FAST)
    harness.run()
    strategy, (first, second) = harness.strategy, met
    assert [float(prior.deviation[0]) for prior in first] == pytest.approx([0.2, 0.25, 0.3])
    assert not any(prior.mean.any() for prior in first)
    assert all(prior is strategy.extreme_points[role] for prior, role in zip(second, strategy.roles[0], strict=True))


def test_a_narrow_region_has_models_alike_and_a_wide_one_has_not():
    spread = {}
    for mass in (0.01, 0.99):
        harness = harness_asked(IBCL, **{**FAST, "hdr_mass": mass, "samples": 20})
        harness.run()
        best, worst = (harness.evaluations["preferences"].entries[1]["weighted"][name] for name in ("best", "worst"))
        spread[mass] = best - worst
    assert spread[0.01] < 0.02 < spread[0.99]


@pytest.mark.parametrize("combine", ["linear", "mixture", "sum_of_normals"])
@pytest.mark.parametrize("sample", ["per_element", "tensor_scalar"])
def test_draws_stay_in_the_region(learned, combine, sample, monkeypatch):
    strategy = learned.strategy
    for name, value in {"combine": combine, "sample": sample, "hdr_mass": 0.5}.items():
        monkeypatch.setattr(strategy.config, name, value)
    drawn = []
    monkeypatch.setattr(strategy.parameters, "predictor", lambda theta: drawn.append(theta))
    strategy.predictors_for((0.5, 0.5))
    parts, weights = strategy._chosen((0.5, 0.5))
    regions = parts if combine == "mixture" else [strategy._combined(parts, weights)]
    for theta in drawn:
        inside = [bool(((low <= theta) & (theta <= high)).all()) for low, high in (r.interval(0.5) for r in regions)]
        assert any(inside)
    low, high = regions[0].interval(0.5)
    share = (drawn[0] - low) / (high - low)
    weights_of_head = share[: strategy.parameters.sizes[0]]
    if combine != "mixture":
        assert (weights_of_head.std() < 1e-3) == (sample == "tensor_scalar")


# ---- storage


def kept_with(threshold, distance="rms"):
    harness = harness_asked(IBCL, n_tasks=3, **{**FAST, "threshold": threshold, "distance": distance})
    harness.run()
    return harness.strategy


def test_the_higher_the_threshold_the_fewer_posteriors_and_none_is_replaced_at_zero():
    growth = [kept_with(threshold).growth for threshold in (0.0, 0.03, 1e9)]
    assert growth[0] == [3, 6, 9]
    assert growth[2] == [1, 1, 1]
    assert growth[0][-1] >= growth[1][-1] >= growth[2][-1]


def test_a_replaced_posterior_is_answered_for_by_the_one_that_stands_for_it():
    strategy = kept_with(1e9)
    assert strategy.roles == [[0, 0, 0]] * 3
    inputs = torch.randn(5, 16)
    answers = [strategy.predictor_for(w)(inputs) for w in ((1, 0, 0), (0, 0, 1), (0.2, 0.3, 0.5))]
    assert all(torch.allclose(answers[0], other, atol=1e-5) for other in answers)


def test_a_threshold_that_replaces_everything_is_said():
    said = []

    class Listener:
        def __getattr__(self, name):
            return said.append if name == "note" else lambda *arguments: None

    harness = harness_asked(IBCL, **{**FAST, "threshold": 1e9})
    harness.listener = Listener()
    harness.run()
    assert sum("strategy.threshold=1000000000.0 replaced every posterior of experience 1" in text for text in said) == 1


def test_the_program_s_kl_pulls_the_posterior_harder_to_the_prior():
    """It begins at N(0, 1), the prior's deviation is 0.2; closed and sampled estimates agree."""
    deviation = {}
    for scale in ("exact", "per_batch"):
        for estimate in ("closed", "sampled"):
            options = {**FAST, "lr": 0.02, "kl_scale": scale, "kl_estimate": estimate, "init": "standard"}
            harness = harness_asked(IBCL, **options)
            harness.run()
            deviation[scale, estimate] = float(harness.strategy.extreme_points[0].deviation.mean())
    assert deviation["per_batch", "closed"] < deviation["exact", "closed"] < 1.0
    assert deviation["per_batch", "sampled"] == pytest.approx(deviation["per_batch", "closed"], rel=0.25)


def test_a_mixture_draws_each_task_as_often_as_the_preference_wants_it(learned, monkeypatch):
    strategy = learned.strategy
    monkeypatch.setattr(strategy.config, "combine", "mixture")
    monkeypatch.setattr(strategy.config, "samples", 400)
    monkeypatch.setattr(strategy.parameters, "predictor", lambda theta: theta)
    means = torch.stack([part.mean for part in strategy.extreme_points])
    for preference in ((1.0, 0.0), (0.25, 0.75)):
        nearest = [int((means - theta).norm(dim=1).argmin()) for theta in strategy.predictors_for(preference)]
        assert sum(place < 3 for place in nearest) / 400 == pytest.approx(preference[0], abs=0.08)
    assert min(int((means - strategy.predictor_for((0.1, 0.9))).norm(dim=1).argmin()), 3) == 3


def test_variances_add_up_over_posteriors_also_where_one_stands_for_another():
    strategy = kept_with(1e9)
    strategy.config.combine = "sum_of_normals"
    deviation = strategy._combined(*strategy._chosen((1, 0, 0))).deviation
    assert torch.allclose(deviation, strategy.extreme_points[0].deviation / math.sqrt(3))


# ---- refused, resumed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior_deviations": []}, "strategy.prior_deviations=[] are not deviations"),
        ({"prior_deviations": [0.2, -1.0]}, "strategy.prior_deviations=[0.2, -1.0] are not deviations"),
        ({"threshold": -1.0}, "strategy.threshold=-1.0 is not a distance"),
        ({"hdr_mass": 0.0}, "strategy.hdr_mass=0.0 leaves an empty or unbounded region"),
        ({"hdr_mass": 1.0}, "strategy.hdr_mass=1.0 leaves an empty or unbounded region"),
        ({"alpha": 0.0, "alpha_convention": "theory"}, "strategy.alpha=0.0 leaves an empty or unbounded region"),
        ({"alpha_convention": "theory"}, "says what strategy.alpha means, and there is none"),
        ({"samples": 0}, "strategy.samples=0 draws no model"),
        ({"combine": "linaer"}, "strategy.combine=linaer is not known. Did you mean linear?"),
        ({"distance": "l1"}, "strategy.distance=l1 is not known"),
        ({"lr": 0.0}, "strategy.lr=0.0 is not possible"),
        ({"kl_weight": -1.0}, "strategy.kl_weight=-1.0 is not possible"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, message):
    with pytest.raises(UsageError) as problem:
        harness_asked(IBCL, **{**FAST, **options}).run()
    assert message in str(problem.value)


def test_batch_norm_is_refused():
    harness = harness_asked(IBCL, **FAST)
    with pytest.raises(UsageError, match="ibcl keeps distributions over parameters"):
        harness.strategy.setup(harness.scenario_stream.info, lambda: build_network("conv_small", (3, 8, 8), 2, width=4))


def test_nothing_is_answered_before_anything_is_learned():
    harness = harness_asked(IBCL, **FAST)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    with pytest.raises(UnseenTask):
        harness.strategy.predictor()
    with pytest.raises(UnseenTask):
        harness.strategy.predictor_for((1.0,))


def test_resumed_it_gives_bitwise_the_same_scores_and_trade_offs(tmp_path, learned):
    broken = harness_asked(IBCL, checkpoint=tmp_path / "state", **FAST)
    broken.meter.max_samples = 3 * 8 * 60 + 100
    with pytest.raises(BudgetExceeded):
        broken.run()
    assert len(broken.results.R) == 1
    resumed = harness_asked(IBCL, checkpoint=tmp_path / "state", **FAST)
    assert resumed.run().R == learned.results.R
    for one, other in zip(
        resumed.evaluations["preferences"].entries, learned.evaluations["preferences"].entries, strict=True
    ):
        for name in ("preferences", "scores", "weighted", "per_task", "passes", "steps"):
            assert one[name] == other[name], name


def test_what_is_kept_is_counted(learned):
    strategy = learned.strategy
    count = strategy.parameters.count
    assert strategy.model_parameters() == 6 * 2 * count
    facts = strategy.diagnostics()
    assert facts["posteriors_kept"] == [3, 6] and facts["posteriors_trained"] == [3, 6]
    assert facts["bytes_kept"] == [3 * 8 * count, 6 * 8 * count]
    assert learned.state_bytes()["means"] + learned.state_bytes()["deviations"] == facts["bytes_kept"][-1]
    plain = RunRecord("ibcl", "s", "domain_incremental", "quick", 0, diagnostics=facts).to_dict()["diagnostics"]
    assert plain["distance_to_nearest_kept"][0][0] is None  # nothing was kept before the first
