"""X-DER: its formulas by hand, what goes into memory, and that it does what it is for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_suite import (
    GradientStrategy,
    MultiLabel,
    PrepareImages,
    PrepareVectors,
    Samples,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
)
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.networks.network import build_network
from cl_suite.runs.harness import Harness
from strategies.replay.x_der import (
    XDER,
    SimplexHead,
    hinge,
    rank_in_group,
    simplex,
    statistics_held,
    supervised_contrast,
    updated_logits,
)
from tests.helpers.projection_streams import EachExperience


def clusters(*, n_tasks=3, count=80, **options):
    """Two Gaussian clusters per task."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(2 * n_tasks, 10, generator=generator)

    def draw(task, number):
        targets = torch.arange(number) % 2
        return Samples(centres[targets + 2 * task] + torch.randn(number, 10, generator=generator), targets)

    tasks = tuple(TaskData(f"task {t}", draw(t, count), draw(t, 40), ("a", "b")) for t in range(n_tasks))
    return StreamData(tasks, PrepareVectors(), **options)


def images():
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(pixels, torch.arange(count) % 2)

    tasks = tuple(TaskData(str(t), draw(24), draw(8), ("a", "b")) for t in range(3))
    return StreamData(tasks, PrepareImages(mean=(0.5,) * 3, std=(0.25,) * 3, padding=1, flip=True))


def harness_of(cls=XDER, *, data=None, listener=None, scenario="class_incremental", epochs=4, **options):
    data = data or clusters()
    scenario_stream = ScenarioStream(
        "toy",
        data,
        Scenario(scenario),
        train=TrainSettings(epochs=epochs, batch_size=16),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    info = scenario_stream.info
    network = {"name": "conv_small", "width": 4} if len(info.input_shape) == 3 else {"name": "mlp", "hidden": (32,)}
    options = {"buffer_size": 30, **options} if cls is XDER else options

    def build():
        return build_network(input_shape=info.input_shape, n_outputs=info.n_outputs, **network)

    return Harness(cls(cls.Config(**options)), scenario_stream, build, listener=listener)


def after_each(take, **options):
    """Run, and return what `take(strategy)` gives after each experience, with the strategy."""
    found = []
    harness = harness_of(listener=EachExperience(lambda _: found.append(take(harness.strategy))), **options)
    harness.run()
    return found, harness.strategy


def test_logits_of_later_tasks_are_written_below_the_true_one():
    stored = torch.tensor([[2.0, 1.0, 9.0, 9.0, 5.0], [2.0, 1.0, 9.0, 9.0, 5.0], [-1.0, 4.0, 9.0, 9.0, 5.0]])
    outputs = torch.tensor([[7.0, 7.0, 3.4, -1.0, 8.0], [7.0, 7.0, 1.0, -1.0, 8.0], [7.0, 7.0, 1.0, -1.0, 8.0]])
    since = torch.tensor([False, False, True, True, False]).expand(3, 5)
    new = updated_logits(stored, outputs, torch.tensor([0, 0, 0]), since, gamma=0.85)
    # Row 0: the largest, 3.4, becomes 0.85 * 2; row 1 is below already; in row 2 the true logit is negative.
    expected = [[2.0, 1.0, 1.7, -0.5, 5.0], [2.0, 1.0, 1.0, -1.0, 5.0], [-1.0, 4.0, 9.0, 9.0, 5.0]]
    assert torch.allclose(new, torch.tensor(expected))


def test_a_sample_of_the_latest_task_has_nothing_to_be_written():
    stored, outputs = torch.randn(4, 6), torch.randn(4, 6)
    nothing = torch.zeros(4, 6, dtype=torch.bool)
    assert torch.equal(updated_logits(stored, outputs, torch.zeros(4, dtype=torch.long), nothing, gamma=0.85), stored)


def test_the_hinge_by_hand():
    outputs = torch.tensor([[1.0, 3.0, 3.2, 0.0], [5.0, 0.0, 1.0, 1.0]])
    lower, upper = torch.tensor([False, False, True, True]), torch.tensor([True, True, False, False])
    assert hinge(outputs, lower, upper, margin=0.5) == pytest.approx((3.2 + 0.5 - 3.0) / 2)


def test_the_contrastive_loss_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([7, 3, 7])
    with_partner = torch.cat([vectors, vectors[1:2]]), torch.cat([labels, labels[1:2]])
    e = torch.e**0.5
    # Each of the four has one partner of similarity 1, and two others of similarity 0, at temperature 2.
    assert supervised_contrast(*with_partner, temperature=2.0) == pytest.approx(
        float(-torch.log(torch.tensor(e / (e + 2))))
    )
    # Three of one label, all alike, and two that are not: the mean over partners, not their sum.
    five = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2), torch.tensor([0, 0, 0, 1, 1])
    expected = (3 * torch.log(torch.tensor((2 * e + 2) / e)) + 2 * torch.log(torch.tensor((e + 3) / e))) / 5
    assert supervised_contrast(*five, temperature=2.0) == pytest.approx(float(expected))


@pytest.mark.parametrize("vertices", [2, 3, 10])
def test_the_fixed_classifier_is_a_regular_simplex(vertices):
    angles = simplex(vertices) @ simplex(vertices).T
    expected = torch.full((vertices, vertices), -1 / (vertices - 1)).fill_diagonal_(1.0)
    assert simplex(vertices).shape == (vertices, vertices - 1)
    assert torch.allclose(angles, expected, atol=1e-6)


def test_ranks_count_equal_entries_before():
    assert rank_in_group(torch.tensor([5, 1, 5, 5, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_the_memory_holds_as_many_of_each_class_and_samples_know_their_place():
    def content(strategy):
        held = torch.arange(len(strategy.buffer))
        extras = strategy.buffer.extras_at(held)
        assert torch.equal(extras["position"], held)
        assert (extras["draws"] == 0).all() and torch.isfinite(extras["logits"]).all()
        return torch.bincount(strategy.buffer.targets[held], minlength=6).tolist()

    found, strategy = after_each(content)
    assert found == [[15, 15, 0, 0, 0, 0], [7, 7, 7, 7, 0, 0], [5] * 6]
    assert strategy.diagnostics()["buffer_samples"] == 30


def test_where_tasks_share_their_classes_each_task_has_its_part_of_the_memory():
    def content(strategy):
        held = torch.arange(len(strategy.buffer))
        return torch.bincount(2 * strategy.buffer.task_ids_at(held) + strategy.buffer.targets[held]).tolist()

    found, strategy = after_each(content, data=clusters(labels="shared"), scenario="domain_incremental")
    assert found == [[15, 15], [7] * 4, [5] * 6]
    assert strategy.blocks == ()  # no output is in the future
    assert strategy.constraints()["label replay"] > 0


def test_what_was_kept_of_a_class_is_part_of_what_was_there_before():
    found, _ = after_each(lambda s: s.buffer.take(torch.arange(len(s.buffer)))[0].clone())
    before, after = ({tuple(row) for row in each.tolist()} for each in found[:2])
    assert len(before & after) == 14  # 7 of each of two classes


def test_stored_logits_change_only_at_outputs_of_tasks_seen_since():
    harness = harness_of()
    strategy, seen = harness.strategy, []

    def compare(batch):
        held = torch.arange(len(strategy.buffer))
        if len(held):
            seen.append((strategy.task, strategy.buffer.task_ids_at(held), strategy.buffer.extras_at(held)["logits"]))

    strategy.after_step = compare
    harness.run()
    changes = 0
    for task in (1, 2):
        own = [entry for entry in seen if entry[0] == task]
        (_, ids, first), (_, _, last) = own[0], own[-1]
        moved = first != last
        output_task = torch.arange(6) // 2
        allowed = (output_task > ids[:, None]) & (output_task <= task)
        assert not moved[~allowed].any()
        changes += int(moved[allowed].sum())
    assert changes > 20


def test_logits_are_replaced_ever_more_rarely():
    harness = harness_of(epochs=8)
    strategy, replaced = harness.strategy, []

    def watch(replay, outputs):
        before = strategy.buffer.extras_at(replay.extras["position"])["logits"]
        XDER._update_memory(strategy, replay, outputs - 0.5)  # at the first step they are what is stored
        after = strategy.buffer.extras_at(replay.extras["position"])
        assert torch.equal(after["draws"], replay.extras["draws"] + 1)
        changed = (after["logits"] != before).any(dim=1)
        possible = replay.extras["logits"].gather(1, replay.targets[:, None])[:, 0] > 0
        replaced.append((after["draws"][possible], changed[possible]))

    strategy._update_memory = watch
    harness.run()
    draws, changed = (torch.cat(each) for each in zip(*replaced, strict=True))
    assert changed[draws == 1].all()  # probability 1
    late = (draws >= 8) & (draws <= 12)
    assert late.sum() > 200 and 0.04 < changed[late].float().mean() < 0.18  # probability about 1/10


def test_current_samples_do_not_move_past_outputs_and_replayed_ones_do_not_move_new_outputs():
    """Cross-entropy alone: no other term is left."""
    none = {"alpha": 0.0, "eta": 0.0, "variant": "ce"}

    def head(strategy):
        return strategy.model.heads.linear.weight.detach().clone()

    without_replay, _ = after_each(head, beta=0.0, **none)
    assert torch.equal(without_replay[1][:2], without_replay[0][:2])
    assert not torch.equal(without_replay[1][2:4], without_replay[0][2:4])
    harness = harness_of(**none)
    strategy, current = harness.strategy, XDER._cross_entropy

    def replay_alone(outputs, targets, among):
        value = current(strategy, outputs, targets, among)
        return 0.0 * value if torch.equal(among, strategy.current) and strategy.past.any() else value

    strategy._cross_entropy = replay_alone
    found = []
    harness.listener = EachExperience(lambda _: found.append(head(strategy)))
    harness.run()
    assert torch.equal(found[1][2:], found[0][2:]) and not torch.equal(found[1][:2], found[0][:2])


@pytest.mark.parametrize(("variant", "prepares"), [("full", True), ("ce", False)])
def test_only_the_full_variant_trains_outputs_of_the_future(variant, prepares):
    harness = harness_of(variant=variant, eta=0.0, alpha=0.0)
    starts, found = [], []
    strategy = harness.strategy
    start = strategy.start
    strategy.start = lambda e: (start(e), starts.append(strategy.model.heads.linear.weight.detach().clone()))
    harness.listener = EachExperience(lambda _: found.append(strategy.model.heads.linear.weight.detach().clone()))
    harness.run()
    assert torch.equal(found[0][2:], starts[0][2:]) != prepares
    assert ("future preparation" in strategy.terms[0]) == prepares
    assert "future preparation" not in strategy.terms[2]  # nothing is left to prepare


def test_the_fixed_classifier_stays_fixed_and_answers():
    harness = harness_of(variant="rpc")
    results, strategy = harness.run(), harness.strategy
    head = strategy.model.heads.linear
    assert isinstance(head, SimplexHead) and torch.equal(head.vertices, simplex(6))
    assert not any(name.endswith("vertices") for name in strategy.state_dict()["model"])
    assert sum(results.R[-1]) / 3 > 0.8


def test_running_statistics_move_in_replay_passes_alone():
    harness = harness_of(data=images(), epochs=1)
    strategy, moved = harness.strategy, []
    features, replay = XDER._outputs, XDER._replay
    inside = []

    def outputs(inputs):
        norm = strategy.norms[0]
        before = norm.running_mean.clone()
        result = features(strategy, inputs)
        if strategy.model.training:
            moved.append((bool(inside), len(inputs), not torch.equal(norm.running_mean, before)))
        return result

    def watched_replay(batch):
        inside.append(1)
        result = replay(strategy, batch)
        inside.pop()
        return result

    strategy._outputs, strategy._replay = outputs, watched_replay
    harness.run()
    first_replay = next(i for i, (replaying, _, _) in enumerate(moved) if replaying)
    later = moved[first_replay - 1 :]  # from the first step of the second experience on
    assert all(tracked == replaying for replaying, _, tracked in later)
    assert any(tracked for _, _, tracked in moved[: first_replay - 1])  # the first task has no replay
    # 16 replayed and as many current ones as each past task has, or what the current batch has (16 or 8).
    sizes = [size for replaying, size, _ in later if replaying]
    assert sizes[:2] == [32, 32] and sizes[-4:-2] == [24, 24]


def test_held_statistics_still_normalise_by_the_batch():
    norm = nn.BatchNorm1d(2)
    values = torch.randn(8, 2) + 5
    with statistics_held([norm], True):
        answers = norm(values)
    assert torch.allclose(answers, F.batch_norm(values, None, None, training=True), atol=1e-5)
    assert torch.equal(norm.running_mean, torch.zeros(2)) and norm.track_running_stats


@pytest.mark.parametrize("variant", ["full", "ce", "rpc"])
def test_it_forgets_less_than_finetuning(variant):
    finetuned = harness_of(GradientStrategy).run().R[-1]
    R = harness_of(variant=variant).run().R[-1]
    assert min(R) > 0.7 and sum(R) > sum(finetuned) + 1.0


def test_the_buffer_is_no_option_and_its_size_is_checked():
    with pytest.raises(TypeError, match="buffer"):
        XDER.Config(buffer="ring")
    with pytest.raises(UsageError, match=r"buffer_size=5 is out of range. Use 6 or more: one sample of each class"):
        harness_of(buffer_size=5).run()
    with pytest.raises(UsageError, match=r"buffer_size=5 holds fewer than 6 classes of tasks"):
        harness_of(data=clusters(labels="shared"), scenario="domain_incremental", buffer_size=5).run()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "rcp"}, "Did you mean rpc"),
        ({"alpha": -0.1}, "alpha=-0.1 is out of range. Use 0 or more"),
        ({"eta": float("nan")}, "eta=nan"),
        ({"temperature": 0.0}, "temperature=0.0 is out of range"),
        ({"views": 1}, "views=1 is out of range. Use 2 or more"),
        ({"replay_batch": -1}, "replay_batch=-1"),
        ({"data": clusters(objective=MultiLabel())}, "x_der needs classes"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        harness_of(**options).run()
