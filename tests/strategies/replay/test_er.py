"""ER: what is replayed, what its loss is the mean of, and that replay is all that sets it apart from finetuning."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from cl_suite import TrainSettings, UsageError
from cl_suite.conformance.case import states_equal
from strategies.bounds.finetune import Finetune
from strategies.replay.er import ER
from tests.helpers.conflicting_streams import conflicting_stream
from tests.helpers.projection_streams import harness_of, run_of

ONCE = TrainSettings(epochs=1, batch_size=10)
SIZES = {"train": ONCE, "hidden": (16,)}


class Watched(ER):
    """Keeps for each step the batch, what was replayed beside it, what the buffer held then, and the loss."""

    def setup(self, info, build_model):
        super().setup(info, build_model)
        self.steps, self.rows_forward = [], []
        draw = self.buffer.draw

        def watched(count, **options):
            self.replay = draw(count, **options)
            return self.replay

        self.buffer.draw = watched
        self.model.register_forward_hook(
            lambda module, inputs, logits: self.rows_forward.append(len(logits)) if module.training else None
        )

    def loss(self, batch):
        self.replay, filled = None, torch.arange(len(self.buffer))
        held = rows(self.buffer.take(filled)[0]) if len(filled) else set()
        forwards = len(self.rows_forward)
        value = super().loss(batch)
        passes = self.rows_forward[forwards:]
        self.steps.append((batch, self.replay, held, passes, float(value.detach()), self.expected(batch, self.replay)))
        return value

    def expected(self, batch, replay):
        """Return the mean over the samples of both batches, each answered by itself, and that over the fresh ones."""
        losses = []
        with torch.no_grad():
            for part in (each for each in (batch, replay) if each is not None):
                logits = self.restricted(self.model.eval()(part.inputs), part.task_ids)
                losses.append(cross_entropy(logits, part.targets, reduction="none"))
        self.model.train()
        return float(torch.cat(losses).mean()), float(losses[0].mean())


class Without(ER):
    """Never keeps a sample, so that nothing can be replayed."""

    def after_step(self, batch):
        pass


def rows(inputs):
    return {row.numpy().tobytes() for row in inputs}


def watched_run(scenario="domain_incremental", **options):
    _, strategy = run_of(Watched, scenario=scenario, data=conflicting_stream(), **{**SIZES, **options})
    return strategy


@pytest.mark.parametrize("buffer", ["reservoir", "balanced", "ring"])
def test_what_is_replayed_lies_in_the_buffer_and_came_before_the_batch(buffer):
    strategy = watched_run(buffer=buffer, buffer_size=25)
    first_task = rows(conflicting_stream().tasks[0].train.inputs)
    met, targets, of_task_0_later = set(), {}, 0
    for number, (batch, replay, held, *_) in enumerate(strategy.steps):
        if number == 0:
            assert replay is None and not held
        else:
            replayed = rows(replay.raw)
            assert len(replay) == len(replayed) == min(10, len(held))  # each at most once
            assert replayed <= held <= met and not replayed & rows(batch.raw)
            assert all(
                targets[row.numpy().tobytes()] == int(t) for row, t in zip(replay.raw, replay.targets, strict=True)
            )
            of_task_0_later += len(replayed & first_task) if number >= 6 else 0
        met |= rows(batch.raw)
        targets |= {row.numpy().tobytes(): int(target) for row, target in zip(batch.raw, batch.targets, strict=True)}
    assert len(strategy.steps) == 12 and of_task_0_later > 5


@pytest.mark.parametrize("scenario", ["domain_incremental", "task_incremental"])
@pytest.mark.parametrize("replay_batch", [0, 3])
def test_the_loss_is_the_mean_over_fresh_and_replayed_samples_of_one_forward_pass(scenario, replay_batch):
    strategy = watched_run(scenario, replay_batch=replay_batch, lr=0.1)
    expected_rows = [10] + 11 * [10 + (replay_batch or 10)]
    for (batch, replay, _, passes, loss, (expected, fresh_alone)), count in zip(
        strategy.steps, expected_rows, strict=True
    ):
        assert passes == [count] and len(batch) + (0 if replay is None else len(replay)) == count
        assert loss == pytest.approx(expected, rel=1e-5)
        assert replay is None or loss != pytest.approx(fresh_alone, rel=1e-5)  # so the replayed ones do count


def test_with_an_empty_buffer_it_is_finetuning_bit_for_bit_and_with_replay_it_is_not():
    found = {}
    for cls in (Finetune, Without, ER):
        results, strategy = run_of(cls, scenario="domain_incremental", data=conflicting_stream(), **SIZES)
        found[cls] = (results.R, strategy.model.state_dict())
    assert found[Without][0] == found[Finetune][0] and states_equal(found[Without][1], found[Finetune][1])
    assert found[ER][0] != found[Finetune][0] and not states_equal(found[ER][1], found[Finetune][1])


def test_the_first_step_has_nothing_to_replay_and_the_second_has():
    def weights(cls, batches):
        train = TrainSettings(epochs=1, batch_size=60 // batches)
        data = conflicting_stream(n_tasks=1)
        return run_of(cls, scenario="domain_incremental", data=data, train=train)[1].model.state_dict()

    assert states_equal(weights(ER, 1), weights(Finetune, 1))
    assert not states_equal(weights(ER, 2), weights(Finetune, 2))


def test_replayed_samples_are_metered_and_foreseen():
    harness = harness_of(ER, scenario="domain_incremental", data=conflicting_stream(), replay_batch=5, **SIZES)
    harness.run()
    assert harness.meter.samples_replayed == 5 * 11
    assert harness.strategy.expected_samples(harness.scenario_stream.info) == 120 + 60
    assert harness.strategy.diagnostics()["buffer_samples"] == 120


def test_it_keeps_what_finetuning_forgets():
    scores = {}
    for cls in (Finetune, Without, ER):
        setting = {"train": TrainSettings(epochs=10, batch_size=10), "hidden": (16,), "lr": 0.05}
        results, _ = run_of(cls, scenario="domain_incremental", data=conflicting_stream(), **setting)
        scores[cls] = results.R
    assert all(R[0][0] > 0.85 and R[1][1] > 0.85 for R in scores.values())  # each learns both tasks
    forgotten = {cls: R[0][0] - R[1][0] for cls, R in scores.items()}
    assert forgotten[ER] < 0.1 < 0.3 < forgotten[Finetune] == forgotten[Without], forgotten


def test_a_negative_replay_batch_is_refused():
    with pytest.raises(UsageError, match=r"strategy.replay_batch=-1 is a number of samples"):
        run_of(ER, replay_batch=-1)
