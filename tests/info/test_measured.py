"""Costs as records tell them: beside finetune's in the same table, of the configuration that stands for a strategy."""

from pathlib import Path

import pytest

from cl_suite.info.measured import YOURS, measured_costs, records_of, stored
from cl_suite.records.record import save_record
from tests.helpers.record_makers import sound_record


@pytest.fixture
def results(tmp_path):
    def save(strategy, seed, *, flops, memory, **config):
        record = sound_record(
            seed,
            strategy=strategy,
            stream="split_mnist",
            scenario="class_incremental",
            costs={"training_flops": flops, "memory_bytes": memory, "samples_drawn": 10, "wall_seconds": 2.0},
            config={"protocol": "quick", "stream": {"n_tasks": 5, "class_order": "natural", **config}},
        )
        save_record(record, record.path(tmp_path))

    for seed in (0, 1):
        save("finetune", seed, flops=10.0, memory=0)
        save("er", seed, flops=20.0 + 2 * seed, memory=4_000_000)
    save("er", 0, flops=7.0, memory=1, n_tasks=2)
    return tmp_path


def test_costs_are_means_beside_the_lower_bound_of_the_same_table(results):
    costs = [cost for cost in measured_costs("er", stored(results)) if cost.whose == YOURS]
    assert [(cost.flops, cost.seeds, cost.options) for cost in costs] == [
        (None, 1, {"stream.n_tasks": "2"}),  # no finetune with these tasks
        (2.1, 2, {}),
    ]
    assert str(costs[1]) == (
        "split_mnist class_incremental quick: FLOPs beside finetune's 2.10, "
        "kept beside the network 4.00 MB (yours, 2 seeds)"
    )


def test_files_that_are_no_records_are_passed_over(results):
    path = next(results.rglob("seed_1.json"))
    path.write_text("{")
    assert len(records_of(stored(results)[YOURS], "er")) + len(records_of(stored(results)[YOURS], "finetune")) == 4
    assert records_of(stored(results)[YOURS], "er", "permuted_mnist") == []


def test_the_reference_says_what_er_costs():
    costs = measured_costs("er", stored(Path("nowhere")))
    found = {(cost.stream, cost.scenario, cost.protocol): cost.flops for cost in costs if not cost.options}
    assert found["split_mnist", "class_incremental", "quick"] == pytest.approx(2.0, abs=0.005)
