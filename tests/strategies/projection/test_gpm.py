"""GPM: which layers are projected, batch normalisation, validation, wrong options."""

import pytest
import torch

from cl_suite import Requirement, TrainSettings, UsageError
from cl_suite.core.scenario import Scenario
from strategies.projection.cuber import CUBER
from strategies.projection.gpm import GPM
from tests.helpers.projection_streams import (
    harness_of,
    image_harness,
    run_of,
)


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


def test_validation_chooses_the_state_and_the_record_says_so():
    train = TrainSettings(epochs=3, batch_size=10, validation=0.2)
    harness = harness_of(GPM, train=train)
    harness.run()
    assert harness.strategy.model_selection() == "validation"
    _, without = run_of(GPM)
    assert without.model_selection() == "none"
