"""What holds with and without the library Avalanche: names, refusals, options, metering of foreign loops."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import benchmarks.avalanche.provider
import strategies.avalanche.provider
from cl_suite import UsageError
from cl_suite.avalanche import matrix_from_avalanche, presence
from cl_suite.avalanche.options import options_class, options_of
from cl_suite.avalanche.streams import label_kind, read_tasks
from cl_suite.conformance.case import Case, present
from cl_suite.core.errors import BudgetExceeded, NonFiniteLoss
from cl_suite.core.experience import ForeignLoop
from cl_suite.core.listener import Hooks, Silent
from cl_suite.core.metering import Meter
from cl_suite.core.registry import STRATEGY, STREAM, Chosen, choose, provided
from cl_suite.core.scenario import Scenario
from cl_suite.core.types import TrainSettings
from cl_suite.runs.harness import Harness
from strategies.bounds.finetune import Finetune


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(presence.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(("kind", "name"), [(STRATEGY, "avalanche/ewc"), (STREAM, "avalanche/split_mnist")])
def test_where_avalanche_is_absent_the_extra_is_named_and_no_name_listed(absent, kind, name):
    with pytest.raises(UsageError, match=r"pip install 'cl-suite\[avalanche\]'"):
        choose(kind, name)
    assert not [each for each in provided(kind) if each.startswith("avalanche/")]


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        (STRATEGY, "avalanche/ewx", "avalanche/ewc"),
        (STRATEGY, "avalanche/synaptic", "avalanche/"),
        (STREAM, "avalanche/split_minst", "avalanche/split_mnist"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(kind, name, near):
    with pytest.raises(UsageError, match=near):
        choose(kind, name)


@pytest.mark.parametrize(
    "name", [name for name, recipe in strategies.avalanche.provider.RECIPES.items() if recipe.broken]
)
def test_what_cannot_run_is_refused_with_the_reason_and_not_listed(name, monkeypatch):
    monkeypatch.setattr(strategies.avalanche.provider, "has_avalanche", lambda: True)
    monkeypatch.setattr(strategies.avalanche.provider, "need_avalanche", lambda what: None)
    reason = strategies.avalanche.provider.RECIPES[name].broken
    with pytest.raises(UsageError) as refusal:
        choose(STRATEGY, f"avalanche/{name}")
    assert reason in str(refusal.value)
    assert f"avalanche/{name}" not in provided(STRATEGY)


def test_strategies_that_download_weights_say_so():
    assert "downloads" in strategies.avalanche.provider.RECIPES["ar1"].broken


def test_names_are_listed_without_importing_avalanche_or_torch():
    code = (
        "import sys; from cl_suite.core.registry import STRATEGY, STREAM, provided;"
        "provided(STRATEGY); provided(STREAM);"
        "print({'torch', 'avalanche'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_options_are_the_constructors_arguments_with_types_that_can_be_checked():
    def constructor(self, *, model, amount: float, mem_size: int = 200, mode: str = "a", odd: int = 0.5, **base): ...

    found = options_of(constructor, filled=("mode",), defaults={"amount": 0.4})
    assert found == {"amount": (float, 0.4), "mem_size": (int, 200), "odd": (float, 0.5)}
    base = options_class(object_with_lr(), {}, defaults={}, module=__name__)
    made = options_class(base, found, defaults={"lr": 0.5}, module=__name__)()
    assert (made.lr, made.amount, made.mem_size) == (0.5, 0.4, 200)


def object_with_lr():
    from dataclasses import dataclass

    @dataclass
    class Base:
        lr: float = 0.01

    return Base


# --- the loop of another library -------------------------------------------------------------------------------------


def first_experience(meter=None, **train):
    shown = present(Scenario.CLASS_INCREMENTAL, train=TrainSettings(**{"epochs": 2, "batch_size": 16, **train}))
    hooks = Hooks(meter=meter or Meter())
    points = []
    hooks.on_evaluation_point = lambda experience, step: points.append(step)
    return next(shown.experiences(hooks)), hooks.meter, points


def test_a_foreign_loop_is_counted_like_our_own():
    weights = torch.randn(12, 12, requires_grad=True)

    def work(inputs):
        (inputs @ weights).sum().backward()

    ours, meter, points = first_experience(evaluate_every=3)
    for batch in ours.batches():
        work(batch.inputs)
    theirs, foreign, foreign_points = first_experience(evaluate_every=3)
    loop = ForeignLoop(theirs)
    inputs, _ = theirs.stored()
    for _ in range(2):
        for piece in inputs.split(16):
            with loop.step() as step:
                step.drew(len(piece), 0)
                work(piece)
        loop.end_epoch()
    assert foreign.samples_drawn == meter.samples_drawn == 160
    assert foreign.training_flops == meter.training_flops > 0
    assert foreign_points == points == [3, 6, 9]
    assert theirs.own_drawn == ours.own_drawn


def test_a_foreign_loop_cannot_overspend_and_is_checked_for_nan():
    experience, meter, _ = first_experience(Meter(max_samples=20))
    loop = ForeignLoop(experience)
    with pytest.raises(BudgetExceeded), loop.step() as step:
        step.drew(10, 11)
    assert meter.samples_replayed == 11
    experience, _, _ = first_experience()
    with pytest.raises(NonFiniteLoss), ForeignLoop(experience).step() as step:
        step.loss = torch.tensor(float("nan"))


class StartsAnew(Finetune):
    """A strategy whose state cannot be put back."""

    resumable = False

    def load_state_dict(self, state):
        raise AssertionError("it is never asked to go on")


def test_a_run_that_cannot_go_on_leaves_no_checkpoint_and_starts_anew(tmp_path):
    case = Case(Chosen("anew", StartsAnew), StartsAnew.Config(), Scenario.TASK_INCREMENTAL)

    class StopAfterFirst(Silent):
        def row(self, experience, scores):
            raise KeyboardInterrupt

    checkpoint = tmp_path / "state.safetensors"
    stopped: Harness = case.harness(checkpoint=checkpoint, listener=StopAfterFirst())
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert not checkpoint.exists()
    assert case.harness(checkpoint=checkpoint).run().R == case.straight.R


# --- benchmarks and results, as far as they need no library ----------------------------------------------------------


class Rows(list):
    def eval(self):
        return self


def benchmark(*experiences):
    stream = [SimpleNamespace(dataset=Rows(rows)) for rows in experiences]
    return SimpleNamespace(train_stream=stream, test_stream=stream)


def images(*labels, size=2, value=0.2):
    return [(torch.full((1, size, size), value), label, 0) for label in labels]


def test_a_benchmark_is_read_into_tensors_once_with_labels_local_to_each_task():
    tasks = read_tasks(benchmark(images(3, 7, 3), images(1, 0)))
    assert [task.classes for task in tasks] == [("3", "7"), ("0", "1")]
    assert tasks[0].train.targets.tolist() == [0, 1, 0]
    assert tasks[0].train.inputs.dtype is torch.uint8  # 0.2 is 51 of 255: nothing is lost
    assert tasks[0].train.inputs.unique().tolist() == [51]
    assert read_tasks(benchmark(images(1, value=0.123)))[0].train.inputs.dtype is torch.float32
    assert label_kind(tasks) == "disjoint"
    assert label_kind(read_tasks(benchmark(images(0, 1), images(1, 0)))) == "shared"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (benchmark(images(0), images(1, size=3)), "unlike shapes"),
        (benchmark(images(0) + images(1, size=3)), "several shapes"),
        (benchmark(images(0), []), "no samples"),
        (benchmark([("text", 0, 0)]), "neither image nor numbers"),
        (SimpleNamespace(), "no benchmark of classes"),
    ],
)
def test_benchmarks_of_unlike_samples_are_refused(made, said):
    with pytest.raises(UsageError, match=said):
        read_tasks(made)


def test_classes_that_overlap_in_part_are_refused():
    with pytest.raises(UsageError, match="in common"):
        label_kind(read_tasks(benchmark(images(0, 1), images(1, 2))))


def test_R_is_read_from_what_evaluations_return():
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task{0:03d}/Exp{0:03d}"
    rows = [
        {name.format(0): 0.9, name.format(1): 0.1, "Loss_Exp/eval_phase/test_stream/Task000/Exp000": 3.0},
        {name.format(0): 0.5, "Top1_Acc_Stream/eval_phase/test_stream/Task000": 0.4},
    ]
    assert matrix_from_avalanche(rows) == [[0.9, 0.1], [0.5, None]]
    with pytest.raises(UsageError, match="accuracy_metrics"):
        matrix_from_avalanche([{"Loss_Exp/eval_phase/test_stream/Task000/Exp000": 3.0}])


def test_every_stream_of_the_table_has_a_line_and_a_place():
    for name, source in benchmarks.avalanche.provider.STREAMS.items():
        assert source.summary and ":" in source.target, name
