"""Records to tables, figures and pages: only what is comparable shares a table. Never imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cl_suite.errors import UsageError, nearest
from cl_suite.record import slug, write_atomic
from cl_suite.report.across import across_streams
from cl_suite.report.data import to_json
from cl_suite.report.figures import FOLDER, Figure, draw_figure, draw_figures
from cl_suite.report.html import page
from cl_suite.report.latex import to_latex
from cl_suite.report.load import Loaded, load_results
from cl_suite.report.markdown import leaderboard, table_text
from cl_suite.report.tables import LeaderboardTable, build_tables, to_csv

__all__ = ["build_report", "read_records", "render_table"]
Links = list[tuple[str, str]]  # (text, file below the output folder)


def build_report(results: Path, output: Path) -> list[Path]:
    """Write `leaderboard.md`, `.csv`, `.json`, `.tex` and the figures of all records below `results` into `output`.

    Return their paths. The same records give the same files, byte for byte. Records that cannot be read and figures
    that cannot be drawn are named in the leaderboard.
    Raise UsageError if there is no record to read, or `output` cannot be written.
    """
    loaded = read_records(results)
    tables = build_tables(loaded.records)
    across = across_streams(tables)
    figures, left_out = draw_figures(loaded.records, output)
    links = [draw_table_figures(table, output) + own for table, own in zip(tables, _own(tables, figures), strict=True)]
    links += [[] for _ in across]
    notes = [*loaded.notes, *left_out]
    files = {
        "leaderboard.md": leaderboard(tables, across, notes, links),
        "leaderboard.csv": to_csv(tables),
        "leaderboard.json": to_json(tables, across, notes),
        "leaderboard.tex": to_latex(tables),
        "leaderboard.html": page(tables, across, notes, slugs=[table_slug(table) for table in tables]),
    }
    for name, text in files.items():
        write_atomic(output / name, text, flag="--output")
    drawn = dict.fromkeys(file for several in links for _, file in several)
    return [output / name for name in (*files, *drawn)]


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


def draw_table_figures(table: LeaderboardTable, output: Path) -> Links:
    """Draw what belongs to a whole table; return the links."""
    links = []
    for name, figure in table.figures.items():
        file = f"{FOLDER}/{table_slug(table)}_preferences_{name}.png"
        image = draw_figure(figure, f"{table.key['stream']}, {table.key['scenario']}")
        write_atomic(output / file, image, flag="--output")
        links.append((name, file))
    return links


def table_slug(table: LeaderboardTable) -> str:
    """Return the start of a table's file names."""
    key = table.key
    more = f"_{hashlib.sha256(key['stream_options'].encode()).hexdigest()[:6]}" if key["stream_options"] else ""
    return "_".join(map(slug, (key["stream"], key["scenario"], key["protocol"]))) + more


def _own(tables: Sequence[LeaderboardTable], figures: Sequence[Figure]) -> list[Links]:
    """Return for each table the links to figures that its records left, in the order of its rows."""
    by_record: dict[int, list[Figure]] = {}
    for figure in figures:
        by_record.setdefault(id(figure.record), []).append(figure)
    found = []
    for table in tables:
        links: Links = []
        for row in table.lines:
            options = f" ({row['configuration']})" if row["configuration"] else ""
            for record in table.runs.get((row["strategy"], row["config_hash"]), []):
                for figure in by_record.get(id(record), []):
                    links.append((f"{record.strategy} {figure.name}{options}", figure.file))
        found.append(links)
    return found


def read_records(results: Path) -> Loaded:
    """Return all records below a folder. Raise UsageError if none can be read."""
    loaded = load_results(results)
    if loaded.records:
        return loaded
    if loaded.notes:
        raise UsageError(f"no record below {results} can be read. The first: {loaded.notes[0]}.")
    raise UsageError(
        f"no records below {results}. Run cl-bench --strategy NAME --stream NAME first, "
        "or name the folder of records with --results."
    )
