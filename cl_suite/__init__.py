"""cl-suite: task streams, pluggable strategies, comparable results. This is the public API.

Names are loaded on first use, so that `cl-bench --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "scenario": ["Requirement", "Scenario"],
    "types": ["Batch", "Inputs", "StreamInfo", "TrainSettings", "count_samples", "join_inputs", "map_inputs"],
    "seeding": ["Seeds", "generator_for", "seed_for"],
    "errors": [
        "CLSuiteError",
        "DataError",
        "PluginError",
        "RunError",
        "UnseenTask",
        "UsageError",
        "check_choices",
        "nearest",
    ],
    "data_root": ["DataRoot"],
    "stream": [
        "Samples",
        "Stream",
        "StreamData",
        "TaskData",
        "TaskOutline",
        "class_order",
        "hold_out",
        "split_by_class",
    ],
    "image_files": [
        "CIFAR100_FILES",
        "CIFAR10_FILES",
        "FASHION_MNIST_CLASSES",
        "FASHION_MNIST_FILES",
        "MNIST_FILES",
        "read_cifar",
        "read_mnist",
        "read_pickle",
    ],
    "hwu64_files": ["HWU64_FILES"],
    "token_vectors": ["TokenVectors", "VectorTable", "freeze_token_vectors"],
    "robots.bddl": ["read_goals"],
    "robots.demonstrations": ["demonstrations"],
    "robots.imitation": ["PrepareStates", "imitation_task"],
    "robots.instructions": ["embed_instructions"],
    "robots.libero": ["libero_facts", "libero_shown_by_script"],
    "robots.libero_files": ["LiberoFile", "find_libero_files", "open_libero_file"],
    "robots.libero_suites": ["LIBERO_SUITES", "libero_instruction", "libero_tasks"],
    "robots.metaworld": ["METAWORLD_INSTRUCTIONS", "metaworld_facts", "metaworld_task"],
    "robots.point_mass": ["point_mass_task"],
    "robots.pool": ["RobotPool", "robot_pool"],
    "robots.rollouts": ["SuccessRate"],
    "hub_tables": ["fetch_hub_tables", "hub_is_at_hand"],
    "text_files": [
        "CLINC150_ADDRESS",
        "CLINC150_FILES",
        "LabelledTexts",
        "fetch_files",
        "read_clinc150",
        "read_hwu64",
        "read_rows",
        "text_tasks",
    ],
    "texts": ["PrepareTexts", "decode_texts", "encode_texts"],
    "tokens": ["TextOptions", "as_tokens"],
    "prepare": ["PrepareImages", "PrepareVectors"],
    "imitation_objectives": ["BehaviourCloning", "imitation_objective"],
    "objective": ["Classification", "MultiLabel", "Objective", "Score", "restrict"],
    "experience": ["Experience"],
    "gradient_vectors": ["flat_gradient", "flatten", "project", "project_gradient", "write_gradient"],
    "fisher": [
        "check_own_gradients",
        "competing_outputs",
        "fisher_diagonal",
        "quadratic_penalty",
        "squared_gradients",
        "stable_shares",
    ],
    "gradient_strategy": ["GradientStrategy"],
    "strategy": [
        "ModelPredictor",
        "Predictor",
        "Strategy",
        "build_optimizer",
    ],
    "networks": ["HeadBank", "Network", "build_network", "statistics_held"],
    "buffer": ["Buffer", "ClassBalanced", "Exemplars", "Reservoir", "Ring"],
    "buffers": ["build_buffer"],
    "finetuning": ["Finetuning", "FinetuningOptions"],
    "registry": ["choose_strategy"],
    "rehearsal": ["RehearsalOptions"],
    "layer_capture": ["as_vectors", "layer_inputs"],
    "supermasks.initialisation": ["initialise_scores", "initialise_weights"],
    "supermasks.layers": [
        "MaskRule",
        "MaskedConv2d",
        "MaskedLinear",
        "PerTaskBatchNorm2d",
        "masked_layers_of",
        "to_masked",
    ],
    "supermasks.subnetworks": ["MaskedNetwork", "Subnetwork", "pack_bits", "unpack_bits"],
    "supermasks.strategy": ["SupermaskStrategy"],
    "supermasks.superposition": ["TaskInference"],
    "supermasks.task_inference": ["confidences", "is_new_task"],
    "projection.memory": ["GradientProjection"],
    "projection.options": ["ProjectionOptions"],
    "projection.regimes": ["BACKWARD", "CORRELATED", "UNRELATED"],
    "projection.subspaces": ["InputSpace", "Projector"],
    "projection.trust_region": ["cosine", "projection_shares", "trust_region"],
    "projection.trust_region_memory": ["TrustRegionOptions", "TrustRegionProjection"],
    "task_tensors": ["TaskTensors"],
    "experts.expert": ["Expert", "ExpertOptions", "entropy", "routed_answers"],
    "experts.memory": ["ExpertMemory"],
    "experts.detector": ["DetectorOptions", "LossDetector"],
    "experts.trail": ["Trail"],
    "experts.selector": ["Selector", "SelectorOptions"],
    "experts.sparse": ["Pruning", "expand", "is_compact", "load_network", "stored_parameters"],
    "bayes.mean_field": ["MeanField", "Parameters", "convex_combination", "divergence", "wasserstein"],
    "bayes.variational": ["VariationalOptions", "fit_posterior", "starting_point"],
    "preferences.protocols": ["PreferenceConditioned", "PreferenceSampled", "PreferenceTrained", "check_preference"],
    "preferences.task_memory": ["TaskMemory"],
    "preferences.trained": ["OnePerPreference", "PreferenceModels"],
    "checks": ["check_strategy"],
    "avalanche.adapter": ["AvalancheStrategy", "avalanche_strategy"],
    "avalanche.presence": ["has_avalanche", "need_avalanche"],
    "avalanche.recipe": ["TOLD_BOUNDARIES", "AvalancheRecipe"],
    "avalanche.source": ["AvalancheSource"],
    "avalanche.streams": ["AvalancheStream", "avalanche_stream"],
    "avalanche.export": ["matrix_from_avalanche", "to_avalanche"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cl_suite' has no attribute {name!r}")
    return getattr(import_module(f"cl_suite.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from cl_suite.avalanche.adapter import AvalancheStrategy, avalanche_strategy
    from cl_suite.avalanche.export import matrix_from_avalanche, to_avalanche
    from cl_suite.avalanche.presence import has_avalanche, need_avalanche
    from cl_suite.avalanche.recipe import TOLD_BOUNDARIES, AvalancheRecipe
    from cl_suite.avalanche.source import AvalancheSource
    from cl_suite.avalanche.streams import AvalancheStream, avalanche_stream
    from cl_suite.bayes.mean_field import MeanField, Parameters, convex_combination, divergence, wasserstein
    from cl_suite.bayes.variational import VariationalOptions, fit_posterior, starting_point
    from cl_suite.buffer import Buffer, ClassBalanced, Exemplars, Reservoir, Ring
    from cl_suite.buffers import build_buffer
    from cl_suite.checks import check_strategy
    from cl_suite.data_root import DataRoot
    from cl_suite.errors import (
        CLSuiteError,
        DataError,
        PluginError,
        RunError,
        UnseenTask,
        UsageError,
        check_choices,
        nearest,
    )
    from cl_suite.experience import Experience
    from cl_suite.experts.detector import DetectorOptions, LossDetector
    from cl_suite.experts.expert import Expert, ExpertOptions, entropy, routed_answers
    from cl_suite.experts.memory import ExpertMemory
    from cl_suite.experts.selector import Selector, SelectorOptions
    from cl_suite.experts.sparse import Pruning, expand, is_compact, load_network, stored_parameters
    from cl_suite.experts.trail import Trail
    from cl_suite.finetuning import Finetuning, FinetuningOptions
    from cl_suite.fisher import (
        check_own_gradients,
        competing_outputs,
        fisher_diagonal,
        quadratic_penalty,
        squared_gradients,
        stable_shares,
    )
    from cl_suite.gradient_strategy import GradientStrategy
    from cl_suite.gradient_vectors import flat_gradient, flatten, project, project_gradient, write_gradient
    from cl_suite.hub_tables import fetch_hub_tables, hub_is_at_hand
    from cl_suite.hwu64_files import HWU64_FILES
    from cl_suite.image_files import (
        CIFAR10_FILES,
        CIFAR100_FILES,
        FASHION_MNIST_CLASSES,
        FASHION_MNIST_FILES,
        MNIST_FILES,
        read_cifar,
        read_mnist,
        read_pickle,
    )
    from cl_suite.imitation_objectives import BehaviourCloning, imitation_objective
    from cl_suite.layer_capture import as_vectors, layer_inputs
    from cl_suite.networks import HeadBank, Network, build_network, statistics_held
    from cl_suite.objective import Classification, MultiLabel, Objective, Score, restrict
    from cl_suite.preferences.protocols import (
        PreferenceConditioned,
        PreferenceSampled,
        PreferenceTrained,
        check_preference,
    )
    from cl_suite.preferences.task_memory import TaskMemory
    from cl_suite.preferences.trained import OnePerPreference, PreferenceModels
    from cl_suite.prepare import PrepareImages, PrepareVectors
    from cl_suite.projection.memory import GradientProjection
    from cl_suite.projection.options import ProjectionOptions
    from cl_suite.projection.regimes import BACKWARD, CORRELATED, UNRELATED
    from cl_suite.projection.subspaces import InputSpace, Projector
    from cl_suite.projection.trust_region import cosine, projection_shares, trust_region
    from cl_suite.projection.trust_region_memory import TrustRegionOptions, TrustRegionProjection
    from cl_suite.registry import choose_strategy
    from cl_suite.rehearsal import RehearsalOptions
    from cl_suite.robots.bddl import read_goals
    from cl_suite.robots.demonstrations import demonstrations
    from cl_suite.robots.imitation import PrepareStates, imitation_task
    from cl_suite.robots.instructions import embed_instructions
    from cl_suite.robots.libero import libero_facts, libero_shown_by_script
    from cl_suite.robots.libero_files import LiberoFile, find_libero_files, open_libero_file
    from cl_suite.robots.libero_suites import LIBERO_SUITES, libero_instruction, libero_tasks
    from cl_suite.robots.metaworld import METAWORLD_INSTRUCTIONS, metaworld_facts, metaworld_task
    from cl_suite.robots.point_mass import point_mass_task
    from cl_suite.robots.pool import RobotPool, robot_pool
    from cl_suite.robots.rollouts import SuccessRate
    from cl_suite.scenario import Requirement, Scenario
    from cl_suite.seeding import Seeds, generator_for, seed_for
    from cl_suite.strategy import (
        ModelPredictor,
        Predictor,
        Strategy,
        build_optimizer,
    )
    from cl_suite.stream import (
        Samples,
        Stream,
        StreamData,
        TaskData,
        TaskOutline,
        class_order,
        hold_out,
        split_by_class,
    )
    from cl_suite.supermasks.initialisation import initialise_scores, initialise_weights
    from cl_suite.supermasks.layers import (
        MaskedConv2d,
        MaskedLinear,
        MaskRule,
        PerTaskBatchNorm2d,
        masked_layers_of,
        to_masked,
    )
    from cl_suite.supermasks.strategy import SupermaskStrategy
    from cl_suite.supermasks.subnetworks import MaskedNetwork, Subnetwork, pack_bits, unpack_bits
    from cl_suite.supermasks.superposition import TaskInference
    from cl_suite.supermasks.task_inference import confidences, is_new_task
    from cl_suite.task_tensors import TaskTensors
    from cl_suite.text_files import (
        CLINC150_ADDRESS,
        CLINC150_FILES,
        LabelledTexts,
        fetch_files,
        read_clinc150,
        read_hwu64,
        read_rows,
        text_tasks,
    )
    from cl_suite.texts import PrepareTexts, decode_texts, encode_texts
    from cl_suite.token_vectors import TokenVectors, VectorTable, freeze_token_vectors
    from cl_suite.tokens import TextOptions, as_tokens
    from cl_suite.types import Batch, Inputs, StreamInfo, TrainSettings, count_samples, join_inputs, map_inputs
