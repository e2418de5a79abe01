"""Early stopping: it ends when the validation loss no longer falls, with the best state, and only where it can."""

import pytest
import torch
from torch import nn

from cl_suite import GradientStrategy, RunError, TrainSettings, UsageError
from cl_suite.methods.early_stopping import EarlyStopping, Patience
from strategies.bounds.finetune import Finetune
from strategies.isolation.hat import HAT
from strategies.isolation.piggyback import Piggyback
from strategies.isolation.wsn import WSN
from strategies.projection.trgp import TRGP
from strategies.regularisation.si import SI
from strategies.replay.icarl import ICaRL
from tests.helpers.image_streams import harness_of, image_stream
from tests.helpers.interrupting import run_and_interrupt

TRAIN = TrainSettings(epochs=6, batch_size=12, validation=0.25, early_stopping=2)


def test_patience_is_used_up_after_so_many_epochs_without_a_lower_loss_and_the_best_comes_back():
    weight = torch.zeros(1)
    patience = Patience([weight], 2)
    ends = []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 1.5, 1.6, 1.5], start=1):  # equal is not lower
        weight.fill_(epoch)
        ends.append(patience.is_used_up(loss))
    assert ends == [False, False, False, False, False, True]
    assert (patience.epochs, patience.best_epoch, patience.lowest) == (6, 4, 1.5)
    patience.restore()
    assert weight.item() == 4
    assert [patience.is_used_up(2.0) for _ in range(4)] == [False, True, False, True]  # full again when used up


def test_a_loss_that_is_no_number_is_never_the_lowest():
    stopping = EarlyStopping(2)
    stopping.begin([torch.zeros(1)])
    assert [stopping.after_epoch(loss) for loss in (1.0, float("nan"), float("nan"))] == [False, False, True]
    stopping.end()
    assert stopping.experiences == [{"epochs": 3, "best_epoch": 1, "validation_loss": 1.0}]


def told(losses):
    """Return a strategy whose validation losses are these in each experience, and which notes its states."""

    class Told(Finetune):
        def start(self, experience):
            super().start(experience)
            self.left, self.states = list(losses), []

        def validation_loss(self, experience):
            self.states.append([value.detach().clone() for value in self.trained_tensors()])
            return self.left.pop(0)

        def finish(self, experience):
            assert len(self.states) == len(losses) - len(self.left)
            best = min(range(len(self.states)), key=lambda epoch: losses[epoch])
            pairs = zip(self.trained_tensors(), self.states[best], strict=True)
            assert all(torch.equal(now, kept) for now, kept in pairs)

    return Told


def test_it_ends_each_experience_when_patience_does_and_finish_meets_the_best_state():
    harness = harness_of(told([3.0, 1.0, 2.0, 2.0, 0.0, 0.0]), model="mlp", train=TRAIN)
    harness.run()
    facts = [{"epochs": 4, "best_epoch": 2, "validation_loss": 1.0}] * 3
    assert harness.strategy.training_facts() == {"early_stopping": {"experiences": facts}}
    assert harness.meter.samples_drawn == 3 * 4 * 36 and harness.meter.optimizer_steps == 3 * 4 * 3
    assert harness.strategy.model_selection() == "validation"


def test_the_best_state_also_comes_back_where_the_epochs_end_first():
    harness = harness_of(told([3.0, 2.0, 1.0, 0.5, 0.4, 0.45]), model="mlp", train=TRAIN)
    harness.run()
    assert [each["best_epoch"] for each in harness.strategy.early_stopping.experiences] == [5] * 3


@pytest.mark.parametrize("scenario", ["task_incremental", "class_incremental", "domain_incremental"])
def test_the_loss_is_that_of_the_answers_on_the_held_out_samples_alone(scenario):
    losses = []

    class Followed(Finetune):
        def validation_loss(self, experience):
            found = super().validation_loss(experience)
            inputs, targets = zip(*[(batch.inputs, batch.targets) for batch in experience.validation()], strict=True)
            logits = self.predictor(experience.task_id)(torch.cat(inputs))
            losses.append((found, float(nn.functional.cross_entropy(logits, torch.cat(targets)))))
            assert experience.n_validation == 12 == len(logits)
            return found

    harness = harness_of(Followed, scenario=scenario, train=TRAIN)  # with batch norm: in evaluation mode
    harness.run()
    ours, theirs = zip(*losses, strict=True)
    assert ours == pytest.approx(theirs) and len(set(ours)) > 3


def test_looking_at_validation_samples_changes_no_step_and_counts_as_nothing_drawn():
    patient = TrainSettings(epochs=2, batch_size=12, validation=0.25, early_stopping=9)
    off = TrainSettings(epochs=2, batch_size=12, validation=0.25)

    class Rising(Finetune):
        def validation_loss(self, experience):
            super().validation_loss(experience)
            self.count = getattr(self, "count", 0.0) - 1.0
            return self.count  # the last epoch is always the best

    looked, plain = harness_of(Rising, train=patient), harness_of(Rising, train=off)
    assert looked.run().R == plain.run().R
    for cost in ("samples_drawn", "optimizer_steps", "training_flops"):
        assert getattr(looked.meter, cost) == getattr(plain.meter, cost)
    assert looked.strategy.experiences_learned == 3 and plain.strategy.model_selection() == "none"


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (SI, {}),
        (HAT, {"norm": "none"}),
        (WSN, {}),
        (Piggyback, {}),
        (TRGP, {"plateau": False}),
        (ICaRL, {"buffer_size": 12}),
    ],
)
def test_methods_with_more_than_a_network_go_back_whole(cls, options):
    harness = harness_of(cls, scenario="task_incremental", model="mlp", train=TRAIN, **options)
    strategy, states, finish = harness.strategy, [], harness.strategy.finish
    losses = iter([1.0, 2.0, 3.0] * 3)

    def loss(experience):
        assert GradientStrategy.validation_loss(strategy, experience) > 0
        states.append([value.detach().clone() for value in strategy.trained_tensors()])
        return next(losses)

    def finished(experience):
        best, now = states[-3], strategy.trained_tensors()
        assert len(best) == len(now) and all(torch.equal(*pair) for pair in zip(best, now, strict=True))
        moved = [not torch.equal(*pair) for pair in zip(best, states[-1], strict=True)]
        assert any(moved)
        finish(experience)

    strategy.validation_loss, strategy.finish = loss, finished
    harness.run()
    assert [each["epochs"] for each in strategy.early_stopping.experiences] == [3] * 3


def test_si_goes_back_to_the_path_to_the_best_state():
    harness = harness_of(SI, model="mlp", train=TRAIN)
    harness.run()
    assert any(value is harness.strategy.path for value in harness.strategy.trained_tensors())


def test_stopped_and_continued_the_run_is_the_same_bit_for_bit(tmp_path):
    def harness(name=None):
        checkpoint = None if name is None else tmp_path / name
        return harness_of(Finetune, model="mlp", train=TRAIN, checkpoint=checkpoint, lr=0.5)

    straight, stopped = harness(), harness("state")
    run_and_interrupt(stopped, after=2)
    again = harness("state")
    assert again.run().R == straight.run().R
    assert again.strategy.training_facts() == straight.strategy.training_facts()
    assert again.meter.samples_drawn == straight.meter.samples_drawn < 3 * 6 * 36  # it did stop early


def test_a_diverged_training_fails_though_a_better_state_was_met():
    class Diverges(Finetune):
        def loss(self, batch):
            return super().loss(batch) * (float("nan") if self.experiences_learned else 1.0)

    harness = harness_of(Diverges, model="mlp", train=TRAIN)
    with pytest.raises(RunError, match="the loss became nan"):
        harness.run()


def test_an_experience_too_small_to_hold_a_sample_out_is_refused():
    train = TrainSettings(epochs=2, batch_size=12, validation=0.01, early_stopping=2)
    with pytest.raises(UsageError, match="holds out no sample of some experience"):
        harness_of(Finetune, data=image_stream(count=24), model="mlp", train=train)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"early_stopping": -1, "validation": 0.1}, "train.early_stopping=-1 is too small"),
        ({"early_stopping": 5}, "none are held out. Add train.validation=0.1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainSettings(**settings).check()


def test_a_loop_of_its_own_is_not_said_to_stop():
    class Own(Finetune):
        def train(self, experience):
            self.train_on(experience, experience.batches(epochs=1))

    assert Own.early_stopping_refusal(Own.Config()) and not Finetune.early_stopping_refusal(Finetune.Config())
