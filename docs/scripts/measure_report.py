"""Measure `cl-bench report` on many synthetic records: seconds, memory, and that torch stays out.

python docs/scripts/measure_report.py [RECORDS]      # 20,000 by default, in a temporary folder
"""

import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from cl_suite.metrics.matrix import summarise
from cl_suite.records.record import RunRecord
from cl_suite.report.build import build_report

RECORDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
TASKS, SEEDS, STRATEGIES, SCENARIOS = 10, 5, 20, ("task_incremental", "class_incremental")


def synthetic(number):
    """Return a record of random scores: 5 seeds, 20 strategies, 2 scenarios, then rates and streams."""
    rest, seed = divmod(number, SEEDS)
    rest, strategy = divmod(rest, STRATEGIES)
    rest, scenario = divmod(rest, len(SCENARIOS))
    stream, rate = divmod(rest, 5)
    name = SCENARIOS[scenario]
    R = [
        [random.random() if column <= row or scenario == 0 else None for column in range(TASKS)] for row in range(TASKS)
    ]
    baseline, counts = [1 / TASKS] * TASKS, [100] * TASKS
    return RunRecord(
        strategy=("finetune", "joint")[strategy] if strategy < 2 else f"strategy_{strategy}",
        stream=f"stream_{stream}",
        scenario=name,
        protocol="quick",
        seed=seed,
        R=R,
        baseline=baseline,
        test_samples=counts,
        task_names=[f"task {number}" for number in range(TASKS)],
        metrics=summarise(R, baseline, counts),
        costs={"train_seconds": random.random(), "samples_drawn": 10_000, "state_bytes": 2e6, "memory_bytes": 1e6},
        config={
            "protocol": "quick",
            "scenario": name,
            "model": {"name": "auto", "width": None, "hidden": None},
            "train": {"epochs": 2, "batch_size": 32, "augment": True, "validation": 0.0},
            "strategy": {"optimizer": "sgd", "lr": 0.01 * (1 + rate), "momentum": 0.9, "buffer_size": 500},
            "stream": {"n_tasks": TASKS, "class_order": "natural"},
        },
        provenance={"stream_version": "1", "device": "cpu", "command": ["cl-bench", "--strategy", "x"]},
    )


def main():
    """Write the records, build the report in this process, print what it took."""
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(RECORDS):
            record = synthetic(number)
            path = record.path(Path(folder) / "results")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(record.to_json(), encoding="utf-8")
        wall, processor = time.perf_counter(), time.process_time()
        build_report(Path(folder) / "results", Path(folder) / "output")
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{RECORDS:,} records: {wall:.1f} s ({processor:.1f} s of processor), {peak:.2f} GiB")
    print(f"torch imported: {'torch' in sys.modules}")


if __name__ == "__main__":
    main()
