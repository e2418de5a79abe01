"""Records that are in order, for tests that put them out of it."""

import dataclasses
from typing import Any

from cl_suite.metrics.matrix import summarise
from cl_suite.records.record import RunRecord

R = [[0.9, 0.3, 0.25], [0.7, 0.92, 0.4], [0.6, 0.8, 0.94]]
BASELINE, COUNTS = [0.1, 0.12, 0.09], [10, 20, 30]
CURVE = [
    {"experience": experience, "step": 5, "samples": 100 * (experience + 1), "scores": [0.5, 0.6, 0.7]}
    for experience in range(3)
]


def sound_record(seed: int = 0, **changes: Any) -> RunRecord:
    """Return a record that passes validation; `changes` are made after its metrics were computed."""
    scenario = changes.get("scenario", "task_incremental")
    record = RunRecord(
        strategy="er",
        stream="toy",
        scenario=scenario,
        protocol="quick",
        seed=seed,
        seeds={"model": seed, "data": seed, "classes": seed},
        config={
            "protocol": "quick",
            "scenario": scenario,
            "seeds": {"model": None, "data": None, "classes": None},
            "strategy": {"lr": 0.05},
        },
        R=[list(row) for row in R],
        baseline=list(BASELINE),
        test_samples=list(COUNTS),
        task_names=["0: a, b", "1: c, ü", "2: d"],
        curve=[dict(point) for point in CURVE],
        metrics=summarise(R, BASELINE, COUNTS, CURVE),
        costs={"samples_drawn": 100, "samples_replayed": 40, "train_seconds": 1.5, "wall_seconds": None},
        diagnostics={"layers": [{"name": "fc", "density": 0.1}]},
        provenance={
            "cl_suite": "0.1.0",
            "stream_version": "1",
            "data_checksums": {"file": "sha256:00"},
            "started": "2025-01-01T00:00:00+00:00",
            "finished": "2025-01-01T00:01:00+00:00",
        },
    )
    return dataclasses.replace(record, **changes)


def failed_record(seed: int = 0, **changes: Any) -> RunRecord:
    """Return the record of a run that failed after its first experience."""
    asked = {"status": "failed", "error": "the loss became nan", "R": [R[0]], "curve": [], "metrics": {}, **changes}
    return sound_record(seed, **asked)
