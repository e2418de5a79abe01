"""What SupSup, SSNeT and ExSSNeT share: budget, options, answers, inference, accounting, resuming."""

import pytest
import torch

from cl_suite import (
    Requirement,
    Scenario,
    UnseenTask,
    UsageError,
)
from cl_suite.core.checkpoint import load_state, save_state
from cl_suite.core.listener import Hooks
from strategies.isolation.exssnet import ExSSNeT, SSNeT
from strategies.isolation.supsup import SupSup
from tests.helpers.mask_runs import FAMILY, accuracy, clusters, images, learn_all, learned, logits_of, presented, ready


@pytest.mark.parametrize("cls", FAMILY)
def test_every_variant_draws_the_same_number_of_samples(cls):
    scenario_stream = presented()
    strategy, hooks = ready(cls, scenario_stream), Hooks()
    for experience in scenario_stream.experiences(hooks):
        strategy.learn(experience)
    assert hooks.meter.samples_drawn == 3 * 4 * 200


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ExSSNeT, {"mask_share": 1.5}, "mask_share"),
        (ExSSNeT, {"weight_training": "some"}, "Use exclusive, all or none"),
        (ExSSNeT, {"union_last": -1}, "union_last"),
        (SSNeT, {"ewc_samples": 0}, "ewc_samples"),
        (SupSup, {"density": 0.0}, "density"),
        (SupSup, {"min_per_row": -1}, "min_per_row"),
        (SupSup, {"density_mode": "erdos_renyi", "er_scale": 0.0}, "er_scale"),
        (SupSup, {"knn_neighbours": 0}, "knn_neighbours"),
        (SupSup, {"knn_share": -0.1}, "knn_share"),
        (SupSup, {"max_masks": 0}, "Use 1 or more"),
        (SupSup, {"mask_invalid_logits": True, "infer": "oneshot", "infer_objective": "G"}, "superfluous"),
        (SupSup, {"allocation": "uncertainty", "infer": "oneshot", "infer_objective": "G"}, "superfluous"),
        (SupSup, {"allocation": "uncertainty", "infer": "none"}, "infers the task at test"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused_before_anything_is_learned(cls, options, message):
    with pytest.raises(UsageError, match=message):
        ready(cls, presented(), **options)


@pytest.mark.parametrize("cls", FAMILY)
@pytest.mark.parametrize("options", [{}, {"head": "per_task"}, {"mask_invalid_logits": True}, {"norm": "shared"}])
def test_tasks_of_different_sizes_are_learned(cls, options):
    scenario_stream = presented(clusters(sizes=[4, 2, 3]))
    strategy, _ = (
        learned(cls, scenario_stream, lr_weights=0.01, **options)
        if cls is not SupSup
        else learned(cls, scenario_stream, **options)
    )
    for task, classes in enumerate([(0, 1, 2, 3), (4, 5), (6, 7, 8)]):
        logits = logits_of(strategy, scenario_stream, task)
        assert logits.shape == (40, 9)
        finite = torch.isfinite(logits).all(dim=0).nonzero().flatten().tolist()
        assert tuple(finite) == classes
        assert not bool(torch.isnan(logits).any())
        assert accuracy(strategy, scenario_stream, task) > 0.6


@pytest.mark.parametrize("cls", FAMILY)
def test_a_task_not_learned_yet_has_no_answer(cls):
    scenario_stream = presented()
    strategy = ready(cls, scenario_stream)
    with pytest.raises(UnseenTask):
        strategy.predictor(0)
    learn_all(strategy, scenario_stream, stop=1)
    strategy.predictor(0)
    for task in (1, -1, 7):
        with pytest.raises(UnseenTask):
            strategy.predictor(task)
    with pytest.raises(UnseenTask, match="infer"):
        strategy.predictor(None)


def test_requirements_follow_the_options():
    at_train = {Requirement.TASK_ID_AT_TRAIN, Requirement.BOUNDARIES}
    for cls in FAMILY:
        assert cls.requirements(cls.Config()) == at_train | {Requirement.TASK_ID_AT_TEST}
        assert cls.requirements(cls.Config(infer="oneshot")) == at_train
    assert SupSup.requirements(SupSup.Config(allocation="uncertainty", infer="oneshot")) == frozenset()


def test_batch_norm_networks_infer_too():
    scenario_stream = presented(images(), Scenario.CLASS_INCREMENTAL, batch_size=8)
    for options in ({"infer_norm": "averaged"}, {"infer_norm": "batch"}):
        for infer in ("oneshot", "binary"):
            strategy, _ = learned(ExSSNeT, scenario_stream, network="conv_small", infer=infer, **options)
            inputs, _ = scenario_stream.tasks[0].test.take(torch.arange(8))
            assert bool(torch.isfinite(strategy.predictor(None)(inputs)).all())


@pytest.mark.parametrize("cls", FAMILY)
def test_storage_is_counted_from_the_masks(cls):
    strategy, _ = learned(cls)
    facts = strategy.diagnostics()
    n = 16 * 32 + 32 * 32 + 32 * 2
    assert facts["masked_weights"] == strategy.model_parameters() == n
    assert facts["bytes_masks_dense"] == 3 * n // 8
    assert facts["bytes_masks_entropy"] < facts["bytes_masks_dense"]
    assert facts["bytes_weights"] == (8 if cls is SupSup else 4 * n)
    assert facts["bytes_norm"] == 0
    union = strategy.masked.union(strategy.subnetworks)
    assert facts["free_fraction"] == pytest.approx(1 - sum(int(u.sum()) for u in union) / n)
    assert facts["overlap"][0] == 0.0
    assert all(0 < share < 1 for share in facts["overlap"][1:])


RESUMED = [
    (SupSup, Scenario.TASK_INCREMENTAL, {}),
    (SSNeT, Scenario.TASK_INCREMENTAL, {}),
    (SSNeT, Scenario.TASK_INCREMENTAL, {"ewc_lambda": 10.0, "ewc_samples": 50}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {"score_init": "knn_best", "head": "per_task"}),
    (ExSSNeT, Scenario.TASK_INCREMENTAL, {"union_last": 1, "norm": "shared"}),
    (ExSSNeT, Scenario.CLASS_INCREMENTAL, {"infer": "oneshot", "score_init": "running_mean"}),
    (SupSup, Scenario.DOMAIN_INCREMENTAL, {"infer": "binary"}),
    (SupSup, Scenario.TASK_AGNOSTIC, {"infer": "oneshot", "allocation": "uncertainty", "decide_every": 7}),
]


@pytest.mark.parametrize(("cls", "scenario", "options"), RESUMED)
def test_saved_and_loaded_it_goes_on_bit_for_bit(cls, scenario, options, tmp_path):
    def outputs(strategy, scenario_stream):
        tells = Requirement.TASK_ID_AT_TEST in scenario.provides
        inputs = [task.test.take(torch.arange(10))[0] for task in scenario_stream.tasks]
        with torch.no_grad():
            return [strategy.predictor(t if tells else None)(x) for t, x in enumerate(inputs)]

    straight, scenario_stream = learned(cls, presented(None, scenario), **options)
    expected = outputs(straight, scenario_stream)

    first = ready(cls, presented(None, scenario), **options)
    learn_all(first, presented(None, scenario), stop=2)
    save_state(tmp_path / "state", first.state_dict())
    second = ready(cls, presented(None, scenario), **options)
    second.load_state_dict(load_state(tmp_path / "state"))
    learn_all(second, presented(None, scenario), start=2)
    found = outputs(second, scenario_stream)
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))
    assert second.diagnostics() == straight.diagnostics()
