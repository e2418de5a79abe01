"""Own rows among those of a reference: each says whose it is, and none of ours stands for a run nobody made."""

import csv
import io
import json
import tarfile

import pytest

from cl_suite.cli.main import main
from cl_suite.core.errors import UsageError
from cl_suite.records import reference
from cl_suite.report.build import build_report, read_records, tables_of
from cl_suite.report.tables.load import load_results
from tests.helpers.report_records import fill, save


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A reference of four strategies on three streams, as a checkout has it."""
    folder = tmp_path / "checkout" / "reference"
    fill(folder)
    monkeypatch.setattr(reference, "reference_folder", lambda: folder)
    return folder


def rows(output):
    return list(csv.DictReader(io.StringIO((output / "leaderboard.csv").read_text())))


def test_own_rows_stand_among_the_reference_and_each_says_whose_it_is(tmp_path, ours):
    mine = tmp_path / "mine"
    save(mine, "er", 0.55, seed=0)
    save(mine, "my_method", 0.7, seed=0)
    build_report(mine, mine, charts=True, beside="reference")
    table = rows(mine)
    assert {row["stream"] for row in table} == {"toy"}  # where nothing is one's own there is nothing to see
    whose = [(row["strategy"], row["origin"], row["seeds"]) for row in table]
    assert sorted(whose) == [
        ("er", "cl-suite", "0 1 2"),  # the same configuration and seed: never pooled, never in place of each other
        ("er", "yours", "0"),
        ("exssnet", "cl-suite", "0 1 2"),
        ("finetune", "cl-suite", "0 1 2"),
        ("joint", "cl-suite", "0 1 2"),
        ("my_method", "yours", "0"),
    ]
    page = (mine / "leaderboard.html").read_text()
    assert "compare scores, samples and FLOPs with theirs, not seconds" in page
    assert page.count('class="own"') == 2 * 2  # scores and costs
    assert "my_method · yours" in page and "er · cl-suite" in page
    assert "er · yours" in (mine / "leaderboard.md").read_text()
    entries = json.loads((mine / "leaderboard.json").read_text())["tables"][0]["rows"]
    assert {entry["origin"] for entry in entries} == {"yours", "cl-suite"}


def test_without_beside_the_reference_below_the_results_does_not_count(tmp_path):
    results = tmp_path / "results"
    fill(results / "reference")
    with pytest.raises(UsageError, match="no records below"):
        read_records(results)
    save(results, "er", 0.5)
    save(results, "er", 0.5, stream="reference")  # a stream may be called so
    assert sorted(record.stream for record in read_records(results).records) == ["reference", "toy"]
    build_report(results, results, charts=False)
    assert "origin" not in rows(results)[0]


def test_the_reference_alone_is_no_run_of_this_user(tmp_path, ours):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no records below .*empty"):
        build_report(tmp_path / "empty", tmp_path / "empty", beside="reference")


def test_a_failed_run_of_ones_own_is_named_beside_the_reference(tmp_path, ours):
    save(tmp_path / "mine", "er", 0.5, status="failed", error="it broke")
    (table,) = tables_of(read_records(tmp_path / "mine", "reference"))
    assert table.failed[0].startswith("er (yours), seed 0")


def test_another_folder_stands_beside_by_its_name(tmp_path):
    save(tmp_path / "mine", "er", 0.5)
    save(tmp_path / "colleague", "er", 0.6)
    loaded = load_results(tmp_path / "mine", str(tmp_path / "colleague"))
    assert loaded.origins == ["yours", "colleague"]
    with pytest.raises(UsageError, match="--beside nowhere is no folder"):
        load_results(tmp_path / "mine", "nowhere")


def test_a_wheel_carries_the_reference_packed(tmp_path, monkeypatch):
    save(tmp_path / "there", "er", 0.5)
    (path,) = (tmp_path / "there").rglob("seed_0.json")
    place = tmp_path / "package"
    place.mkdir()
    with tarfile.open(place / reference.PACKED, "w:xz") as archive:
        archive.add(path, path.relative_to(tmp_path / "there"))
    monkeypatch.setattr(reference, "reference_folder", lambda: None)
    monkeypatch.setattr(reference, "packed_file", lambda: place / reference.PACKED)
    (stored,) = reference.reference_files()
    assert stored.name == path.relative_to(tmp_path / "there").as_posix()
    assert stored.read() == path.read_text()
    (place / reference.PACKED).unlink()
    with pytest.raises(UsageError, match="without its reference records"):
        list(reference.reference_files())


def test_compare_means_ones_own_run_where_there_is_one(tmp_path, ours, capsys):
    for seed in (0, 1, 2):
        save(tmp_path / "mine", "er", 0.7 + 0.01 * seed, seed=seed)
    with pytest.raises(SystemExit) as end:
        main(["compare", "er", "finetune", "--results", str(tmp_path / "mine"), "--beside", "reference", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert end.value.code == 0
    assert "(yours)" in entry["a"] and "(cl-suite)" in entry["b"]
    assert entry["a_mean"] == pytest.approx(0.71)
