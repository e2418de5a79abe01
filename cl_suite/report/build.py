"""Records to tables, figures and pages: only what is comparable shares a table. Never imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.files import slug, write_atomic
from cl_suite.records.record import load_record
from cl_suite.report.charts.figures import FOLDER, Figure, draw_figure, draw_figures, render_figures
from cl_suite.report.charts.style import as_svg, to_png
from cl_suite.report.charts.which import Chart, across_charts, run_charts, table_charts
from cl_suite.report.pages.html import MOST_RUNS, Drawing, Drawings, embedded, page, run_page
from cl_suite.report.pages.json_file import to_json
from cl_suite.report.pages.latex import to_latex
from cl_suite.report.pages.markdown import leaderboard, table_text
from cl_suite.report.tables.across import Across, across_streams
from cl_suite.report.tables.leaderboard import LeaderboardTable, build_tables, row_key, to_csv
from cl_suite.report.tables.load import YOURS, Loaded, load_results

__all__ = ["build_report", "build_run_page", "read_records", "render_table"]
CHARTS = "charts"  # below the folder of figures


def build_report(results: Path, output: Path, *, charts: bool | None = None, beside: str | None = None) -> list[Path]:
    """Write `leaderboard.md`, `.csv`, `.json`, `.tex`, `.html` and figures of all records below `results` to `output`.

    Return their paths. The same records give the same files, byte for byte. Records that cannot be read and figures
    that cannot be drawn are named in the leaderboard. charts: draw those of tables too; None = up to MOST_RUNS records.
    beside: see `load_results`; then only tables in which `results` has a row are shown, and rows say whose they are.
    Raise UsageError if there is no record to read, or `output` cannot be written.
    """
    loaded = read_records(results, beside)
    tables = tables_of(loaded)
    across = across_streams(tables)
    records = [record for table in tables for several in table.runs.values() for record in several]
    figures, left_out = draw_figures(records, output)
    with_charts = len(records) <= MOST_RUNS if charts is None else charts
    of_tables = [
        [*_charts(table_charts(table), table_slug(table), output, with_charts, left_out), *_trade_offs(table, output)]
        for table in tables
    ]
    of_rows = _of_rows(tables, figures)
    together = [_charts(across_charts(each), across_slug(each), output, with_charts, left_out) for each in across]
    links = [[each.link for each in (*mine, *left)] for mine, left in zip(of_tables, of_rows, strict=True)]
    links += [[each.link for each in several] for several in together]
    drawings = [
        Drawings([each.drawing for each in mine], [each.drawing for each in left])
        for mine, left in zip(of_tables, of_rows, strict=True)
    ]
    drawings += [Drawings([each.drawing for each in several]) for several in together]
    notes = [*loaded.notes, *left_out]
    files = {
        "leaderboard.md": leaderboard(tables, across, notes, links),
        "leaderboard.csv": to_csv(tables),
        "leaderboard.json": to_json(tables, across, notes),
        "leaderboard.tex": to_latex(tables),
        "leaderboard.html": page(tables, across, notes, drawings, [table_slug(table) for table in tables]),
    }
    for name, text in files.items():
        write_atomic(output / name, text, flag="--output")
    pictures = dict.fromkeys(file for several in links for _, file in several)
    return [output / name for name in (*files, *pictures)]


def build_run_page(record: Path, output: Path | None) -> Path:
    """Write a page of one run; return its path. output: a folder (default: that of the record)."""
    if not record.is_file():
        raise UsageError(f"{record} is not a file. Name the record of a run, its seed_N.json.")
    run = load_record(record)
    drawings = [Drawing(chart.title, as_svg(chart.draw, chart.name)) for chart in run_charts(run)]
    figures, _ = render_figures([run])
    diagnostics = [Drawing(figure.name, embedded(figure.image, figure.name)) for figure in figures]
    path = (output or record.parent) / f"{slug(run.strategy)}_{slug(run.stream)}_{run.config_hash}_seed_{run.seed}.html"
    write_atomic(path, run_page(run, Drawings(drawings, diagnostics)), flag="--output")
    return path


def render_table(results: Path, *, stream: str, scenario: str | None = None, protocol: str | None = None) -> str:
    """Return the Markdown tables of one stream (of one scenario, one protocol), for a page to embed.

    Raise UsageError if there is no such record.
    """
    loaded = read_records(results)
    records = [
        record
        for record in loaded.records
        if record.stream == stream and scenario in (None, record.scenario) and protocol in (None, record.protocol)
    ]
    if not records:
        wanted = ", ".join(word for word in (stream, scenario, protocol) if word)
        known = {", ".join((r.stream, r.scenario, r.protocol)) for r in loaded.records}
        raise UsageError(f"no record of {wanted} below {results}. {nearest(wanted, known)}")
    return "\n".join(table_text(table) for table in build_tables(records))


@dataclass(frozen=True)
class Picture:
    """A figure that was written: its link in the Markdown page, and what stands in the HTML page."""

    link: tuple[str, str]
    drawing: Drawing


def _charts(charts: Iterable[Chart], start: str, output: Path, wanted: bool, left_out: list[str]) -> list[Picture]:
    """Write each chart as SVG and PNG; what cannot be drawn is named in `left_out`."""
    pictures = []
    for chart in charts if wanted else ():
        file = f"{FOLDER}/{CHARTS}/{start}_{chart.name}.svg"
        try:
            svg, png = as_svg(chart.draw, f"{start} {chart.name}"), to_png(chart.draw)
        except Exception as problem:  # whatever odd numbers do to it, the tables are whole
            left_out.append(
                f"chart {chart.name} of {start}: {type(problem).__name__}: {' '.join(str(problem).split())}"
            )
            continue
        write_atomic(output / file, svg, flag="--output")
        write_atomic((output / file).with_suffix(".png"), png, flag="--output")
        pictures.append(Picture((chart.name.replace("_", " "), file), Drawing(chart.title, svg)))
    return pictures


def _trade_offs(table: LeaderboardTable, output: Path) -> list[Picture]:
    """Draw the figures of preferences that belong to a whole table."""
    pictures = []
    for name, figure in table.figures.items():
        file = f"{FOLDER}/{table_slug(table)}_preferences_{name}.png"
        image = draw_figure(figure, f"{table.key['stream']}, {table.key['scenario']}")
        write_atomic(output / file, image, flag="--output")
        pictures.append(Picture((name, file), Drawing(figure["title"], embedded(image, figure["title"]))))
    return pictures


def table_slug(table: LeaderboardTable) -> str:
    """Return the start of a table's file names."""
    key = table.key
    apart = key["stream_options"] + (key["stream_version"] if key["stream_version"] != "1" else "")
    more = f"_{hashlib.sha256(apart.encode()).hexdigest()[:6]}" if apart else ""
    return "_".join(map(slug, (key["stream"], key["scenario"], key["protocol"]))) + more


def across_slug(across: Across) -> str:
    """Return the start of the file names of a comparison across streams."""
    return f"across_{slug(across.scenario)}_{slug(across.protocol)}"


def _of_rows(tables: Sequence[LeaderboardTable], figures: Sequence[Figure]) -> list[list[Picture]]:
    """Return for each table the figures that its records left, in the order of its rows."""
    by_record: dict[int, list[Figure]] = {}
    for figure in figures:
        by_record.setdefault(id(figure.record), []).append(figure)
    of_tables = []
    for table in tables:
        pictures = []
        for row in table.lines:
            options = f" ({row['configuration']})" if row["configuration"] else ""
            for record in table.runs.get(row_key(row), []):
                for figure in by_record.get(id(record), []):
                    name = f"{record.strategy} {figure.name}{options}"
                    pictures.append(Picture((name, figure.file), Drawing(name, embedded(figure.image, name))))
        of_tables.append(pictures)
    return of_tables


def tables_of(loaded: Loaded) -> list[LeaderboardTable]:
    """Return the tables of what was read; where others stand beside it, those with a run of one's own."""
    tables = build_tables(loaded.records, loaded.origins)
    return [table for table in tables if YOURS in table.origins] if YOURS in loaded.origins else tables


def read_records(results: Path, beside: str | None = None) -> Loaded:
    """Return all records below a folder. Raise UsageError if none can be read.

    beside: see `load_results`; it does not replace records of one's own
    """
    loaded = load_results(results, beside)
    if any(origin in ("", YOURS) for origin in loaded.origins):
        return loaded
    own = [note for note in loaded.notes if beside is None or f"({YOURS})" in note]
    if own:
        raise UsageError(f"no record below {results} can be read. The first: {own[0]}.")
    raise UsageError(
        f"no records below {results}. Run cl-bench --strategy NAME --stream NAME first, "
        "or name the folder of records with --results."
    )
