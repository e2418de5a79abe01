"""Definitions that average scores: over the last row, over the stream, over points of it."""

from __future__ import annotations

from cl_suite.metrics import matrix
from cl_suite.metrics.definitions import formulas
from cl_suite.metrics.definitions.definition import Definition
from cl_suite.metrics.definitions.measured import (
    AWARE,
    CALIBRATED,
    COUNTS,
    CURVE,
    LAST_ROW,
    LOWER,
    ROWS,
    TWO,
    Measured,
    Need,
)

ACCURACY = "average accuracy"
INCREMENTAL = "accuracy over the stream"
STABILITY = "stability gap"
CALIBRATION = "calibration"

SCENARIO, OWN = "what the scenario allows", "the task's own classes"
_CACCIA = "Caccia et al. 2022"
_DE_LANGE = "De Lange et al. 2023"


def _anytime(run: Measured) -> float | None:
    return matrix.anytime_accuracy(run.curve) if run.rows_are_tasks else run.metrics.get("anytime_accuracy")


POINTS_OR_TIMES = Need(
    lambda run: bool(run.curve) if run.rows_are_tasks else run.metrics.get("anytime_accuracy") is not None,
    "no evaluation points inside the experiences: run with train.evaluate_every=N",
)

ACCURACIES = (
    Definition(
        "acc@gem",
        ACCURACY,
        "1/T sum_j R[T-1][j]",
        "Lopez-Paz & Ranzato 2017, eq. 2",
        (LAST_ROW,),
        lambda run: matrix.acc(run.R),
        {"over": "the last row", "weighs": "tasks alike (macro)", "answer among": SCENARIO},
        ("cl-suite acc", "GEM's code", "Mammoth", "Continual World performance"),
    ),
    Definition(
        "acc@micro",
        ACCURACY,
        "sum_j n_j R[T-1][j] / sum_j n_j",
        "accuracy on all test samples together",
        (LAST_ROW, COUNTS),
        lambda run: matrix.acc_micro(run.R, [int(n) for n in run.counts]),
        {"over": "the last row", "weighs": "samples alike (micro)", "answer among": SCENARIO},
        ("cl-suite acc_micro", "Avalanche Top1_Acc_Stream", "Continuum accuracy", "PyCIL top1"),
    ),
    Definition(
        "acc@diaz-rodriguez",
        ACCURACY,
        "2/(T(T+1)) sum_{i>=j} R[i][j]",
        "Diaz-Rodriguez et al. 2018",
        (ROWS, LOWER),
        lambda run: formulas.lower_triangle_mean(run.tasks),
        {"over": "every entry on and below the diagonal", "weighs": "entries alike", "answer among": SCENARIO},
        ("Continuum accuracy_A",),
    ),
    Definition(
        "acc@task-aware",
        ACCURACY,
        "1/T sum_j R'[T-1][j], R' = R with the answer chosen within the task",
        "Masana et al. 2022 (FACIL), task-aware accuracy",
        (LAST_ROW, AWARE),
        lambda run: matrix.acc(run.R_task_aware or []),
        {"over": "the last row", "weighs": "tasks alike (macro)", "answer among": OWN},
        ("cl-suite acc_task_aware", "FACIL TAw Acc", "Mammoth Task-IL accuracy"),
    ),
    Definition(
        "aia@macro",
        INCREMENTAL,
        "1/T sum_i 1/(i+1) sum_{j<=i} R[i][j]",
        "the mean of acc@gem over the stream",
        (ROWS, LOWER),
        lambda run: matrix.average_incremental_accuracy(run.tasks),
        {"over": "every row, tasks so far", "weighs": "tasks alike (macro)"},
        ("cl-suite average_incremental_accuracy",),
    ),
    Definition(
        "aia@icarl",
        INCREMENTAL,
        "1/T sum_i (sum_{j<=i} n_j R[i][j] / sum_{j<=i} n_j)",
        "Rebuffi et al. 2017",
        (ROWS, LOWER, COUNTS),
        lambda run: formulas.incremental_accuracy(run.tasks, run.counts),
        {"over": "every row, tasks so far", "weighs": "samples alike (micro)"},
        ("Continuum average_incremental_accuracy", "PyCIL Average Accuracy"),
    ),
    Definition(
        "aia@without-first",
        INCREMENTAL,
        "1/(T-1) sum_{i>0} (sum_{j<=i} n_j R[i][j] / sum_{j<=i} n_j)",
        "the first step is no increment, e.g. Castro et al. 2018",
        (ROWS, TWO, LOWER, COUNTS),
        lambda run: formulas.incremental_accuracy(run.tasks, run.counts, first=1),
        {"over": "every row but the first, tasks so far", "weighs": "samples alike (micro)"},
    ),
    Definition(
        "aaa@caccia",
        INCREMENTAL,
        "mean over points p inside experiences of mean_{j met by p} score_p[j]",
        f"{_CACCIA}, average anytime accuracy",
        (POINTS_OR_TIMES,),
        _anytime,
        {"over": "points inside experiences, tasks so far", "weighs": "tasks alike (macro)"},
        ("cl-suite anytime_accuracy",),
    ),
    Definition(
        "min-acc@de-lange",
        STABILITY,
        "1/(T-1) sum_{j<T-1} lowest score of task j at any point or row after it was learned",
        f"{_DE_LANGE}, min-ACC",
        (ROWS, TWO, CURVE),
        lambda run: matrix.min_acc(run.tasks, run.curve),
        {"of": "the earlier tasks"},
        ("cl-suite min_acc",),
    ),
    Definition(
        "wc-acc@de-lange",
        STABILITY,
        "R[T-1][T-1]/T + (1 - 1/T) min-acc@de-lange",
        f"{_DE_LANGE}, WC-ACC",
        (ROWS, TWO, CURVE),
        lambda run: matrix.worst_case_accuracy(run.tasks, run.curve),
        {"of": "the earlier tasks, and the last one as it was learned"},
        ("cl-suite worst_case_accuracy",),
    ),
    Definition(
        "ece@guo",
        CALIBRATION,
        "sum_m |B_m|/N |accuracy(B_m) - confidence(B_m)|, B_m = samples in one of M equal intervals of confidence",
        "Guo et al. 2017",
        (CALIBRATED,),
        lambda run: run.metrics["ece"],
        {"of": "the largest probability, in bins"},
        ("cl-suite ece",),
        better="lower",
    ),
    Definition(
        "brier@brier",
        CALIBRATION,
        "1/N sum_n sum_c (p_n[c] - [y_n = c])^2",
        "Brier 1950: summed over classes, from 0 to 2",
        (CALIBRATED,),
        lambda run: run.metrics["brier"],
        {"of": "every class's probability, sample by sample"},
        ("cl-suite brier",),
        bounds=(0.0, 2.0),
        better="lower",
    ),
)
