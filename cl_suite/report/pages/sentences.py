"""Sentences that stand in every format: what a table is, how to read it, how much it can claim."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cl_suite.report.pages.columns import has
from cl_suite.report.tables.across import Across
from cl_suite.report.tables.leaderboard import LeaderboardTable

INTRODUCTION = """\
Written by `cl-bench report` from the saved records; all numbers in `leaderboard.csv` and `leaderboard.json`.
One table for each stream, scenario and protocol: numbers of different tables are not comparable.
Scores are percent, mean ± half the 95 % t-interval over seeds (none with one seed); `-` = missing or not defined.
In the columns of accuracies and transfer the best is bold only where it is told apart from every other row with two or
more seeds in common: paired t-tests over seeds, Holm-corrected over the rows, nominal level 5 %. Where it is not, it
and the rows that cannot be told from it are marked as tied. Rows with one seed in common are not compared. joint (the
ceiling), other references and rows chosen by test data do not take part; finetune is the floor.
Normalised: 0 = the untrained network (chance, as measured), 100 = joint. Intransigence: against joint's final scores.
Samples drawn include replay and finetuning. Training FLOPs: matrix products and convolutions, forward and backward, in
loops over training data. Memory: what is kept beside the network in use. Seconds and memory depend on the device.
Selection = what chose among the states met in training; oracle looked at test data.
"""
ACROSS = (
    "Each strategy by one configuration a table: that with most seeds, among equals the one begun first. "
    "Average rank by ACC over the tables that all ranked strategies are in (Friedman test; strategies closer than "
    "Nemenyi's critical difference are not told apart, Demsar 2006). Win rate: share of common tables with the higher "
    "ACC. The tenth percentile is a mean over the tables a strategy is in, which differ. "
    "Tables of one stream with other options are not independent."
)
_TASK_AWARE = (
    "ACC task-aware: the same logits with the answer restricted to the task's own classes at test. "
    "It is not a task-incremental result."
)
_OPEN_SET = (
    "AUROC, FPR95: how well the largest softmax probability tells test samples of the tasks from samples of no task "
    "(50 = not at all), and the share of the latter that pass where 95 % of the former do."
)
_LIBERO = (
    "LIBERO-FWT, LIBERO-NBT, LIBERO-AUC: a task's success on average while it is learned, how much of it "
    "is lost later, and both together (Liu et al. 2023). They are not GEM's transfers. "
    "The first holds the best score met so far, as the paper does; where none is selected by it (Selection: none), the "
    "strategy did not go on with it."
)
_ORIGINS = (
    "Yours: runs of your folder of records. The others stand beside them as they were recorded, on other machines: "
    "compare scores, samples and FLOPs with theirs, not seconds."
)
_NOTES = {"acc_task_aware": _TASK_AWARE, "open_set_auroc": _OPEN_SET, "libero_fwt": _LIBERO}
PREFERENCES = (
    "Trade-offs between tasks, after the last one. Weighted: sum of preference times accuracy, of the best and of the "
    "average model drawn for a preference, mean over preferences; per task: accuracies, each counted by how much a "
    "preference wants the task. Hypervolume and distance to the front of preference_joint (one model for each "
    "preference, trained on the samples of all tasks): of the curve between the first two tasks. Passes: samples drawn "
    "for the last task, replayed ones included, in units of train.epochs over it."
)


def heading(table: LeaderboardTable) -> str:
    """Return the name of a table."""
    key = table.key
    return f"{key['stream']}, {key['scenario']}, protocol {key['protocol']}"


def distinct_headings(tables: Sequence[LeaderboardTable]) -> list[str]:
    """Return headings, with the stream options in which tables of one heading differ."""
    options = [set(filter(None, table.key["stream_options"].split(", "))) for table in tables]
    headings = []
    for table, table_options in zip(tables, options, strict=True):
        alike = [each for other, each in zip(tables, options, strict=True) if heading(other) == heading(table)]
        apart = table_options - alike[0].intersection(*alike)
        version = f"version {table.key['stream_version']}"
        several = len(alike) > 1
        more = ", ".join(sorted(apart)) or (version if several else "")
        headings.append(f"{heading(table)} [{more}]" if more else heading(table))
    return headings


def facts(table: LeaderboardTable) -> str:
    """Return what the tasks are: how many, which version, which options."""
    parts = [f"{table.n_tasks} tasks", f"stream version {table.key['stream_version']}"]
    if table.key["stream_options"]:
        parts.append(f"stream options {table.key['stream_options']}")
    if table.chance is not None:
        parts.append(f"untrained {100 * table.chance:.1f} %")
    return "; ".join(parts)


def claim(table: LeaderboardTable) -> str:
    """Return how small a difference this table can tell."""
    difference, seeds = table.detectable
    if not seeds:
        return "No two rows have two seeds in common: no difference can be told from chance."
    if math.isnan(difference) or 100 * difference < 0.05:
        return ""
    return (
        f"Minimum detectable difference: with {seeds} seeds a difference in ACC of {100 * difference:.1f} points is "
        "found in four of five such experiments, a smaller one less often (paired t-test, 5 % level, one comparison, "
        "spread pooled over the rows)."
    )


def notes(table: LeaderboardTable) -> list[str]:
    """Return the sentences that columns of this table need."""
    whose = [_ORIGINS] if table.origins - {""} else []
    return [*whose, *(text for measure, text in _NOTES.items() if has(table, measure))]


def ranking(across: Across) -> str:
    """Return the result of the ranking in one sentence."""
    ranks = across.ranks
    if ranks is None:
        return f"Not ranked: {across.why}."
    verdict = "the ranks differ" if ranks.p < 0.05 else "no difference is shown"
    return (
        f"{len(ranks.names)} strategies on {ranks.tables} tables: Friedman p = {ranks.p:.2g}, {verdict}; "
        f"critical difference {ranks.critical_difference:.2f}."
    )
