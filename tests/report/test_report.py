"""The leaderboard: only what is comparable shares a table; what is missing is `-`."""

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from cl_suite.core.errors import UsageError
from cl_suite.metrics.matrix import summarise
from cl_suite.records.record import RunRecord, load_record, save_record
from cl_suite.report.build import build_report, render_table
from cl_suite.runs.display import summary_table

UNSET: dict[str, Any] = {}


def put(
    results: Path,
    strategy: str,
    final: float = 0.5,
    *,
    seed: int = 0,
    stream: str = "split_digits",
    scenario: str = "task_incremental",
    protocol: str = "quick",
    version: str = "1",
    options: dict[str, Any] = UNSET,
    stream_options: dict[str, Any] = UNSET,
    epochs: int = 5,
    sources: dict[str, str] = UNSET,
    error: str | None = None,
    **fields: Any,
) -> Path:
    """Save a record of two tasks whose last row is (`final`, `final`) and whose diagonal is (.9, `final`)."""
    scores = [[0.9, 0.2], [final, final]]
    values: dict[str, Any] = {
        "R": scores,
        "baseline": [0.1, 0.1],
        "test_samples": [10, 10],
        "metrics": {} if error else summarise(scores, [0.1, 0.1], [10, 10]),
        "costs": {
            "samples_drawn": 12345,
            "train_seconds": 2.5,
            "peak_memory_bytes": 3 * 2**20,
            "model_parameters": 9876,
        },
    }
    record = RunRecord(
        strategy=strategy,
        stream=stream,
        scenario=scenario,
        protocol=protocol,
        seed=seed,
        status="failed" if error else "complete",
        error=error,
        config={
            "protocol": protocol,
            "scenario": scenario,
            "train": {"epochs": epochs},
            "strategy": {"lr": 0.05, "buffer": "ring", **options},
            "stream": {"n_tasks": 2, **stream_options},
            **sources,
        },
        provenance={"stream_version": version, "device": "cpu"},
        **(values | fields),
    )
    return save_record(record, record.path(results))


def markdown(results: Path) -> str:
    return build_report(results, results, charts=False)[0].read_text(encoding="utf-8")


def cells(text: str) -> list[dict[str, str]]:
    """Return the rows of all tables of scores as {column: cell}, with what the table of costs adds."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("| "):
            header = []
            continue
        values = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not header:
            header = values
        elif not values[0].startswith("---"):
            found = dict(zip(header, values, strict=True))
            if "ACC" in found:
                rows.append(found)
            else:  # costs of a row that is already there
                next(row for row in reversed(rows) if row["Strategy"] == found["Strategy"]).update(found)
    return rows


def test_mean_and_interval_over_seeds(tmp_path: Path) -> None:
    for seed, final in enumerate((0.5, 0.6, 0.7)):
        put(tmp_path, "er", final, seed=seed)
    row = cells(markdown(tmp_path))[0]
    assert row["Strategy"] == "er"
    assert row["ACC"] == "60.0 ± 24.8"  # t(0.975, 2) x 10 / sqrt(3)
    assert row["BWT"] == "-30.0 ± 24.8"
    assert row["Forgetting"] == "30.0 ± 24.8"
    assert row["FWT"] == "+10.0 ± 0.0"
    assert row["Learning accuracy"] == "75.0 ± 12.4"
    assert row["Seeds"] == "3 (0, 1, 2)"
    assert (row["Samples drawn"], row["Train seconds"], row["Peak memory"]) == ("12,345", "2.5", "3.0 MiB")
    assert (row["Parameters"], row["Selection"], row["Device"]) == ("9,876", "none", "cpu")
    assert "State" not in row  # nobody has it


def test_one_seed_has_no_interval_and_zero_is_never_minus_zero(tmp_path: Path) -> None:
    put(tmp_path, "exssnet", 0.9, metrics={"acc": 0.9, "bwt": -0.00001, "forgetting": 0.0, "fwt": None})
    row = cells(markdown(tmp_path))[0]
    assert (row["ACC"], row["BWT"], row["Forgetting"]) == ("90.0", "0.0", "0.0")
    assert "FWT" not in row  # nobody has it


def test_a_measure_that_only_some_seeds_have_says_how_many(tmp_path: Path) -> None:
    put(tmp_path, "er", seed=0, metrics={"acc": 0.5, "fwt": 0.1})
    put(tmp_path, "er", seed=1, metrics={"acc": 0.5, "fwt": None})
    row = cells(markdown(tmp_path))[0]
    assert (row["ACC"], row["FWT"]) == ("50.0 ± 0.0", "+10.0 (n=1)")


def test_sorted_by_accuracy_with_floor_and_ceiling_always_there(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.6)
    put(tmp_path, "exssnet", 0.8)
    put(tmp_path, "finetune", 0.3)
    rows = cells(markdown(tmp_path))
    assert [row["Strategy"] for row in rows] == ["exssnet", "er", "finetune (floor)", "joint (ceiling)"]
    assert set(list(rows[3].values())[1:]) == {"-"}  # missing, never 0
    put(tmp_path, "joint", 0.95)
    assert cells(markdown(tmp_path))[0]["Strategy"] == "joint (ceiling)"


@pytest.mark.parametrize(
    "other",
    [
        {"stream": "split_mnist"},
        {"scenario": "class_incremental"},
        {"protocol": "standard"},
        {"version": "2"},
        {"stream_options": {"n_tasks": 5}},
        {"sources": {"split_digits_source": "abc"}},
    ],
)
def test_what_is_not_comparable_never_shares_a_table(tmp_path: Path, other: dict[str, Any]) -> None:
    put(tmp_path, "er", 0.5)
    put(tmp_path, "exssnet", 0.6, **other)
    text = markdown(tmp_path)
    assert text.count("\n## ") == 2
    assert len(cells(text)) == 6  # each with its own floor and ceiling
    assert len(set(re.findall(r"\n## .*\n\n.*\n", text))) == 2  # told apart by heading and facts
    for table in text.split("\n## ")[1:]:
        assert ("| er |" in table) != ("| exssnet |" in table)


def test_configurations_of_one_strategy_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.5, options={"buffer_size": 200})
    put(tmp_path, "er", 0.6, options={"buffer_size": 500})
    put(tmp_path, "gdumb", 0.4, options={"buffer_size": 100})
    names = [row["Strategy"] for row in cells(markdown(tmp_path))][:3]
    assert names == ["er [strategy.buffer_size=500]", "er [strategy.buffer_size=200]", "gdumb"]


def test_configurations_that_differ_in_much_are_told_apart_by_hash(tmp_path: Path) -> None:
    many = {f"option{number}": 1 for number in range(6)}
    path = put(tmp_path, "er", 0.6, options=many)
    put(tmp_path, "er", 0.5)
    assert cells(markdown(tmp_path))[0]["Strategy"] == f"er [config {path.parent.name}]"


def test_a_row_trained_unlike_the_others_says_so(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.6, epochs=50)
    put(tmp_path, "finetune", 0.3)
    put(tmp_path, "joint", 0.9)
    names = [row["Strategy"] for row in cells(markdown(tmp_path))]
    assert names == ["joint (ceiling)", "er [train.epochs=50]", "finetune (floor)"]


def test_an_edited_plugin_is_another_row_only_where_both_are_there(tmp_path: Path) -> None:
    put(tmp_path, "mine", 0.6, sources={"mine_source": "abc"})
    assert cells(markdown(tmp_path))[0]["Strategy"] == "mine"
    put(tmp_path, "mine", 0.5, sources={"mine_source": "def"})
    names = [row["Strategy"] for row in cells(markdown(tmp_path))][:2]
    assert names == ["mine [strategy.source=abc]", "mine [strategy.source=def]"]


def test_strategies_with_equal_options_stay_apart(tmp_path: Path) -> None:
    assert put(tmp_path, "finetune", 0.3).parent.name == put(tmp_path, "joint", 0.9).parent.name
    assert [row["ACC"] for row in cells(markdown(tmp_path))] == ["90.0", "30.0"]


def test_task_aware_accuracy_has_a_column_where_it_exists(tmp_path: Path) -> None:
    put(tmp_path, "er", scenario="class_incremental", metrics={"acc": 0.2, "acc_task_aware": 0.8})
    text = markdown(tmp_path)
    assert cells(text)[0]["ACC task-aware"] == "80.0"
    assert "not a task-incremental result" in text
    other = tmp_path / "other"
    put(other, "er")
    assert "ACC task-aware" not in markdown(other)


def test_failed_runs_are_listed_and_not_counted(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.6, seed=0)
    put(tmp_path, "er", seed=1, error="the loss became nan\nin experience 2")
    text = markdown(tmp_path)
    assert cells(text)[0]["ACC"] == "60.0"
    assert cells(text)[0]["Seeds"] == "1 (0)"
    assert re.search(r"Failed runs: er, seed 1, config \w{12}: the loss became nan in experience 2\n", text)


def test_a_table_of_failures_alone_has_only_its_bounds(tmp_path: Path) -> None:
    put(tmp_path, "er", error="out of memory")
    text = markdown(tmp_path)
    assert [row["Strategy"] for row in cells(text)] == ["finetune (floor)", "joint (ceiling)"]
    assert "out of memory" in text


def test_damaged_records_are_named_and_not_fatal(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.6)
    broken = put(tmp_path, "er", 0.6, seed=1)
    broken.write_text(broken.read_text()[:100])
    (broken.parent / "seed_2.json").write_bytes(b"\xff\xfe{}")
    text = markdown(tmp_path)
    assert cells(text)[0]["Seeds"] == "1 (0)"
    assert f"- {broken.relative_to(tmp_path)} is damaged: not JSON" in text
    assert "seed_2.json is damaged: invalid start byte" in text
    assert str(tmp_path) not in text


def test_a_copied_record_counts_once(tmp_path: Path) -> None:
    path = put(tmp_path, "er", 0.6)
    (tmp_path / "zz_backup").mkdir()
    (tmp_path / "zz_backup" / "seed_0.json").write_bytes(path.read_bytes())
    text = markdown(tmp_path)
    assert cells(text)[0]["Seeds"] == "1 (0)"
    assert "zz_backup/seed_0.json repeats a run" in text


def test_csv_holds_raw_numbers_and_empty_cells(tmp_path: Path) -> None:
    put(tmp_path, "er", 1 / 3, seed=0)
    put(tmp_path, "er", 2 / 3, seed=1, stream_options={"class_order": [1, 0]})
    put(tmp_path, "er", 2 / 3, seed=1)
    text = build_report(tmp_path, tmp_path)[1].read_text(encoding="utf-8")
    table = pd.read_csv(io.StringIO(text))
    row = table[(table["strategy"] == "er") & (table["stream_options"] == "n_tasks=2")].iloc[0]
    assert row["acc_mean"] == pytest.approx(0.5, abs=1e-15)
    assert row["acc_std"] == pytest.approx((1 / 18) ** 0.5)
    assert (row["n_seeds"], row["acc_count"], row["seeds"]) == (2, 2, "0 1")
    bound = table[table["strategy"] == "joint"].iloc[0]
    assert bound["role"] == "ceiling"
    assert bound[["n_seeds", "acc_mean", "acc_std", "samples_drawn_mean"]].isna().all()


def test_measures_of_a_plugin_reach_the_csv(tmp_path: Path) -> None:
    put(tmp_path, "er", metrics={"acc": 0.5, "LIBERO-FWT": 0.25})
    table = pd.read_csv(build_report(tmp_path, tmp_path)[1])
    assert table["LIBERO-FWT_mean"][0] == 0.25


def test_names_cannot_break_the_table(tmp_path: Path) -> None:
    put(tmp_path, "a|b", 0.6)
    assert cells(markdown(tmp_path))[0]["Strategy"] == "a\\|b"


def test_the_same_records_give_the_same_files_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "results", "er", 0.6)
    put(tmp_path / "results", "exssnet", 0.6)
    first = [path.read_bytes() for path in build_report(tmp_path / "results", tmp_path / "one" / "deep")]
    again = [path.read_bytes() for path in build_report(tmp_path / "results", tmp_path / "two")]
    assert first == again
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "figures",
        *(f"leaderboard.{kind}" for kind in ("csv", "html", "json", "md", "tex")),
    ]
    assert {path.suffix for path in (tmp_path / "two").rglob("*") if path.is_file()} == {
        *(".csv", ".html", ".json", ".md", ".tex", ".svg", ".png")
    }  # nothing unfinished is left


def test_nothing_to_report_is_one_line_with_the_next_move(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match=r"no records below .*Run cl-bench --strategy NAME") as caught:
            build_report(folder, tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "seed_0.json").write_text("{")
    with pytest.raises(UsageError, match=r"can be read. The first: seed_0.json is damaged"):
        build_report(tmp_path, tmp_path)
    assert not list(tmp_path.glob("leaderboard*"))


def test_an_output_that_cannot_be_written_names_its_flag(tmp_path: Path) -> None:
    put(tmp_path, "er")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--output"):
        build_report(tmp_path, tmp_path / "file")


def test_one_stream_for_a_page_to_embed(tmp_path: Path) -> None:
    put(tmp_path, "er", 0.6)
    put(tmp_path, "er", 0.7, protocol="standard")
    put(tmp_path, "er", 0.8, stream="split_mnist")
    assert [row["ACC"] for row in cells(render_table(tmp_path, stream="split_digits"))][::3] == ["60.0", "70.0"]
    text = render_table(tmp_path, stream="split_digits", scenario="task_incremental", protocol="standard")
    assert text.startswith("## split_digits, task_incremental, protocol standard\n")
    assert [row["ACC"] for row in cells(text)] == ["70.0", "-", "-"]
    with pytest.raises(UsageError, match=r"no record of split_digit, standard.*Did you mean split_digits"):
        render_table(tmp_path, stream="split_digit", protocol="standard")


def test_transfer_is_told_with_its_sign(tmp_path: Path) -> None:
    put(tmp_path, "cuber", seed=0, metrics={"acc": 0.5, "bwt": 0.004, "fwt": -0.0004})
    put(tmp_path, "cuber", seed=1, metrics={"acc": 0.5, "bwt": 0.002, "fwt": 0.0004})
    row = cells(markdown(tmp_path))[0]
    assert (row["ACC"], row["BWT"], row["FWT"]) == ("50.0 ± 0.0", "+0.3 ± 1.3", "0.0 ± 0.5")


def test_the_summary_of_a_run_tells_transfer_with_its_sign(tmp_path: Path) -> None:
    record = load_record(put(tmp_path, "cuber", metrics={"acc": 0.5, "bwt": 0.0123, "fwt": -0.0004}))
    console = Console(file=io.StringIO(), width=120)
    console.print(summary_table([record]))
    words = console.file.getvalue().split()  # type: ignore[attr-defined]
    assert "+1.2" in words and "0.0" in words and "-0.0" not in words


def test_rows_that_differ_in_an_option_added_later_are_told_apart(tmp_path: Path) -> None:
    for options in ({"lr": 0.1}, {"lr": 0.1, "lr_drops": [1]}, {"lr": 0.2, "lr_drops": []}):
        put(tmp_path, "er", options=options)
    names = [row["Strategy"] for row in cells(markdown(tmp_path)) if row["Strategy"].startswith("er")]
    assert len(set(names)) == 3 and any("lr_drops=[1]" in name for name in names)
