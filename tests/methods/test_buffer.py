"""Buffers: what is kept, how often, in how many bytes; draws are fair, metered and resumable."""

import dataclasses

import numpy as np
import pytest
import torch

from cl_suite import (
    Batch,
    Classification,
    Experience,
    PrepareVectors,
    Reservoir,
    Ring,
    Samples,
    Scenario,
    Seeds,
    StreamInfo,
    TrainSettings,
    UsageError,
    build_buffer,
)
from cl_suite.core.metering import Meter
from cl_suite.methods.replay_buffer import ClassBalanced


def info(seed=0):
    return StreamInfo(
        stream="test",
        scenario=Scenario.TASK_INCREMENTAL,
        n_experiences=1,
        input_shape=(1,),
        n_outputs=10,
        objective=Classification(),
        prepare=PrepareVectors(),
        train=TrainSettings(augment=False),
        seeds=Seeds(0, seed, 0),
        device=torch.device("cpu"),
    )


def batch(values, targets=None, task_ids=None):
    raw = torch.tensor(values, dtype=torch.uint8)[:, None]
    targets = torch.zeros(len(values), dtype=torch.long) if targets is None else torch.tensor(targets)
    return Batch(raw.float(), targets, raw, task_ids)


def kept(buffer):
    raw, _ = buffer.take(torch.arange(len(buffer)))
    return sorted(raw[:, 0].tolist())


def test_reservoir_keeps_every_sample_equally_often():
    counts = np.zeros(40)
    for seed in range(600):
        buffer = Reservoir(10, info(seed))
        for start in range(0, 40, 8):
            buffer.add(batch(list(range(start, start + 8))))
        counts[kept(buffer)] += 1
    assert counts.sum() == 600 * 10
    expected, deviation = 150, (600 * 0.25 * 0.75) ** 0.5
    assert np.abs(counts - expected).max() < 4.5 * deviation


def test_reservoir_one_by_one_is_the_same_as_in_batches():
    whole, single = Reservoir(5, info()), Reservoir(5, info())
    whole.add(batch(list(range(30))))
    for value in range(30):
        single.add(batch([value]))
    assert kept(whole) == kept(single)


def test_ring_keeps_the_latest():
    buffer = Ring(4, info())
    buffer.add(batch([1, 2, 3]))
    buffer.add(batch([4, 5, 6]))
    assert kept(buffer) == [3, 4, 5, 6]


def test_balanced_evens_out_the_classes():
    buffer = ClassBalanced(6, info())
    buffer.add(batch(list(range(20)), [0] * 20))
    buffer.add(batch(list(range(20, 24)), [1, 1, 2, 2]))
    assert torch.bincount(buffer.targets[: len(buffer)]).tolist() == [2, 2, 2]


def test_draws_are_without_replacement_and_metered():
    buffer = Ring(8, info())
    buffer.add(batch(list(range(8))))
    meter = Meter()
    with meter.metering():
        drawn = buffer.draw(8)
    assert sorted(drawn.raw[:, 0].tolist()) == list(range(8))
    assert len(buffer.draw(100)) == 8
    assert (meter.samples_drawn, meter.samples_replayed) == (8, 8)


def test_extras_and_task_ids_stay_beside_their_sample():
    buffer = Reservoir(5, info())
    for start in range(0, 20, 4):
        values = list(range(start, start + 4))
        logits = torch.tensor(values, dtype=torch.float)[:, None].repeat(1, 3)
        buffer.add(batch(values, task_ids=torch.tensor(values)), logits=logits)
    drawn = buffer.draw(5)
    assert torch.equal(drawn.raw[:, 0].float(), drawn.extras["logits"][:, 2])
    assert torch.equal(drawn.raw[:, 0].long(), drawn.task_ids)


def test_bytes_count_what_is_kept():
    buffer = Ring(100, info())
    buffer.add(batch([1, 2, 3]))
    assert buffer.bytes_stored() == 3 * (1 + 8)


def test_a_restored_buffer_goes_on_as_if_never_interrupted():
    straight, before = Reservoir(5, info()), Reservoir(5, info())
    for buffer in (straight, before):
        buffer.add(batch(list(range(10))))
        buffer.draw(3)
    after = Reservoir(5, info())
    after.load_state_dict(before.state_dict())
    for buffer in (straight, after):
        buffer.add(batch(list(range(10, 20))))
    assert kept(straight) == kept(after)
    assert torch.equal(straight.draw(3).raw, after.draw(3).raw)


def test_the_first_samples_of_each_task_are_kept_in_the_order_they_are_stored_in_when_it_ends():
    two_tasks = dataclasses.replace(info(), n_experiences=2)
    buffer = build_buffer("first", 6, two_tasks, ends=True)
    for number in range(2):
        values = torch.arange(100 * number, 100 * number + 20, dtype=torch.uint8)[:, None]
        samples = Samples(values, torch.full((20,), number))
        settings = TrainSettings(epochs=1, batch_size=8, augment=False)
        learned = Experience(
            index=number,
            source=samples,
            prepare=PrepareVectors(),
            train=settings,
            seeds=Seeds(0, 0, 0),
            device=torch.device("cpu"),
            task_id=number,
        )
        for each in learned.batches():
            buffer.add(each)
            assert len(buffer) == 3 * number  # nothing of this task while it is learned
        buffer.end_experience(learned)
    assert kept(buffer) == [0, 1, 2, 100, 101, 102]
    assert buffer.task_ids_at(torch.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("capacity", "ends"), [(6, False), (0, True)])
def test_a_memory_of_first_samples_that_would_stay_empty_is_refused(capacity, ends):
    with pytest.raises(UsageError, match=r"buffer=first keeps samples when a task ends|at least 1"):
        build_buffer("first", capacity, info(), ends=ends)


@pytest.mark.parametrize(("kind", "capacity", "message"), [("rezervoir", 5, "not known"), ("ring", 0, "at least 1")])
def test_a_buffer_that_cannot_be_is_refused(kind, capacity, message):
    with pytest.raises(UsageError, match=message):
        build_buffer(kind, capacity, info())
