"""The harness: what is handed over and withheld, scored, metered and refused."""

from dataclasses import dataclass

import pytest
import torch

from cl_suite import DataRoot, GradientStrategy, Requirement, RunError, Scenario, Seeds, TrainSettings, UnseenTask
from cl_suite.core.errors import BudgetExceeded, ClosedExperience, NonFiniteLoss
from cl_suite.core.metering import Meter
from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from strategies.bounds.finetune import Finetune
from tests.helpers import image_streams as images

TASKS = 3


def presented(scenario, *, train=None, seeds=None, stream="toy_gaussians", **options):
    cls = choose(STREAM, stream).cls
    config = cls.Config(**{"n_tasks": TASKS, "n_train": 40, "n_test": 20, **options})
    seeds = seeds or Seeds(0, 0, 0)
    return ScenarioStream(
        stream,
        cls(config).load(DataRoot(None), seeds),
        scenario,
        train=train or TrainSettings(epochs=2, batch_size=16),
        seeds=seeds,
        device=torch.device("cpu"),
    )


def harness_for(strategy, scenario_stream, **options):
    info = scenario_stream.info
    return Harness(strategy, scenario_stream, lambda: build_network("mlp", info.input_shape, info.n_outputs), **options)


def installed(name, **options):
    cls = choose(STRATEGY, name).cls
    return cls(cls.Config(**options))


class Recording(GradientStrategy):
    """Finetuning that keeps what it was shown."""

    @dataclass
    class Config(GradientStrategy.Config):
        """As the parent's."""

    def setup(self, info, build_model):
        super().setup(info, build_model)
        self.shown, self.batch_ids, self.kept = [], [], []

    def start(self, experience):
        super().start(experience)
        self.shown.append((experience.index, experience.task_id, experience.classes, experience.n_samples))
        self.kept.append(experience)

    def after_step(self, batch):
        self.batch_ids.append(batch.task_ids)


@pytest.mark.parametrize("scenario", list(Scenario))
def test_what_a_scenario_withholds_is_absent(scenario):
    scenario_stream = presented(scenario)
    strategy = Recording(Recording.Config())
    harness_for(strategy, scenario_stream).run()
    knows = Requirement.TASK_ID_AT_TRAIN in scenario.provides
    assert all((task_id is not None) == knows for _, task_id, _, _ in strategy.shown)
    assert all((classes is not None) == knows for _, _, classes, _ in strategy.shown)
    assert all((ids is not None) == knows for ids in strategy.batch_ids)
    assert (scenario_stream.info.task_classes is not None) == (scenario is Scenario.TASK_INCREMENTAL)


def test_task_agnostic_segments_are_equal_and_do_not_end_at_task_boundaries():
    scenario_stream = presented(Scenario.TASK_AGNOSTIC)
    strategy = Recording(Recording.Config())
    results = harness_for(strategy, scenario_stream).run()
    per_task = 2 * 2 * 40  # epochs x classes x samples
    ends = torch.tensor([n for *_, n in strategy.shown]).cumsum(0)
    assert ends[-1] == TASKS * per_task
    assert not any(int(end) % per_task == 0 for end in ends[:-1])
    assert len(results.R) == len(strategy.shown) == 13
    assert max(n for *_, n in strategy.shown) - min(n for *_, n in strategy.shown) <= 1


def test_task_agnostic_order_is_the_streams_whatever_epochs_a_strategy_asks_for():
    scenario_stream = presented(Scenario.TASK_AGNOSTIC)
    harness = harness_for(installed("finetune"), scenario_stream)
    harness.run()
    assert harness.meter.samples_drawn == scenario_stream.info.planned_samples


@pytest.mark.parametrize("scenario", list(Scenario))
def test_experiences_hand_over_every_training_sample_and_no_test_sample(scenario):
    scenario_stream = presented(scenario, train=TrainSettings(epochs=1, batch_size=16))
    seen = []

    class Collect(Recording):
        def after_step(self, batch):
            seen.append(batch.raw)

    harness_for(Collect(Recording.Config()), scenario_stream).run()
    training = {tuple(row) for row in torch.cat(seen).tolist()}
    test = {tuple(row) for task in scenario_stream.tasks for raw, _ in task.test.chunks(100) for row in raw.tolist()}
    assert len(training) == TASKS * 2 * 40
    assert not training & test


def test_validation_is_held_out_of_training():
    scenario_stream = presented(
        Scenario.TASK_INCREMENTAL, train=TrainSettings(epochs=1, batch_size=16, validation=0.25)
    )
    seen, held = [], []

    class Collect(Recording):
        def after_step(self, batch):
            seen.append(batch.raw)

        def finish(self, experience):
            held.extend(batch.raw for batch in experience.validation())

    harness_for(Collect(Recording.Config()), scenario_stream).run()
    training = {tuple(row) for row in torch.cat(seen).tolist()}
    validation = {tuple(row) for row in torch.cat(held).tolist()}
    assert len(validation) == TASKS * 2 * 40 // 4
    assert not training & validation
    assert len(training | validation) == TASKS * 2 * 40


def test_class_incremental_gives_both_scores_from_one_pass():
    scenario_stream = presented(Scenario.CLASS_INCREMENTAL)
    results = harness_for(installed("finetune"), scenario_stream).run()
    R, aware = results.R, results.R_task_aware
    assert aware is not None
    assert R[0][0] == aware[0][0]  # one task seen: both rules choose among the same classes
    assert aware[2][0] > R[2][0] + 0.2  # finetune collapses to the newest classes, within the task it does not
    assert [row.count(None) for row in R] == [2, 1, 0]


def test_task_incremental_answers_within_the_task_and_only_for_learned_tasks():
    scenario_stream = presented(Scenario.TASK_INCREMENTAL)
    strategy = installed("finetune")
    results = harness_for(strategy, scenario_stream).run()
    assert results.R_task_aware is None
    assert [[score is None for score in row] for row in results.R] == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]


def test_domain_incremental_scores_tasks_not_learned_yet():
    results = harness_for(installed("finetune"), presented(Scenario.DOMAIN_INCREMENTAL)).run()
    assert all(score is not None for row in results.R for score in row)
    assert all(b is not None and 0.0 <= b <= 1.0 for b in results.baseline)


def test_baseline_is_the_untrained_network_of_the_same_seed():
    scenario_stream = presented(Scenario.DOMAIN_INCREMENTAL)
    results = harness_for(installed("finetune", lr=0.0), scenario_stream).run()
    assert [results.baseline] * TASKS == results.R  # a learning rate of zero leaves it as it was


def test_the_same_seed_gives_the_same_R_and_each_seed_matters():
    def run(seeds):
        return harness_for(installed("er"), presented(Scenario.CLASS_INCREMENTAL, seeds=seeds)).run().R

    assert run(Seeds(0, 0, 0)) == run(Seeds(0, 0, 0))
    assert run(Seeds(0, 0, 0)) != run(Seeds(1, 0, 0))
    assert run(Seeds(0, 0, 0)) != run(Seeds(0, 1, 0))


def test_evaluation_points_inside_an_experience_change_nothing_but_the_curve():
    def run(every):
        train = TrainSettings(epochs=2, batch_size=16, evaluate_every=every)
        return harness_for(installed("er"), presented(Scenario.CLASS_INCREMENTAL, train=train)).run()

    without, with_points = run(0), run(2)
    assert with_points.R == without.R
    assert without.curve == []
    assert [point["step"] for point in with_points.curve if point["experience"] == 0] == [2, 4, 6, 8, 10]
    assert with_points.curve[-1]["scores"][0] is not None


def test_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    harness_for(installed("er"), presented(Scenario.CLASS_INCREMENTAL)).run()
    assert torch.equal(before, torch.get_rng_state())


def test_costs_count_fresh_and_replayed_samples_and_steps():
    harness = harness_for(installed("er", buffer_size=30), presented(Scenario.CLASS_INCREMENTAL))
    harness.run()
    costs = harness.costs()
    fresh = TASKS * 2 * 2 * 40  # tasks x epochs x classes x samples
    assert costs["samples_drawn"] - costs["samples_replayed"] == fresh
    assert 0 < costs["samples_replayed"] < fresh
    assert costs["optimizer_steps"] == TASKS * 2 * 5
    assert costs["state_bytes"] > 4 * costs["model_parameters"]
    assert costs["peak_memory_bytes"] > 0


def test_reading_a_closed_experience_is_an_error():
    strategy = Recording(Recording.Config())
    harness_for(strategy, presented(Scenario.TASK_INCREMENTAL)).run()
    with pytest.raises(ClosedExperience, match="experience 0 was read after learn"):
        next(iter(strategy.kept[0].batches()))


def test_a_loss_that_turns_nan_ends_the_run_with_the_place_and_the_next_move():
    class Broken(GradientStrategy):
        """Its loss is not a number in the second experience."""

        def loss(self, batch):
            return super().loss(batch) * (float("nan") if self.experiences_learned == 1 else 1.0)

    with pytest.raises(NonFiniteLoss, match=r"became nan in experience 1.*strategy\.lr"):
        harness_for(Broken(Broken.Config()), presented(Scenario.TASK_INCREMENTAL)).run()


def test_a_strategy_cannot_overspend():
    train = TrainSettings(epochs=2, batch_size=16, max_samples=200)
    with pytest.raises(BudgetExceeded, match=r"train\.max_samples=200"):
        harness_for(installed("er"), presented(Scenario.CLASS_INCREMENTAL, train=train)).run()


def test_state_that_cannot_be_saved_is_named(tmp_path):
    class Odd(GradientStrategy):
        """Keeps an object."""

        def state_dict(self):
            return super().state_dict() | {"odd": {"thing": object()}}

    with pytest.raises(RunError, match=r"\['odd'\]\['thing'\] is a object, which cannot be saved"):
        harness_for(
            Odd(Odd.Config()), presented(Scenario.TASK_INCREMENTAL), checkpoint=tmp_path / "x.safetensors"
        ).run()


def test_nothing_is_answered_before_anything_is_learned():
    scenario_stream = presented(Scenario.TASK_INCREMENTAL)
    strategy = installed("finetune")
    strategy.setup(scenario_stream.info, lambda: build_network("mlp", scenario_stream.info.input_shape, 6))
    with pytest.raises(UnseenTask):
        strategy.predictor(0)


def test_meter_counts_steps_only_while_open():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    parameter.grad = torch.ones(1)
    meter = Meter()
    with meter.metering():
        optimizer.step()
    optimizer.step()
    assert meter.optimizer_steps == 1


def test_the_rate_drops_after_the_epochs_named_and_starts_anew_with_each_experience():
    rates = []

    class Watched(Finetune):
        def after_step(self, batch):
            rates.append(self.optimizer.param_groups[0]["lr"])

    train = TrainSettings(epochs=3, batch_size=48)
    images.harness_of(Watched, train=train, lr=0.2, lr_drops=[1, 2], lr_drop=0.5).run()
    assert rates == [0.2, 0.1, 0.05] * 3


def test_outputs_of_classes_to_come_compete_only_where_asked_for():
    network = build_network("mlp", (1, 4, 4), 6, future=True)
    network.heads.open([0, 1])
    plain = build_network("mlp", (1, 4, 4), 6)
    plain.heads.open([0, 1])
    inputs = torch.ones(2, 1, 4, 4)
    assert network(inputs).isfinite().all()
    assert plain(inputs).isfinite().sum(dim=1).tolist() == [2, 2]
