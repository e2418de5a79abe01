"""The leaderboard's page: nothing from a record becomes code, and a reader can sort, filter and follow a run."""

import html.parser
import json
import re
import shutil
import subprocess
from itertools import product

import pytest

from cl_suite.report.build import build_report, build_run_page
from tests.helpers.report_records import fill, matrix, save
from tests.helpers.slow import slow_but

HOSTILE = '<script>alert("x")</script>\'"&<img src=x onerror=alert(1)>'


class Reader(html.parser.HTMLParser):
    """Collects elements and what scripts hold."""

    def __init__(self):
        super().__init__()
        self.elements, self.scripts, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def report(results, output, **options):
    build_report(results, output, **options)
    return output / "leaderboard.html"


def test_the_page_needs_nothing_else(tmp_path):
    fill(tmp_path / "r", streams=["toy"])
    page = read(report(tmp_path / "r", tmp_path / "o"))
    places = [attributes[key] for _, attributes in page.elements for key in ("src", "href") if key in attributes]
    assert all(place.startswith(("#", "data:image/png;base64,")) for place in places)
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "base")]
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", (tmp_path / "o" / "leaderboard.html").read_text())


def test_what_comes_from_records_is_text(tmp_path):
    figure = {
        "kind": "lines",
        "title": HOSTILE,
        "x_label": HOSTILE,
        "y_label": "y",
        "x": [1, 2],
        "series": {HOSTILE: [1, 2]},
    }
    save(tmp_path / "r", HOSTILE, 0.5, stream=HOSTILE, seed=0, diagnostics={"figures": {HOSTILE: figure}})
    save(tmp_path / "r", HOSTILE, 0.6, stream=HOSTILE, seed=1, options={"note": HOSTILE})
    save(tmp_path / "r", "er", 0.6, stream=HOSTILE, status="failed", error=HOSTILE, seed=3)
    page = read(report(tmp_path / "r", tmp_path / "o"))
    assert len(page.scripts) == 2  # the data, and ours
    assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]
    assert not [a for tag, a in page.elements if tag == "img" and not a.get("src", "").startswith("data:")]
    (data, _) = page.scripts
    assert HOSTILE in next(iter(json.loads(data).values()))["title"]
    for name in ("leaderboard.md", "leaderboard.html"):
        assert "<script>alert" not in (tmp_path / "o" / name).read_text()
    run = build_run_page(next((tmp_path / "r").rglob("seed_0.json")), tmp_path / "o")
    assert not read(run).scripts and "<img src=x" not in run.read_text()


def test_names_cannot_leave_the_output_folder(tmp_path):
    save(tmp_path / "r", "../../../evil", 0.5, stream="../../../../evil", scenario="..", diagnostics={})
    for stream in ("a", "b"):
        for strategy in ("er", "ewc", "si"):
            save(tmp_path / "r", strategy, 0.5, stream=stream, protocol="x/../../../../evil")
    written = build_report(tmp_path / "r", tmp_path / "o" / "deep")
    assert [path for path in written if path.name.startswith("across_")]
    assert all(path.resolve().is_relative_to(tmp_path / "o" / "deep") for path in written)
    assert {path.name for path in tmp_path.iterdir()} == {"r", "o"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: text.replace('"seed": 0', '"seed": NaN'), "NaN"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "newer than"),
        (lambda text: text.replace("[0.8, null", "[1.8, null"), "R cannot be"),
        (lambda text: text.replace('"seed": 0', '"seed": 1' + "0" * 30), "seed cannot be"),
        (lambda text: text.replace('"costs": {', '"costs": {"x": 1' + "0" * 400 + ", "), "costs cannot be"),
        (lambda text: text.replace('"costs": {', '"costs": {"x": "y", '), "costs cannot be"),
        (lambda text: text.replace('"strategy": "er"', f'"strategy": "{"e" * 5000}"'), "strategy cannot be"),
        (
            lambda text: text.replace('"config": {', '"config": {"a": ' + '{"a": ' * 500 + "1" + "}" * 500 + ", "),
            "config",
        ),
        (lambda text: "[" * 100_000 + "]" * 100_000, "nested"),
        (lambda text: "\x00", "not JSON"),
        (lambda text: text.replace('"strategy": "er"', '"strategy": "\\ud800"'), "not Unicode"),
        (lambda text: re.sub('"config": .*', '"config": {"strategy": [1]},', text), "config.strategy is not a group"),
    ],
)
def test_a_hostile_record_is_named_and_everything_else_renders(tmp_path, damage, reason):
    fill(tmp_path)
    path = save(tmp_path, "er", 0.5, stream="damaged")
    changed = damage(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    build_report(tmp_path, tmp_path / "o", charts=False)
    text = (tmp_path / "o" / "leaderboard.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("- damaged/")]
    assert reason in line and len(line) < 400
    assert text.count("\n## ") == 3 + 2  # the three streams, across, left out


def test_odd_numbers_and_long_names_cost_a_chart_at_most(tmp_path):
    fill(tmp_path / "r", streams=["toy"])
    save(tmp_path / "r", "big", 0.5, stream="toy", metrics={"acc": 1e308})
    save(tmp_path / "r", "long", 0.5, stream="toy", protocol="p" * 900)
    save(tmp_path / "r", "joint", 0.5, seed=9, stream="toy", R=matrix(0.5, tasks=3))
    build_report(tmp_path / "r", tmp_path / "o")
    assert "| exssnet |" in (tmp_path / "o" / "leaderboard.md").read_text()


def test_tables_of_two_versions_of_a_stream_do_not_share_names(tmp_path):
    for version, final in (("1", 0.5), ("2", 0.9)):
        save(tmp_path / "r", "er", final, provenance={"stream_version": version})
    page = read(report(tmp_path / "r", tmp_path / "o"))
    assert len(json.loads(page.scripts[0])) == 2
    names = [attributes["id"] for tag, attributes in page.elements if tag == "section" and attributes.get("class")]
    assert len(set(names)) == len(names) == 2


def test_many_records_leave_out_single_runs_and_charts(tmp_path, monkeypatch):
    monkeypatch.setattr("cl_suite.report.pages.html.MOST_RUNS", 5)
    monkeypatch.setattr("cl_suite.report.build.MOST_RUNS", 5)
    fill(tmp_path / "r")
    path = report(tmp_path / "r", tmp_path / "o")
    assert json.loads(read(path).scripts[0]) == {}
    assert "cl-bench report --run RECORD" in path.read_text()
    assert not list((tmp_path / "o").rglob("*.svg"))


def test_the_run_page_repeats_the_run(tmp_path):
    path = save(tmp_path, "er", 0.5, seed=1, options={"lr": 0.3})
    text = build_run_page(path, None).read_text()
    assert "cl-bench --strategy er --stream toy --seed 1" in text and ".../x" not in text
    assert "strategy.lr" in text and "0.3" in text and "<svg" in text
    bare = save(tmp_path, "er", 0.5, seed=2, provenance={})
    assert "strategy.lr=0.1" in build_run_page(bare, None).read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX with pdflatex and booktabs")
def test_latex_compiles(tmp_path):
    fill(tmp_path / "r")
    save(tmp_path / "r", r"\input{x} 50% & $a_b^c$ #1 ~ {é} 中", 0.5, seed=0)
    build_report(tmp_path / "r", tmp_path, charts=False)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "leaderboard.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("width", "scheme"), slow_but({(390, "light"), (1300, "dark")}, product([390, 1300], ["light", "dark"]))
)
def test_a_reader_can_sort_filter_and_follow_a_run(tmp_path, scheme, width):
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    fill(tmp_path / "r")
    save(tmp_path / "r", "tame", 0.3, scenario="task_agnostic", R=matrix(0.3)[-1:] * 6)
    page_path = report(tmp_path / "r", tmp_path / "o", charts=False)
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        problems = []
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on(
            "request", lambda request: problems.append(request.url) if not request.url.startswith("file:") else None
        )
        page.on("console", lambda message: problems.append(message.text))
        page.goto(page_path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.locator("#found").inner_text() == "15 rows in 4 tables"  # bounds that have not run included

        table = page.locator("section.table", has=page.locator("h2", has_text="toy, class_incremental")).first
        names = table.locator("table.sortable").first.locator("tbody th")
        assert names.first.inner_text() == "joint (ceiling)"
        heading = table.get_by_role("button", name="ACC", exact=True)
        heading.focus()
        page.keyboard.press("Enter")  # by keyboard: highest first already, so again
        page.keyboard.press("Enter")
        assert names.first.inner_text() == "finetune (floor)"
        assert heading.locator("xpath=..").get_attribute("aria-sort") == "ascending"

        page.locator("[name=scenario]").select_option("task_agnostic")
        assert page.locator("section.table:visible").count() == 1
        page.locator("button[type=reset]").click()
        page.locator("[name=strategy]").fill("exss")
        assert page.locator("#found").inner_text() == "3 rows in 3 tables"
        page.locator("button[type=reset]").click()
        page.locator("[name=memory]").fill("0.5")
        assert page.locator("section.table:visible tbody tr:visible", has_text="exssnet").count() == 0
        page.locator("button[type=reset]").click()

        table.locator("tbody a", has_text="exssnet").first.click()
        dialog = page.locator("dialog")
        assert dialog.is_visible() and "exssnet on toy" in dialog.inner_text()
        assert "cl-bench --strategy exssnet --stream toy --seed 0" in dialog.inner_text()
        assert dialog.locator("table.matrix tbody tr").count() == 4 * 3
        page.keyboard.press("Escape")
        page.wait_for_function("!location.hash")
        assert not dialog.is_visible()

        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").click()
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)", before
        assert not problems
        browser.close()
