"""Validation of records: what does not fit together is named, what does passes, and nothing makes it raise."""

import dataclasses
import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from cl_suite.cli.main import main
from cl_suite.metrics.matrix import libero_metrics, summarise
from cl_suite.records import strict_json as sharing_text
from cl_suite.records import validation as record_validation
from cl_suite.records.record import parse_record
from cl_suite.records.strict_json import read_record
from cl_suite.records.validation import MAX_REASONS, misplaced, mixed_versions, place_of, validate
from tests.helpers.places import ROOT
from tests.helpers.record_makers import BASELINE, R, failed_record, sound_record


def test_a_sound_record_passes():
    assert validate(sound_record()) == []
    assert validate(sound_record(scenario="class_incremental", R_task_aware=None)) == []
    assert validate(failed_record()) == []
    assert validate(failed_record(baseline=[], R=[])) == []


def test_every_committed_record_passes_where_it_lies():
    results = ROOT / "results" / "reference"
    found = {
        path: read_record(path.read_bytes(), place=path.relative_to(results).as_posix())[1]
        for path in results.rglob("seed_*.json")
    }
    assert found
    assert not {path: reasons for path, reasons in found.items() if reasons}


def test_what_runs_write_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(
        "from cl_suite import GradientStrategy\nclass Bad(GradientStrategy):\n    'x'\n"
        "    def loss(self, batch):\n        return super().loss(batch) * float('nan')\n"
    )
    fast = ["--stream", "toy_gaussians", "stream.n_tasks=3", "stream.n_train=40", "train.epochs=1"]
    asked = [
        ["er", "--scenario", "class_incremental", "train.evaluate_every=2"],
        ["er", "--scenario", "domain_incremental", "--evaluate", "learning", "learning.points=3"],
        ["finetune", "--scenario", "task_agnostic", "train.segments=4"],
        ["tame", "--scenario", "task_agnostic", "train.segments=4"],
        ["joint", "train.evaluate_every=2"],
        ["bad.py:Bad"],
    ]
    for strategy, *more in asked:
        with pytest.raises(SystemExit):
            main(["--strategy", strategy, *fast, *more, "--quiet"])
    capsys.readouterr()
    paths = sorted((tmp_path / "results").rglob("seed_*.json"))
    assert len(paths) == len(asked)
    for path in paths:
        place = path.relative_to(tmp_path / "results").as_posix()
        assert read_record(path.read_bytes(), place=place)[1] == [], place


AGNOSTIC = summarise([[0.2, 0.4]] * 3, [0.1, 0.1], [5, 5], rows_are_tasks=False, begun=[[0], [0], [0, 1]])
TIMES = {
    "scenario": "task_agnostic",
    "R": [[0.2, 0.4]] * 3,
    "baseline": [0.1, 0.1],
    "test_samples": [5, 5],
    "task_names": ["a", "b"],
    "curve": [],
}


def metrics(**changes):
    return {"metrics": {**sound_record().metrics, **changes}}


def origin(**changes):
    return {"provenance": {**sound_record().provenance, **changes}}


FAULTS = [
    ({"R": [[0.9, 1.3, 0.2], *R[1:]]}, "R[0][1] is 1.3, outside [0, 1]"),
    ({"R": [[-0.1, 0.3, 0.2], *R[1:]]}, "R[0][0] is -0.1, outside [0, 1]"),
    ({"R": R[:2]}, "R has 2 rows for 3 tasks in task_incremental"),
    ({"R": [*R, R[-1]]}, "R has 4 rows for 3 tasks"),
    ({"R": []}, "R is empty though the run is complete"),
    ({"R": [row[:2] for row in R]}, "R has 2 columns for 3 tasks"),
    ({"R": [["0.9", 0.1, 0.2], *R[1:]]}, "R cannot be"),
    ({"R": [[10**400, 0.1, 0.2], *R[1:]]}, "R[0][0] is 1000"),
    ({"R": [[float("nan"), 0.1, 0.2], *R[1:]]}, "R cannot be"),
    ({"R_task_aware": R[:1]}, "R_task_aware has 1 rows, R has 3"),
    ({"R_task_aware": [[2, 2, 2]] * 3}, "R_task_aware[0][0] is 2, outside [0, 1]"),
    ({"baseline": BASELINE[:2]}, "baseline has 2 entries for 3 tasks"),
    ({"baseline": []}, "baseline has 0 entries for 3 tasks"),
    ({"baseline": [0.1, 0.2, 7]}, "baseline[2] is 7, outside"),
    ({"test_samples": [10, 20]}, "test_samples has 2 entries for 3 tasks"),
    ({"test_samples": [10, 20, 0]}, "test_samples holds something other than whole numbers from 1 on"),
    ({"test_samples": [10, 20, 2.5]}, "test_samples holds something other than whole numbers"),
    ({"task_names": []}, "task_names is empty"),
    ({"scenario": "task_incremental", "config": {"scenario": "class_incremental"}}, "but config says 'class_incr"),
    ({"scenario": "everything"}, "scenario 'everything' is none of task_incremental, "),
    ({"curve": [{"experience": 0, "step": 1, "samples": 5, "scores": [0.1]}]}, "curve[0] does not fit 3 tasks"),
    ({"curve": [{"experience": 3, "step": 1, "samples": 5, "scores": [0.1] * 3}]}, "curve[0] does not fit"),
    ({"curve": [{"step": 1, "samples": 5, "scores": [0.1] * 3}]}, "curve[0] lacks a whole number"),
    (
        {"curve": [{"experience": 0, "step": 1, "samples": n, "scores": [0.1] * 3} for n in (9, 5)]},
        "curve[1] goes back",
    ),
    ({"curve": [{"experience": 0, "step": 1, "samples": 5, "scores": [0.1, 0.1, 3]}]}, "curve[0].scores[2] is 3,"),
    (metrics(acc=0.99), "metrics.acc is 0.99, but R gives 0.7"),
    (metrics(bwt=None), "metrics.bwt is None, but R gives -0.2"),
    (metrics(min_acc=0.9), "metrics.min_acc is 0.9, but R gives 0.5"),
    (metrics(acc_task_aware=0.9), "metrics.acc_task_aware is 0.9, but R gives None"),
    (metrics(libero_fwt=0.9), "metrics.libero_fwt is 0.9, but R and diagnostics.learning give None"),
    (metrics(open_set_auroc=0.9), "metrics.open_set_auroc is 0.9, but diagnostics.open_set gives None"),
    ({"metrics": {}}, "metrics has no acc"),
    ({**TIMES, "metrics": {**AGNOSTIC, "anytime_accuracy": 0.5}}, "anytime_accuracy is 0.5, but R allows 0.2"),
    ({**TIMES, "metrics": {**AGNOSTIC, "anytime_accuracy": None}}, "is null, but R has every entry"),
    ({**TIMES, "metrics": {**AGNOSTIC, "bwt": 0.0}}, "metrics.bwt is 0.0, but R gives None"),
    ({"costs": {"train_seconds": -1.5}}, "costs.train_seconds is -1.5, below 0"),
    ({"costs": {"samples_drawn": 3, "samples_replayed": 4}}, "costs.samples_replayed is 4, more than the 3 drawn"),
    ({"costs": {"train_seconds": "1"}}, "costs cannot be"),
    ({"protocol": "paper"}, "protocol is 'paper', but config says 'quick'"),
    ({"seeds": {"model": 7}}, "seeds.model is 7, but config and seed say 0"),
    ({"error": "odd"}, "status is complete, but error is 'odd'"),
    ({"status": "failed"}, "status is failed, but error is None"),
    ({"status": "failed", "error": "x"}, "metrics are told of a failed run"),
    (origin(cl_suite=None), "provenance.cl_suite is missing"),
    (origin(stream_version=3), "provenance.stream_version is missing"),
    (origin(started="yesterday"), "provenance.started is 'yesterday', which is no date"),
    (origin(finished="2025-01-01T00:00:00"), "provenance.finished is '2025-01-01T00:00:00', which is no date with a"),
    (origin(started=None), "provenance.started is None"),
    (origin(finished="2024-12-31T00:00:00+00:00"), "provenance.finished is before started"),
    (origin(finished="2999-01-01T00:00:00+00:00"), "provenance.finished is in the future"),
    ({"schema_version": 2}, "schema_version 2 is newer than the 1 known here; update cl-suite"),
    ({"strategy": "x" * 300}, "strategy has 300 characters; 1 to 200 are allowed"),
    ({"stream": ""}, "stream cannot be ''"),
    ({"task_names": ["a", "b", "c" * 20_000]}, "task_names holds a text of 20000 characters"),
    ({"diagnostics": {"a": "x" * 20_000}}, "diagnostics holds a text of 20000 characters"),
    ({"diagnostics": {"a": json.loads("[" * 50 + "]" * 50)}}, "diagnostics cannot be"),
    ({"diagnostics": {"x" * 1000: 1}}, "diagnostics has the key"),
    ({"diagnostics": {"a": 2**70}}, "diagnostics holds a whole number of more than 64 bits"),
    ({"diagnostics": {"a": float("inf")}}, "diagnostics holds inf, which is not a number"),
    ({"diagnostics": {"a": "\ud800"}}, "diagnostics holds a text that is not Unicode"),
    ({"stream": "\udfff"}, "stream holds a text that is not Unicode"),
    ({"seed": 2**70}, "seed cannot be"),
]


@pytest.mark.parametrize(("changes", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_each_fault_is_named(changes, reason):
    assert any(reason in each for each in validate(sound_record(**changes)))


def test_metrics_that_follow_from_R_and_the_points_pass():
    points = [[0.1, 0.5, 0.9], [0.2, None, 0.92], [0.3, 0.6, 0.94]]
    told = {**sound_record().metrics, **libero_metrics(R, points), "open_set_auroc": 0.7}
    kept = {"learning": {"points": points}, "open_set": {"experiences": [{"auroc": 0.9}, {"auroc": 0.7}]}}
    assert validate(sound_record(metrics=told, diagnostics=kept)) == []
    points[0][2] = 0.8
    assert any("libero_fwt" in reason for reason in validate(sound_record(metrics=told, diagnostics=kept)))


def test_rows_that_are_times_allow_a_range():
    for value in (0.2, 0.3, AGNOSTIC["anytime_accuracy"], 0.4):
        assert validate(sound_record(**{**TIMES, "metrics": {**AGNOSTIC, "anytime_accuracy": value}})) == []


def test_older_records_and_plugins_are_not_judged_by_what_they_lack_or_add():
    told = sound_record().metrics
    assert validate(sound_record(metrics={"acc": told["acc"], "my_own": -7.0, "preference_mean": 0.3})) == []


def test_a_metric_may_differ_in_the_last_digits_only():
    acc = sound_record().metrics["acc"]
    assert validate(sound_record(**metrics(acc=acc + 1e-10))) == []
    assert validate(sound_record(**metrics(acc=acc + 1e-8)))


def test_now_is_what_the_caller_says():
    ended = datetime(2025, 1, 1, 0, 1, tzinfo=UTC)
    assert validate(sound_record(), now=ended - timedelta(hours=23)) == []
    assert validate(sound_record(), now=ended - timedelta(hours=25))


def test_many_faults_are_counted_not_listed():
    many = [[9.0] * 30 for _ in range(30)]
    record = sound_record(R=many, baseline=[0.1] * 30, test_samples=[5] * 30, task_names=["t"] * 30, curve=[])
    reasons = validate(record)
    assert len(reasons) == MAX_REASONS + 1 and reasons[-1].startswith("and ")


def test_a_record_belongs_where_its_content_says():
    record, failed = sound_record(), failed_record()
    place = place_of(record)
    assert misplaced(record, place) is None
    assert "belongs at toy/" in misplaced(record, place.replace("seed_0", "seed_1"))
    folder = place.split("/")[3]
    assert misplaced(record, place.replace(folder, "0" * 12)) == (
        f"its folder says configuration {'0' * 12}, but its configuration has the hash {folder}"
    )
    aside = place.replace(".json", ".failed.json")
    assert misplaced(failed, aside) is None and misplaced(failed, place) is None
    assert misplaced(record, aside)
    # Another version of the stream is another configuration.
    assert misplaced(sound_record(**origin(stream_version="2")), place)


def test_seeds_of_one_configuration_must_be_made_alike():
    seeds = [sound_record(seed) for seed in range(3)]
    assert mixed_versions(seeds) == []
    assert mixed_versions([*seeds, sound_record(3, **origin(git_commit="abc", torch="9", device="cuda"))]) == []
    (reason,) = mixed_versions([*seeds, sound_record(3, **origin(cl_suite="0.2.0"))])
    assert reason == "seeds of one configuration have different cl_suite: '0.1.0' (seed 0, 1, 2) and '0.2.0' (seed 3)"
    (reason,) = mixed_versions([*seeds, sound_record(3, **origin(data_checksums={"file": "sha256:11"}))])
    assert "different data_checksums" in reason


def text(record):
    return json.dumps(record.to_dict())


DAMAGE = [
    (b"\xff\xfe", "is not UTF-8 at byte 0"),
    (b"{", "is not JSON at line 1"),
    (b"[1]", "not a JSON object"),
    (b"[" * 100_000, "is nested too deeply"),
    (b'{"a": ' * 60 + b"1" + b"}" * 60, "it has no schema_version"),
    (text(sound_record()).replace("0.25", "NaN", 1).encode(), "holds NaN, which is not a JSON number"),
    (text(sound_record()).replace("0.25", "-Infinity", 1).encode(), "holds -Infinity"),
    (text(sound_record()).replace("0.25", "1e999", 1).encode(), "R[0][2] is inf, outside [0, 1]"),
    (text(sound_record()).replace("0.25", "1.25", 1).encode(), "R[0][2] is 1.25, outside [0, 1]"),
    (text(sound_record()).replace("0.25", '"a"', 1).encode(), "R cannot be"),
    (text(sound_record()).replace('"seed": 0', f'"seed": 0, "later": {"[" * 50 + "]" * 50}').encode(), "nested deeper"),
    (text(sound_record()).replace('"density": 0.1', '"density": 1e999').encode(), "holds inf"),
    (text(sound_record()).replace("0.25", "1" * 400, 1).encode(), "R[0][2] is 111"),
    (text(sound_record()).replace("0.25", "1" * 5000, 1).encode(), "integer"),
    (text(sound_record()).replace('"seed": 0', '"seed": 0, "seed": 1').encode(), "names 'seed' twice"),
    (text(sound_record()).replace('"seed": 0', '"seed": 0, "x": {"y": 1, "y": 2}').encode(), "names 'y' twice"),
    (
        text(sound_record()).replace('"seed": 0', f'"seed": 0, "later": "{"x" * 20_000}"').encode(),
        "the file holds a text",
    ),
    (
        text(sound_record()).replace('"schema_version": 1', '"schema_version": 9').encode(),
        "newer than the 1 known here",
    ),
]


@pytest.mark.parametrize(("content", "reason"), DAMAGE, ids=[f"{n} {reason}" for n, (_, reason) in enumerate(DAMAGE)])
def test_damaged_bytes_are_named(content, reason):
    _, reasons = read_record(content)
    assert reasons and any(reason in each for each in reasons)
    assert not any("\n" in each for each in reasons)


def test_a_huge_file_is_not_parsed(monkeypatch):
    monkeypatch.setattr(sharing_text, "MAX_BYTES", 100)
    assert read_record(text(sound_record()).encode())[1][0].endswith("100 are allowed")


def test_fields_of_a_later_release_are_passed_over():
    content = text(sound_record()).replace('"seed": 0', '"seed": 0, "later": {"a": [1]}').encode()
    assert read_record(content) == (sound_record(), [])


NASTY = [
    None, True, -1, 0, 2**80, 10**400, 1.5, -0.0, float("nan"), float("inf"), 1e308, "", "x" * 20_000, "\ud800",
    "\x1b[31m", [], [[]], [None], [[None]], [{}], {}, {"": {}}, {"scores": [None]},
    b"", object(), set(), {"experience": 10**30, "scores": []},
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2025-01-01\x1b00:00:00+00:00",
]  # fmt: skip


def test_nothing_makes_it_raise():
    names = [field.name for field in dataclasses.fields(sound_record())]
    for name in names:
        for value in NASTY:
            reasons = validate(sound_record(**{name: value}))
            assert all(isinstance(each, str) and each.isprintable() for each in reasons), (name, value)


def test_random_changes_inside_a_record_never_raise_in_reading_or_validation():
    draw, whole = random.Random(0), sound_record(diagnostics={"learning": {"points": [[0.1]] * 3}})
    plain = [value for value in NASTY if not isinstance(value, (bytes, set)) and type(value) is not object]
    for _ in range(400):
        values = json.loads(text(whole))
        for _ in range(draw.randint(1, 3)):
            at = values
            while True:
                key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
                if isinstance(at[key], (dict, list)) and at[key] and draw.random() < 0.8:
                    at = at[key]
                    continue
                at[key] = draw.choice(plain)
                break
        content = json.dumps(values).encode()
        record, reasons = read_record(content, place=place_of(whole))
        if not reasons:  # what passes is what it says it is
            assert record == parse_record(content.decode())


def test_the_reasons_are_printable_whatever_a_record_holds():
    reasons = validate(sound_record(scenario="\x1b[31mred\n"))
    assert reasons and all(each.isprintable() for each in reasons)


def test_the_limits_leave_room_for_names_as_folders():
    assert record_validation.MAX_NAME + len("-000000") < 255
