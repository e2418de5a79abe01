"""The other way: our streams as benchmarks of Avalanche, and R from what its evaluations return."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cl_suite.avalanche.presence import need_avalanche
from cl_suite.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from cl_suite.core.data_root import DataRoot
    from cl_suite.core.stream import Stream

METRIC = "Top1_Acc_Exp"  # accuracy of one experience, as Avalanche's accuracy_metrics(experience=True) names it


def to_avalanche(
    stream: str | Stream,
    scenario: str | None = None,
    *,
    seed: int = 0,
    data_root: DataRoot | None = None,
    **options: Any,
) -> Any:
    """Return a stream as a benchmark of Avalanche: `train_stream` and `test_stream`, one experience per task.

    stream:   a name from `cl-bench list`, `path/to/file.py:Class`, or a stream itself
    scenario: task_incremental (task labels 0, 1, ...), class_incremental or domain_incremental (all labels 0);
              None = the stream's first
    seed:     of class orders and permutations, where the stream has them
    options:  of the stream, as `stream.<field>=...` on the command line, e.g. n_tasks=10

    Samples are (input, class, task label): float32 as our networks read them, normalised, not augmented, made once.
    Classes are entries of the global logit vector, 0..benchmark.n_classes - 1. Experiences also tell classes and task
    labels; the benchmark has n_classes, n_experiences, n_classes_per_exp and classes_order, as Avalanche's own.

    Raise UsageError where Avalanche is absent, a name or option is unknown, or samples are no single tensors.
    """
    need_avalanche("to_avalanche")
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline, with_task_labels

    from cl_suite.avalanche.datasets import as_dataset
    from cl_suite.core.listener import Hooks

    scenario_stream = _scenario_stream(stream, scenario, seed=seed, root=data_root, options=options)
    has_task_labels = scenario_stream.info.task_classes is not None
    datasets = {
        "train": [
            as_dataset(_samples(each.stored(), scenario_stream), task=each.index if has_task_labels else 0)
            for each in scenario_stream.experiences(Hooks())
        ],
        "test": [
            as_dataset(_samples(_whole(task.test), scenario_stream), task=task.index if has_task_labels else 0)
            for task in scenario_stream.tasks
        ],
    }
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(**datasets)))
    benchmark.n_classes = scenario_stream.info.n_outputs
    benchmark.n_experiences = len(scenario_stream.tasks)
    benchmark.n_classes_per_exp = [len(task.classes) for task in scenario_stream.tasks]
    benchmark.classes_order = list(dict.fromkeys(c for task in scenario_stream.tasks for c in task.classes))
    for each in benchmark.streams.values():
        each.benchmark = benchmark
        for experience in each:
            experience.benchmark = benchmark
    return benchmark


def matrix_from_avalanche(
    evaluations: Sequence[Mapping[str, Any]], *, metric: str = METRIC, stream: str = "test_stream"
) -> list[list[float | None]]:
    """Return R from what Avalanche's `strategy.eval(benchmark.test_stream)` returned after each experience.

    evaluations: the returned dictionaries, in order; each has an entry per experience, e.g.
                 "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp003"
    R[i][j] is in [0, 1]: the score on experience j after experience i; None where an evaluation lacks it. Metrics of
    `cl_suite.metrics.matrix` take it as it is.

    Raise UsageError where no such entry is found: the evaluator needs accuracy_metrics(experience=True).
    """
    pattern = re.compile(rf"{re.escape(metric)}/.*/{re.escape(stream)}(?:/Task\d+)?/Exp(\d+)$")
    rows = []
    for number, each in enumerate(evaluations):
        scores = {int(match[1]): float(value) for name, value in each.items() if (match := pattern.match(name))}
        if not scores:
            raise UsageError(
                f"evaluation {number} has no entry {metric}/.../{stream}/.../Exp000. "
                "Give the evaluator accuracy_metrics(experience=True)."
            )
        rows.append(scores)
    columns = 1 + max((column for row in rows for column in row), default=-1)
    return [[row.get(column) for column in range(columns)] for row in rows]


def _scenario_stream(
    stream: str | Stream, scenario: str | None, *, seed: int, root: DataRoot | None, options: Mapping[str, Any]
) -> Any:
    """Return the stream as the scenario presents it, on the CPU."""
    import torch

    from cl_suite.core.data_root import DataRoot, default_data_root
    from cl_suite.core.registry import STREAM, choose
    from cl_suite.core.scenario import Requirement, Scenario
    from cl_suite.core.scenario_stream import ScenarioStream, check_scenario
    from cl_suite.core.seeding import Seeds
    from cl_suite.core.types import TrainSettings

    if isinstance(stream, str):
        chosen = choose(STREAM, stream)
        name, instance = chosen.name, chosen.cls(_config(chosen.cls.Config, options, name=chosen.name))
    else:
        name, instance = type(stream).__name__, stream
    if options and instance is stream:
        raise UsageError(f"{', '.join(options)}: options are for a stream given by name; this one has its own already.")
    if scenario is not None and scenario not in list(Scenario):
        raise UsageError(f"scenario {scenario!r} is not known. {nearest(scenario, list(Scenario))}")
    wanted = instance.scenarios[0] if scenario is None else Scenario(scenario)
    check_scenario(name, wanted, instance.scenarios)
    if Requirement.BOUNDARIES not in wanted.provides:
        raise UsageError(f"{wanted} has no experiences that are tasks. Use class_incremental or task_incremental.")
    seeds = Seeds(seed, seed, seed)
    data = instance.load(root or DataRoot(default_data_root()), seeds)
    return ScenarioStream(
        name, data, wanted, train=TrainSettings(augment=False), seeds=seeds, device=torch.device("cpu")
    )


def _config(kind: Any, options: Mapping[str, Any], *, name: str) -> Any:
    known = list(kind.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise UsageError(f"{name} has no option {option}. {nearest(option, known)}")
    return kind(**options)


def _whole(samples: Any) -> tuple[Any, Any]:
    import torch

    return samples.take(torch.arange(len(samples)))


def _samples(stored: tuple[Any, Any], scenario_stream: Any) -> Any:
    """Return samples prepared once. Raise UsageError where they are not single tensors of classes."""
    from torch import Tensor

    from cl_suite.avalanche.datasets import TensorSamples
    from cl_suite.core.objective import Classification

    raw, targets = stored
    if not isinstance(raw, Tensor) or not isinstance(scenario_stream.info.objective, Classification):
        raise UsageError(
            "Avalanche's benchmarks hold one tensor and one class per sample; "
            f"{scenario_stream.info.stream} has others. Use a stream of images or vectors."
        )
    return TensorSamples(scenario_stream.info.prepare(raw).contiguous(), targets)
