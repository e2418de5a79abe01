"""Tables as Markdown: scores in percent, costs in units one reads at a glance, `-` where there is nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cl_suite.report.figures import Figure
from cl_suite.report.tables import LeaderboardTable

MISSING = "-"
INTRODUCTION = """\
# Leaderboard

Written by `cl-bench report` from the saved records; raw numbers in `leaderboard.csv`.
Mean ± sample standard deviation over seeds, scores in percent; `-` = missing or not defined.
One table for each stream, scenario and protocol: numbers of different tables are not comparable.
Samples drawn include replay and finetuning. Training FLOPs: matrix products and convolutions, forward and backward, in
loops over training data. Memory: what is kept beside the network in use, such as a buffer, importances, masks.
finetune is the floor (lower bound), joint the ceiling (upper bound). Seconds and memory depend on the device.
Selection = what chose among the states met in training; oracle looked at test data.
"""
TASK_AWARE = (
    "ACC task-aware: the same logits with the answer restricted to the task's own classes at test. "
    "It is not a task-incremental result."
)

OPEN_SET = (
    "AUROC, FPR95: how well the largest softmax probability tells test samples of the tasks from samples of no task "
    "(50 = not at all), and the share of the latter that pass where 95 % of the former do."
)
LIBERO = (
    "LIBERO-FWT, LIBERO-NBT, LIBERO-AUC: a task's success on average while it is learned, how much of it "
    "is lost later, and both together (Liu et al. 2023). They are not GEM's transfers. "
    "The first holds the best score met so far, as the paper does; where none is selected by it (Selection: none), the "
    "strategy did not go on with it."
)
PREFERENCES = (
    "Trade-offs between tasks, after the last one. Weighted: sum of preference times accuracy, of the best and of the "
    "average model drawn for a preference, mean over preferences; per task: accuracies, each counted by how much a "
    "preference wants the task. Hypervolume and distance to the front of preference_joint (one model for each "
    "preference, trained on the samples of all tasks): of the curve between the first two tasks. Passes: samples drawn "
    "for the last task, replayed ones included, in units of train.epochs over it."
)


def leaderboard(
    tables: Sequence[LeaderboardTable],
    notes: Sequence[str],
    figures: Sequence[Figure] = (),
    own: Sequence[Mapping[str, str]] = (),
) -> str:
    """Return the whole page; `notes` name the record files and figures that do not count.

    own: per table {name: file} of its own figures
    """
    of_tables = own or [{} for _ in tables]
    parts = [INTRODUCTION, *(table_text(table, figures, more) for table, more in zip(tables, of_tables, strict=True))]
    if notes:
        parts.append("## Left out\n\n" + "".join(f"- {_escape(note)}\n" for note in notes))
    return "\n".join(parts)


def table_text(table: LeaderboardTable, figures: Sequence[Figure] = (), own: Mapping[str, str] | None = None) -> str:
    """Return one table with its heading, its facts, links to those of `figures` that belong to it, its failed runs.

    own: {name: file} of figures of the whole table
    """
    key = table.key
    facts = [f"{table.n_tasks} tasks", f"stream version {key['stream_version']}"]
    if key["stream_options"]:
        facts.append(f"stream options {key['stream_options']}")
    columns = [column for column in _COLUMNS if column[0] not in _MEASURE or _has(table, _MEASURE[column[0]])]
    lines = [
        f"## {key['stream']}, {key['scenario']}, protocol {key['protocol']}",
        "",
        _escape("; ".join(facts)),
        "",
        _line(name for name, _ in columns),
        _line("---" if name in _WORDS else "---:" for name, _ in columns),
        *(_line(cell(row) for _, cell in columns) for row in table.rows.to_dict("records")),
    ]
    if _has(table, "acc_task_aware"):
        lines += ["", TASK_AWARE]
    if _has(table, "open_set_auroc"):
        lines += ["", OPEN_SET]
    if _has(table, "libero_fwt"):
        lines += ["", LIBERO]
    if _has(table, "preference_mean"):
        lines += ["", *_preference_lines(table)]
    links = [f"[{name}]({file})" for name, file in (own or {}).items()] + _links(table, figures)
    if links:
        lines += ["", f"Figures: {', '.join(links)}"]
    if table.failed:
        lines += ["", f"Failed runs: {_escape('; '.join(table.failed))}"]
    return "\n".join(lines) + "\n"


def _preference_lines(table: LeaderboardTable) -> list[str]:
    """Return the table of trade-offs, the best preference-weighted score first."""
    asked = table.rows[table.rows["preference_mean_mean"].notna()]
    # Rows that were asked for other numbers of preferences were asked other questions: they are not ranked together.
    order = ["preferences_asked_mean", "preference_mean_mean", "strategy", "config_hash"]
    rows = asked.sort_values(order, ascending=[False, False, True, True])
    return [
        PREFERENCES,
        "",
        _line(name for name, _ in _PREFERENCE_COLUMNS),
        _line("---" if name in _WORDS else "---:" for name, _ in _PREFERENCE_COLUMNS),
        *(_line(cell(row) for _, cell in _PREFERENCE_COLUMNS) for row in rows.to_dict("records")),
    ]


def _links(table: LeaderboardTable, figures: Sequence[Figure]) -> list[str]:
    """Return a link for each figure of the table's rows, in their order."""
    links = []
    for row in table.rows.to_dict("records"):
        identity = (table.key["stream"], table.key["scenario"], row["strategy"], row["config_hash"])
        for figure in figures:
            record = figure.record
            if (record.stream, record.scenario, record.strategy, record.config_hash) == identity:
                options = f" ({row['configuration']})" if row["configuration"] else ""
                text = re.sub(r"([\\\[\]])", r"\\\1", f"{record.strategy} {figure.name}{options}")
                links.append(f"[{_escape(text)}]({figure.file})")
    return links


def _has(table: LeaderboardTable, name: str) -> bool:
    return bool(table.rows[f"{name}_mean"].notna().any())


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _name(row: dict[Any, Any]) -> str:
    role = f" ({row['role']})" if row["role"] else ""
    options = f" [{row['configuration']}]" if row["configuration"] else ""
    return _escape(f"{row['strategy']}{role}{options}")


def _percent(name: str, *, sign: bool = False) -> Callable[[dict[Any, Any]], str]:
    def cell(row: dict[Any, Any]) -> str:
        mean, deviation = row[f"{name}_mean"], row[f"{name}_std"]
        if math.isnan(mean):
            return MISSING
        spread = MISSING if math.isnan(deviation) else f"{100 * deviation:.1f}"
        count = row[f"{name}_count"]
        fewer = f" (n={count})" if count < row["n_seeds"] else ""
        rounded = round(100 * mean, 1) or 0.0  # never -0.0
        return f"{rounded:{'+' if sign and rounded else ''}.1f} ± {spread}{fewer}"

    return cell


def _mean(name: str, form: Callable[[float], str]) -> Callable[[dict[Any, Any]], str]:
    def cell(row: dict[Any, Any]) -> str:
        mean = row[f"{name}_mean"]
        return MISSING if math.isnan(mean) else form(mean)

    return cell


def _word(name: str) -> Callable[[dict[Any, Any]], str]:
    return lambda row: _escape(row[name]) if isinstance(row[name], str) and row[name] else MISSING


def _seeds(row: dict[Any, Any]) -> str:
    numbers = row["seeds"].split()
    if not numbers:
        return MISSING
    return f"{len(numbers)} ({', '.join(numbers)})" if len(numbers) <= 5 else str(len(numbers))


def _whole(value: float) -> str:
    return f"{round(value):,}"


def _two_decimals(value: float) -> str:
    return f"{value:.2f}"


def _one_decimal(value: float) -> str:
    return f"{value:.1f}"


def _seconds(value: float) -> str:
    return f"{value:,.1f}"


def _flops(value: float) -> str:
    return f"{value:.2e}"


def _size(value: float) -> str:
    return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"


# Columns of tables in which some row has the measure.
_IF_TOLD: list[tuple[str, Callable[[dict[Any, Any]], str]]] = [
    ("Anytime", _percent("anytime_accuracy")),
    ("ACC global", _percent("acc_global")),
    ("Selector", _percent("selector_accuracy")),
    ("Experts", _mean("experts", _one_decimal)),
    ("Re-use", _percent("reuse")),
    ("Missed shifts", _mean("missed_shifts", _one_decimal)),
    ("False alarms", _mean("false_alarms", _one_decimal)),
    ("Delay", _mean("detection_delay", _whole)),
    ("AUROC", _percent("open_set_auroc")),
    ("FPR95", _percent("open_set_fpr95")),
    ("LIBERO-FWT", _percent("libero_fwt")),
    ("LIBERO-NBT", _percent("libero_nbt", sign=True)),
    ("LIBERO-AUC", _percent("libero_auc")),
]
_MEASURE = {
    "ACC task-aware": "acc_task_aware",
    "Anytime": "anytime_accuracy",
    "ACC global": "acc_global",
    "Selector": "selector_accuracy",
    "Experts": "experts",
    "Re-use": "reuse",
    "Missed shifts": "missed_shifts",
    "False alarms": "false_alarms",
    "Delay": "detection_delay",
    "AUROC": "open_set_auroc",
    "FPR95": "open_set_fpr95",
    "LIBERO-FWT": "libero_fwt",
    "LIBERO-NBT": "libero_nbt",
    "LIBERO-AUC": "libero_auc",
}
_PREFERENCE_COLUMNS: list[tuple[str, Callable[[dict[Any, Any]], str]]] = [
    ("Strategy", _name),
    ("Weighted, best", _percent("preference_best")),
    ("Weighted, mean", _percent("preference_mean")),
    ("Per task, mean", _percent("preference_average")),
    ("Per task, highest", _percent("preference_peak")),
    ("BWT", _percent("preference_bwt", sign=True)),
    ("Hypervolume", _percent("preference_hypervolume")),
    ("Distance", _percent("preference_front_distance")),
    ("Asked", _mean("preferences_asked", _whole)),
    ("Passes", _mean("preference_passes", _one_decimal)),
    ("For each", _mean("preference_passes_each", _two_decimals)),
    ("Seconds", _mean("preference_seconds", _seconds)),
    ("State", _mean("state_bytes", _size)),
    ("Seeds", _seeds),
]
_WORDS = ("Strategy", "Selection", "Device")  # left-aligned
_COLUMNS: list[tuple[str, Callable[[dict[Any, Any]], str]]] = [
    ("Strategy", _name),
    ("ACC", _percent("acc")),
    ("BWT", _percent("bwt", sign=True)),
    ("FWT", _percent("fwt", sign=True)),
    ("Forgetting", _percent("forgetting")),
    ("Learning accuracy", _percent("learning_accuracy")),
    ("ACC task-aware", _percent("acc_task_aware")),
    *_IF_TOLD,
    ("Samples drawn", _mean("samples_drawn", _whole)),
    ("Replayed", _mean("samples_replayed", _whole)),
    ("Steps", _mean("optimizer_steps", _whole)),
    ("Training FLOPs", _mean("training_flops", _flops)),
    ("Train seconds", _mean("train_seconds", _seconds)),
    ("Wall seconds", _mean("wall_seconds", _seconds)),
    ("Peak memory", _mean("peak_memory_bytes", _size)),
    ("Parameters", _mean("model_parameters", _whole)),
    ("State", _mean("state_bytes", _size)),
    ("Of it, memory", _mean("memory_bytes", _size)),
    ("Seeds", _seeds),
    ("Selection", _word("model_selection")),
    ("Device", _word("device")),
]
