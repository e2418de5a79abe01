"""Settings by which TAME learns short streams, and what it found on them."""

from cl_suite import TrainSettings
from cl_suite.metrics.task_shifts import expert_use, shift_quality

FAST = {
    "window": 30,
    "lr": 0.03,
    "squash": "tanh_scale",
    "prune_experts": 0.5,
    "prune_lr": 0.03,
    "prune_epochs": 3,
    "prune_batch": 16,
}
FAST |= {"selector_memory": 200, "selector_epochs": 6, "selector_batch": 16, "selector_lr": 0.05}
ONE = TrainSettings(epochs=1, batch_size=16, segments=2)
COURSE = {"order": [0, 1, 2, 1, 3]}


def quality(harness):
    visits, seen = harness.scenario_stream.visits, harness.results.shift_log
    return shift_quality(visits, seen) | expert_use(visits, seen)
