"""Every definition against a number worked out by hand, its reasons where there is none, and other libraries' code."""

import copy
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from cl_suite.core.errors import UsageError
from cl_suite.metrics.definitions.catalogue import DEFINITIONS, Measured, chosen, compute
from cl_suite.metrics.definitions.explain import differences
from cl_suite.metrics.matrix import summarise
from cl_suite.report.definitions import measured
from tests.helpers.golden_run import (
    BESIDE_JOINT,
    COUNTS,
    CURVE,
    GOLDEN,
    JOINT,
    RISING,
    TASK_AWARE,
    UNTRAINED,
    R,
    record,
    record_alone,
)
from tests.helpers.places import ROOT

BY_HAND = {
    "acc@gem": (0.85 + 0.50 + 0.75 + 0.96) / 4,  # .7650
    "acc@micro": (85 + 100 + 225 + 384) / 1000,  # .7940
    "acc@diaz-rodriguez": (0.90 + 0.70 + 0.92 + 0.80 + 0.60 + 0.94 + 0.85 + 0.50 + 0.75 + 0.96) / 10,  # .7920
    "acc@task-aware": (0.95 + 0.90 + 0.92 + 0.98) / 4,  # .9375
    "aia@macro": (0.90 + 0.81 + 0.78 + 0.765) / 4,  # .8137
    "aia@icarl": (0.90 + 254 / 300 + 482 / 600 + 0.794) / 4,  # .8360
    "aia@without-first": (254 / 300 + 482 / 600 + 0.794) / 3,  # .8147
    "aaa@caccia": (0.60 + 0.55 + 1.75 / 3 + 0.695) / 4,  # .6071
    "bwt@gem": (-0.05 - 0.42 - 0.19) / 3,  # -.2200
    "bwt@gem-code": (-0.05 - 0.42 - 0.19) / 4,  # -.1650
    "bwt@task-aware": (-0.02 - 0.05 - 0.04) / 3,  # -.0367
    "bwt@diaz-rodriguez": (-0.20 - 0.10 - 0.32 - 0.05 - 0.42 - 0.19) / 6,  # -.2133
    "bwt+@diaz-rodriguez": 0.0,
    "rem@diaz-rodriguez": 1 - 1.28 / 6,  # .7867
    "bwt@continuum": (-0.10 - 0.05 - 0.42) / 6,  # -.0950: without R[1][0], R[2][1], R[3][2]
    "bwt+@continuum": 0.0,
    "rem@continuum": 1 - 0.57 / 6,  # .9050
    "libero-nbt": (0.35 / 3 + 0.74 / 2 + 0.19 + 0) / 4,  # .1692
    "forgetting@chaudhry": (0.05 + 0.42 + 0.19) / 3,  # .2200
    "forgetting@first-last": (0.05 + 0.42 + 0.19) / 3,  # .2200
    "forgetting@facil": (0.05 + 0.42 + 0.19) / 3,
    "forgetting@pycil": (0.05 + 0.42 + 0.19) / 3,
    "forgetting@mammoth": (0.05 + 0.42 + 0.19) / 3,
    "forgetting@continual-world": (0.05 + 0.42 + 0.19 + 0) / 4,  # .1650
    "forgetting@continuum": (0.05 + 0.42) / 3,  # .1567: without task 2
    "forgetting@task-aware": (0.02 + 0.05 + 0.04) / 3,  # .0367
    "fwt@gem": (0.18 + 0.31 + 0.24) / 3,  # .2433
    "fwt@gem-code": (0 + 0.18 + 0.31 + 0.24) / 4,  # .1825
    "fwt@no-baseline": (0.30 + 0.40 + 0.35) / 3,  # .3500
    "fwt@diaz-rodriguez": (0.30 + 0.25 + 0.22 + 0.40 + 0.28 + 0.35) / 6,  # .3000
    "fwt@continuum": (0.70 + 0.80 + 0.60 + 0.85 + 0.50 + 0.75) / 6,  # .7000
    # Means over the points 1.60/3, 2.02/3, 2.04/3, 2.16/3 against .52, .54, .56, .58 alone.
    "fwt@continual-world": (0.04 / 3 / 0.48 + 0.40 / 3 / 0.46 + 0.12 / 0.44 + 0.14 / 0.42) / 4,  # .2309
    "libero-fwt": (1.60 + 2.02 + 2.04 + 2.16) / 3 / 4,  # .6517
    "la@riemer": (0.90 + 0.92 + 0.94 + 0.96) / 4,  # .9300
    "plasticity@single-task": (0.02 + 0.02 - 0.01 + 0.03) / 4,  # .0150
    "intransigence@mean": (-0.02 - 0.02 + 0.01 - 0.03) / 4,  # -.0150
    "libero-auc": ((1.6 / 3 + 2.35) / 4 + (2.02 / 3 + 1.10) / 3 + (0.68 + 0.75) / 2 + 0.72) / 4,  # .6867
    "min-acc@de-lange": (0.50 + 0.40 + 0.70) / 3,  # .5333
    "wc-acc@de-lange": 0.96 / 4 + 3 / 4 * 1.6 / 3,  # .6400
    "ece@guo": 0.0875,
    "brier@brier": 0.14,
}
BY_HAND_BESIDE_JOINT = {
    "intransigence@chaudhry": 0.97 - 0.96,
    "intransigence@joint": (0.03 - 0.01 + 0.02 + 0.01) / 4,  # .0125
}


def test_every_definition_is_worked_out_by_hand():
    assert set(BY_HAND) | set(BY_HAND_BESIDE_JOINT) == set(DEFINITIONS)


@pytest.mark.parametrize("name", BY_HAND)
def test_definition_by_hand(name):
    assert DEFINITIONS[name].of(GOLDEN).number == pytest.approx(BY_HAND[name], abs=1e-12)


@pytest.mark.parametrize("name", BY_HAND_BESIDE_JOINT)
def test_definition_by_hand_beside_joint_training(name):
    assert DEFINITIONS[name].of(BESIDE_JOINT).number == pytest.approx(BY_HAND_BESIDE_JOINT[name], abs=1e-12)


def test_golden_numbers_to_four_digits():
    found = {name: value.number for name, value in compute(GOLDEN).items()}
    assert round(found["acc@gem"], 4) == 0.7650
    assert round(found["bwt@gem"], 4) == -0.2200
    assert round(found["forgetting@chaudhry"], 4) == round(found["forgetting@first-last"], 4) == 0.2200
    assert round(found["fwt@gem"], 4) == 0.2433
    assert round(found["fwt@no-baseline"], 4) == 0.3500
    assert round(found["acc@diaz-rodriguez"], 4) == 0.7920
    assert found["aia@macro"] == pytest.approx(0.81375, abs=1e-12)


def test_where_scores_rise_the_definitions_of_forgetting_part():
    found = {name: value.number for name, value in compute(Measured(RISING), chosen("forgetting")).items()}
    assert found["forgetting@chaudhry"] == pytest.approx((0.9 - 0.4 + 0.6 - 0.8) / 2)
    assert found["forgetting@first-last"] == pytest.approx((0.5 - 0.4 + 0.6 - 0.8) / 2)
    assert found["forgetting@facil"] == pytest.approx((0.5 - 0.2) / 2)
    assert found["forgetting@pycil"] == pytest.approx((0.5 + 0.0) / 2)  # task 1 is at its best: 0, not -.2
    assert found["forgetting@mammoth"] == pytest.approx((0.5 + 0.0) / 2)
    assert found["forgetting@continual-world"] == pytest.approx((0.1 - 0.2 + 0) / 3)
    assert found["forgetting@continuum"] == pytest.approx((0.5 - 0.4) / 2)  # task 0, row 0 alone


def test_the_row_before_a_task_counts_for_mammoth_and_any_row_for_chaudhry():
    # Task 2 was best before it was learned: in row 1, and better still in row 0.
    early = [[0.5, 0.1, 0.9, 0.1], [0.5, 0.5, 0.8, 0.1], [0.5, 0.5, 0.6, 0.1], [0.5, 0.5, 0.4, 0.7]]
    found = {name: value.number for name, value in compute(Measured(early), chosen("forgetting")).items()}
    assert found["forgetting@chaudhry"] == pytest.approx((0.9 - 0.4) / 3)
    assert found["forgetting@mammoth"] == pytest.approx((0.8 - 0.4) / 3)
    assert found["forgetting@pycil"] == found["forgetting@facil"] == pytest.approx((0.6 - 0.4) / 3)


def test_what_is_gained_is_kept_apart_from_what_is_lost():
    gaining = compute(Measured([[0.5, 0.1], [0.7, 0.9]]), chosen("bwt+,rem"))
    found = {name: value.number for name, value in gaining.items()}
    assert found["bwt+@diaz-rodriguez"] == pytest.approx(0.2)
    assert found["rem@diaz-rodriguez"] == 1.0
    assert found["bwt+@continuum"] == 0.0  # with two tasks its loop is empty


def test_the_numbers_of_a_record_are_those_of_its_definitions():
    own = summarise(R, UNTRAINED, COUNTS, CURVE, TASK_AWARE)
    ours = {word.split()[1]: each for each in DEFINITIONS.values() for word in each.reported_by if "cl-suite" in word}
    assert set(own) <= set(ours)
    for key, number in own.items():
        assert ours[key].of(GOLDEN).number == number  # to the last bit


# -- no number without a reason ---------------------------------------------------------------------------------------


def reasons(run, names="all"):
    return {name: value.reason for name, value in compute(run, chosen(names)).items() if value.number is None}


def test_a_bare_matrix_lacks_what_was_not_measured():
    told = reasons(Measured(R))
    assert "no score of the untrained network" not in (told.get("acc@gem") or "")
    assert "acc@gem" not in told and "bwt@diaz-rodriguez" not in told and "forgetting@continuum" not in told
    assert "untrained network" in told["fwt@gem"]
    assert "number of test samples" in told["acc@micro"]
    assert "train.evaluate_every" in told["min-acc@de-lange"] and "train.evaluate_every" in told["aaa@caccia"]
    assert "--evaluate learning" in told["libero-fwt"] and "libero-nbt" not in told
    assert "--evaluate calibration" in told["ece@guo"]
    assert "--reference" in told["plasticity@single-task"] and "--reference" in told["intransigence@chaudhry"]
    assert "already is the answer within the task's own" in told["acc@task-aware"]


def test_joint_has_an_accuracy_and_reasons():
    told = reasons(Measured(JOINT, counts=COUNTS, baseline=UNTRAINED))
    assert set(DEFINITIONS) - set(told) == {"acc@gem", "acc@micro"}
    assert told["bwt@gem"] == "a task has no answer right after it was learned"
    assert told["forgetting@chaudhry"] == "a task has no answer before the last experience"


def test_classes_that_did_not_exist_have_no_forward_transfer():
    growing = [[0.9, None, None], [0.6, 0.8, None], [0.5, 0.7, 0.9]]
    told = reasons(Measured(growing, baseline=[0.1] * 3), "fwt")
    assert told["fwt@gem"] == told["fwt@no-baseline"] == "no task could be answered before it was learned"
    assert "fwt@continuum" not in told  # it sums below the diagonal
    partly = [[0.9, None, 0.2], [0.9, 0.8, 0.4], [0.9, 0.8, 0.7]]
    found = compute(Measured(partly, baseline=[0.1] * 3), chosen("fwt"))
    assert found["fwt@gem"].number == pytest.approx(0.3)
    assert found["fwt@gem-code"].reason == "not every task could be answered before it was learned"


def test_rows_that_are_times_have_accuracies_alone():
    run = replace(GOLDEN, rows_are_tasks=False, metrics={"anytime_accuracy": 0.5})
    told = reasons(run)
    assert set(DEFINITIONS) - set(told) == {"acc@gem", "acc@micro", "acc@task-aware", "aaa@caccia"}
    assert told["bwt@gem"] == "rows of R are times, not the tasks in order"
    assert compute(run)["aaa@caccia"].number == 0.5  # the run's own figure: when tasks began is in no record


def test_one_task():
    run = Measured([[0.7]], baseline=[0.1], counts=[9])
    told = reasons(run, "acc,aia,bwt,forgetting,fwt,la")
    assert {name for name, reason in told.items() if reason == "there is one task"} >= {"bwt@gem", "fwt@gem"}
    assert compute(run)["la@riemer"].number == compute(run)["acc@diaz-rodriguez"].number == 0.7


def test_a_reference_must_have_what_is_read_of_it():
    told = reasons(BESIDE_JOINT)
    assert "name a run of single_task" in told["plasticity@single-task"]
    beside_alone = replace(BESIDE_JOINT, reference=GOLDEN.reference)
    assert "name a run of joint" in reasons(beside_alone)["intransigence@joint"]
    other = replace(GOLDEN, reference=replace(GOLDEN.reference, points=[row[:2] for row in GOLDEN.reference.points]))
    assert "another number of points" in reasons(other)["fwt@continual-world"]
    perfect = replace(GOLDEN, reference=replace(GOLDEN.reference, points=[[1.0] * 3, *GOLDEN.reference.points[1:]]))
    assert "nothing could be gained" in reasons(perfect)["fwt@continual-world"]


def test_every_name_is_told_apart_and_documented():
    for each in DEFINITIONS.values():
        assert each.formula and each.source and "\n" not in each.formula and each.needs
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for each in DEFINITIONS.values():
        assert each.formula.replace("|", "\\|") in page and all(word in page for word in each.reported_by), each.name
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| (-?[\d.]+) \|$", page, flags=re.M))
    assert set(rows) == set(DEFINITIONS)
    for name, number in {**BY_HAND, **BY_HAND_BESIDE_JOINT}.items():
        assert abs(float(rows[name]) - number) <= 0.5e-4 + 1e-9, name


def test_names_are_chosen_one_by_one_or_by_metric():
    assert [each.name for each in chosen("fwt@gem, acc@gem,fwt@gem")] == ["fwt@gem", "acc@gem"]
    assert {each.name for each in chosen("rem")} == {"rem@diaz-rodriguez", "rem@continuum"}
    assert [each.name for each in chosen("all")] == list(DEFINITIONS)
    with pytest.raises(UsageError, match=r"there is no bwt@gen\. Did you mean bwt@gem"):
        chosen("bwt@gen")
    with pytest.raises(UsageError, match="no empty name"):
        chosen("bwt@gem,")


def test_input_is_not_changed():
    before = copy.deepcopy(GOLDEN)
    compute(GOLDEN)
    assert before == GOLDEN


# -- from records -----------------------------------------------------------------------------------------------------


def test_a_record_holds_all_that_definitions_need():
    assert compute(measured(record(), record_alone())) == compute(GOLDEN)


@pytest.mark.parametrize(
    "changed",
    [
        {"diagnostics": {"learning": {"points": "many"}}},
        {"diagnostics": {"learning": {"points": [[1, 2], [3]]}}},
        {"diagnostics": {"learning": {"points": [[], [], [], []]}}},
        {"diagnostics": {"learning": 3}},
        {"curve": [{"scores": [0.1] * 4}], "diagnostics": {}},
        {"curve": [{"experience": 1, "scores": [0.1]}], "diagnostics": {}},
        {"R_task_aware": [[0.1]], "diagnostics": {}},
        {"test_samples": [1, None, 3, 4], "diagnostics": {}},
    ],
)
def test_parts_of_a_foreign_record_that_are_not_ours_count_as_not_measured(changed):
    found = compute(measured(record(**changed)))
    assert found["libero-fwt"].number is None
    assert found["bwt@gem"].number == pytest.approx(-0.22)


# -- why they differ --------------------------------------------------------------------------------------------------


def told_of(run, names):
    definitions = chosen(names)
    return differences(run, definitions, compute(run, definitions))


def test_denominators_rows_weights_and_masks_are_named():
    (lines,) = told_of(GOLDEN, "bwt@gem,bwt@gem-code,bwt@task-aware").values()
    assert "divided by: T - 1 (gem, task-aware); T (gem-code)" in lines
    assert "answer among: what the scenario allows (gem, gem-code); the task's own classes (task-aware)" in lines
    (lines,) = told_of(GOLDEN, "acc@gem,acc@micro").values()
    assert "weighs: tasks alike (macro) (gem); samples alike (micro) (micro)" in lines
    assert any("100 to 400 test samples" in line for line in lines)


def test_what_in_the_run_makes_the_difference_is_named():
    (lines,) = told_of(Measured(RISING), "forgetting@chaudhry,forgetting@first-last,forgetting@pycil").values()
    assert "task 0 was best after experience 1 (0.9000), not when it was learned (0.5000)" in lines
    assert any(line.startswith("task 1 ended above all before") for line in lines)
    (lines,) = told_of(Measured(R), "forgetting@chaudhry,forgetting@first-last").values()
    assert "the same here: chaudhry, first-last" in lines
    assert any("makes no difference which rows" in line for line in lines)


def test_many_tasks_are_not_all_named():
    ones = [[0.1] * 9 for _ in range(9)]
    ones[7] = [0.9] * 9  # every task but the last two was best there
    (lines,) = told_of(Measured(ones), "forgetting@chaudhry,forgetting@first-last").values()
    assert "and so 4 more" in lines


def test_one_definition_does_not_differ():
    assert told_of(GOLDEN, "bwt@gem") == {}
    assert told_of(Measured(R), "bwt@gem,bwt@task-aware") == {}  # the other is not defined


def test_definitions_do_not_import_torch():
    code = (
        "import sys, cl_suite.report.definitions, cl_suite.cli.metrics;"
        "print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
