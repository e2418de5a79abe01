"""GPM, TRGP and CUBER: what each paper promises, on streams whose inputs span few directions."""

import dataclasses

import pytest
import torch
from torch import nn

from cl_suite import Requirement, RunError, TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from cl_suite.core.scenario import Scenario
from cl_suite.networks.network import build_network
from strategies.projection.cuber import CUBER, penalty_slope, regime
from strategies.projection.gpm import GPM
from strategies.projection.plateau_schedule import PlateauSchedule
from strategies.projection.projected_network import ScaledConv2d, ScaledLinear
from strategies.projection.regimes import BACKWARD, CORRELATED, UNRELATED
from strategies.projection.trgp import TRGP
from strategies.projection.trust_region import cosine, projection_shares, trust_region
from tests.helpers.projection_streams import EachExperience, Notes, harness_of, low_rank_stream, run_of

ALL = [GPM, TRGP, CUBER]
EVERYTHING = {"threshold": 1.0, "threshold_last": 1.0, "first_task_rank": "paper"}  # the basis holds every input


def snapshots(cls, take, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the strategy."""
    found = []
    harness = harness_of(cls, listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness.strategy


def weights(strategy):
    return {name: W.clone() for name, W in strategy.projection.network.weights().items()}


@pytest.mark.parametrize("cls", [GPM, TRGP])
def test_weights_do_not_move_along_directions_of_earlier_tasks(cls):
    (before, after, _), strategy = snapshots(cls, weights)
    moved = 0.0
    for name, space in strategy.projection.spaces.items():
        M = space.protected({0})
        assert M.shape[1] > 0
        assert ((after[name] - before[name]) @ M).abs().max() < 1e-5
        moved += float((after[name] - before[name]).norm())
    assert moved > 0.01  # it did learn


@pytest.mark.parametrize("cls", [GPM, TRGP])
def test_layer_outputs_and_logits_of_old_inputs_stay_where_the_basis_holds_them_all(cls):
    inputs = low_rank_stream().tasks[0].test.inputs

    def answers(strategy):
        return weights(strategy)["backbone.1"] @ inputs.T, strategy.predictor(0)(inputs)[:, :2]

    (first, *_, last), strategy = snapshots(cls, answers, **EVERYTHING)
    assert strategy.projection.spaces["backbone.1"].rank == 8  # three tasks of 4 directions, two shared each time
    for before, after in zip(first, last, strict=True):
        assert torch.allclose(after, before, atol=1e-5)
    (first, *_, last), _ = snapshots(cls, answers, threshold=1e-9, threshold_last=1e-9)  # nothing is protected
    for before, after in zip(first, last, strict=True):
        assert (after - before).abs().max() > 1e-3


def test_with_identity_scaling_the_layers_answer_as_they_are():
    generator = torch.Generator().manual_seed(0)
    S = torch.linalg.qr(torch.randn(18, 5, generator=generator)).Q
    maps = torch.randn(3, 2, 8, 8, generator=generator)
    conv, linear = ScaledConv2d(2, 4, 3, bias=False), ScaledLinear(18, 4, bias=False)
    vectors = torch.randn(6, 18, generator=generator)
    plain = conv(maps), linear(vectors)
    conv.scalings = linear.scalings = [(S, torch.eye(5))]
    assert torch.allclose(conv(maps), plain[0], atol=1e-6)
    assert torch.allclose(linear(vectors), plain[1], atol=1e-6)


def test_scaled_layers_compute_the_effective_weight_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    bases = [torch.linalg.qr(torch.randn(18, r, generator=generator)).Q for r in (5, 3)]
    scalings = [(S, torch.randn(S.shape[1], S.shape[1], generator=generator)) for S in bases]
    maps, vectors = torch.randn(3, 2, 8, 8, generator=generator), torch.randn(6, 18, generator=generator)
    for layer, plain, inputs in (
        (ScaledConv2d(2, 4, 3, bias=False), nn.functional.conv2d, maps),
        (ScaledLinear(18, 4, bias=False), nn.functional.linear, vectors),
    ):
        W = layer.weight.detach().flatten(1)
        effective = W + sum(W @ S @ (Q - torch.eye(len(Q))) @ S.T for S, Q in scalings)
        layer.scalings = scalings
        assert torch.allclose(layer(inputs), plain(inputs, effective.view(layer.weight.shape)), atol=1e-5)


def test_trgp_answers_old_tasks_as_when_they_were_learned():
    """The kept scaling on the final weights gives task 1, which reused task 0, the logits it had."""
    inputs = low_rank_stream().tasks[1].test.inputs

    def answers(strategy):
        return strategy.predictor(1)(inputs)[:, 2:4] if len(strategy.tasks_learned) > 1 else None

    (_, learned, later), strategy = snapshots(TRGP, answers, **EVERYTHING, eps1=0.0, hidden=(40,))
    assert torch.allclose(later, learned, atol=1e-5)
    Qs = strategy.projection.reuse.state_dict()["1"]["backbone.1"]
    assert [entry["task"] for entry in Qs] == [0]
    assert not torch.allclose(Qs[0]["Q"], torch.eye(len(Qs[0]["Q"])), atol=1e-4)  # the scaling was learned
    with strategy.projection.network.scaled({}):
        plain = strategy.model(inputs)[:, 2:4]
    assert not torch.allclose(plain, learned, atol=1e-4)  # and it matters


@pytest.mark.parametrize("options", [{}, {"code_compat": True}, {"scaling": False}, {"trust_region": 1, "eps1": 0.1}])
def test_cuber_without_regime_3_is_trgp_bit_for_bit(options):
    trgp, one = run_of(TRGP, **options)
    cuber, other = run_of(CUBER, eps2=1.5, **options)
    assert cuber.R == trgp.R
    assert states_equal(one.model.state_dict(), other.model.state_dict())
    assert states_equal(one.projection.state_dict()["reuse"], other.projection.state_dict()["reuse"])
    assert states_equal(one.projection.state_dict()["spaces"], other.projection.state_dict()["spaces"])


def test_cuber_moves_old_weights_only_where_its_condition_holds_and_logs_which():
    _, strategy = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty_weight=0.0, lr=0.05, regime3_layers=["backbone.1"])
    diagnostics = strategy.diagnostics()
    in_regime_3 = []
    for number, regimes in enumerate(diagnostics["regimes"]):
        moved = diagnostics["old_weights_moved"][number + 1]
        for layer, values in regimes.items():
            for task, found in enumerate(values):
                if found == BACKWARD:
                    assert layer == "backbone.1"
                    in_regime_3.append(moved[layer][str(task)])
                else:
                    assert moved[layer][str(task)] < 1e-5, (layer, number, task)
    assert max(in_regime_3) > 1e-3
    assert diagnostics["regime_counts"]["backward transfer"] == len(in_regime_3)


@pytest.mark.parametrize("squared", [False, True])
def test_the_penalty_gradient_is_that_of_the_norm(squared):
    generator = torch.Generator().manual_seed(0)
    W0, W = torch.randn(2, 5, 9, generator=generator)
    S = torch.linalg.qr(torch.randn(9, 3, generator=generator)).Q
    W.requires_grad_()
    norm = ((W - W0) @ S @ S.T).norm()
    (2.0 * (norm**2 if squared else norm)).backward()
    moved = (W.detach() - W0) @ S
    slope = penalty_slope(moved.norm(), weight=2.0, squared=squared, steepest=1e6)
    assert torch.allclose(slope * moved @ S.T, W.grad, atol=1e-5)
    at_start = penalty_slope(torch.zeros(()), weight=2.0, squared=squared, steepest=1e6)
    assert torch.isfinite(at_start)  # no NaN at W = W0


@pytest.mark.parametrize("penalty", ["fro", "fro_sq"])
def test_a_strong_penalty_makes_cuber_trgp_instead_of_noise(penalty):
    _, strategy = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty=penalty, penalty_weight=1e4, lr=0.05)
    assert any(
        regime == BACKWARD for each in strategy.projection.log.regimes for values in each.values() for regime in values
    )
    moved = [value for each in strategy.moved[1:] for layer in each.values() for value in layer.values()]
    assert max(moved) < 0.02
    _, plain = run_of(CUBER, eps1=0.2, eps2=-1.0, penalty_weight=10.0, proximal=False, lr=0.05)
    overshot = [value for each in plain.moved[1:] for layer in each.values() for value in layer.values()]
    assert max(overshot) > max(moved)


def test_the_penalty_holds_old_weights_back():
    moved = {}
    for weight in (0.0, 5.0):
        options = {"eps1": 0.2, "eps2": -1.0, "penalty": "fro_sq", "penalty_weight": weight, "lr": 0.05}
        _, strategy = run_of(CUBER, **options)
        moved[weight] = max(max(layer.values(), default=0.0) for layer in strategy.moved[1].values())
    assert moved[5.0] < 0.5 * moved[0.0]


def test_regimes_follow_projection_and_correlation():
    assert regime(0.4, 0.9, eps1=0.5, eps2=0.0) == UNRELATED
    assert regime(0.6, -0.1, eps1=0.5, eps2=0.0) == CORRELATED
    assert regime(0.6, None, eps1=0.5, eps2=0.0) == CORRELATED
    assert regime(0.6, 0.0, eps1=0.5, eps2=0.0) == BACKWARD
    assert trust_region([0.1, 0.9, 0.7, 0.8], eps1=0.5, size=2) == [1, 3]
    assert trust_region([0.1, 0.9], eps1=0.95, size=2) == []


def test_projection_shares_are_norms_of_the_projected_gradient_and_cosines_survive_zero():
    _, strategy = run_of(GPM)
    space = strategy.projection.spaces["backbone.1"]
    gradient = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))
    S = space.basis_of(0)
    expected = float((gradient @ S @ S.T).norm() / gradient.norm())
    assert projection_shares(gradient, space)[0] == pytest.approx(expected, abs=1e-6)
    assert projection_shares(torch.zeros(16, 20), space) == [0.0, 0.0, 0.0]
    assert cosine(gradient, -2 * gradient) == pytest.approx(-1.0)
    assert cosine(torch.zeros(16, 20), gradient) == float("-inf")


def test_a_recheck_protects_tasks_again_whose_gradient_turned():
    options = {"eps1": 0.2, "eps2": -1.0, "lr": 0.05, "train": TrainSettings(epochs=4, batch_size=10)}
    _, never = run_of(CUBER, **options)
    assert never.left_regime3 == []
    harness = harness_of(CUBER, regime3_recheck_every=1, **options)
    strategy, recheck = harness.strategy, harness.strategy._recheck

    def stricter(experience, epoch):  # in regime 3 by any sign at first; to stay there gradients must agree fully
        strategy.config.eps2 = 1.1
        recheck(experience, epoch)
        strategy.config.eps2 = -1.0

    strategy._recheck = stricter
    after, finish = [], strategy._recheck

    def watch(experience, epoch):
        strategy_before = weights(strategy)
        finish(experience, epoch)
        after.append((experience.index, epoch, strategy_before))

    strategy._recheck = watch
    ends = []
    harness.listener = EachExperience(lambda _: ends.append(weights(strategy)))
    harness.run()
    assert {entry["epoch"] for entry in strategy.left_regime3} == {1}
    assert not any(strategy.free.values())
    # From the first recheck of task 1 on, nothing moves any more along what task 0 uses.
    (then,) = [before for index, epoch, before in after if (index, epoch) == (1, 1)]
    space = strategy.projection.spaces["backbone.1"]
    assert ((ends[1]["backbone.1"] - then["backbone.1"]) @ space.basis_of(0)).abs().max() < 1e-5
    assert ((ends[1]["backbone.1"] - ends[0]["backbone.1"]) @ space.basis_of(0)).abs().max() > 1e-3


@pytest.mark.parametrize("cls", [TRGP, CUBER])
def test_the_best_state_is_restored_with_its_scaling(cls):
    """With validation losses 3, 1, 2, 2 what is kept are the weights and Qs of the second epoch."""
    harness = harness_of(cls, train=TrainSettings(epochs=4, batch_size=10, validation=0.3), eps1=0.0, lr=0.1)
    strategy, losses, states = harness.strategy, iter([3.0, 1.0, 2.0, 2.0] * 3), []

    def start(experience):
        cls.start(strategy, experience)
        states.clear()
        strategy.projection._validation_loss = measure

    def measure(experience):
        reuse = strategy.projection.reuse
        states.append((weights(strategy), [Q.detach().clone() for Q in reuse.parameters()]))
        return next(losses)

    strategy.start = start
    harness.run()
    best_weights, best_Qs = states[1]
    assert states_equal(best_weights, weights(strategy))
    Qs = [entry["Q"] for entries in strategy.projection.reuse.state_dict()["2"].values() for entry in entries]
    assert best_Qs and states_equal(best_Qs, Qs)
    assert not states_equal(best_Qs, states[3][1])  # a later state was another


def test_regime_3_can_be_limited_to_the_trust_region():
    _, every = run_of(CUBER, eps1=0.0, eps2=-1.0)
    _, near = run_of(CUBER, eps1=0.0, eps2=-1.0, regime3_scope="trust_region", trust_region=1)
    cosines = every.projection.log.cosines[1]["backbone.1"], near.projection.log.cosines[1]["backbone.1"]
    assert None not in cosines[0] and cosines[1].count(None) == 1


def test_correlation_may_use_another_number_of_samples_than_the_bases():
    results = {}
    for count in (0, 7, 20):
        harness = harness_of(CUBER, samples=20, correlation_samples=count)
        harness.run()
        results[count] = harness.meter.samples_drawn
    assert results[20] == results[0]
    assert results[7] == results[0] + 2 * (7 - 20) + 3 * 7  # at the start of two tasks, and beside three bases


def test_the_released_program_scales_no_layer_where_the_first_is_not_scaled():
    _, strategy = run_of(TRGP, eps1=0.0)
    reuse = strategy.projection.reuse
    reuse._matrices[2].pop("backbone.1")
    assert set(reuse.of(2)) == {"backbone.3"}
    reuse._code_compat = True
    assert reuse.of(2) == {}
    assert strategy.projection.freezes_norms
    assert not run_of(TRGP, code_compat=True)[1].projection.freezes_norms


@pytest.mark.parametrize("cls", ALL)
def test_a_full_layer_is_named_once_and_the_run_goes_on(cls):
    notes, found = Notes(), []
    without_regime_3 = {"eps2": 2.0} if cls is CUBER else {}
    harness = harness_of(cls, listener=notes, hidden=(6, 5), **EVERYTHING, **without_regime_3)
    notes.row = lambda experience, scores: found.append(weights(harness.strategy)["backbone.3"])
    results = harness.run()
    assert [text for text in notes.texts if "backbone.3" in text] == [
        "backbone.3: all 6 input directions are in use, none is free"
    ]
    assert "backbone.3" in harness.strategy.diagnostics()["full_layers"]
    assert torch.allclose(found[2], found[0], atol=1e-6)
    assert len(results.R) == 3 and None not in results.R[-1]


@pytest.mark.parametrize("cls", ALL)
def test_a_task_with_fewer_samples_than_asked_for_uses_them_all(cls):
    _, strategy = run_of(cls, data=low_rank_stream(count=30), samples=500)
    assert strategy.diagnostics()["samples_behind_bases"] == [30, 30, 30]


@pytest.mark.parametrize("cls", ALL)
def test_nan_in_a_layers_inputs_fails_with_its_name(cls):
    harness = harness_of(cls)

    def spoil(experience):
        with torch.no_grad():
            harness.strategy.model.backbone[1].weight.fill_(float("nan"))

    finish = harness.strategy.finish
    harness.strategy.finish = lambda experience: (spoil(experience), finish(experience))
    with pytest.raises(RunError, match=r"backbone\.3: a layer's inputs hold NaN"):
        harness.run()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0.0}, "threshold=0.0 is not a share"),
        ({"layer_thresholds": [0.9]}, "has 1 entries, but 2 layers are projected: backbone.1, backbone.3"),
        ({"layer_thresholds": [0.9, 1.2]}, "layer_thresholds=1.2 is not a share"),
        ({"samples_per_layer": [1, 2, 3]}, "has 3 entries"),
        ({"samples": 0}, "samples=0 is too small"),
        ({"bn_mode": "bacth"}, "Did you mean batch"),
        ({"first_task_rank": "papers"}, "Did you mean paper"),
        ({"lr_factor": 1.0}, "lr_factor=1.0"),
        ({"lr": 0.0}, "lr=0.0 is not a learning rate"),
        ({"lr_min": -1.0}, "lr_min=-1.0"),
        ({"hidden": ()}, "no layer to project"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(GPM, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty": "l1"}, "penalty=l1"),
        ({"regime3_scope": "some"}, "regime3_scope=some"),
        ({"regime3_layers": ["fc9"]}, "names fc9, which is not projected. Use some of backbone.1, backbone.3"),
        ({"penalty_weight": -1.0}, "0 or more"),
        ({"penalty_weight": float("nan")}, "0 or more"),
        ({"eps1": 7.0}, "eps1=7.0"),
        ({"trust_region": -1}, "trust_region=-1"),
    ],
)
def test_options_of_cuber_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        run_of(CUBER, **options)


def test_shared_outputs_are_projected_and_outputs_of_their_own_are_not():
    _, own = run_of(GPM)
    assert "heads.linear" not in own.projection.layers
    _, shared = run_of(GPM, scenario=Scenario.DOMAIN_INCREMENTAL)
    assert "heads.linear" in shared.projection.layers
    assert Requirement.TASK_ID_AT_TEST in CUBER.requires and Requirement.TASK_ID_AT_TEST not in GPM.requires


@pytest.mark.parametrize("mode", ["batch", "first_task_running"])
def test_batch_normalisation_follows_its_mode_and_its_affine_part_is_frozen(mode):
    found = []
    harness = image_harness(GPM, found, bn_mode=mode)
    harness.run()
    first, *later = found
    for each in later:
        assert all(torch.equal(each[name], value) for name, value in first.items())
    assert bool([name for name in first if "running" in name]) == (mode == "first_task_running")
    found.clear()
    image_harness(GPM, found, bn_mode=mode, freeze_bn_after_first=False).run()
    assert any(not torch.equal(found[-1][name], value) for name, value in found[0].items() if "weight" in name)


@pytest.mark.parametrize("cls", [TRGP, CUBER])
def test_convolutions_are_projected_and_reused(cls):
    harness = image_harness(cls, [], eps1=0.0, eps2=1.5) if cls is CUBER else image_harness(cls, [], eps1=0.0)
    harness.run()
    Qs = harness.strategy.projection.reuse.state_dict()
    convolutions = [name for name, layer in harness.strategy.projection.layers.items() if isinstance(layer, nn.Conv2d)]
    assert convolutions and all(Qs["1"][name] for name in convolutions)


def image_harness(cls, found, **options):
    """A run on tiny images with batch normalisation; after each experience its state goes into `found`."""
    from cl_suite import PrepareImages, Samples, StreamData, TaskData
    from cl_suite.core.scenario_stream import ScenarioStream
    from cl_suite.core.seeding import Seeds
    from cl_suite.run.harness import Harness

    generator = torch.Generator().manual_seed(0)

    def draw(count):
        images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images, torch.arange(count) % 2)

    tasks = tuple(TaskData(str(t), draw(24), draw(8), ("a", "b")) for t in range(3))
    prepare = PrepareImages(mean=(0.5,) * 3, std=(0.25,) * 3)
    scenario_stream = ScenarioStream(
        "images",
        StreamData(tasks, prepare),
        Scenario.TASK_INCREMENTAL,
        train=TrainSettings(epochs=1, batch_size=8),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )

    def keep(_):
        state = harness.strategy.model.state_dict()
        norms = {n for n, m in harness.strategy.model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        found.append({n: v.clone() for n, v in state.items() if n.rpartition(".")[0] in norms})

    harness = Harness(
        cls(cls.Config(**options)),
        scenario_stream,
        lambda: build_network("conv_small", (3, 8, 8), 6, width=4),
        listener=EachExperience(keep),
    )
    return harness


def test_the_plateau_schedule_divides_the_rate_ends_and_restores_the_best_state():
    value, rates = torch.zeros(()), []
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = PlateauSchedule([value], patience=2, factor=10.0, lr_min=1e-3)
    for loss in (5.0, 4.0, 4.5, 4.5, 4.2, 4.1, 9.0):
        rates.append(optimizer.param_groups[0]["lr"])
        value.add_(1)
        assert not schedule.after_epoch(loss, optimizer)
    schedule.restore()
    # 5, 4 are better; 4.5, 4.5 use the patience up; so do 4.2, 4.1: the third rate would be 0.001.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    assert value == 2
    assert schedule.after_epoch(9.0, optimizer)  # the patience is used up again, and 0.0001 is below the least rate


def test_validation_chooses_the_state_and_the_record_says_so():
    train = TrainSettings(epochs=3, batch_size=10, validation=0.2)
    harness = harness_of(GPM, train=train)
    harness.run()
    assert harness.strategy.model_selection() == "validation"
    _, without = run_of(GPM)
    assert without.model_selection() == "none"


def test_without_momentum_or_weight_decay():
    for cls in ALL:
        names = {field.name for field in dataclasses.fields(cls.Config)}
        assert not names & {"momentum", "weight_decay", "optimizer"}


@pytest.mark.parametrize("cls", ALL)
def test_diagnostics_say_what_is_kept_and_draw_it(cls):
    _, strategy = run_of(cls)
    found = strategy.diagnostics()
    for layer in found["bases"].values():
        assert layer["directions_after_task"] == sorted(layer["directions_after_task"])
        assert layer["share_of_input_space"] == layer["directions_after_task"][-1] / layer["input_size"] <= 1
        assert layer["bytes"] >= 4 * layer["input_size"] * layer["directions_after_task"][-1]
    assert found["figures"]["capacity"]["x"] == [1, 2, 3]
    assert ("regimes" in found["figures"]) == (cls is not GPM)


def test_the_map_of_regimes_is_a_lower_triangle_per_layer():
    _, strategy = run_of(CUBER)
    figure = strategy.diagnostics()["figures"]["regimes"]
    assert figure["panels"] == ["backbone.1", "backbone.3"]
    for panel in figure["values"]:
        assert [[value is None for value in row] for row in panel] == [[False, True], [False, False]]
