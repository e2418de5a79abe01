"""Records for tests of the leaderboard."""

from cl_suite.metrics.matrix import summarise
from cl_suite.records.record import RunRecord, save_record


def matrix(final, tasks=4, drop=0.1):
    """A run in which each task falls by `drop` when the next is learned, down to `final`."""
    return [
        [min(1.0, final + drop * (tasks - 1 - row)) if column <= row else None for column in range(tasks)]
        for row in range(tasks)
    ]


def save(results, strategy, final, *, seed=0, stream="toy", scenario="class_incremental", protocol="quick", **fields):
    """Save a record of four tasks and return its path."""
    R = fields.pop("R", matrix(final))
    width = len(R[0])
    baseline, counts = [0.05] * width, [10] * width
    values = {
        "R": R,
        "baseline": baseline,
        "test_samples": counts,
        "task_names": [f"{task}: a, b" for task in range(width)],
        "metrics": summarise(R, baseline, counts),
        "costs": {"samples_drawn": 1000 + 100 * len(strategy), "train_seconds": 1.0 + final, "memory_bytes": 2**20},
        "config": {"strategy": {"lr": 0.1, **fields.pop("options", {})}, "stream": {"n_tasks": width}},
        "provenance": {
            "command": ["cl-bench", "--strategy", strategy, "--stream", stream, "--seeds", "0,1", "--results", ".../x"],
            "started": "2026-01-01T00:00:00Z",
            "device": "cpu",
        },
    }
    record = RunRecord(
        strategy=strategy, stream=stream, scenario=scenario, protocol=protocol, seed=seed, **(values | fields)
    )
    return save_record(record, record.path(results))


def fill(results, *, seeds=3, streams=("toy", "other", "third")):
    """Save what makes a whole leaderboard: four strategies, three streams, several seeds."""
    means = {"finetune": 0.2, "er": 0.5, "exssnet": 0.6, "joint": 0.9}
    for place, stream in enumerate(streams):
        for strategy, mean in means.items():
            for seed in range(seeds):
                own = 0.001 * ((seed + 1) * ord(strategy[1]) % 7)  # differences vary from seed to seed
                save(
                    results, strategy, mean - 0.03 * place + 0.004 * seed * (1 + place) + own, seed=seed, stream=stream
                )
