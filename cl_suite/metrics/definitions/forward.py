"""Definitions of what earlier learning does to later tasks, and of how well each task is learned in its turn."""

from __future__ import annotations

import math

from cl_suite.metrics import matrix
from cl_suite.metrics.definitions import formulas
from cl_suite.metrics.definitions.definition import SIGNED, Definition
from cl_suite.metrics.definitions.measured import (
    AHEAD,
    ALL_AHEAD,
    ALONE,
    ALONE_POINTS,
    AS_MANY_POINTS,
    BASELINE,
    CEILING,
    DIAGONAL,
    HEADROOM,
    LOWER,
    POINTS,
    REFERENCE,
    ROWS,
    TWO,
    UPPER,
    Measured,
)
from cl_suite.metrics.matrix import Matrix, Row

FORWARD = "forward transfer"
LEARNING = "learning a task"

_BEFORE = "the row before each task is learned"
_UNTRAINED = "the untrained score"
_CHAUDHRY = "Chaudhry et al. 2018"
_LIU = "Liu et al. 2023 (LIBERO)"


def _alone(run: Measured) -> Matrix:
    return [] if run.reference is None else run.reference.tasks


def _ceiling(run: Measured) -> Row:
    return run.reference.R[-1] if run.reference is not None and run.reference.R else []


def _points_alone(run: Measured) -> Matrix:
    return [] if run.reference is None else run.reference.points


FORWARDS = (
    Definition(
        "fwt@gem",
        FORWARD,
        "mean over j>0 of R[j-1][j] - b_j, over the tasks that could be answered by then",
        "Lopez-Paz & Ranzato 2017, eq. 4",
        (ROWS, TWO, AHEAD, BASELINE),
        lambda run: matrix.fwt(run.tasks, run.baseline),
        {"taken from": _BEFORE, "less": _UNTRAINED, "divided by": "T - 1"},
        ("cl-suite fwt", "Mammoth forward_transfer", "Avalanche StreamForwardTransfer"),
        bounds=SIGNED,
    ),
    Definition(
        "fwt@gem-code",
        FORWARD,
        "1/T sum_{j>0} R[j-1][j] - b_j",
        "matrix.py of the code of Lopez-Paz & Ranzato 2017",
        (ROWS, TWO, ALL_AHEAD, BASELINE),
        lambda run: formulas.fwt_over_all_tasks(run.tasks, run.baseline),
        {"taken from": _BEFORE, "less": _UNTRAINED, "divided by": "T"},
        ("GEM's code",),
        bounds=SIGNED,
    ),
    Definition(
        "fwt@no-baseline",
        FORWARD,
        "mean over j>0 of R[j-1][j], over the tasks that could be answered by then",
        "fwt@gem without the untrained term",
        (ROWS, TWO, AHEAD),
        lambda run: formulas.fwt_without_baseline(run.tasks),
        {"taken from": _BEFORE, "less": "nothing", "divided by": "T - 1"},
    ),
    Definition(
        "fwt@diaz-rodriguez",
        FORWARD,
        "2/(T(T-1)) sum_{i<j} R[i][j]",
        "Diaz-Rodriguez et al. 2018",
        (ROWS, TWO, UPPER),
        lambda run: formulas.upper_triangle_mean(run.tasks),
        {"taken from": "every row before the task is learned", "less": "nothing", "divided by": "T(T-1)/2"},
    ),
    Definition(
        "fwt@continuum",
        FORWARD,
        "2/(T(T-1)) sum_{i>j} R[i][j]",
        "matrix.py of Continuum 1.2.7",
        (ROWS, TWO, LOWER),
        lambda run: formulas.below_diagonal_mean(run.tasks),
        {"taken from": "every row after the task was learned", "less": "nothing", "divided by": "T(T-1)/2"},
        ("Continuum forward_transfer",),
    ),
    Definition(
        "fwt@continual-world",
        FORWARD,
        "1/T sum_k (A_k - B_k) / (1 - B_k), A and B = mean score while task k is learned, in the stream and alone",
        "Wolczyk et al. 2021 (Continual World)",
        (ROWS, POINTS, REFERENCE, ALONE, ALONE_POINTS, AS_MANY_POINTS, HEADROOM),
        lambda run: formulas.fwt_against_reference(run.points, _points_alone(run)),
        {
            "taken from": "points of each task's own training",
            "less": "the same task learned alone, as a share of what was left to gain",
            "divided by": "T",
        },
        ("Continual World forward transfer",),
        bounds=(-math.inf, 1.0),
    ),
    Definition(
        "libero-fwt",
        FORWARD,
        "1/T sum_k mean over points of c(k, e), the score of task k while it is learned, held flat after its best",
        _LIU,
        (ROWS, LOWER, POINTS),
        lambda run: matrix.libero_metrics(run.tasks, run.points)["libero_fwt"],
        {
            "taken from": "points of each task's own training, the best held",
            "less": "nothing",
            "divided by": "T",
        },
        ("cl-suite libero_fwt", "LIBERO FWT"),
    ),
    Definition(
        "la@riemer",
        LEARNING,
        "1/T sum_j R[j][j]",
        "Riemer et al. 2019, learning accuracy",
        (ROWS, DIAGONAL),
        lambda run: matrix.learning_accuracy(run.tasks),
        {"held against": "nothing"},
        ("cl-suite learning_accuracy", "Avalanche TrainedExperienceAccuracy, row by row"),
    ),
    Definition(
        "plasticity@single-task",
        LEARNING,
        "1/T sum_j R[j][j] - r[j][j], r = each task learned alone by a fresh network",
        "Lin et al. 2022 (CUBER), who call it forward transfer",
        (ROWS, DIAGONAL, REFERENCE, ALONE),
        lambda run: matrix.learning_accuracy_gain(run.tasks, _alone(run)),
        {"held against": "each task learned alone", "sign": "more is better", "of": "every task"},
        ("CUBER FWT",),
        bounds=SIGNED,
    ),
    Definition(
        "intransigence@chaudhry",
        LEARNING,
        "r[T-1][T-1] - R[T-1][T-1], r = joint training on tasks 0..T-1",
        f"{_CHAUDHRY}, I_k at k = T",
        (ROWS, DIAGONAL, REFERENCE, CEILING),
        lambda run: matrix.difference(_ceiling(run)[-1], run.tasks[-1][-1]),
        {"held against": "joint training", "sign": "less is better", "of": "the last task"},
        bounds=SIGNED,
        better="lower",
    ),
    Definition(
        "intransigence@joint",
        LEARNING,
        "1/T sum_k r[T-1][k] - R[k][k], r = joint training on the whole stream",
        f"after {_CHAUDHRY}: one joint run in place of one for each k",
        (ROWS, DIAGONAL, REFERENCE, CEILING),
        lambda run: formulas.intransigence(run.tasks, _ceiling(run)),
        {"held against": "joint training on the whole stream", "sign": "less is better", "of": "every task"},
        bounds=SIGNED,
        better="lower",
    ),
    Definition(
        "intransigence@mean",
        LEARNING,
        "1/T sum_k r[k][k] - R[k][k], r = a run that learns anew with tasks 0..k, or task k alone",
        f"{_CHAUDHRY}, mean of I_k; Ko et al. 2024 (BeGin)",
        (ROWS, DIAGONAL, REFERENCE, ALONE),
        lambda run: formulas.intransigence(run.tasks, formulas.diagonal(_alone(run))),
        {"held against": "the reference when it had learned the task", "sign": "less is better", "of": "every task"},
        ("BeGin INT",),
        bounds=SIGNED,
        better="lower",
    ),
    Definition(
        "libero-auc",
        LEARNING,
        "1/T sum_k 1/(T-k) (FWT_k + sum_{t>k} R[t][k])",
        _LIU,
        (ROWS, LOWER, POINTS),
        lambda run: matrix.libero_metrics(run.tasks, run.points)["libero_auc"],
        {"held against": "nothing", "of": "every task, while it is learned and after"},
        ("cl-suite libero_auc", "LIBERO AUC"),
    ),
)
