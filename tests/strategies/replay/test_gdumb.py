"""GDumb: nothing is trained before the memory is complete, then on the memory alone; schedule and CutMix by hand."""

import pytest
import torch

from cl_suite import (
    Experience,
    PrepareImages,
    PrepareVectors,
    Samples,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UnseenTask,
    UsageError,
    build_network,
    generator_for,
)
from cl_suite.core.listener import Silent
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.runs.harness import Harness
from strategies.replay.gdumb import GDumb, cut_box, learning_rate, paste


def clusters(*, n_tasks=3, count=30):
    """Return a stream of two well separated clusters per task."""
    generator = generator_for(0, "clusters")
    centres = 4.0 * torch.nn.functional.normalize(torch.randn(2 * n_tasks, 8, generator=generator), dim=1)

    def draw(task, number):
        targets = torch.arange(2).repeat(number)
        return Samples(centres[targets + 2 * task] + torch.randn(2 * number, 8, generator=generator), targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 20), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors())


def images(*, size=6, count=12):
    """Return a stream of one task: dark and bright images."""
    generator = generator_for(0, "images")
    targets = torch.arange(2).repeat(count)
    noise = torch.randint(0, 60, (2 * count, 1, size, size), generator=generator)
    samples = Samples((noise + 150 * targets.view(-1, 1, 1, 1)).to(torch.uint8), targets)
    return StreamData((TaskData("task", samples, samples, ("dark", "bright")),), PrepareImages((0.4,), (0.3,)))


def harness_of(data, *, scenario="class_incremental", listener=None, train=None, seed=0, **options):
    scenario_stream = ScenarioStream(
        "small",
        data,
        Scenario(scenario),
        train=train or TrainSettings(epochs=2, batch_size=10),
        seeds=Seeds(seed, seed, seed),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info

    def build():
        return build_network("mlp", info.input_shape, info.n_outputs, hidden=(12,))

    config = GDumb.Config(**{"epochs": 8, **options})
    return Harness(GDumb(config), scenario_stream, build, listener=listener)


def strategy_after_setup(data=None, **options):
    harness = harness_of(data or clusters(), **options)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    return harness.strategy


def weights(strategy):
    return {name: value.clone() for name, value in strategy.model.state_dict().items() if name != "heads.opened"}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class EachRow(Silent):
    """Calls a function after each experience."""

    def __init__(self, function):
        self.function = function

    def row(self, experience, scores):
        self.function(experience)


def test_the_schedule_is_a_warm_up_and_then_cosines_with_warm_restarts():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.05)
    cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=1, T_mult=2, eta_min=5e-4)
    expected = []
    for _ in range(31):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
    found = [learning_rate(epoch, high=0.05, low=5e-4) for epoch in range(32)]
    assert found[0] == pytest.approx(5e-3)
    assert found[1:] == pytest.approx(expected)
    assert found[2] == found[4] == found[8] == found[16] == 0.05  # the restarts
    assert found[31] < 0.05 * 0.03  # after a power of two the last cosine is at its end


def test_every_step_of_an_epoch_takes_the_rate_of_that_epoch():
    harness = harness_of(clusters(), buffer_size=20, replay_batch=8, epochs=4)
    found = []
    harness.strategy.after_step = lambda batch: found.append(harness.strategy.optimizer.param_groups[0]["lr"])
    harness.run()
    assert found == [learning_rate(epoch, high=0.05, low=5e-4) for epoch in range(4) for _ in range(3)]


def test_nothing_is_trained_before_the_last_experience_has_been_stored():
    seen = []
    harness = harness_of(
        clusters(), buffer_size=24, epochs=32, listener=EachRow(lambda number: seen.append(weights(strategy)))
    )
    strategy = harness.strategy
    results = harness.run()
    assert equal(seen[0], seen[1])
    assert not equal(seen[1], seen[2])
    assert results.R[:2] == [[None] * 3] * 2
    assert min(results.R[2]) > 0.8
    assert harness.meter.optimizer_steps == 32  # passes over the memory, each in one batch


class Noise:
    """The samples of an experience, as noise: what is trained on them is not what is trained on a memory."""

    def __len__(self):
        return 60

    def take(self, positions):
        generator = generator_for(1, "noise")
        return torch.randn(len(positions), 8, generator=generator), torch.zeros(len(positions), dtype=torch.long)


def trained_on_the_memory_of(other):
    """Return a strategy that was handed another one's memory, and nothing else of the stream."""
    strategy = strategy_after_setup(buffer_size=30)
    strategy.buffer.load_state_dict(other.buffer.state_dict())
    strategy.model.heads.open()
    info = strategy.info
    experience = Experience(
        index=2, source=Noise(), prepare=info.prepare, train=info.train, seeds=info.seeds, device=info.device
    )
    for _ in experience.batches(epochs=1):  # the order of the passes has the same seeds as in a run
        pass
    strategy.train_afresh(experience)
    return strategy


def test_the_network_depends_on_the_memory_alone():
    harnesses = [harness_of(clusters(), buffer_size=30, seed=seed) for seed in (0, 1)]
    for harness in harnesses:
        harness.run()
    first, other = (harness.strategy for harness in harnesses)
    assert equal(weights(first), weights(trained_on_the_memory_of(first)))
    assert not equal(weights(first), weights(trained_on_the_memory_of(other)))


def test_with_train_at_each_every_row_is_answered_by_a_network_of_its_own():
    built, networks, answers = [], [], []
    inputs = clusters().tasks[0].test.inputs

    def note(number):
        built.append(harness._factory.built)
        networks.append(strategy.model)
        answers.append(strategy.predictor()(inputs).isfinite().all(0).tolist())

    harness = harness_of(clusters(), buffer_size=30, epochs=32, train_at="each", listener=EachRow(note))
    strategy = harness.strategy
    results = harness.run()
    assert built == [2, 3, 4]  # one at setup, then one for each experience
    assert len({id(network) for network in networks}) == 3
    for experience, row in enumerate(results.R):
        seen = 2 * (experience + 1)
        assert answers[experience] == [True] * seen + [False] * (6 - seen)
        assert min(row[: experience + 1]) > 0.8
        assert row[experience + 1 :] == [None] * (2 - experience)
    end = harness_of(clusters(), buffer_size=30)
    end.run()
    assert torch.equal(end.strategy.buffer.targets[:30], strategy.buffer.targets[:30])  # the memory is the same


def test_before_training_there_is_no_answer():
    strategy = strategy_after_setup()
    with pytest.raises(UnseenTask, match="train_at=each"):
        strategy.predictor()


@pytest.mark.parametrize("scenario", [s.value for s in Scenario])
def test_it_learns_in_every_scenario_from_a_memory_with_equally_many_samples_of_each_class(scenario):
    data = clusters(n_tasks=2)
    harness = harness_of(data, scenario=scenario, buffer_size=24, epochs=32)
    results, strategy = harness.run(), harness.strategy
    assert sum(results.R[-1]) / 2 > 0.8
    counts = set(strategy.diagnostics()["samples_of_class"].values())
    assert counts == {24 // strategy.info.n_outputs}
    assert len(strategy.buffer) == 24


@pytest.mark.parametrize(
    ("scenario", "train_at"), [(s, t) for s in ("class_incremental", "task_agnostic") for t in ("end", "each")]
)
def test_one_pass_over_the_stream_and_the_passes_over_the_memory_are_metered(scenario, train_at):
    harness = harness_of(clusters(), scenario=scenario, buffer_size=24, replay_batch=16, train_at=train_at)
    harness.run()
    stored = 180 if scenario == "class_incremental" else 2 * 180  # a stream without boundaries repeats its samples
    networks = harness.strategy.networks_trained
    assert networks == (1 if train_at == "end" else harness.scenario_stream.n_experiences)
    assert harness.meter.samples_replayed == networks * 8 * 24
    assert harness.meter.samples_drawn == stored + networks * 8 * 24
    assert harness.strategy.expected_samples(harness.scenario_stream.info) == harness.meter.samples_drawn


def test_a_box_is_pasted_and_the_share_that_stays_is_counted_in_pixels():
    # A quarter of the area: half of each side, around (0, 1): the upper half of it lies outside.
    assert cut_box(0.25, 0, 1, 4, 4) == (0, 1, 0, 2)
    assert cut_box(0.0, 2, 2, 4, 4) == (2, 2, 2, 2)
    assert cut_box(1.0, 2, 2, 4, 4) == (0, 4, 0, 4)
    batch = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    mixed, kept = paste(batch, torch.tensor([1, 0]), (0, 1, 0, 2))
    assert kept == 14 / 16
    assert mixed[0].sum() == 2
    assert mixed[0, 0, 0].tolist() == [1, 1, 0, 0]
    assert mixed[1].sum() == 14
    assert batch[0].sum() == 0  # the images themselves are as they were


def test_the_loss_of_a_mixed_step_is_that_of_both_targets_by_their_share(monkeypatch):
    calls, steps = [], []

    def watched(images, order, box):
        calls.append((order, paste(images, order, box)))
        return calls[-1][1]

    monkeypatch.setattr("strategies.replay.gdumb.paste", watched)
    harness = harness_of(images(), cutmix_share=1.0)
    strategy, plain = harness.strategy, GDumb.loss

    def loss(batch):
        found = plain(strategy, batch)
        order, (mixed, kept) = calls[-1]
        with torch.no_grad():
            logs = strategy.model(mixed).log_softmax(1)
        by_hand = [
            -float(kept * logs[i, batch.targets[i]] + (1 - kept) * logs[i, batch.targets[order[i]]])
            for i in range(len(batch))
        ]
        steps.append((kept, float(found.detach()), sum(by_hand) / len(batch)))
        return found

    strategy.loss = loss
    harness.run()
    assert len(steps) == len(calls) == 8
    kept, found, by_hand = zip(*steps, strict=True)
    assert found == pytest.approx(by_hand, rel=1e-5)
    assert 0 <= min(kept) < 0.9 < max(kept) <= 1  # boxes of all sizes


@pytest.mark.parametrize(
    ("data", "options", "mixes"),
    [
        (images, {}, True),
        (images, {"cutmix": 0.0}, False),
        (images, {"cutmix_share": 0.0}, False),
        (clusters, {"cutmix_share": 1.0}, False),
    ],
)
def test_images_are_mixed_and_vectors_never(monkeypatch, data, options, mixes):
    calls = []
    monkeypatch.setattr("strategies.replay.gdumb.paste", lambda *a: calls.append(a) or paste(*a))
    harness = harness_of(data(), **options)
    harness.run()
    assert bool(calls) is mixes


def test_gradients_are_clipped():
    norms = {}
    for clip in (0.01, 0.0):
        harness = harness_of(clusters(), clip=clip)
        strategy, norms[clip] = harness.strategy, []

        def note(batch, strategy=strategy, found=norms[clip]):
            found.append(float(torch.stack([p.grad.norm() for p in strategy.model.parameters()]).norm()))

        strategy.after_step = note
        harness.run()
    assert max(norms[0.01]) == pytest.approx(0.01, rel=1e-3)
    assert max(norms[0.0]) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 5}, r"strategy.buffer_size=5 .* 6 classes"),
        ({"train_at": "ende"}, r"strategy.train_at=ende is not known. Did you mean end"),
        ({"epochs": 0}, r"strategy.epochs=0"),
        ({"lr_low": 0.1}, r"strategy.lr_low=0.1 .* strategy.lr=0.05"),
        ({"cutmix": -1.0}, r"strategy.cutmix=-1.0"),
        ({"clip": float("inf")}, r"strategy.clip=inf"),
        ({"cutmix_share": 1.5}, r"strategy.cutmix_share=1.5"),
        ({"replay_batch": -1}, r"strategy.replay_batch=-1"),
    ],
)
def test_an_option_out_of_its_range_is_refused_before_training(options, message):
    with pytest.raises(UsageError, match=message):
        strategy_after_setup(**options)


def test_a_reservoir_may_be_smaller_than_the_number_of_classes():
    assert strategy_after_setup(buffer="reservoir", buffer_size=5).buffer.capacity == 5
