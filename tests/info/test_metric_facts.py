"""Metrics: every one is described, and lies where its description says."""

import random

from cl_suite.info.metrics import FIGURES, describe_metric, metric_names, record_metrics
from cl_suite.metrics.definitions.catalogue import DEFINITIONS, Measured, compute
from cl_suite.metrics.matrix import summarise
from cl_suite.report.tables.measures import COSTS, JUDGED, METRICS


def test_every_metric_and_cost_of_the_leaderboard_is_described():
    described = {*record_metrics(), *FIGURES}
    assert {*METRICS, *COSTS} <= described
    assert set(summarise([[0.5]], [0.1], [3], R_task_aware=[[0.5]])) <= described
    for name in metric_names():
        answer = describe_metric(name)
        assert answer.what and answer.facts["range"] and answer.facts["better"] and answer.facts["source"], name


def test_which_way_is_better_is_what_the_leaderboard_goes_by():
    for name, higher in JUDGED.items():
        assert describe_metric(name).facts["better"] == ("higher" if higher else "lower"), name


def matrix(draw, rows, columns):
    return [[draw.choice([0.0, 1.0, draw.random()]) for _ in range(columns)] for _ in range(rows)]


def test_every_definition_lies_within_its_bounds():
    draw = random.Random(0)
    met = set()
    for _ in range(300):
        tasks = draw.randint(2, 4)
        other = Measured(matrix(draw, tasks, tasks), points=matrix(draw, tasks, 3))
        run = Measured(
            matrix(draw, tasks, tasks),
            baseline=matrix(draw, 1, tasks)[0],
            counts=[draw.randint(1, 50) for _ in range(tasks)],
            curve=[{"experience": i, "scores": matrix(draw, 1, tasks)[0]} for i in range(tasks)],
            R_task_aware=matrix(draw, tasks, tasks),
            points=matrix(draw, tasks, 3),
            metrics={"ece": draw.random(), "brier": 2 * draw.random()},
            reference=other,
        )
        for name, value in compute(run).items():
            low, high = DEFINITIONS[name].bounds
            if value.number is not None:
                met.add(name)
                assert low - 1e-9 <= value.number <= high + 1e-9, (name, value.number)
    assert met == set(DEFINITIONS)


def test_signed_definitions_can_be_below_zero_and_others_cannot():
    signed = {name for name, each in DEFINITIONS.items() if each.bounds[0] < 0}
    assert {"bwt@gem", "forgetting@chaudhry", "fwt@continual-world"} <= signed
    assert not {"forgetting@pycil", "forgetting@mammoth", "acc@gem", "ece@guo"} & signed


def test_a_metric_names_what_it_can_be_confused_with():
    facts = describe_metric("forgetting").facts
    assert facts["definition"] == "forgetting@chaudhry" and "forgetting@mammoth" in facts["others"]
    assert any("one task" in reason for reason in facts["null"])
    assert describe_metric("intransigence@joint").facts["definition"] == "intransigence@joint"
    assert describe_metric("fwt@continual-world").facts["range"].startswith("minus infinity to 1")
