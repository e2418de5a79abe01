"""The preference evaluation: who is asked for what, how answers score, what reaches the page."""

import itertools
import json
import math

import pytest

from cl_suite import UsageError, check_preference, choose_strategy
from cl_suite.evaluation.preferences.settings import PreferenceSettings
from cl_suite.metrics.trade_offs import (
    backward_transfer,
    distance_to_front,
    front,
    hypervolume,
    per_task,
    weighted,
)
from cl_suite.records.compatibility import GROUP_BEFORE
from cl_suite.records.record import config_hash
from cl_suite.report.build import build_report
from tests.helpers.preference_streams import harness_asked
from tests.report.test_report import cells, put

# ---- which preferences


def test_one_task_has_one_preference_two_have_a_grid_with_both_ends_more_are_drawn():
    settings = PreferenceSettings(count=7, grid=5)
    assert settings.preferences_for(1, seed=0) == [(1.0,)]
    assert settings.preferences_for(2, seed=0) == [(1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)]
    drawn = settings.preferences_for(4, seed=0)
    assert len(drawn) == 7
    assert all(len(w) == 4 and min(w) >= 0 and math.isclose(sum(w), 1.0) for w in drawn)
    assert len(PreferenceSettings(count=7, grid=0).preferences_for(2, seed=0)) == 7


def test_preferences_are_drawn_by_the_seed_alone_and_more_of_them_begin_alike():
    few, many = PreferenceSettings(count=5), PreferenceSettings(count=50)
    assert few.preferences_for(3, seed=1) == few.preferences_for(3, seed=1) == many.preferences_for(3, seed=1)[:5]
    assert few.preferences_for(3, seed=1) != few.preferences_for(3, seed=2)


def test_dirichlet_is_uniform_on_the_simplex_and_the_program_s_draw_is_not():
    """Of Dirichlet(1, 1, 1) a weight is above 2/3 with probability 1/9; uniforms over their sum reach it less often."""
    share = {}
    for draw in ("dirichlet", "normalised"):
        drawn = PreferenceSettings(count=20_000, draw=draw).preferences_for(3, seed=0)
        share[draw] = sum(w[0] > 2 / 3 for w in drawn) / len(drawn)
    assert share["dirichlet"] == pytest.approx(1 / 9, abs=0.01)
    assert share["normalised"] < 0.08
    even = PreferenceSettings(count=200, concentration=1000.0).preferences_for(3, seed=0)
    assert max(max(w) for w in even) < 0.45


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "preferences.count=0 is too small"),
        ({"grid": 1}, "preferences.grid=1 has not both ends"),
        ({"draw": "dirichlett"}, "preferences.draw=dirichlett is not known. Did you mean dirichlet?"),
        ({"concentration": 0.0}, "preferences.concentration=0.0 is not possible"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError) as problem:
        PreferenceSettings(**options).check()
    assert message in str(problem.value)


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ((0.5, 0.6), "sums to 1.1, not 1. Divide each weight by the sum"),
        ((-0.5, 1.5), "has a weight below 0"),
        ((float("nan"), 1.0), "has a weight below 0 or none"),
        ((1.0,), "a preference of 1 weights does not fit 2 learned tasks"),
        ((0.2, 0.3, 0.5), "Tasks 2 and later are not learned yet"),
    ],
)
def test_a_preference_that_is_none_is_refused(preference, message):
    with pytest.raises(UsageError) as problem:
        check_preference(preference, 2)
    assert message in str(problem.value)


def test_a_preference_may_miss_one_by_rounding():
    assert sum(check_preference((0.3333, 0.3333, 0.3333), 3)) == pytest.approx(1.0, abs=1e-12)


# ---- how they score


def test_scores_by_hand():
    assert weighted((0.8, 0.4), (0.25, 0.75)) == pytest.approx(0.5)
    scores, preferences = [[0.9, 0.1], [0.5, 0.7]], [(0.8, 0.2), (0.2, 0.8)]
    assert per_task(scores, preferences) == pytest.approx([0.9 * 0.8 + 0.5 * 0.2, 0.1 * 0.2 + 0.7 * 0.8])
    assert per_task(scores, [(1.0, 0.0), (1.0, 0.0)]) == pytest.approx([0.7, 0.4])  # no one wants task 1
    assert backward_transfer([[0.9], [0.8, 0.7], [0.9, 0.9, 0.5]]) == pytest.approx([-0.1, (0.1 + 0.2) / 2])


def test_hypervolume_and_distance_by_hand():
    points = [(0.9, 0.2), (0.6, 0.6), (0.5, 0.5), (0.2, 0.9)]
    assert front(points) == [(0.2, 0.9), (0.6, 0.6), (0.9, 0.2)]
    assert hypervolume(points) == pytest.approx(0.2 * 0.9 + 0.4 * 0.6 + 0.3 * 0.2)
    assert hypervolume([(1.0, 1.0), (0.3, 0.3)]) == 1.0
    assert distance_to_front([(0.6, 0.6), (0.1, 0.1)], [(0.9, 0.2), (0.6, 0.6)]) == pytest.approx(0.15)
    assert distance_to_front([(1.0, 1.0)], points) == 0.0  # better is not far
    assert distance_to_front(points, points) == 0.0
    assert distance_to_front([(0.6, 0.6)], [(0.6, 0.6), (0.1, 0.1)]) == 0.0  # a dominated point is no reference


# ---- the command


DIGITS = ["--stream", "split_digits", "--scenario", "domain_incremental", "--evaluate", "preferences", "--quiet"]
FEW = ["train.epochs=1", "stream.n_tasks=5", "model.hidden=[]", "preferences.count=3", "preferences.grid=3"]


def test_a_run_asks_after_each_experience_and_the_page_has_its_table_and_figures(bench, tmp_path):
    status, out, _ = bench("--strategy", "ibcl", *DIGITS, *FEW, "strategy.samples=2")
    assert status == 0
    record = json.loads((tmp_path / out.rpartition("record: ")[2].strip()).read_text())
    asked = record["diagnostics"]["preferences"]["experiences"]
    assert [entry["asked"] for entry in asked] == [1, 3, 3, 3, 3]
    assert record["config"]["preferences"]["evaluate"] is True
    metrics = record["metrics"]
    assert metrics["preference_passes"] == 3 and metrics["preferences_asked"] == 3
    assert 0 < metrics["preference_mean"] <= metrics["preference_best"] <= 1
    assert metrics["preference_hypervolume"] > 0.3
    last = asked[-1]
    assert metrics["preference_average"] == pytest.approx(sum(last["per_task"]["mean"]) / 5)
    status, out, _ = bench("report")
    assert status == 0
    page = (tmp_path / "results/leaderboard.md").read_text()
    assert "Trade-offs between tasks, after the last one." in page
    assert "preferences_tradeoff.png" in page and "ibcl_" in page
    for line in out.split():
        assert (tmp_path / line).stat().st_size > 0


def test_who_cannot_answer_is_refused_with_the_names_of_those_who_can(bench):
    status, _, err = bench("--strategy", "er", *DIGITS)
    assert status == 2
    assert err.startswith(
        "cl-bench: --evaluate preferences asks for predictor_for(preference), which er does not have."
    )
    assert "ibcl" in err and len(err.strip().splitlines()) == 1


def test_what_to_ask_for_without_asking_is_refused(bench):
    status, _, err = bench("--strategy", "ibcl", *DIGITS[:4], "preferences.count=3")
    assert status == 2
    assert "preferences.* says what to ask for, but nothing is asked. Add --evaluate preferences." in err


def test_by_default_every_task_of_the_small_stream_keeps_a_posterior_of_its_own(bench, tmp_path):
    status, out, _ = bench("--strategy", "ibcl", *DIGITS[:4], "--quiet", "model.hidden=[32]")
    record = json.loads((tmp_path / out.rpartition("record: ")[2].strip()).read_text())
    kept = record["diagnostics"]["posteriors_kept"]
    assert status == 0 and all(later > now for now, later in itertools.pairwise(kept))


@pytest.mark.parametrize("name", ["preference_replay", "preference_ewc", "preference_joint", "vcl"])
def test_scores_do_not_depend_on_what_is_asked_for(name):
    cls, options = choose_strategy(name).cls, {"per_preference": True} if name == "vcl" else {}
    few = harness_asked(cls, n_tasks=3, preferences={"count": 1, "grid": 0}, **options)
    many = harness_asked(cls, n_tasks=3, preferences={"count": 5, "grid": 5}, **options)
    assert few.run().R == many.run().R


def test_where_no_task_is_told_there_is_nothing_to_prefer(bench):
    options = ["--stream", "split_digits", "--scenario", "task_agnostic", "--evaluate", "preferences"]
    status, _, err = bench("--strategy", "ibcl", *options)
    assert status == 2 and len(err.strip().splitlines()) == 1


def test_a_configuration_that_asks_for_nothing_keeps_its_hash():
    plain = {"train": {"epochs": 1}}
    assert config_hash({**plain, "preferences": GROUP_BEFORE["preferences"]}) == config_hash(plain)
    assert config_hash({**plain, "preferences": {**GROUP_BEFORE["preferences"], "evaluate": True}}) != config_hash(
        plain
    )
    defaults = PreferenceSettings()
    assert GROUP_BEFORE["preferences"] == vars(defaults)


# ---- the page


def asked(points, *, count=10, seconds=1.0):
    entry = {
        "preferences": [[1.0]],
        "asked": count,
        "scores": {"mean": points},
        "train_seconds": seconds,
        "answer_seconds": 0.5,
        "state_bytes": 2**20,
    }
    return {"preferences": {"experiences": [entry, entry], "front": points}}


def test_distance_is_to_the_separately_trained_models_of_the_same_seed(tmp_path):
    metrics = {"acc": 0.5, "preference_mean": 0.7}
    put(tmp_path, "ibcl", metrics=metrics, diagnostics=asked([[0.6, 0.6]]))
    put(tmp_path, "ibcl", seed=1, metrics=metrics, diagnostics=asked([[0.0, 0.0]]))
    put(tmp_path, "preference_joint", metrics=metrics, diagnostics=asked([[0.9, 0.6]]))
    page = build_report(tmp_path, tmp_path)[0].read_text()
    rows = {row["Strategy"]: row for row in cells(page) if "Distance" in row}
    assert rows["ibcl"]["Distance"] == "30.0 (n=1)"
    assert rows["preference_joint (reference)"]["Distance"] == "0.0"


def test_cost_is_drawn_against_the_number_of_preferences_where_there_are_several(tmp_path):
    for count in (1, 10):
        more = {"preferences": {"evaluate": True, "count": count, "grid": 11}}
        metrics = {"acc": 0.5, "preference_mean": 0.7}
        put(tmp_path, "ibcl", sources=more, metrics=metrics, diagnostics=asked([[0.6, 0.6]], count=count))
    written = [path.name for path in build_report(tmp_path, tmp_path)]
    assert any(name.endswith("_preferences_cost.png") for name in written)
    put(tmp_path / "one", "ibcl", metrics={"acc": 0.5, "preference_mean": 0.7}, diagnostics=asked([[0.6, 0.6]]))
    alone = [path.name for path in build_report(tmp_path / "one", tmp_path / "one")]
    assert not any(name.endswith("_preferences_cost.png") for name in alone)
    assert any(name.endswith("_preferences_tradeoff.png") for name in alone)


def test_damaged_trade_offs_are_passed_over(tmp_path):
    put(tmp_path, "ibcl", diagnostics={"preferences": "none"})
    put(tmp_path, "er", diagnostics={"preferences": {"experiences": 3, "front": None}})
    put(tmp_path, "der", diagnostics={"preferences": {"experiences": [1], "front": [[1, "a"]]}})
    put(tmp_path, "gem", diagnostics={"preferences": {"experiences": [{}], "front": [3]}})
    assert "| ibcl |" in build_report(tmp_path, tmp_path)[0].read_text()
