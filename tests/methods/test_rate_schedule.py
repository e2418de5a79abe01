"""Learning-rate schedules: torch's own rates, anew in each experience, and one line for what does not fit."""

import pytest
import torch
from torch import nn

from cl_suite import RateDrops, TrainSettings, UsageError
from cl_suite.methods.rate_schedule import RateSchedule, cosine_rate
from strategies.bounds.finetune import Finetune
from strategies.bounds.joint import Joint
from strategies.isolation.packnet import PackNet
from strategies.isolation.piggyback import Piggyback
from strategies.isolation.wsn import WSN
from strategies.replay.gdumb import GDumb
from strategies.replay.icarl import ICaRL
from tests.helpers.image_streams import harness_of, image_stream
from tests.helpers.interrupting import run_and_interrupt

TRAIN = TrainSettings(epochs=4, batch_size=12)
PER_EPOCH = 2  # of 24 samples
STEPS = TRAIN.epochs * PER_EPOCH


def rates_of(cls, *, n_tasks=2, group=0, train=TRAIN, scenario="task_incremental", **options):
    """Run a strategy; return the rate of each step, one list an experience, and the harness."""
    harness = harness_of(
        cls, data=image_stream(n_tasks=n_tasks, count=24), model="mlp", train=train, scenario=scenario, **options
    )
    strategy, rates = harness.strategy, []
    after_step, learn = strategy.after_step, strategy.learn

    def noted(batch):
        rates[-1].append(strategy.optimizer.param_groups[group]["lr"])
        after_step(batch)

    def begun(experience):
        rates.append([])
        learn(experience)

    strategy.after_step, strategy.learn = noted, begun
    harness.run()
    return rates, harness


def torch_rates(schedule, lr, *, every=1):
    """Return the rate of each step under one of torch's schedulers, stepped after so many steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = schedule(optimizer), []
    for step in range(1, STEPS + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return rates


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_torchs_own_step_by_step_and_starts_anew_with_each_experience(final):
    rates, _ = rates_of(Finetune, lr=0.2, lr_schedule="cosine", lr_final=final)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = torch_rates(lambda optimizer: cosine(optimizer, T_max=STEPS, eta_min=0.2 * final), 0.2)
    assert rates == [pytest.approx(expected, rel=1e-9)] * 2
    assert cosine_rate(1.0, final) == pytest.approx(final)


def test_steps_are_torchs_own_bit_for_bit_and_named_or_not_the_same():
    milestones = torch.optim.lr_scheduler.MultiStepLR
    expected = torch_rates(lambda optimizer: milestones(optimizer, [1, 3], gamma=0.5), 0.2, every=PER_EPOCH)
    options = {"lr": 0.2, "lr_drops": [1, 3], "lr_drop": 0.5}
    (named, _), (unnamed, _) = rates_of(Finetune, lr_schedule="steps", **options), rates_of(Finetune, **options)
    assert named == unnamed == [expected] * 2


@pytest.mark.parametrize("options", [{}, {"lr_schedule": "constant"}])
def test_a_constant_rate_is_never_set(options):
    rates, harness = rates_of(Finetune, lr=0.2, **options)
    assert rates == [[0.2] * STEPS] * 2 and harness.strategy.rate is None


def test_the_warm_up_rises_to_the_full_rate_and_what_follows_is_shorter():
    rates, _ = rates_of(Finetune, lr=0.2, lr_schedule="cosine", lr_warmup_epochs=1.5, n_tasks=1)
    rising, left = [0.2 / 3, 0.4 / 3, 0.2], STEPS - 3
    assert rates[0] == pytest.approx(rising + [0.2 * cosine_rate(step / left) for step in range(left)])
    rates, _ = rates_of(Finetune, lr=0.2, lr_drops=[2], lr_warmup_epochs=1, n_tasks=1)
    assert rates[0] == pytest.approx([0.1, 0.2, 0.2, 0.2] + [0.02] * 4)


def test_every_group_of_parameters_keeps_its_share():
    weights = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    schedule = RateSchedule(RateDrops(lr_schedule="cosine"), steps_per_epoch=2, epochs=2)
    schedule.follow(optimizer)
    schedule.after_step()
    schedule.after_step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])


def test_a_method_that_goes_on_with_a_fresh_optimiser_goes_on_along_the_curve():
    rates, _ = rates_of(PackNet, lr=0.2, lr_finetune=0.02, lr_schedule="cosine", finetune_share=0.25, optimizer="sgd")
    bases = [0.2] * 6 + [0.02] * 2
    expected = [base * cosine_rate(step / STEPS) for step, base in enumerate(bases)]
    assert rates[0] == pytest.approx(expected)
    assert rates[1] == pytest.approx([0.2 * cosine_rate(step / STEPS) for step in range(STEPS)])  # the last: no pruning


def test_samples_of_a_memory_lengthen_the_epoch_and_the_cosine_ends_with_it():
    rates, _ = rates_of(ICaRL, lr=0.2, lr_schedule="cosine", buffer_size=12, scenario="class_incremental")
    assert [len(each) for each in rates] == [STEPS, 12]  # 24 samples, then 24 and 12 exemplars, in twelves
    assert rates[1] == pytest.approx([0.2 * cosine_rate(step / 12) for step in range(12)])


def test_joint_trains_once_along_one_curve_over_everything():
    rates, _ = rates_of(Joint, lr=0.2, lr_schedule="cosine")
    steps = 4 * TRAIN.epochs  # two tasks of 24 samples
    assert rates == [[], pytest.approx([0.2 * cosine_rate(step / steps) for step in range(steps)])]
    rates, _ = rates_of(Joint, lr=0.2, lr_drops=[2], lr_drop=0.5)
    assert rates[1] == [0.2] * 8 + [0.1] * 8


def test_wsn_has_one_too():
    rates, _ = rates_of(WSN, lr=0.01, lr_schedule="cosine")
    assert rates == [pytest.approx([0.01 * cosine_rate(step / STEPS) for step in range(STEPS)])] * 2


def test_stopped_and_continued_the_run_is_the_same_bit_for_bit(tmp_path):
    def harness(name=None):
        return harness_of(
            Finetune,
            model="mlp",
            train=TRAIN,
            checkpoint=None if name is None else tmp_path / name,
            lr=0.2,
            lr_schedule="cosine",
            lr_warmup_epochs=0.5,
        )

    straight, stopped = harness(), harness("state")
    run_and_interrupt(stopped, after=2)
    again = harness("state")
    assert again.run().R == straight.run().R
    ours, theirs = (each.strategy.model.state_dict() for each in (again, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.meter.optimizer_steps == straight.meter.optimizer_steps


@pytest.mark.parametrize(
    ("cls", "options", "scenario", "message"),
    [
        (Finetune, {"lr_schedule": "cosin"}, None, "lr_schedule=cosin is not known. Did you mean cosine"),
        (Finetune, {"lr_schedule": "steps"}, None, "does not say where the rate falls"),
        (Finetune, {"lr_schedule": "cosine", "lr_drops": [1]}, None, "belongs to lr_schedule=steps"),
        (Finetune, {"lr_schedule": "constant", "lr_drops": [1]}, None, "belongs to lr_schedule=steps"),
        (Finetune, {"lr_final": 0.1}, None, "Add strategy.lr_schedule=cosine"),
        (Finetune, {"lr_schedule": "cosine", "lr_final": 1.5}, None, "not a share of the rate"),
        (Finetune, {"lr_warmup_epochs": 4}, None, "does not fit into train.epochs=4"),
        (Finetune, {"lr_warmup_epochs": -1}, None, "does not fit into train.epochs=4"),
        (Finetune, {"lr_schedule": "cosine"}, "task_agnostic", "task_agnostic tells no boundaries"),
        (Piggyback, {"lr_schedule": "cosine"}, "task_incremental", "Set strategy.drop_at=1"),
        (GDumb, {"lr_schedule": "cosine", "buffer": "ring"}, None, "gdumb has a schedule of its own"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(cls, options, scenario, message):
    harness = harness_of(cls, model="mlp", train=TRAIN, scenario=scenario or "class_incremental", **options)
    with pytest.raises(UsageError, match=message) as refused:
        harness.run()
    assert "\n" not in str(refused.value) and harness.meter.samples_drawn == 0
