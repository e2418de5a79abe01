"""With the library Avalanche itself: skipped where it is absent. Importing it takes seconds, so not before a test."""

import importlib.util
import os
import runpy

import pytest
import torch

from benchmarks.avalanche.provider import STREAMS
from cl_suite import UsageError, check_strategy
from cl_suite.avalanche import to_avalanche
from cl_suite.conformance.case import Case
from cl_suite.conformance.check import strategy_config
from cl_suite.core.data_root import DataRoot, default_data_root
from cl_suite.core.errors import BudgetExceeded
from cl_suite.core.registry import STRATEGY, STREAM, choose
from cl_suite.core.scenario import Scenario
from cl_suite.core.seeding import Seeds
from cl_suite.core.types import TrainSettings
from cl_suite.metrics.matrix import acc
from cl_suite.runs.execute import run_one
from cl_suite.runs.plan import Request, plan
from strategies.avalanche.provider import RECIPES
from tests.helpers.places import ROOT

USABLE = [name for name, recipe in RECIPES.items() if not recipe.broken]
FASTER = {"mer": ["strategy.n_inner_steps=1"]}
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("avalanche") is None, reason="Avalanche is not installed"),
    pytest.mark.filterwarnings("ignore"),
]


def case(name, scenario=Scenario.TASK_INCREMENTAL, overrides=()):
    chosen = choose(STRATEGY, f"avalanche/{name}")
    config = strategy_config(chosen, [*FASTER.get(name, ()), *overrides], of="a test")
    return Case(chosen, config, scenario)


@pytest.mark.parametrize("name", USABLE)
def test_every_strategy_of_the_table_learns_where_tasks_are_told(name):
    run = case(name)
    last = run.straight.R[-1]
    assert max(last) > 0.6
    meter = run.straight.harness.meter
    whole = sum(run.present().training_samples(task) for task in range(3)) * 4
    if name not in ("gdumb", "cumulative", "joint_training"):  # these draw the present samples less or more often
        assert meter.samples_drawn - meter.samples_replayed >= whole
    assert meter.training_flops > 0
    if penalty := RECIPES[name].penalty:  # Avalanche's own synaptic intelligence has none on a CPU: see `si_fix`
        assert run.straight.harness.strategy.constraints()[penalty] != 0


@pytest.mark.parametrize("name", ["replay", "lwf", "gdumb", "ncm"])
def test_the_promises_of_a_strategy_are_kept(name):
    findings = check_strategy(f"avalanche/{name}", scenarios=["class_incremental"])
    assert not [str(each) for each in findings if each.failed]


def counted(name, **options):
    meter = case(name, Scenario.CLASS_INCREMENTAL, [f"strategy.{key}={value}" for key, value in options.items()])
    counts = meter.straight.harness.meter
    return counts.samples_drawn - counts.samples_replayed, counts.samples_replayed, counts.optimizer_steps


def test_samples_are_counted_whoever_draws_them():
    # 3 tasks of 80 samples, 4 epochs, batches of 16: 5 steps an epoch, 60 in all; 40 of them after the first task.
    assert counted("naive") == (960, 0, 60)
    assert counted("replay", mem_size=32) == (960, 40 * 16, 60)
    fresh, replayed, _ = counted("gem", patterns_per_exp=10)
    assert (fresh - 960, replayed) == (3 * 16, 20 * 10 + 20 * 20)  # a batch fills the memory; all of it at each step
    assert counted("ewc")[0] == 960 + 240  # one more pass for the importances
    assert counted("agem", patterns_per_exp=8, sample_size=8)[1] == 40 * 8
    assert counted("feature_replay", mem_size=30, batch_size_mem=10) == (960 + 240, 40 * 10, 60)


def test_the_budget_holds_in_avalanches_loop():
    run = case("replay", Scenario.CLASS_INCREMENTAL)
    limited = run.present(train=TrainSettings(epochs=4, batch_size=16, max_samples=400))
    harness = run.harness(limited)
    with pytest.raises(BudgetExceeded):
        harness.run()
    assert harness.meter.samples_drawn <= 400 + 32


def request(strategy, tmp_path, *overrides, stream="split_digits", scenario="class_incremental"):
    return Request(
        strategy=strategy,
        stream=stream,
        scenario=scenario,
        results=tmp_path,
        data_root=DataRoot(default_data_root()),
        device="cpu",
        threads=1,
        overrides=overrides,
    )


@pytest.mark.parametrize(
    ("strategy", "overrides", "scenario", "said"),
    [
        ("ewc", ["strategy.ewc_lamda=1"], "class_incremental", "Did you mean strategy.ewc_lambda"),
        ("ewc", ["strategy.ewc_lambda=much"], "class_incremental", "ewc_lambda"),
        ("packnet", [], "class_incremental", "task_id at test"),
        ("icarl", [], "domain_incremental", "new classes in each task"),
        ("replay", [], "task_agnostic", "task boundaries"),
    ],
)
def test_what_cannot_be_is_refused_before_training(strategy, overrides, scenario, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        plan(request(f"avalanche/{strategy}", tmp_path, *overrides, scenario=scenario))


def test_options_that_avalanche_refuses_are_one_line(tmp_path):
    planned = plan(request("avalanche/ewc", tmp_path, "strategy.mode=other", "train.epochs=1"))
    with pytest.raises(UsageError, match="Mode must be separate or online"):
        run_one(planned)


def test_a_record_of_a_run_is_whole(tmp_path):
    record = run_one(plan(request("avalanche/er_ace", tmp_path, "train.epochs=2", "train.evaluate_every=10"))).record
    assert record.status == "complete", record.error
    assert (record.strategy, len(record.R), record.config["strategy"]["mem_size"]) == ("avalanche/er_ace", 5, 200)
    assert record.curve and record.costs["memory_bytes"] > 0
    assert record.metrics["acc"] > 0.6


def test_texts_are_refused(tmp_path):
    planned = plan(request("avalanche/naive", tmp_path, stream="toy_text"))
    with pytest.raises(UsageError, match="one tensor"):
        run_one(planned)


def test_an_augmented_batch_is_alike_for_the_old_network_and_the_new():
    import copy

    from cl_suite import PrepareImages
    from cl_suite.avalanche.networks import PreparedView

    view = PreparedView(PrepareImages(mean=(0.5,), std=(0.5,), padding=2, flip=True))
    images = torch.arange(8 * 36).view(8, 1, 6, 6).to(torch.uint8)
    plain = view(images)
    view.augment(torch.Generator().manual_seed(0))
    seen = view(images)
    assert not torch.equal(seen, plain)
    assert torch.equal(copy.deepcopy(view)(images), seen)
    assert not torch.equal(view(images.clone()), seen)
    view.augment(None)
    assert torch.equal(view(images), plain)
    assert torch.equal(view(plain), plain)


# --- streams ---------------------------------------------------------------------------------------------------------


def digits(n_tasks: int = 5):
    """A benchmark of a user's own."""
    return to_avalanche("split_digits", n_tasks=n_tasks)


@pytest.mark.parametrize(("scenario", "labels"), [("class_incremental", [0] * 5), ("task_incremental", [*range(5)])])
def test_there_and_back_a_stream_is_the_same(scenario, labels):
    there = to_avalanche("split_digits", scenario)
    assert [each.task_label for each in there.train_stream] == labels
    assert (there.n_classes, there.n_classes_per_exp) == (10, [2] * 5)
    cls = choose(STREAM, f"avalanche/{__name__}:digits").cls
    root, seeds = DataRoot(default_data_root()), Seeds(0, 0, 0)
    back = cls(cls.Config()).load(root, seeds)
    kind = choose(STREAM, "split_digits").cls
    ours = kind(kind.Config()).load(root, seeds)
    assert back.labels == ours.labels
    for first, second in zip(ours.tasks, back.tasks, strict=True):
        raw, targets = first.test.take(torch.arange(len(first.test)))
        assert torch.equal(ours.prepare(raw), second.test.inputs)
        assert torch.equal(targets, second.test.targets)
    assert len(cls(cls.Config(n_tasks=2)).load(root, seeds).tasks) == 2


def broken_benchmark(n_experiences: int = 2):
    """A benchmark of a user's own that cannot be made."""
    raise ValueError("no such split")


@pytest.mark.parametrize(
    ("function", "said"), [("broken_benchmark", "no such split"), ("absent", "module:function"), ("USABLE", "function")]
)
def test_a_function_that_makes_no_benchmark_is_refused(function, said):
    root = DataRoot(default_data_root())
    with pytest.raises(UsageError, match=said):
        cls = choose(STREAM, f"avalanche/{__name__}:{function}").cls
        cls(cls.Config()).load(root, Seeds(0, 0, 0))


def test_to_avalanche_refuses_what_it_cannot_be():
    with pytest.raises(UsageError, match="n_tasks"):
        to_avalanche("split_digits", n_task=2)
    with pytest.raises(UsageError, match="one tensor"):
        to_avalanche("toy_reach")
    with pytest.raises(UsageError, match="class_incremental"):
        to_avalanche("split_digits", "task_agnostic")


def test_an_ordinary_script_of_avalanche_trains_on_our_stream(capsys):
    ran = runpy.run_path(str(ROOT / "docs" / "scripts" / "avalanche_example.py"))
    R = ran["R"]
    final = ran["results"][-1]["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
    sizes = [len(each.dataset) for each in ran["benchmark"].test_stream]
    assert sum(score * size for score, size in zip(R[-1], sizes, strict=True)) / sum(sizes) == pytest.approx(final)
    assert acc(R) > 0.6
    assert "Top1_Acc_Stream" in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CL_SUITE_DATA"), reason="needs real data: set CL_SUITE_DATA")
@pytest.mark.parametrize("name", ["split_mnist", "split_fmnist", "split_cifar100"])
def test_classic_benchmarks_are_read_from_our_data_root(name):
    root = DataRoot(default_data_root(), offline=True)
    cls = choose(STREAM, f"avalanche/{name}").cls
    data = cls(cls.Config()).load(root, Seeds(0, 0, 0))
    assert data.labels == "disjoint"
    assert data.tasks[0].train.inputs.dtype is torch.uint8
    assert sum(len(task.train) for task in data.tasks) == (50_000 if "cifar" in name else 60_000)


@pytest.mark.slow
def test_our_methods_agree_with_avalanches(tmp_path, capsys):
    compare = runpy.run_path(str(ROOT / "docs" / "scripts" / "compare_avalanche.py"))["compare"]
    verdicts = compare(stream="split_digits", results=tmp_path, scenarios=("domain_incremental",))
    explained = {"er"}  # its memory holds samples of the task at hand; ReplayAtEnd is the same without
    assert {method for (_, method), agree in verdicts.items() if not agree} <= explained


def test_a_stream_says_what_its_table_says_without_avalanche():
    facts = choose(STREAM, "avalanche/split_mnist").cls.facts
    assert facts == STREAMS["split_mnist"].facts and facts.origin == "MNIST; cut by Avalanche"
