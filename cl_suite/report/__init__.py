"""Records to tables: only what is comparable shares one. Never imports torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cl_suite.errors import UsageError, nearest
from cl_suite.record import slug, write_atomic
from cl_suite.report.figures import FOLDER, draw_figure, draw_figures
from cl_suite.report.load import Loaded, load_results
from cl_suite.report.markdown import leaderboard, table_text
from cl_suite.report.tables import LeaderboardTable, build_tables, to_csv

__all__ = ["build_report", "render_table"]


def build_report(results: Path, output: Path) -> list[Path]:
    """Write `leaderboard.md`, `leaderboard.csv` and the figures of all records below `results` into `output`.

    Return their paths. The same records give the same files, byte for byte. Records that cannot be read and figures
    that cannot be drawn are named in the leaderboard.
    Raise UsageError if there is no record to read, or `output` cannot be written.
    """
    loaded = load_results(results)
    _refuse_empty(loaded, results)
    tables = build_tables(loaded.records)
    figures, left_out = draw_figures(loaded.records, output)
    own = [draw_table_figures(table, output) for table in tables]
    files = {
        "leaderboard.md": leaderboard(tables, [*loaded.notes, *left_out], figures, own),
        "leaderboard.csv": to_csv(tables),
    }
    for name, text in files.items():
        write_atomic(output / name, text, flag="--output")
    drawn = [*(figure.file for figure in figures), *(file for each in own for file in each.values())]
    return [output / name for name in (*files, *drawn)]


def render_table(results: Path, *, stream: str, scenario: str | None = None, protocol: str | None = None) -> str:
    """Return the Markdown tables of one stream (of one scenario, one protocol), for a page to embed.

    Raise UsageError if there is no such record.
    """
    loaded = load_results(results)
    _refuse_empty(loaded, results)
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


def draw_table_figures(table: LeaderboardTable, output: Path) -> dict[str, str]:
    """Draw what belongs to a whole table; return {name: file below the output folder}."""
    key = table.key
    more = f"_{hashlib.sha256(key['stream_options'].encode()).hexdigest()[:6]}" if key["stream_options"] else ""
    start = "_".join(map(slug, (key["stream"], key["scenario"], key["protocol"]))) + more
    files = {}
    for name, figure in table.figures.items():
        files[name] = f"{FOLDER}/{start}_preferences_{name}.png"
        image = draw_figure(figure, f"{key['stream']}, {key['scenario']}")
        write_atomic(output / files[name], image, flag="--output")
    return files


def _refuse_empty(loaded: Loaded, results: Path) -> None:
    if loaded.records:
        return
    if loaded.notes:
        raise UsageError(f"no record below {results} can be read. The first: {loaded.notes[0]}.")
    raise UsageError(
        f"no records below {results}. Run cl-bench --strategy NAME --stream NAME first, "
        "or name the folder of records with --results."
    )
