"""Definitions of what later learning does to earlier tasks: backward transfer and forgetting."""

from __future__ import annotations

from cl_suite.metrics import matrix
from cl_suite.metrics.definitions import formulas
from cl_suite.metrics.definitions.accuracies import OWN, SCENARIO
from cl_suite.metrics.definitions.definition import Definition
from cl_suite.metrics.definitions.measured import AWARE, DIAGONAL, LAST_ROW, LOWER, ONCE_BEFORE, ROWS, TWO

BACKWARD = "backward transfer"
FORGETTING = "forgetting"

_DIAZ = "Diaz-Rodriguez et al. 2018"
_CONTINUUM = "matrix.py of Continuum 1.2.7"
_ENDS = (ROWS, TWO, LAST_ROW, DIAGONAL)
_BEST = (ROWS, TWO, LAST_ROW, ONCE_BEFORE)
_TRIANGLE = (ROWS, TWO, LOWER)
_GAINED, _LOST = "only what is gained", "only what is lost, taken from 1"
_END = "the last row with the diagonal"

BACKWARDS = (
    Definition(
        "bwt@gem",
        BACKWARD,
        "1/(T-1) sum_{j<T-1} R[T-1][j] - R[j][j]",
        "Lopez-Paz & Ranzato 2017, eq. 3",
        _ENDS,
        lambda run: matrix.bwt(run.tasks),
        {"compares": _END, "divided by": "T - 1", "answer among": SCENARIO},
        ("cl-suite bwt", "Mammoth backward_transfer", "Avalanche StreamBWT"),
    ),
    Definition(
        "bwt@gem-code",
        BACKWARD,
        "1/T sum_j R[T-1][j] - R[j][j]",
        "matrix.py of the code of Lopez-Paz & Ranzato 2017",
        _ENDS,
        lambda run: formulas.bwt_over_all_tasks(run.tasks),
        {"compares": _END, "divided by": "T", "answer among": SCENARIO},
        ("GEM's code",),
    ),
    Definition(
        "bwt@task-aware",
        BACKWARD,
        "bwt@gem of R', the answer chosen within the task",
        "Masana et al. 2022 (FACIL), task-aware accuracy",
        (*_ENDS, AWARE),
        lambda run: matrix.bwt(run.tasks_aware),
        {"compares": _END, "divided by": "T - 1", "answer among": OWN},
        ("cl-suite bwt_task_aware", "Mammoth Task-IL backward_transfer"),
    ),
    Definition(
        "bwt@diaz-rodriguez",
        BACKWARD,
        "2/(T(T-1)) sum_{i>j} R[i][j] - R[j][j]",
        _DIAZ,
        _TRIANGLE,
        lambda run: formulas.bwt_all_rows(run.tasks),
        {"compares": "every later row with the diagonal", "divided by": "T(T-1)/2", "answer among": SCENARIO},
    ),
    Definition(
        "bwt+@diaz-rodriguez",
        BACKWARD,
        "max(bwt@diaz-rodriguez, 0)",
        _DIAZ,
        _TRIANGLE,
        lambda run: formulas.positive_part(formulas.bwt_all_rows(run.tasks)),
        {"kept": _GAINED},
    ),
    Definition(
        "rem@diaz-rodriguez",
        BACKWARD,
        "1 - |min(bwt@diaz-rodriguez, 0)|",
        f"{_DIAZ}, remembering",
        _TRIANGLE,
        lambda run: formulas.remembering(formulas.bwt_all_rows(run.tasks)),
        {"kept": _LOST},
    ),
    Definition(
        "bwt@continuum",
        BACKWARD,
        "2/(T(T-1)) sum_{i>j+1} R[i][j] - R[j][j]",
        _CONTINUUM,
        _TRIANGLE,
        lambda run: formulas.bwt_continuum(run.tasks),
        {
            "compares": "every later row but the next one with the diagonal",
            "divided by": "T(T-1)/2",
            "answer among": SCENARIO,
        },
        ("Continuum backward_transfer",),
    ),
    Definition(
        "bwt+@continuum",
        BACKWARD,
        "max(bwt@continuum, 0)",
        _CONTINUUM,
        _TRIANGLE,
        lambda run: formulas.positive_part(formulas.bwt_continuum(run.tasks)),
        {"kept": _GAINED},
        ("Continuum positive_backward_transfer",),
    ),
    Definition(
        "rem@continuum",
        BACKWARD,
        "1 - |min(bwt@continuum, 0)|",
        _CONTINUUM,
        _TRIANGLE,
        lambda run: formulas.remembering(formulas.bwt_continuum(run.tasks)),
        {"kept": _LOST},
        ("Continuum remembering",),
    ),
    Definition(
        "libero-nbt",
        BACKWARD,
        "1/T sum_k 1/(T-1-k) sum_{t>k} R[k][k] - R[t][k], 0 for the last task",
        "Liu et al. 2023 (LIBERO): lost counts positive",
        _TRIANGLE,
        lambda run: matrix.libero_metrics(run.tasks, [[score] for score in formulas.diagonal(run.tasks)])["libero_nbt"],
        {
            "compares": "every later row with the diagonal, turned round",
            "divided by": "a task's later rows, then T",
            "answer among": SCENARIO,
        },
        ("cl-suite libero_nbt", "LIBERO NBT"),
    ),
    Definition(
        "forgetting@chaudhry",
        FORGETTING,
        "1/(T-1) sum_{j<T-1} max_{l<T-1} R[l][j] - R[T-1][j]",
        "Chaudhry et al. 2018, average forgetting",
        _BEST,
        lambda run: matrix.forgetting(run.tasks),
        {"held against": "its best in any row before the last", "divided by": "T - 1", "answer among": SCENARIO},
        ("cl-suite forgetting",),
    ),
    Definition(
        "forgetting@first-last",
        FORGETTING,
        "1/(T-1) sum_{j<T-1} R[j][j] - R[T-1][j]",
        "forgetting_bwt.py of Avalanche 0.6.0",
        _ENDS,
        lambda run: formulas.forgetting_first_last(run.tasks),
        {"held against": "its score when it was learned", "divided by": "T - 1", "answer among": SCENARIO},
        ("Avalanche StreamForgetting",),
    ),
    Definition(
        "forgetting@facil",
        FORGETTING,
        "1/(T-1) sum_{j<T-1} max_{j<=l<T-1} R[l][j] - R[T-1][j]",
        "main_incremental.py of FACIL (Masana et al. 2022)",
        _ENDS,
        lambda run: formulas.forgetting_from(run.tasks, first=lambda task: task, last=-2),
        {
            "held against": "its best from its own row to the one before the last",
            "divided by": "T - 1",
            "answer among": SCENARIO,
        },
        ("FACIL TAg Forg",),
    ),
    Definition(
        "forgetting@pycil",
        FORGETTING,
        "1/(T-1) sum_{j<T-1} max_{l>=j} R[l][j] - R[T-1][j]",
        "trainer.py of PyCIL (Zhou et al. 2023)",
        _ENDS,
        lambda run: formulas.forgetting_from(run.tasks, first=lambda task: task, last=-1),
        {
            "held against": "its best from its own row on, the last row too: never negative",
            "divided by": "T - 1",
            "answer among": SCENARIO,
        },
        ("PyCIL Forgetting",),
    ),
    Definition(
        "forgetting@mammoth",
        FORGETTING,
        "1/(T-1) sum_{j<T-1} max_{l>=j-1} R[l][j] - R[T-1][j]",
        "utils/matrix.py of Mammoth (Boschini et al. 2022)",
        _ENDS,
        lambda run: formulas.forgetting_from(run.tasks, first=lambda task: task - 1, last=-1),
        {
            "held against": "its best from the row before its own on, the last row too: never negative",
            "divided by": "T - 1",
            "answer among": SCENARIO,
        },
        ("Mammoth forgetting",),
    ),
    Definition(
        "forgetting@continual-world",
        FORGETTING,
        "1/T sum_j R[j][j] - R[T-1][j]",
        "Wolczyk et al. 2021 (Continual World)",
        _ENDS,
        lambda run: formulas.forgetting_over_all_tasks(run.tasks),
        {"held against": "its score when it was learned", "divided by": "T", "answer among": SCENARIO},
        ("Continual World forgetting",),
    ),
    Definition(
        "forgetting@continuum",
        FORGETTING,
        "1/(T-1) sum_{j<T-2} max_{j<=l<T-2} R[l][j] - R[T-1][j]",
        _CONTINUUM,
        _TRIANGLE,
        lambda run: formulas.forgetting_continuum(run.tasks),
        {
            "held against": "its best from its own row to row T-3; the last but one is left out",
            "divided by": "T - 1",
            "answer among": SCENARIO,
        },
        ("Continuum forgetting",),
    ),
    Definition(
        "forgetting@task-aware",
        FORGETTING,
        "forgetting@chaudhry of R', the answer chosen within the task",
        "Masana et al. 2022 (FACIL), task-aware accuracy",
        (*_BEST, AWARE),
        lambda run: matrix.forgetting(run.tasks_aware),
        {"held against": "its best in any row before the last", "divided by": "T - 1", "answer among": OWN},
        ("cl-suite forgetting_task_aware",),
    ),
)
