"""DER and DER++: the loss by hand, what is stored and when, how often it is drawn, and what it is for."""

import copy
import math

import pytest
import torch

from cl_suite import (
    Batch,
    PrepareImages,
    PrepareVectors,
    Samples,
    Scenario,
    Seeds,
    StreamData,
    TaskData,
    TrainSettings,
    UsageError,
    build_network,
)
from cl_suite.conformance.case import conformance_stream, states_equal
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.runs.harness import Harness
from strategies.bounds.finetune import Finetune
from strategies.replay.der import DER, DERPlusPlus
from tests.helpers.projection_streams import Notes, harness_of

BOTH = [DER, DERPlusPlus]
PLAIN = TrainSettings(epochs=2, batch_size=10)


def run_of(cls, *, data=None, **options):
    harness = harness_of(cls, data=data or conformance_stream(), train=PLAIN, **options)
    return harness.run(), harness


@pytest.mark.parametrize("scenario", list(Scenario))
@pytest.mark.parametrize(("cls", "weights"), [(DER, {"alpha": 0.0}), (DERPlusPlus, {"alpha": 0.0, "beta": 0.0})])
def test_without_weights_it_is_finetuning_bit_for_bit(cls, weights, scenario):
    expected, finetune = run_of(Finetune, scenario=scenario)
    found, harness = run_of(cls, scenario=scenario, buffer_size=20, **weights)
    assert found.R == expected.R
    assert states_equal(harness.strategy.model.state_dict(), finetune.strategy.model.state_dict())
    _, other = run_of(cls, scenario=scenario, buffer_size=20)
    assert not states_equal(other.strategy.model.state_dict(), finetune.strategy.model.state_dict())


def by_hand(cls, *, future=False, opened=(0, 1), **options):
    """Return the strategy with one linear layer on two inputs, three outputs (two of them open), all weights zero."""
    task = TaskData("task", *[Samples(torch.zeros(4, 2), torch.arange(4) % 3)] * 2, ("a", "b", "c"))
    scenario_stream = ScenarioStream(
        "three classes",
        StreamData((task,), PrepareVectors()),
        Scenario.CLASS_INCREMENTAL,
        train=PLAIN,
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    strategy = cls(cls.Config(**options))
    strategy.setup(scenario_stream.info, lambda: build_network("mlp", (2,), 3, hidden=(), future=future))
    torch.nn.init.zeros_(strategy.model.heads.linear.weight)
    torch.nn.init.zeros_(strategy.model.heads.linear.bias)
    strategy.model.heads.open(opened)
    return strategy


def one(target):
    return Batch(torch.zeros(1, 2), torch.tensor([target]), torch.zeros(1, 2))


def cross_entropy(logits, target):
    return math.log(sum(map(math.exp, logits))) - logits[target]


@pytest.mark.parametrize(("future", "seen"), [(False, (1.0, 2.0)), (True, (1.0, 2.0, 3.0))])
def test_the_loss_is_that_of_the_paper_with_a_mean_over_all_classes(future, seen):
    """The stored logits are (0, 0, 0), the present ones (1, 2, 3): a mean squared distance of 14/3."""
    for cls, replayed in ((DER, 0.0), (DERPlusPlus, 0.25 * cross_entropy(seen, 1))):
        strategy = by_hand(cls, future=future, alpha=0.5, **({"beta": 0.25} if cls is DERPlusPlus else {}))
        first = strategy.loss(one(1))
        assert first.item() == pytest.approx(math.log(3 if future else 2))  # nothing to replay yet
        strategy.after_step(one(1))
        with torch.no_grad():
            strategy.model.heads.linear.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        expected = cross_entropy(seen, 0) + 0.5 * 14 / 3 + replayed
        assert strategy.loss(one(0)).item() == pytest.approx(expected)
        assert strategy.constraints() == {"logit distillation": pytest.approx(0.5 * 14 / 3)}


@pytest.mark.parametrize("cls", BOTH)
def test_replayed_samples_pull_all_outputs_back_even_closed_ones(cls):
    strategy = by_hand(cls, alpha=0.5, **({"beta": 0.0} if cls is DERPlusPlus else {}))
    strategy.loss(one(1))
    strategy.after_step(one(1))
    bias = strategy.model.heads.linear.bias
    with torch.no_grad():
        bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    strategy.loss(one(0)).backward()
    # The third output is closed: no cross-entropy reaches it, but alpha * 2 * 3 / 3 does.
    assert bias.grad.tolist() == pytest.approx([-0.5, 0.5, 1.0])


def image_harness(cls, found, **options):
    """A run on images that are cropped and flipped, with batch normalisation.

    `found` gets, for each batch, (raw samples, the logits that the network of that moment gives their augmented view).
    """
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images, torch.arange(count) % 2)

    tasks = tuple(TaskData(str(t), draw(24), draw(8), ("a", "b")) for t in range(2))
    scenario_stream = ScenarioStream(
        "images",
        StreamData(tasks, PrepareImages(mean=(0.5,) * 3, std=(0.25,) * 3, padding=2, flip=True)),
        Scenario.CLASS_INCREMENTAL,
        train=TrainSettings(epochs=1, batch_size=8),
        seeds=Seeds(0, 0, 0),
        device=torch.device("cpu"),
    )
    strategy = cls(cls.Config(buffer_size=1000, **options))
    loss = strategy.loss

    def watched(batch):
        model = copy.deepcopy(strategy.model)
        assert model.training
        with torch.no_grad():
            found.append((batch.raw, model.heads.linear(model.features(batch.inputs))))
        return loss(batch)

    strategy.loss = watched
    return Harness(strategy, scenario_stream, lambda: build_network("conv_small", (3, 8, 8), 4, width=4))


@pytest.mark.parametrize("cls", BOTH)
def test_stored_are_raw_samples_and_the_logits_of_their_augmented_view_before_the_step(cls):
    found = []
    harness = image_harness(cls, found)
    harness.run()
    buffer = harness.strategy.buffer
    everything = torch.arange(len(buffer))
    raw, _ = buffer.take(everything)
    assert len(buffer) == 48
    assert torch.equal(raw, torch.cat([each for each, _ in found]))
    stored = buffer.extras_at(everything)["logits"]
    assert torch.equal(stored, torch.cat([logits for _, logits in found]))
    with torch.no_grad():  # none of these is what it should not be
        model = harness.strategy.model.eval()
        assert not torch.allclose(stored, model.heads.linear(model.features(harness.scenario_stream.info.prepare(raw))))


@pytest.mark.parametrize(("cls", "passes"), [(DER, 2), (DERPlusPlus, 3)])
def test_each_term_has_a_forward_pass_and_a_replayed_batch_of_its_own(cls, passes):
    harness = harness_of(cls, scenario="class_incremental", data=conformance_stream(), train=PLAIN, replay_batch=7)
    strategy, sizes, draws = harness.strategy, [], []
    setup = strategy.setup

    def watched_setup(info, build_model):
        setup(info, build_model)
        strategy.model.backbone.register_forward_hook(
            lambda module, inputs, output: sizes.append(len(output)) if module.training else None
        )
        draw = strategy.buffer.draw

        def watched_draw(count):
            draws.append(draw(count))
            return draws[-1]

        strategy.buffer.draw = watched_draw

    strategy.setup = watched_setup
    harness.run()
    assert sizes[:1] + sizes[1 : 1 + passes] == [10, 10] + [7] * (passes - 1)
    steps = harness.scenario_stream.info.planned_steps
    assert len(draws) == (passes - 1) * (steps - 1)  # none in the first step
    if cls is DERPlusPlus:
        alike = [torch.equal(a.raw, b.raw) for a, b in zip(draws[::2], draws[1::2], strict=True)]
        assert not any(alike[3:])  # at first there are hardly more samples than are drawn
    assert harness.meter.samples_replayed == 7 * len(draws)
    info = harness.scenario_stream.info
    expected = info.planned_samples * (1 + 0.7 * (passes - 1))
    assert strategy.expected_samples(info) == round(expected)
    assert harness.meter.samples_drawn == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("cls", BOTH)
def test_no_sample_is_replayed_in_the_step_that_inserts_it(cls):
    harness = harness_of(cls, scenario="task_agnostic", data=conformance_stream(), train=PLAIN, buffer_size=10_000)
    strategy, before = harness.strategy, []
    loss = strategy.loss

    def watched(batch):
        before.append(strategy.buffer.seen)
        return loss(batch)

    strategy.loss = watched
    harness.run()
    assert before[0] == 0 and before[1] == 10
    assert strategy.buffer.seen == harness.scenario_stream.info.planned_samples


@pytest.mark.parametrize("cls", BOTH)
def test_a_stored_sample_costs_its_input_its_label_its_task_and_four_bytes_per_class(cls):
    _, harness = run_of(cls, scenario="class_incremental", buffer_size=50)
    strategy = harness.strategy
    assert strategy.diagnostics() == {"buffer_samples": 50, "buffer_bytes": 50 * (12 * 4 + 8 + 8 + 6 * 4)}


@pytest.mark.parametrize(("cls", "at_least"), [(DER, 0.6), (DERPlusPlus, 0.8)])
def test_it_forgets_less_than_finetuning(cls, at_least):
    means = []
    for each in (Finetune, cls):
        setting = {"train": TrainSettings(epochs=4, batch_size=10), "hidden": (32,), "lr": 0.02}
        harness = harness_of(each, scenario="class_incremental", data=conformance_stream(), **setting)
        means.append(sum(harness.run().R[-1]) / 3)
    assert means[1] > at_least > 0.4 > means[0], means


@pytest.mark.parametrize("cls", BOTH)
def test_it_says_once_where_stored_logits_are_untrained(cls):
    notes = {}
    for scenario in ("class_incremental", "task_incremental", "domain_incremental"):
        notes[scenario] = Notes()
        run_of(cls, scenario=scenario, listener=notes[scenario], buffer_size=20)
    assert sum("model.future=true" in text for text in notes["class_incremental"].texts) == 1
    assert not notes["task_incremental"].texts and not notes["domain_incremental"].texts


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (DER, {"alpha": -0.1}, "strategy.alpha=-0.1 is a weight of the loss. Use 0 or more"),
        (DERPlusPlus, {"alpha": float("nan")}, "strategy.alpha=nan"),
        (DERPlusPlus, {"beta": float("inf")}, "strategy.beta=inf"),
        (DER, {"replay_batch": -1}, "strategy.replay_batch=-1"),
        (DERPlusPlus, {"buffer": "rign"}, "strategy.buffer=rign"),
    ],
)
def test_options_out_of_range_are_refused(cls, options, words):
    with pytest.raises(UsageError, match=words):
        run_of(cls, **options)
