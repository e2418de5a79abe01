"""Costs: operations counted by torch's formulas, exact where steps cost alike; counting changes nothing."""

import pytest
import torch

from cl_suite import TrainSettings
from cl_suite.core import experience
from cl_suite.core.flops import FlopCounter, LoopCost
from cl_suite.core.metering import Meter
from cl_suite.runs.harness import Harness
from strategies.bounds.finetune import Finetune
from strategies.fpf.fpf import FPF
from strategies.fpf.k_fpf import KFPF
from strategies.replay.er import ER
from tests.helpers.image_streams import harness_of
from tests.strategies.fpf.test_fpf import fpf

INPUTS, FIRST, SECOND, OUTPUTS = 3 * 8 * 8, 24, 16, 6  # of the MLP
LAYERS = [(INPUTS, FIRST), (FIRST, SECOND), (SECOND, OUTPUTS)]
FORWARD = sum(2 * a * b for a, b in LAYERS)
BACKWARD = FORWARD + sum(2 * a * b for a, b in LAYERS[1:])  # the inputs need no gradient
SAMPLES = 3 * 48 * 2  # two epochs


def flops_of(cls, **options):
    harness = harness_of(cls, model="mlp", **options)
    harness.run()
    return harness.meter.training_flops, harness


def test_plain_training_costs_the_closed_form():
    assert flops_of(Finetune)[0] == SAMPLES * (FORWARD + BACKWARD)


def test_replay_costs_as_much_again_from_the_second_step_on():
    flops, harness = flops_of(ER, buffer_size=200)
    assert harness.meter.samples_replayed == SAMPLES - 12
    assert flops == (SAMPLES + harness.meter.samples_replayed) * (FORWARD + BACKWARD)


def test_finetuning_the_head_pays_a_forward_pass_and_the_heads_own_gradient():
    plain, _ = flops_of(ER, buffer_size=60)
    flops, _ = flops_of(FPF, config=fpf("er", options={"buffer_size": 60}, modules="fc", fpf_epochs=3))
    assert flops - plain == 3 * 60 * (FORWARD + 2 * SECOND * OUTPUTS)


def test_finetuning_inside_a_step_is_not_taken_for_a_dear_step():
    # The second step, one of those counted, is also one that finetunes.
    options = {"k": 12, "buffer_size": 30, "modules": "fc", "fpf_epochs": 2, "fpf_batch": 10}
    flops, harness = flops_of(KFPF, **options)
    runs = harness.strategy.finetuning.runs
    assert runs == 12
    finetuned = harness.meter.samples_replayed
    assert flops == SAMPLES * (FORWARD + BACKWARD) + finetuned * (FORWARD + 2 * SECOND * OUTPUTS)


def test_evaluation_points_are_no_training_and_fall_on_steps_of_the_stream():
    options = {"k": 12, "buffer_size": 30, "fpf_epochs": 2, "fpf_batch": 10}
    plain, _ = flops_of(KFPF, **options)
    train = TrainSettings(epochs=2, batch_size=12, evaluate_every=1)
    watched, harness = flops_of(KFPF, train=train, **options)
    assert watched == plain
    assert len(harness.results.curve) == 24


def test_counting_changes_nothing(monkeypatch):
    counted = harness_of(ER).run()
    monkeypatch.setattr(LoopCost, "is_counted", lambda self: False)
    assert harness_of(ER).run().R == counted.R


def test_the_first_second_fourth_eighth_step_is_counted():
    loop, counted = LoopCost(), []
    for step in range(1, 20):
        if loop.is_counted():
            counted.append(step)
        loop.add(1, 10 if loop.is_counted() else None)
    assert counted == [1, 2, 4, 8, 16]


def test_convolutions_are_counted_forward_and_backward():
    layer = torch.nn.Conv2d(3, 5, 3, bias=False)
    forward = 2 * 4 * 4 * 5 * 3 * 9
    with FlopCounter() as counter:
        loss = layer(torch.randn(2, 3, 6, 6)).sum()
    assert counter.total == 2 * forward
    with FlopCounter() as counter:
        loss.backward()
    assert counter.total == 2 * forward


def test_a_loop_left_in_the_middle_disturbs_no_other():
    scenario_stream = harness_of(Finetune).scenario_stream
    first = next(iter(scenario_stream.experiences(experience.Hooks(meter := Meter()))))
    layer = torch.nn.Linear(3 * 8 * 8, 5, bias=False)
    cost = 2 * 3 * 8 * 8 * 5

    def step(batch):
        layer(batch.inputs.flatten(1))

    left = first.batches(epochs=1, batch_size=24)
    next(left)  # counted, and never finished
    for batch in first.batches(epochs=1, batch_size=24):
        step(batch)
    assert meter.training_flops == 48 * cost
    open_loop = first.batches(epochs=1, batch_size=24)
    step(next(open_loop))
    left.close()  # in another order than they were opened
    open_loop.close()
    assert meter.training_flops == 72 * cost
    layer(torch.ones(1, 3 * 8 * 8))
    assert meter.training_flops == 72 * cost
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


def test_costs_survive_an_interruption(tmp_path):
    straight, _ = flops_of(ER)
    checkpoint = tmp_path / "state.safetensors"

    class Stop(Exception):
        pass

    class StopAfterOne:
        def __getattr__(self, name):
            return lambda *arguments: None

        def row(self, number, scores):
            raise Stop

    with pytest.raises(Stop):
        harness_of(ER, model="mlp", checkpoint=checkpoint, listener=StopAfterOne()).run()
    resumed = harness_of(ER, model="mlp", checkpoint=checkpoint)
    resumed.run()
    assert resumed.meter.training_flops == straight


def test_memory_is_what_is_kept_beside_the_network():
    finetune, er = harness_of(Finetune), harness_of(ER, buffer_size=20)
    assert isinstance(finetune, Harness)
    for harness in (finetune, er):
        harness.run()
    assert finetune.costs()["memory_bytes"] == 0
    kept = er.strategy.buffer.bytes_stored()
    generators = er.costs()["memory_bytes"] - kept
    assert kept == 20 * (3 * 8 * 8 * 4 + 8 + 8) and 0 < generators < 12_000
    sizes = er.state_bytes()
    assert sizes["buffer"] == er.costs()["memory_bytes"]
    assert sum(sizes.values()) == er.costs()["state_bytes"]


def test_samples_of_another_source_are_shuffled_among_ones_own_and_counted_apart():
    harness = harness_of(ER, buffer_size=20)
    harness.run()
    meter = Meter()
    buffer = harness.strategy.buffer
    (last,) = harness.scenario_stream.experiences(experience.Hooks(meter), start=2)
    batches = list(last.batches(epochs=1, batch_size=10, beside=buffer))
    targets = torch.cat([batch.targets for batch in batches])
    expected = torch.cat([torch.tensor([4, 5] * 24), buffer.targets[:20]])
    assert torch.equal(targets.sort().values, expected.sort().values)
    assert (meter.samples_drawn, meter.samples_replayed) == (68, 20)
    own = torch.cat([batch.task_ids for batch in batches])
    assert torch.equal(own.bincount(), torch.cat([torch.full((48,), 2), buffer.task_ids[:20]]).bincount())
    raw = {tuple(row.flatten().tolist()) for batch in batches for row in batch.raw}
    assert {tuple(row.flatten().tolist()) for row in buffer.take(torch.arange(20))[0]} <= raw
    assert not torch.equal(targets[:48] >= 4, torch.ones(48, dtype=torch.bool))


def test_a_watcher_sees_each_batch_after_its_step_and_each_pass():
    scenario_stream = harness_of(ER).scenario_stream
    first = next(iter(scenario_stream.experiences(experience.Hooks())))
    seen = []
    first.watch(batch=lambda batch: seen.append(len(batch)), epoch=lambda: seen.append("pass"))
    taken = []
    for batch in first.batches(epochs=2, batch_size=24):
        taken.append(len(batch))
        assert len([entry for entry in seen if entry != "pass"]) == len(taken) - 1
    assert seen == [24, 24, "pass", 24, 24, "pass"]
    list(first.batches(epochs=1, batch_size=24, source=harness_with_memory().strategy.buffer))
    assert seen == [24, 24, "pass", 24, 24, "pass"]


def harness_with_memory():
    harness = harness_of(ER, buffer_size=20, train=TrainSettings(epochs=1, batch_size=24))
    harness.run()
    return harness
