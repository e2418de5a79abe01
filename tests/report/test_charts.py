"""Charts: the same bytes, no markup from names, nothing that overlaps, colours that stay."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from cl_suite.records.record import load_record
from cl_suite.report.charts.lines import average_chart, profile_chart, tasks_chart
from cl_suite.report.charts.matrix import matrix_chart
from cl_suite.report.charts.points import intervals_chart, place_names, scatter_chart
from cl_suite.report.charts.ranks import ranks_chart
from cl_suite.report.charts.style import as_svg, canvas, looks, pareto_front, to_png
from cl_suite.report.charts.which import across_charts, run_charts, table_charts
from cl_suite.report.tables.across import across_streams
from cl_suite.report.tables.leaderboard import build_tables
from cl_suite.report.tables.load import load_results
from cl_suite.report.tables.statistics import ranks
from tests.helpers.report_records import fill, matrix, save

HOSTILE = '<script>alert(1)</script> $\\frac{1}{0}$ -- "&'


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    fill(results)
    save(results, HOSTILE, 0.4)
    return build_tables(load_results(results).records)


def test_a_table_has_every_chart_and_each_draws(tables):
    names = [chart.name for chart in table_charts(next(t for t in tables if t.key["stream"] == "toy"))]
    assert names == ["intervals", "average_accuracy", "time", "samples", "forgetting", "profile"]
    assert [chart.name for each in across_streams(tables) for chart in across_charts(each)] == ["ranks"]


def test_svg_and_png_are_the_same_each_time(tables):
    chart = next(table_charts(tables[0]))
    assert as_svg(chart.draw, "a") == as_svg(chart.draw, "a")
    assert to_png(chart.draw) == to_png(chart.draw)
    assert to_png(chart.draw).startswith(b"\x89PNG")


def test_an_svg_is_well_formed_has_no_script_and_takes_the_page_s_colour(tables):
    for table in tables:
        for chart in table_charts(table):
            text = as_svg(chart.draw, chart.name)
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
            assert "script" not in tags and "svg" in tags
            assert "currentColor" in text and "<metadata" not in text


def test_two_svgs_on_a_page_do_not_share_ids(tables):
    drawn = list(table_charts(tables[0]))[1]
    first, second = (set(re.findall(r' id="([^"]+)"', as_svg(drawn.draw, salt))) for salt in ("a", "b"))
    assert first and not first & second


def test_a_strategy_keeps_its_look_and_configurations_differ():
    one = looks({"er": "er", "ewc": "ewc"})
    other = looks({"ewc": "ewc", "er lr=1": "er", "er lr=2": "er", "finetune": "finetune", "joint": "joint"})
    assert one["ewc"] == other["ewc"] and one["er"] == other["er lr=1"]
    assert other["er lr=1"][0] == other["er lr=2"][0] and other["er lr=1"] != other["er lr=2"]
    many = looks({f"m{number}": f"m{number}" for number in range(60)})
    assert len(set(many.values())) == 60


def test_the_front_holds_what_no_other_beats():
    points = [(1.0, 50.0), (2.0, 40.0), (3.0, 70.0), (3.0, 70.0), (0.5, 20.0), (9.0, 69.0)]
    assert pareto_front(points) == [4, 0, 2]


def test_names_of_fifteen_points_do_not_touch():
    generator = np.random.default_rng(0)
    points = {f"strategy_{n}": (float(x), float(y)) for n, (x, y) in enumerate(generator.random((15, 2)))}
    figure, axes = canvas("t", 7.4, 4.4)
    for x, y in points.values():
        axes.plot([x], [y], "o")
    axes.margins(0.12, 0.12)
    axes.autoscale_view()
    boxes = place_names(figure, axes, points)
    touching = [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]
    assert len(boxes) == 15 and not touching


@pytest.mark.parametrize(
    "draw",
    [
        lambda: matrix_chart(HOSTILE, [[None] * 50] * 50),
        lambda: matrix_chart("one", [[0.5]]),
        lambda: tasks_chart("many", [[0.5] * 50] * 3, "evaluation"),
        lambda: average_chart("flat", {"a": ([1, 2], [0, 0], [math.nan] * 2, [math.nan] * 2)}, {"a": "a"}, "x"),
        lambda: scatter_chart(
            "same",
            {str(n): (1.0, 1.0) for n in range(40)},
            dict.fromkeys(map(str, range(40)), "er"),
            "x",
            "y",
            log_x=True,
            front=True,
        ),
        lambda: scatter_chart("zero", {"a": (0.0, 1.0)}, {"a": "a"}, "x", "y", log_x=True, front=True),
        lambda: intervals_chart("x" * 300, [(HOSTILE, 50.0, -900.0, 900.0)] * 40, {HOSTILE: HOSTILE}, "ACC"),
        lambda: ranks_chart(
            "many", ranks([f"method {n}" for n in range(40)], np.random.default_rng(0).random((5, 40)))
        ),
        lambda: profile_chart("p", {HOSTILE: [50.0] * 4}, {HOSTILE: HOSTILE}),
    ],
)
def test_extremes_are_drawn(draw):
    assert to_png(draw).startswith(b"\x89PNG")
    ElementTree.fromstring(as_svg(draw, "x"))


def test_a_run_has_its_matrix_its_tasks_and_its_curve(tmp_path):
    curve = [{"experience": 0, "step": n, "samples": 10 * n, "scores": [0.5, None, None, None]} for n in range(3)]
    record = load_record(save(tmp_path, "er", 0.5, curve=curve))
    assert [chart.name for chart in run_charts(record)] == ["matrix", "tasks", "curve"]
    agnostic = load_record(save(tmp_path, "tame", 0.5, R=matrix(0.5)[-1:] * 6, scenario="task_agnostic"))
    for chart in (*run_charts(record), *run_charts(agnostic)):
        assert to_png(chart.draw)


def test_charts_never_import_torch_nor_matplotlib_before_one_is_drawn():
    code = "import sys, cl_suite.report.build; print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
