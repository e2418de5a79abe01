"""Columns of the tables and what stands in a cell, for every format alike: scores in percent, costs in units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cl_suite.report.tables.leaderboard import LeaderboardTable

MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """What a reader sees, what it is sorted by (None = missing), and whether it is "best", "tied" or neither ("")."""

    text: str
    value: float | str | None
    standing: str = ""


@dataclass(frozen=True)
class Column:
    """A heading, what it means, how a row's cell is made, and the measure without which the column is not shown."""

    name: str
    meaning: str
    cell: Callable[[dict[Any, Any]], Cell]
    measure: str | None = None
    words: bool = False  # left-aligned


def with_values(columns: Sequence[Column], table: LeaderboardTable) -> list[Column]:
    """Return the columns that some row of the table has something for."""
    return [column for column in columns if column.measure is None or has(table, column.measure)]


def has(table: LeaderboardTable, measure: str) -> bool:
    """Say whether some row has this measure."""
    return bool(table.rows[f"{measure}_mean"].notna().any())


def row_name(row: dict[Any, Any]) -> str:
    """Return a row's strategy, its role, the options that set it apart, and whose it is where rows differ in that."""
    role = f" ({row['role']})" if row["role"] else ""
    options = f" [{row['configuration']}]" if row["configuration"] else ""
    whose = f" · {row['origin']}" if row["origin"] else ""
    return f"{row['strategy']}{role}{whose}{options}"


def score(name: str, heading: str, meaning: str, *, sign: bool = False, always: bool = False) -> Column:
    """Return a column of a score in percent, with half the width of its 95 % interval."""

    def cell(row: dict[Any, Any]) -> Cell:
        mean = row[f"{name}_mean"]
        if math.isnan(mean):
            return Cell(MISSING, None)
        width = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
        spread = "" if math.isnan(width) else f" ± {100 * width:.1f}"
        count = row[f"{name}_count"]
        fewer = f" (n={count})" if count < row["n_seeds"] else ""
        rounded = round(100 * mean, 1) or 0.0  # never -0.0
        text = f"{rounded:{'+' if sign and rounded else ''}.1f}{spread}{fewer}"
        return Cell(text, mean, row.get(f"{name}_standing", ""))

    return Column(heading, meaning, cell, None if always else name)


def number(name: str, heading: str, meaning: str, form: Callable[[float], str], *, always: bool = False) -> Column:
    """Return a column of a mean over seeds."""

    def cell(row: dict[Any, Any]) -> Cell:
        mean = row[f"{name}_mean"]
        return Cell(MISSING, None) if math.isnan(mean) else Cell(form(mean), mean)

    return Column(heading, meaning, cell, None if always else name)


def word(name: str, heading: str, meaning: str) -> Column:
    """Return a column of words."""

    def cell(row: dict[Any, Any]) -> Cell:
        text = row[name] if isinstance(row[name], str) and row[name] else MISSING
        return Cell(text, text)

    return Column(heading, meaning, cell, words=True)


def _name(row: dict[Any, Any]) -> Cell:
    return Cell(row_name(row), row_name(row))


def _seeds(row: dict[Any, Any]) -> Cell:
    numbers = row["seeds"].split()
    if not numbers:
        return Cell(MISSING, None)
    text = f"{len(numbers)} ({', '.join(numbers)})" if len(numbers) <= 5 else str(len(numbers))
    return Cell(text, len(numbers))


def whole(value: float) -> str:
    """Return 12,345."""
    return f"{round(value):,}"


def size(value: float) -> str:
    """Return bytes as KiB or MiB."""
    return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"


def one_decimal(value: float) -> str:
    """Return 1,234.5."""
    return f"{value:,.1f}"


def two_decimals(value: float) -> str:
    """Return 0.12."""
    return f"{value:.2f}"


def scientific(value: float) -> str:
    """Return 1.23e+12."""
    return f"{value:.2e}"


STRATEGY = Column("Strategy", "method, its role, the options that set the row apart", _name, words=True)
SEEDS = Column("Seeds", "how many, and which", _seeds)
SCORES: list[Column] = [
    STRATEGY,
    score("acc", "ACC", "average accuracy over the tasks after the last one", always=True),
    score("acc_normalised", "Normalised", "ACC, 0 = the untrained network, 100 = joint"),
    score("bwt", "BWT", "backward transfer: what later learning did to earlier tasks", sign=True, always=True),
    score("fwt", "FWT", "forward transfer (GEM): a task before it is learned, beside the untrained network", sign=True),
    score("forgetting", "Forgetting", "how far each task is below the best it ever was", always=True),
    score("learning_accuracy", "Learning accuracy", "each task as it has just been learned"),
    score(
        "intransigence", "Intransigence", "how far a task just learned is below joint's final score on it", sign=True
    ),
    score("average_incremental_accuracy", "Incremental", "accuracy on the tasks so far, averaged over the stream"),
    score("task_percentile_10", "10th percentile", "tenth percentile over tasks of the final scores"),
    score("acc_task_aware", "ACC task-aware", "the answer restricted to the task's own classes at test"),
    score("anytime_accuracy", "Anytime", "accuracy on the tasks met so far, averaged over points in time"),
    score("min_acc", "Min-ACC", "lowest score of each task after it was learned"),
    score("worst_case_accuracy", "Worst case", "the last task as learned, the earlier ones at their lowest"),
    score("ece", "ECE", "expected calibration error"),
    number("brier", "Brier", "Brier score, summed over classes: 0 = best, 2 = worst", two_decimals),
    score("acc_global", "ACC global", "as ACC, over all labels"),
    score("selector_accuracy", "Selector", "how often the selector chooses the task's expert"),
    number("experts", "Experts", "how many there are at the end", one_decimal),
    score("reuse", "Re-use", "returns of a task for which its expert was called back"),
    number("missed_shifts", "Missed shifts", "changes of task that were not noticed", one_decimal),
    number("false_alarms", "False alarms", "changes seen where there were none", one_decimal),
    number("detection_delay", "Delay", "samples until a change of task is noticed", whole),
    score("open_set_auroc", "AUROC", "how well certainty tells samples of no task"),
    score("open_set_fpr95", "FPR95", "samples of no task that pass where 95 % of the others do"),
    score("libero_fwt", "LIBERO-FWT", "success while a task is learned"),
    score("libero_nbt", "LIBERO-NBT", "how much of it is lost later", sign=True),
    score("libero_auc", "LIBERO-AUC", "both together"),
    SEEDS,
    word("model_selection", "Selection", "what chose among the states met in training"),
]
COSTS: list[Column] = [
    STRATEGY,
    number("samples_drawn", "Samples drawn", "replay included", whole),
    number("samples_replayed", "Replayed", "of them from memory", whole),
    number("optimizer_steps", "Steps", "of the optimizer", whole),
    number("training_flops", "Training FLOPs", "matrix products and convolutions", scientific),
    number("train_seconds", "Train seconds", "without evaluation", one_decimal),
    number("wall_seconds", "Wall seconds", "the whole run", one_decimal),
    number("peak_memory_bytes", "Peak memory", "of the process or the GPU", size),
    number("model_parameters", "Parameters", "of the model", whole),
    number("state_bytes", "State", "all that is kept between tasks", size),
    number("memory_bytes", "Of it, memory", "beside the network in use: buffer, importances, masks", size),
    word("device", "Device", "on which it ran"),
]
PREFERENCES: list[Column] = [
    STRATEGY,
    score("preference_best", "Weighted, best", "sum of preference times accuracy, best model drawn"),
    score("preference_mean", "Weighted, mean", "average model drawn"),
    score("preference_average", "Per task, mean", "accuracies, each counted by how much a preference wants the task"),
    score("preference_peak", "Per task, highest", "as before, the best model"),
    score("preference_bwt", "BWT", "backward transfer of the average", sign=True),
    score("preference_hypervolume", "Hypervolume", "of the curve between the first two tasks"),
    score("preference_front_distance", "Distance", "to the front of preference_joint"),
    number("preferences_asked", "Asked", "preferences", whole),
    number("preference_passes", "Passes", "samples drawn for the last task, in units of its training", one_decimal),
    number("preference_passes_each", "For each", "passes for each preference", two_decimals),
    number("preference_seconds", "Seconds", "for the last task", one_decimal),
    number("state_bytes", "State", "all that is kept between tasks", size),
    SEEDS,
]
