"""Options of supermask methods, and what they ask of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from cl_suite import Classification, Scenario, StreamInfo, UsageError, check_choices
from cl_suite.robots import BehaviourCloning
from strategies.isolation.masks.learning_rate import SCHEDULES


@dataclass
class SupermaskOptions:
    """Options of the mask search, of what is stored, and of inference without a task id."""

    density: float = 0.1  # share of each layer's weights kept, in (0, 1]
    density_mode: str = "uniform"  # uniform; erdos_renyi: k = min(0.5, er_scale (out + in) / (out in kh kw))
    er_scale: float = 16.0  # of density_mode=erdos_renyi
    mask_type: str = "top_k"  # top_k of |score|; threshold: score >= 0, density free
    min_per_row: int = 0  # weights kept for every output unit at least; 0 = no such rule
    weight_init: str = "signed_constant"  # signed_constant, unsigned_constant, kaiming_normal, xavier_normal
    score_init: str = "random"  # random, knn_best, knn_always, knn_all (KKT), running_mean
    knn_neighbours: int = 200  # voters of KKT, clamped to the samples at hand
    knn_share: float = 0.2  # share of the new task's batches KKT looks at
    head: str = "shared_masked"  # shared_masked: outputs 0, 1, ... serve every task; per_task: rows of its own
    outputs: int = 0  # of the shared head; 0 = classes of the largest task, or all where tasks are not announced
    mask_invalid_logits: bool = False  # whether outputs beyond a task's classes are left out of the training loss
    norm: str = "per_task"  # per_task; shared: one set of statistics, which later tasks move
    optimizer: str = "adam"  # adam, rmsprop, sgd; a fresh one for every phase
    lr_mask: float = 0.01  # of the scores
    weight_decay_mask: float = 0.0  # of the scores
    scheduler: str = "cosine"  # cosine, constant, released
    select: str = "last"  # last; best_per_phase: epoch with the best validation accuracy, restored after each phase
    infer: str = "none"  # none: the task id is given at test; oneshot, binary, min_entropy: it is inferred
    infer_objective: str = "H"  # H: entropy; G: energy of superfluous outputs (needs outputs > classes of a task)
    infer_per: str = "sample"  # sample; batch: the published protocol, which assumes batches of one task
    infer_batch: int = 128  # samples in a row taken to be of one task (infer_per=batch)
    infer_images: int = 1  # of them, the first so many are judged; 0 = all (infer_per=batch)
    infer_norm: str = "averaged"  # statistics of a superposed network: averaged over the candidates, or the batch's

    @property
    def reads_validation(self) -> bool:
        """Whether epochs are chosen by held-out samples, or the rate follows them."""
        return self.select != "last" or self.scheduler == "released"


CHOICES = {
    "score_init": ("random", "knn_best", "knn_always", "knn_all", "running_mean"),
    "head": ("shared_masked", "per_task"),
    "norm": ("per_task", "shared"),
    "scheduler": SCHEDULES,
    "select": ("last", "best_per_phase"),
    "infer": ("none", "oneshot", "binary", "min_entropy"),
    "infer_objective": ("H", "G"),
    "infer_per": ("sample", "batch"),
    "infer_norm": ("averaged", "batch"),
}


LOWEST = {"knn_neighbours": 1, "knn_share": 0.0, "outputs": 0, "infer_batch": 1, "infer_images": 0}


def check_options(options: SupermaskOptions, info: StreamInfo) -> None:
    """Raise UsageError for a value that is not known, or that this stream or another option rules out."""
    check_choices(options, CHOICES)
    if isinstance(info.objective, BehaviourCloning):
        _check_imitation(options, info)
    elif not isinstance(info.objective, Classification):
        raise UsageError(
            f"supermasks need one class per sample, or actions; {info.stream} has a {info.objective.name} objective."
        )
    if options.reads_validation and not info.train.validation:
        raise UsageError("select=best_per_phase and scheduler=released read validation data. Set train.validation=0.1.")
    superposes = options.infer in ("oneshot", "binary")
    if options.mask_invalid_logits and superposes and options.infer_objective == "G":
        raise UsageError(
            "objective G needs the superfluous outputs pushed down in training, which mask_invalid_logits leaves out. "
            "Set strategy.infer_objective=H, or mask_invalid_logits=false."
        )
    for name, low in LOWEST.items():
        if getattr(options, name) < low:
            raise UsageError(f"strategy.{name}={getattr(options, name)} is too small. Use {low} or more.")
    if options.head == "per_task" and options.infer in ("oneshot", "binary"):
        raise UsageError(
            f"strategy.infer={options.infer} superposes one head. Use head=shared_masked, or infer=min_entropy."
        )


def _check_imitation(options: SupermaskOptions, info: StreamInfo) -> None:
    """Raise UsageError for options that look at classes, where outputs are actions."""
    only = f"is about classes, but the outputs of {info.stream} are actions."
    if options.infer != "none":
        raise UsageError(f"strategy.infer={options.infer} {only} Set strategy.infer=none.")
    if options.score_init.startswith("knn"):
        raise UsageError(f"strategy.score_init={options.score_init} {only} Set strategy.score_init=random.")
    if options.outputs:
        raise UsageError(f"strategy.outputs={options.outputs} {only} Set strategy.outputs=0.")


def head_rows(options: SupermaskOptions, info: StreamInfo) -> int:
    """Return the output units of the head: those of the largest task, or of all tasks together (head=per_task)."""
    if options.head == "per_task":
        # Where all tasks share their outputs, each still has rows of its own.
        if info.task_classes is not None:
            return sum(map(len, info.task_classes))
        shared = info.scenario is Scenario.DOMAIN_INCREMENTAL
        return info.n_outputs * (info.n_experiences if shared else 1)
    if options.outputs:
        return options.outputs
    if info.task_classes is None:  # nobody says how large the tasks will be
        return info.n_outputs
    return max(len(classes) for classes in info.task_classes)
