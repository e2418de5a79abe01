"""Figures that strategies leave in their records: drawn alike everywhere, or named and left out."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cl_suite.records.record import RunRecord, save_record
from cl_suite.report.build import build_report

MAP = {
    "kind": "map",
    "title": "Regimes",
    "row_label": "while learning",
    "column_label": "earlier task",
    "panels": ["conv1", "conv2"],
    "rows": ["task 0", "task 1"],
    "columns": ["task 0", "task 1"],
    "values": [[[None, None], [1, None]], [[None, None], [2, None]]],
    "categories": {"1": "unrelated", "2": "correlated"},
}
LINES = {
    "kind": "lines",
    "title": "Cost in $ and _{",  # never read as a formula
    "x_label": "tasks",
    "y_label": "columns",
    "x": [1, 2, 3],
    "series": {"conv1": [3, None, 8], "conv2": [None, None, None]},
}

CURVES = {
    "kind": "curves",
    "title": "Two tasks",
    "x_label": "task 0",
    "y_label": "task 1",
    "series": {"mine": [[0.9, 0.2], [0.7, 0.6]], "theirs": [[0.8, 0.3]]},
}


def put(results: Path, figures: Any, *, strategy: str = "cuber", seed: int = 0, lr: float = 0.1, **fields: Any) -> str:
    """Save a record of one task with these figures; return its config hash."""
    record = RunRecord(
        strategy=strategy,
        stream="split_digits",
        scenario="task_incremental",
        protocol="quick",
        seed=seed,
        config={"strategy": {"lr": lr}},
        R=[[0.5]],
        metrics={"acc": 0.5},
        test_samples=[10],
        diagnostics={"figures": figures},
        **fields,
    )
    save_record(record, record.path(results))
    return record.config_hash


def report(results: Path) -> tuple[str, list[Path]]:
    leaderboard, *others = build_report(results, results, charts=False)
    return leaderboard.read_text(encoding="utf-8"), [
        path for path in others if "_cuber_" in path.name or "_trgp_" in path.name
    ]


def test_all_kinds_are_drawn_and_linked_under_their_table(tmp_path: Path) -> None:
    plain = {key: value for key, value in MAP.items() if key != "categories"}
    curves = {"curves": CURVES, "logarithmic": changed(CURVES, log_x=True, log_y=True)}
    config = put(tmp_path, {"regimes": MAP, "basis": LINES, "plain": plain, **curves})
    text, figures = report(tmp_path)
    stem = f"split_digits_task_incremental_cuber_{config}"
    assert [path.name for path in figures] == [f"{stem}_{name}.png" for name in ("regimes", "basis", "plain", *curves)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)
    assert f"\nFigures: [cuber regimes](figures/{stem}_regimes.png), [cuber basis](figures/" in text
    assert "Left out" not in text


def test_the_same_records_give_the_same_pictures(tmp_path: Path) -> None:
    put(tmp_path, {"regimes": MAP, "basis": LINES})
    first = [path.read_bytes() for path in build_report(tmp_path, tmp_path / "one", charts=False)]
    again = [path.read_bytes() for path in build_report(tmp_path, tmp_path / "two", charts=False)]
    assert first == again
    assert {path.suffix for path in (tmp_path / "two" / "figures").iterdir()} == {".png"}  # nothing unfinished is left


def test_the_lowest_complete_seed_of_each_configuration_is_drawn(tmp_path: Path) -> None:
    put(tmp_path, {"only in seed 2": LINES}, seed=2)
    put(tmp_path, {"basis": LINES}, seed=1)
    put(tmp_path, {"basis": LINES}, seed=0, status="failed", error="out of memory")
    put(tmp_path, {"basis": LINES}, seed=3, lr=0.2)
    text, figures = report(tmp_path)
    assert len(figures) == 2 and "only in seed 2" not in text
    assert "[cuber basis (strategy.lr=0.1)](" in text and "[cuber basis (strategy.lr=0.2)](" in text


def changed(figure: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return copy.deepcopy(figure) | fields


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (3, "not a dictionary"),
        (changed(MAP, kind="pie"), "kind is 'pie', not map or lines or curves"),
        ({"kind": ["map"]}, "kind is"),
        ({key: value for key, value in MAP.items() if key != "panels"}, "panels is missing"),
        (changed(MAP, title=None), "title is not text"),
        (changed(MAP, rows=[]), "rows is not a list of names"),
        (changed(MAP, values=MAP["values"][:1]), "values are not numbers or null for 2 panels, 2 rows, 2 columns"),
        (changed(MAP, values=[[[1, 2], ["a", 3]]] * 2), "values are not numbers"),
        (changed(MAP, categories={"1": "unrelated"}), "values without a category: 2"),
        (changed(MAP, categories=["a"]), "categories are not names by value"),
        (changed(LINES, x=[1, None, 3]), "x is not a list of numbers"),
        (changed(LINES, series={}), "series is not a dictionary"),
        (changed(LINES, series={"conv1": [1, 2]}), "series 'conv1' is not 3 numbers or null"),
        (changed(CURVES, series={}), "series is not a dictionary of curves"),
        (changed(CURVES, series={"mine": [[1, 2], [3]]}), "series 'mine' is not a list of [x, y]"),
        (changed(CURVES, series={"mine": [[1, None]]}), "series 'mine' is not a list of [x, y]"),
        (changed(CURVES, series={"mine": []}), "series 'mine' is not a list of [x, y]"),
    ],
)
def test_a_malformed_figure_is_named_and_the_others_are_drawn(tmp_path: Path, figure: Any, reason: str) -> None:
    put(tmp_path, {"bad": figure, "basis": LINES})
    text, figures = report(tmp_path)
    assert [path.stem.rpartition("_")[2] for path in figures] == ["basis"]
    (line,) = [
        line for line in text.splitlines() if line.startswith("- figure 'bad' of cuber on split_digits, seed 0: ")
    ]
    assert reason in line


def test_figures_that_are_no_dictionary_or_share_a_file_are_named(tmp_path: Path) -> None:
    put(tmp_path, [LINES])
    put(tmp_path, {"a b": LINES, "a-b": LINES}, strategy="trgp")
    text, figures = report(tmp_path)
    assert len(figures) == 1
    assert "- figures of cuber on split_digits, seed 0: not a dictionary of figures\n" in text
    assert "- figure 'a-b' of trgp on split_digits, seed 0: another figure has the same file name\n" in text


def test_extreme_values_are_drawn(tmp_path: Path) -> None:
    values = [[[1e300, -1e300], [None, 0]], [[None, None], [None, None]]]
    figures = {
        "huge": changed(MAP, values=values, categories=None),
        "empty": changed(MAP, values=[[[None] * 2] * 2] * 2, categories=None),
        "lines": changed(LINES, series={"a\n|]": [1e300, -1e300, 0]}),
    }
    put(tmp_path, figures)
    text, drawn = report(tmp_path)
    assert len(drawn) == 3, text


@pytest.mark.parametrize("figures", [{}, {"basis": {"kind": "pie"}}])
def test_matplotlib_is_imported_only_to_draw(tmp_path: Path, figures: dict[str, Any]) -> None:
    put(tmp_path, figures)
    code = (
        "import sys\nfrom pathlib import Path\nfrom cl_suite.report.build import build_report\n"
        "build_report(Path(sys.argv[1]), Path(sys.argv[1]), charts=False)\n"
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
