"""A run of four tasks by which every definition is worked out by hand, here and in docs/reference/metrics.md."""

from cl_suite.metrics.definitions.catalogue import Measured
from cl_suite.records.record import RunRecord

R = [[0.90, 0.30, 0.25, 0.22], [0.70, 0.92, 0.40, 0.28], [0.80, 0.60, 0.94, 0.35], [0.85, 0.50, 0.75, 0.96]]
UNTRAINED = [0.10, 0.12, 0.09, 0.11]
COUNTS = [100, 200, 300, 400]
TASK_AWARE = [[0.97, 0.50, 0.50, 0.50], [0.96, 0.95, 0.50, 0.50], [0.96, 0.93, 0.96, 0.50], [0.95, 0.90, 0.92, 0.98]]
CURVE = [
    {"experience": 0, "step": 5, "samples": 50, "scores": [0.60, None, None, None]},
    {"experience": 1, "step": 5, "samples": 150, "scores": [0.50, 0.60, None, None]},
    {"experience": 2, "step": 5, "samples": 250, "scores": [0.65, 0.40, 0.70, None]},
    {"experience": 3, "step": 5, "samples": 350, "scores": [0.78, 0.45, 0.70, 0.85]},
]
POINTS = [[0.10, 0.60, 0.90], [0.30, 0.80, 0.92], [0.40, 0.70, 0.94], [0.35, 0.85, 0.96]]

# Each task learned alone, and all of them together.
ALONE = [[0.88, None, None, None], [None, 0.90, None, None], [None, None, 0.95, None], [None, None, None, 0.93]]
POINTS_ALONE = [[0.10, 0.58, 0.88], [0.12, 0.60, 0.90], [0.09, 0.64, 0.95], [0.11, 0.70, 0.93]]
JOINT = [[None] * 4, [None] * 4, [None] * 4, [0.93, 0.91, 0.96, 0.97]]

# Task 0 is best after experience 1, not when it is learned, and task 1 ends above all it ever was.
RISING = [[0.5, 0.1, 0.2], [0.9, 0.6, 0.3], [0.4, 0.8, 0.7]]

GOLDEN = Measured(
    R=R,
    baseline=UNTRAINED,
    counts=COUNTS,
    curve=CURVE,
    R_task_aware=TASK_AWARE,
    points=POINTS,
    metrics={"ece": 0.0875, "brier": 0.14},
    reference=Measured(R=ALONE, points=POINTS_ALONE),
)
BESIDE_JOINT = Measured(R=R, reference=Measured(R=JOINT))


def record(**changed):
    """Return the golden run as a record; with other fields where they are named."""
    fields = {
        "strategy": "er",
        "stream": "golden",
        "scenario": "class_incremental",
        "protocol": "quick",
        "seed": 0,
        "config": {"stream": {"n_tasks": 4}},
        "R": R,
        "R_task_aware": TASK_AWARE,
        "baseline": UNTRAINED,
        "test_samples": COUNTS,
        "task_names": ["a", "b", "c", "d"],
        "curve": CURVE,
        "metrics": {"ece": 0.0875, "brier": 0.14},
        "diagnostics": {"learning": {"points": POINTS}},
    }
    return RunRecord(**{**fields, **changed})


def record_alone(**changed):
    """Return the reference that learns each task alone."""
    fields = {"strategy": "alone", "R": ALONE, "R_task_aware": None, "curve": [], "metrics": {}}
    return record(**{**fields, "diagnostics": {"learning": {"points": POINTS_ALONE}}, **changed})


def record_joint(**changed):
    """Return the reference that learns all tasks together."""
    fields = {"strategy": "joint", "R": JOINT, "R_task_aware": None, "curve": [], "metrics": {}, "diagnostics": {}}
    return record(**{**fields, **changed})
