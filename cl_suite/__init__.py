"""cl-suite: task streams, pluggable strategies, comparable results. This is the public API.

Names are loaded on first use, so that `cl-bench --help` does not wait for torch.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "core.errors": [
        "CLSuiteError",
        "DataError",
        "PluginError",
        "RunError",
        "UnseenTask",
        "UsageError",
        "check_choices",
        "nearest",
    ],
    "core.scenario": ["Requirement", "Scenario", "StreamFacts", "StreamSizes"],
    "core.types": ["Batch", "Inputs", "StreamInfo", "TrainSettings", "count_samples", "join_inputs", "map_inputs"],
    "core.seeding": ["Seeds", "generator_for"],
    "core.data_root": ["DataRoot"],
    "core.files": ["atomic_file"],
    "core.samples": ["Samples", "Source", "hold_out"],
    "core.stream": ["Stream", "StreamData", "TaskData", "TaskOutline"],
    "core.objective": ["Classification", "MultiLabel", "Objective", "Score", "class_mask", "restrict"],
    "core.experience": ["Experience", "ForeignLoop"],
    "core.metering": ["count_replayed"],
    "core.registry": ["choose_strategy"],
    "core.strategy": ["ModelPredictor", "Predictor", "Strategy", "build_optimizer"],
    "data.class_split": ["ClassSplit", "class_order", "cut_by_class", "split_by_class", "task_sizes"],
    "data.image_files": [
        "CIFAR100_FILES",
        "CIFAR10_FILES",
        "FASHION_MNIST_CLASSES",
        "FASHION_MNIST_FILES",
        "MNIST_FILES",
        "read_cifar",
        "read_mnist",
        "read_pickle",
    ],
    "data.prepare": ["PrepareImages", "PrepareVectors"],
    "data.tables": ["LabelledTexts", "fetch_files", "read_rows", "text_tasks"],
    "data.texts": ["PrepareTexts", "encode_texts"],
    "networks.network": ["HeadBank", "Network", "build_network", "statistics_held"],
    "networks.embeddings": ["VectorTable", "freeze_token_vectors"],
    "networks.layer_inputs": ["as_vectors", "layer_inputs"],
    "networks.module_groups": ["NORMS", "module_groups", "parameter_count", "snapshot"],
    "methods.best_state": ["BestState"],
    "methods.buffer_kinds": ["build_buffer"],
    "methods.fisher": [
        "QuadraticPenalty",
        "check_own_gradients",
        "fisher_diagonal",
        "true_label_fisher",
        "sample_gradients",
        "samples_behind",
    ],
    "methods.early_stopping": ["Patience"],
    "methods.gradient_strategy": ["GradientStrategy", "OptimizerOptions"],
    "methods.gradient_vectors": ["flat_gradient", "flatten", "project_gradient", "write_gradient"],
    "methods.module_changes": ["SCORES", "ModuleChanges"],
    "methods.rate_schedule": ["RateDrops", "cosine_rate"],
    "methods.replay_buffer": ["Buffer", "Exemplars", "Reservoir", "Ring"],
    "methods.replay_options": ["ReplayOptions"],
    "evaluation.preferences.protocols": [
        "PreferenceConditioned",
        "PreferenceSampled",
        "PreferenceTrained",
        "check_preference",
    ],
    "conformance.check": ["check_strategy"],
    "saved_models.load": ["load_predictor"],
    "api.run": ["run"],
    "api.result": ["Result"],
    "api.tables": ["compare", "leaderboard", "load_results"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)
_FURTHER_FACES = ("robots", "avalanche")  # what stood here before they came is still found here
_RENAMED = {"RehearsalOptions": "ReplayOptions"}  # likewise what was called otherwise


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(f"{__name__}.core.version").__version__
    if name in _RENAMED:
        import_module(f"{__name__}.core.version").warn(f"cl_suite.{name}", _RENAMED[name], level=3)
        name = _RENAMED[name]
    if name in _MODULE_OF:
        return getattr(_load(_MODULE_OF[name]), name)
    if not name.startswith("_"):
        for face in (import_module(f"{__name__}.{each}") for each in _FURTHER_FACES):
            if name in face.__all__:
                return getattr(face, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _load(module: str) -> Any:
    """Import a module. Where torch comes with it, its threads sleep while they wait, as those of `cl-bench` do.

    Threads that spin make a run many times slower beside another busy process. It is decided when torch is loaded.
    """
    decided = "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ
    if not decided:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        return import_module(f"{__name__}.{module}")
    finally:
        if not decided:
            os.environ.pop("OMP_WAIT_POLICY", None)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from cl_suite.api.result import Result
    from cl_suite.api.run import run
    from cl_suite.api.tables import compare, leaderboard, load_results
    from cl_suite.conformance.check import check_strategy
    from cl_suite.core.data_root import DataRoot
    from cl_suite.core.errors import (
        CLSuiteError,
        DataError,
        PluginError,
        RunError,
        UnseenTask,
        UsageError,
        check_choices,
        nearest,
    )
    from cl_suite.core.experience import Experience, ForeignLoop
    from cl_suite.core.files import atomic_file
    from cl_suite.core.metering import count_replayed
    from cl_suite.core.objective import Classification, MultiLabel, Objective, Score, class_mask, restrict
    from cl_suite.core.registry import choose_strategy
    from cl_suite.core.samples import Samples, Source, hold_out
    from cl_suite.core.scenario import Requirement, Scenario, StreamFacts, StreamSizes
    from cl_suite.core.seeding import Seeds, generator_for
    from cl_suite.core.strategy import ModelPredictor, Predictor, Strategy, build_optimizer
    from cl_suite.core.stream import Stream, StreamData, TaskData, TaskOutline
    from cl_suite.core.types import Batch, Inputs, StreamInfo, TrainSettings, count_samples, join_inputs, map_inputs
    from cl_suite.data.class_split import ClassSplit, class_order, cut_by_class, split_by_class, task_sizes
    from cl_suite.data.image_files import (
        CIFAR10_FILES,
        CIFAR100_FILES,
        FASHION_MNIST_CLASSES,
        FASHION_MNIST_FILES,
        MNIST_FILES,
        read_cifar,
        read_mnist,
        read_pickle,
    )
    from cl_suite.data.prepare import PrepareImages, PrepareVectors
    from cl_suite.data.tables import LabelledTexts, fetch_files, read_rows, text_tasks
    from cl_suite.data.texts import PrepareTexts, encode_texts
    from cl_suite.evaluation.preferences.protocols import (
        PreferenceConditioned,
        PreferenceSampled,
        PreferenceTrained,
        check_preference,
    )
    from cl_suite.methods.best_state import BestState
    from cl_suite.methods.buffer_kinds import build_buffer
    from cl_suite.methods.early_stopping import Patience
    from cl_suite.methods.fisher import (
        QuadraticPenalty,
        check_own_gradients,
        fisher_diagonal,
        sample_gradients,
        samples_behind,
        true_label_fisher,
    )
    from cl_suite.methods.gradient_strategy import GradientStrategy, OptimizerOptions
    from cl_suite.methods.gradient_vectors import flat_gradient, flatten, project_gradient, write_gradient
    from cl_suite.methods.module_changes import SCORES, ModuleChanges
    from cl_suite.methods.rate_schedule import RateDrops, cosine_rate
    from cl_suite.methods.replay_buffer import Buffer, Exemplars, Reservoir, Ring
    from cl_suite.methods.replay_options import ReplayOptions
    from cl_suite.networks.embeddings import VectorTable, freeze_token_vectors
    from cl_suite.networks.layer_inputs import as_vectors, layer_inputs
    from cl_suite.networks.module_groups import NORMS, module_groups, parameter_count, snapshot
    from cl_suite.networks.network import HeadBank, Network, build_network, statistics_held
    from cl_suite.saved_models.load import load_predictor
