"""Metrics and costs of a record, and every definition of a metric: what it is, its range, where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cl_suite.info.answer import Answer
from cl_suite.metrics import matrix
from cl_suite.metrics.definitions.catalogue import DEFINITIONS, Definition

SIGN = "cl-suite "  # before the name of a record's metric, among the libraries that report a definition
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Figure:
    """A figure of records or of the leaderboard that is no definition of the catalogue. better "" = neither is."""

    what: str
    range: str
    better: str
    null: str = ""
    source: str = ""


AGNOSTIC = "in scenarios that tell where tasks end, and for strategies that do not report the shifts they find"
ASKED = "without --evaluate preferences"
OPEN = "without --evaluate open_set"
BOARD = "the leaderboard has it, not a record"
TAME, PREFERENCES = "docs/methods/tame.md", "docs/methods/preferences.md"
FIGURES: dict[str, Figure] = {
    "acc_normalised": Figure(
        "(ACC - chance) / (ACC of joint - chance), chance being the untrained network's",
        "1 = as joint, 0 = chance",
        HIGHER,
        f"in tables without a run of joint, or where joint is no better than chance; {BOARD}",
    ),
    "intransigence": Figure(
        "mean over tasks of joint's final score on the task minus R[j][j]",
        "-1 to 1",
        LOWER,
        f"in tables without a run of joint; {BOARD}",
        "after Chaudhry et al. 2018",
    ),
    "task_percentile_10": Figure(
        "tenth percentile of the last row of R: the score that nine of ten tasks exceed",
        "0 to 1",
        HIGHER,
        f"where a task has no answer at the end; {BOARD}",
    ),
    "acc_global": Figure(
        "share of test samples answered right by an expert of the sample's own task", "0 to 1", HIGHER, AGNOSTIC, TAME
    ),
    "selector_accuracy": Figure(
        "share of test samples that are sent to an expert of their task", "0 to 1", HIGHER, AGNOSTIC, TAME
    ),
    "experts": Figure("how many experts were used", "1 or more", "", AGNOSTIC, TAME),
    "reuse": Figure("share of returning tasks that got their own expert back", "0 to 1", HIGHER, AGNOSTIC, TAME),
    "missed_shifts": Figure("true shifts that nothing was detected after", "0 or more", LOWER, AGNOSTIC, TAME),
    "false_alarms": Figure("detections beyond the first after each true shift", "0 or more", LOWER, AGNOSTIC, TAME),
    "detection_delay": Figure(
        "mean samples from a true shift to the end of the batch that found it",
        "0 or more",
        LOWER,
        AGNOSTIC,
        TAME,
    ),
    "open_set_auroc": Figure(
        "chance that a test sample of a task is more certain (largest softmax probability) than one of no task",
        "0 to 1; 0.5 = by chance",
        HIGHER,
        OPEN,
        "Hendrycks & Gimpel 2017",
    ),
    "open_set_fpr95": Figure(
        "share of the samples of no task that pass where 95 % of those of tasks do",
        "0 to 1",
        LOWER,
        OPEN,
        "Hendrycks & Gimpel 2017",
    ),
    "preference_best": Figure(
        "sum over tasks of preference times accuracy, of the best model drawn (judged on test data: an upper bound)",
        "0 to 1",
        HIGHER,
        ASKED,
        PREFERENCES,
    ),
    "preference_mean": Figure(
        "sum over tasks of preference times accuracy, of the average model drawn", "0 to 1", HIGHER, ASKED, PREFERENCES
    ),
    "preference_average": Figure(
        "mean over tasks of a task's accuracy, each preference counting by how much it wants the task",
        "0 to 1",
        HIGHER,
        ASKED,
        PREFERENCES,
    ),
    "preference_peak": Figure(
        "maximum over tasks of a task's accuracy, each preference counting by how much it wants the task",
        "0 to 1",
        HIGHER,
        ASKED,
        PREFERENCES,
    ),
    "preference_bwt": Figure(
        "what one more task does to the earlier ones, by preference-weighted accuracies",
        "-1 to 1",
        HIGHER,
        f"{ASKED}, or with one task",
        PREFERENCES,
    ),
    "preference_hypervolume": Figure(
        "part of the unit square of the first two tasks' accuracies that some model dominates",
        "0 to 1",
        HIGHER,
        f"{ASKED}, or with one task",
        PREFERENCES,
    ),
    "preference_front_distance": Figure(
        "by how much that curve falls short of preference_joint's front, same seed (IGD+)",
        "0 or more",
        LOWER,
        f"in tables without a run of preference_joint; {BOARD}",
        "Ishibuchi et al. 2015",
    ),
    "preference_passes": Figure(
        "samples drawn for the last task, replayed ones included, in units of its epochs", "0 or more", LOWER, ASKED
    ),
    "preference_passes_each": Figure(
        "samples drawn for the last task for one preference, in units of its epochs",
        "0 or more",
        LOWER,
        ASKED,
    ),
    "preferences_asked": Figure("preferences that were asked for after the last experience", "0 or more", "", ASKED),
    "preference_seconds": Figure("training on the last task and making the models; seconds", "0 or more", LOWER, ASKED),
    "wall_seconds": Figure("the whole run, evaluation and loading included; seconds", "0 or more", LOWER),
    "train_seconds": Figure("training alone; seconds", "0 or more", LOWER),
    "eval_seconds": Figure("evaluation alone; seconds", "0 or more", LOWER),
    "samples_drawn": Figure("samples that training drew, replay included", "0 or more", LOWER),
    "samples_replayed": Figure("of them, those drawn from a memory", "0 or more", LOWER),
    "optimizer_steps": Figure("steps of the optimiser", "0 or more", LOWER),
    "training_flops": Figure(
        "floating-point operations of matrix products and convolutions in training, forward and backward",
        "0 or more",
        LOWER,
        "where no step could be counted, and in records from before they were counted",
        "docs/methods/fpf.md",
    ),
    "peak_memory_bytes": Figure("most memory in use: of the GPU, else of the process; bytes", "0 or more", LOWER),
    "model_parameters": Figure("parameters of the networks in use", "0 or more", LOWER),
    "state_bytes": Figure("what is saved between two experiences, network and memory; bytes", "0 or more", LOWER),
    "memory_bytes": Figure(
        "of the state, what is kept beside the network in use; bytes",
        "0 or more",
        LOWER,
        "in records from before it was measured",
    ),
}


def metric_names() -> list[str]:
    """Return every metric and cost of a record or the leaderboard, every definition, and every metric's short name."""
    short = (name.partition("@")[0] for name in DEFINITIONS)
    return [*dict.fromkeys([*record_metrics(), *FIGURES, *DEFINITIONS, *short])]


def record_metrics() -> dict[str, Definition]:
    """Return {metric of a record: its definition}."""
    return {
        reporter.removeprefix(SIGN): definition
        for definition in DEFINITIONS.values()
        for reporter in definition.reported_by
        if reporter.startswith(SIGN)
    }


def describe_metric(name: str) -> Answer:
    """Return what is known of a metric: of a record's own, with the other definitions of its family, or of one."""
    if name in FIGURES:
        figure = FIGURES[name]
        return Answer(
            kind="metric",
            name=name,
            what=figure.what[0].upper() + figure.what[1:],
            facts={
                "range": figure.range,
                "better": figure.better or "neither",
                "null": figure.null or "never in a complete run",
                "source": figure.source or "docs/reference/records.md",
            },
        )
    definition = record_metrics().get(name) or DEFINITIONS.get(name)
    if definition is None:  # a short name that no record has: its first definition stands for it
        definition = next(each for each in DEFINITIONS.values() if each.name.partition("@")[0] == name)
    low, high = definition.bounds
    family = [each.name for each in DEFINITIONS.values() if each.family == definition.family and each is not definition]
    return Answer(
        kind="metric",
        name=name,
        what=_sentence(name, definition),
        facts={
            "definition": definition.name,
            "formula": definition.formula,
            "symbols": "R[i][j] = score on task j after experience i, T tasks, n_j test samples, b_j untrained score",
            "range": f"{_number(low)} to {_number(high)}, where scores are in [0, 1]",
            "better": definition.better,
            "null": _either(need.reason for need in definition.needs),
            "source": definition.source,
            "reported": list(definition.reported_by),
            "others": family,
            "more": "cl-bench metrics RECORD shows one run under all of them; docs/reference/metrics.md",
        },
    )


def _sentence(name: str, definition: Definition) -> str:
    """Return what the function of a record's metric says of it; of another definition what it is a kind of."""
    function = getattr(matrix, name, None) if name in record_metrics() else None
    if function is not None and function.__doc__:
        return str(function.__doc__.partition("\n")[0])
    return f"One of the definitions of {definition.family}."


def _number(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "minus infinity" if value < 0 else "infinity"


def _either(reasons: Iterable[str]) -> list[str]:
    """Return the reasons without advice, each once."""
    return [*dict.fromkeys(f"where {reason.partition(':')[0]}" for reason in reasons)]
