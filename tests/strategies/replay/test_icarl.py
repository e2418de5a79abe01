"""iCaRL: herding by brute force, loss and class means by hand, the memory's shares, and what the answers rest on."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from cl_suite import (
    MultiLabel,
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
from strategies.bounds.finetune import Finetune
from strategies.replay.icarl import ICaRL, binary_losses, goals, herding, shares


def clusters(*, n_tasks=3, count=30):
    """Return a stream of two well separated clusters per task."""
    generator = generator_for(0, "clusters")
    centres = 4.0 * F.normalize(torch.randn(2 * n_tasks, 8, generator=generator), dim=1)

    def draw(task, number):
        targets = torch.arange(2).repeat(number)
        return Samples(centres[targets + 2 * task] + torch.randn(2 * number, 8, generator=generator), targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 20), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors())


def images(*, flip, n_tasks=2, size=4, count=10):
    """Return a stream of images of noise, bright on one side."""
    generator = generator_for(0, "images")

    def draw():
        targets = torch.arange(2).repeat(count)
        pixels = torch.randint(0, 120, (2 * count, 1, size, size), generator=generator)
        pixels[:, :, :, : size // 2] += 100 * targets.view(-1, 1, 1, 1)
        return Samples(pixels.to(torch.uint8), targets)

    tasks = tuple(TaskData(f"task {t}", draw(), draw(), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareImages((0.4,), (0.3,), flip=flip))


class EachRow(Silent):
    """Calls a function after each experience."""

    def __init__(self, function):
        self.function = function

    def row(self, experience, scores):
        self.function(experience)


def harness_of(data=None, *, cls=ICaRL, scenario="class_incremental", listener=None, train=None, **options):
    scenario_stream = ScenarioStream(
        "small",
        data or clusters(),
        Scenario(scenario),
        train=train or TrainSettings(epochs=4, batch_size=10),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info

    def build():
        return build_network("mlp", info.input_shape, info.n_outputs, hidden=(12,))

    return Harness(cls(cls.Config(**options)), scenario_stream, build, listener=listener)


def strategy_after_setup(**options):
    harness = harness_of(**options)
    harness.strategy.setup(harness.scenario_stream.info, harness._factory)
    return harness.strategy


def after_each(take, *args, **options):
    """Run, and return what `take(strategy)` gives after each experience, and the harness."""
    found = []
    harness = harness_of(*args, listener=EachRow(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness


def samples_of(buffer):
    """Return {class: raw samples [N, ...] in the order of the buffer}."""
    raw, targets = buffer.take(torch.arange(len(buffer)))
    return {label: raw[targets == label].clone() for label in targets.unique().tolist()}


def normalised(strategy, raw):
    with torch.no_grad():
        strategy.model.eval()
        return F.normalize(strategy.model.features(strategy.info.prepare(raw)))


def brute_force(features, count):
    """Return the positions algorithm 4 chooses, found by trying every sample at every place."""
    mean, chosen = features.mean(0), []
    for _ in range(count):
        distances = {
            position: float((mean - features[[*chosen, position]].mean(0)).norm())
            for position in range(len(features))
            if position not in chosen
        }
        chosen.append(min(distances, key=distances.get))
    return chosen


# -- pure functions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_herding_brings_the_mean_of_every_prefix_nearest_to_the_mean_of_all(seed):
    features = torch.randn(25, 5, generator=generator_for(seed, "features"), dtype=torch.float64)
    expected = brute_force(features, 25)
    assert herding(features, 25).tolist() == expected
    assert herding(features, 7).tolist() == expected[:7]


def test_herding_takes_all_where_there_are_fewer_and_none_where_none_is_asked_for():
    features = torch.randn(4, 3, generator=generator_for(0, "features"))
    assert sorted(herding(features, 10).tolist()) == [0, 1, 2, 3]
    assert herding(features, 0).tolist() == []


def test_targets_are_labels_for_new_classes_and_old_answers_for_past_ones():
    previous = torch.tensor([[0.0, 2.0, -torch.inf], [-1.0, 0.0, -torch.inf]])
    targets, past = torch.tensor([2, 0]), torch.tensor([True, True, False])
    expected = [[0.5, 1 / (1 + 2.718281828**-2), 1.0], [1 / (1 + 2.718281828), 0.5, 0.0]]
    assert torch.allclose(goals(targets, 3, past, previous), torch.tensor(expected))
    assert goals(targets, 3, past, None).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_the_loss_is_the_mean_over_samples_and_outputs_that_answer():
    # log 2 for a logit of 0; log(1 + e^-1) = 0.3133 and 1.3133 for a logit of 1 and targets 1 and 0.
    outputs = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, 1.0, -torch.inf]], requires_grad=True)
    loss = binary_losses(outputs, torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]]))
    assert loss.item() == pytest.approx((0.6931472 + 0.3132617 + 0.6931472 + 1.3132617) / 4)
    loss.backward()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("quota", [1, 2, 5, 12])
def test_a_share_never_grows_when_a_class_comes_again_and_none_is_lost(quota):
    for experiences in range(1, 9):
        now, then = shares(quota, experiences), shares(quota, experiences + 1)
        assert sum(now) == quota
        assert max(now) - min(now) <= 1
        assert all(later <= earlier for earlier, later in zip(now, then, strict=False))


# -- memory --------------------------------------------------------------------------------------------------------


def test_each_class_has_its_share_of_the_memory_and_trimming_keeps_the_best_herded():
    found, harness = after_each(lambda strategy: samples_of(strategy.buffer), buffer_size=25)
    for experience, memory in enumerate(found):
        seen = 2 * (experience + 1)
        assert {label: len(raw) for label, raw in memory.items()} == dict.fromkeys(range(seen), 25 // seen)
    for before, after in pairwise(found):
        for label, raw in before.items():
            assert torch.equal(after[label], raw[: len(after[label])])
    assert harness.strategy.diagnostics()["exemplars_of_class"] == dict.fromkeys("012345", 4)


def test_exemplars_are_in_the_order_of_herding_over_all_samples_of_the_class():
    def take(strategy):
        task = harness_data.tasks[len(strategy.tasks_learned) - 1].train
        number = 2 * (len(strategy.tasks_learned) - 1)
        expected = {}
        for label in (0, 1):
            own = task.inputs[task.targets == label]
            order = brute_force(normalised(strategy, own).double(), 4)
            expected[number + label] = own[order]
        return samples_of(strategy.buffer), expected

    harness_data = clusters()
    found, _ = after_each(take, harness_data, buffer_size=24)
    for memory, expected in found:
        for label, raw in expected.items():
            assert torch.equal(memory[label][:4], raw)


def test_a_class_smaller_than_its_share_is_kept_whole():
    harness = harness_of(clusters(count=5), buffer_size=500)
    harness.run()
    assert len(harness.strategy.buffer) == 30
    assert harness.strategy.diagnostics()["exemplars_of_class"] == dict.fromkeys("012345", 5)


def test_where_classes_come_again_their_share_is_divided_among_the_experiences():
    found, _ = after_each(
        lambda strategy: [list(group) for group in strategy.groups], scenario="domain_incremental", buffer_size=10
    )
    assert found[0] == [[0, 5], [1, 5]]
    assert found[1] == [[0, 3], [1, 3], [0, 2], [1, 2]]
    assert found[2] == [[0, 2], [1, 2], [0, 2], [1, 2], [0, 1], [1, 1]]


# -- loss ----------------------------------------------------------------------------------------------------------


def test_the_first_experience_has_no_distillation_and_later_ones_do():
    previous = []
    harness = harness_of(listener=EachRow(lambda _: previous.append(harness.strategy.constraints())))
    strategy, held = harness.strategy, []
    strategy.after_step = lambda batch: held.append((strategy.experiences_learned, strategy._previous is not None))
    harness.run()
    assert set(held) == {(0, False), (1, True), (2, True)}
    assert previous[0] == {}
    assert all(0 < found["distillation"] < 1 for found in previous[1:])
    assert strategy._previous is None  # not held between experiences


def test_where_classes_come_again_they_have_labels_and_nothing_is_distilled():
    found, _ = after_each(lambda strategy: strategy.constraints(), scenario="domain_incremental")
    assert found == [{}, {}, {}]


def test_past_outputs_are_pulled_to_those_of_the_network_as_it_was_when_the_experience_began():
    harness = harness_of(clusters(n_tasks=2))
    strategy, started, checked = harness.strategy, [], []
    original = strategy.start

    def start(experience):
        started.append({name: value.clone() for name, value in strategy.model.state_dict().items()})
        original(experience)

    def after_step(batch):
        if len(started) < 2:
            return
        weights = started[1]
        hidden = F.relu(batch.inputs @ weights["backbone.1.weight"].T + weights["backbone.1.bias"])
        before = hidden @ weights["heads.linear.weight"].T + weights["heads.linear.bias"]
        target = torch.cat([before[:, :2].sigmoid(), F.one_hot(batch.targets, 4)[:, 2:].float()], dim=1)
        outputs = strategy.model(batch.inputs)
        by_hand = F.binary_cross_entropy(outputs.sigmoid(), target)
        checked.append((float(strategy.loss(batch).detach()), float(by_hand.detach())))

    strategy.start, strategy.after_step = start, after_step
    harness.run()
    found, by_hand = zip(*checked, strict=True)
    assert found == pytest.approx(by_hand, rel=1e-4)


def test_exemplars_are_trained_on_among_the_new_samples_and_all_draws_are_metered():
    harness = harness_of(buffer_size=24)
    strategy, labels = harness.strategy, [set(), set(), set()]
    strategy.after_step = lambda batch: labels[strategy.experiences_learned].update(batch.targets.tolist())
    harness.run()
    assert labels == [{0, 1}, {0, 1, 2, 3}, {0, 1, 2, 3, 4, 5}]
    replayed = 4 * (24 + 24) + 3 * 24  # in training, and for the class means
    assert harness.meter.samples_replayed == replayed
    assert harness.meter.samples_drawn == 4 * 180 + 180 + replayed  # training, herding
    assert strategy.expected_samples(harness.scenario_stream.info) == harness.meter.samples_drawn


# -- answers -------------------------------------------------------------------------------------------------------


def means_by_hand(strategy, memory, *, mirrored=False):
    rows = []
    for label in sorted(memory):
        features = normalised(strategy, memory[label])
        if mirrored:
            features = torch.cat([features, normalised(strategy, memory[label].flip(3))])
        rows.append(features.mean(0) / features.mean(0).norm())
    return torch.stack(rows)


def test_the_answer_is_minus_the_squared_distance_to_the_mean_of_a_class_s_exemplars():
    data = clusters()

    def take(strategy):
        inputs = data.tasks[0].test.inputs
        means = means_by_hand(strategy, samples_of(strategy.buffer))
        distances = torch.cdist(normalised(strategy, inputs), means, compute_mode="donot_use_mm_for_euclid_dist")
        return strategy.predictor()(inputs), -distances.square()

    found, _ = after_each(take, data, buffer_size=24)
    for experience, (logits, by_hand) in enumerate(found):
        seen = 2 * (experience + 1)
        assert torch.allclose(logits[:, :seen], by_hand, atol=1e-5)
        assert (logits[:, seen:] == -torch.inf).all()


@pytest.mark.parametrize(
    ("flip", "mirror", "augment"), [(True, True, True), (True, False, True), (True, True, False), (False, True, True)]
)
def test_mirror_images_count_in_the_means_where_the_stream_mirrors(flip, mirror, augment):
    train = TrainSettings(epochs=2, batch_size=10, augment=augment)
    harness = harness_of(images(flip=flip), buffer_size=12, mirror=mirror, train=train)
    harness.run()
    strategy, memory = harness.strategy, samples_of(harness.strategy.buffer)
    plain, both = (means_by_hand(strategy, memory, mirrored=mirrored) for mirrored in (False, True))
    assert not torch.allclose(plain, both, atol=1e-3)
    expected = both if flip and mirror and augment else plain
    assert torch.allclose(strategy.class_means, expected, atol=1e-5)


def test_means_are_computed_anew_when_the_network_was_changed():
    harness = harness_of(buffer_size=24)
    strategy, found = harness.strategy, []
    original = strategy.finish

    def finish(experience):
        original(experience)
        before = strategy.class_means.clone()
        with torch.no_grad():
            for parameter in strategy.model.backbone.parameters():
                parameter.mul_(-1)
        strategy.network_changed(experience)
        found.append((before, strategy.class_means, means_by_hand(strategy, samples_of(strategy.buffer))))

    strategy.finish = finish
    harness.run()
    for before, after, by_hand in found:
        assert not torch.allclose(before, after, atol=1e-2)
        assert torch.allclose(after[: len(by_hand)], by_hand, atol=1e-5)


def test_means_over_all_samples_need_them_kept_and_counted():
    data = clusters()
    few, all_of_them = (harness_of(data, buffer_size=12, means=means) for means in ("exemplars", "all"))
    few.run(), all_of_them.run()
    strategy = all_of_them.strategy
    everything = {}
    for number, task in enumerate(data.tasks):
        everything |= {2 * number + c: task.train.inputs[task.train.targets == c] for c in (0, 1)}
    assert torch.allclose(strategy.class_means, means_by_hand(strategy, everything), atol=1e-5)
    assert torch.equal(strategy.buffer.targets[:12], few.strategy.buffer.targets[:12])
    extra = all_of_them.costs()["state_bytes"] - few.costs()["state_bytes"]
    assert extra >= 180 * (8 * 4 + 8)  # every sample with its target
    for harness in (few, all_of_them):
        assert harness.strategy.expected_samples(harness.scenario_stream.info) == harness.meter.samples_drawn


def test_where_the_task_is_known_only_its_classes_answer_and_unlearned_ones_are_refused():
    data = clusters()
    inputs = data.tasks[1].test.inputs

    def take(strategy):
        answers = {}
        for task in range(3):
            try:
                answers[task] = strategy.predictor(task)(inputs).isfinite().all(0).nonzero().flatten().tolist()
            except UnseenTask:
                answers[task] = None
        return answers

    found, harness = after_each(take, data, scenario="task_incremental")
    own = {0: [0, 1], 1: [2, 3], 2: [4, 5]}
    assert found == [{task: own[task] if task <= learned else None for task in range(3)} for learned in range(3)]
    assert min(harness.results.R[-1]) > 0.8
    with pytest.raises(UnseenTask):
        strategy_after_setup(scenario="task_incremental").predictor(0)


def test_with_the_classifier_fc_the_network_answers_and_no_means_are_computed():
    data = clusters()
    harness = harness_of(data, classifier="fc")
    harness.run()
    strategy, inputs = harness.strategy, data.tasks[0].test.inputs
    assert strategy.class_means is None
    with torch.no_grad():
        assert torch.equal(strategy.predictor()(inputs), strategy.model.eval()(inputs))
    assert strategy.expected_samples(harness.scenario_stream.info) == harness.meter.samples_drawn


def test_inside_an_experience_the_network_answers_since_the_means_are_out_of_date():
    train = TrainSettings(epochs=4, batch_size=10, evaluate_every=1)
    data = clusters(n_tasks=2)
    inputs = data.tasks[0].test.inputs
    harness = harness_of(data, train=train)
    strategy, found = harness.strategy, []

    def after_step(batch):
        with torch.no_grad():
            found.append(torch.equal(strategy.predictor()(inputs), strategy.model(inputs)))

    strategy.after_step = after_step
    harness.run()
    assert found and all(found)


def test_it_forgets_less_than_finetuning():
    data = clusters()
    scores = {}
    for cls, options in ((Finetune, {"lr": 0.05}), (ICaRL, {"buffer_size": 18})):
        row = harness_of(data, cls=cls, **options).run().R[-1]
        scores[cls] = sum(row) / len(row)
    assert scores[ICaRL] > 0.8 > 0.6 > scores[Finetune]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 5}, r"strategy.buffer_size=5 .* 6 classes. Use 6 or more"),
        ({"classifier": "nmc"}, r"strategy.classifier=nmc is not known. Did you mean ncm"),
        ({"means": "every"}, r"strategy.means=every is not known"),
        ({"means": "all", "classifier": "fc"}, r"strategy.means=all has no effect with strategy.classifier=fc"),
    ],
)
def test_an_option_out_of_its_range_is_refused_before_training(options, message):
    with pytest.raises(UsageError, match=message):
        strategy_after_setup(**options)


def test_a_stream_without_one_class_per_sample_is_refused():
    data = dataclasses.replace(clusters(), objective=MultiLabel())
    with pytest.raises(UsageError, match="one class per sample, not multi_label"):
        strategy_after_setup(data=data)
