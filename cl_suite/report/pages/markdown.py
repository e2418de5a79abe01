"""The leaderboard as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from cl_suite.report.pages import sentences
from cl_suite.report.pages.columns import COSTS, MISSING, PREFERENCES, SCORES, Cell, Column, has, with_values
from cl_suite.report.tables.across import Across
from cl_suite.report.tables.leaderboard import LeaderboardTable


def leaderboard(
    tables: Sequence[LeaderboardTable],
    across: Sequence[Across],
    notes: Sequence[str],
    links: Sequence[Sequence[tuple[str, str]]],
) -> str:
    """Return the whole page.

    notes: record files and figures that do not count; links: per table (text, file) of its figures, then those of
    `across`
    """
    parts = [f"# Leaderboard\n\n{sentences.INTRODUCTION}"]
    parts += [table_text(table, figure_links) for table, figure_links in zip(tables, links, strict=False)]
    if across:
        parts.append(f"## Across streams\n\n{sentences.ACROSS}\n")
        parts += [
            _across_text(each, figure_links) for each, figure_links in zip(across, links[len(tables) :], strict=True)
        ]
    if notes:
        parts.append("## Left out\n\n" + "".join(f"- {escape(note)}\n" for note in notes))
    return "\n".join(parts)


def table_text(table: LeaderboardTable, links: Sequence[tuple[str, str]] = ()) -> str:
    """Return one table with its heading, its facts, how much it can claim, links to figures, its failed runs."""
    rows = table.lines
    lines = [f"## {escape(sentences.heading(table))}", "", escape(sentences.facts(table)), ""]
    lines += grid(with_values(SCORES, table), rows)
    lines += ["", *(line for line in (sentences.claim(table), *sentences.notes(table)) if line)]
    costs = with_values(COSTS, table)
    lines += ["", *grid(costs, [row for row in rows if row["seeds"]])] if len(costs) > 2 else []
    if has(table, "preference_mean"):
        lines += ["", sentences.PREFERENCES, "", *grid(PREFERENCES, preference_rows(table))]
    if links:
        lines += ["", f"Figures: {', '.join(f'[{_link(text)}]({file})' for text, file in links)}"]
    if table.failed:
        lines += ["", f"Failed runs: {escape('; '.join(table.failed))}"]
    return "\n".join(lines) + "\n"


def preference_rows(table: LeaderboardTable) -> list[dict[object, object]]:
    """Return the rows that were asked for trade-offs, the best preference-weighted score first."""
    frame = table.rows[table.rows["preference_mean_mean"].notna()]
    # Rows that were asked for other numbers of preferences were asked other questions: they are not ranked together.
    order = ["preferences_asked_mean", "preference_mean_mean", "strategy", "config_hash"]
    rows: list[dict[object, object]] = frame.sort_values(order, ascending=[False, False, True, True]).to_dict("records")
    return rows


def grid(columns: Sequence[Column], rows: Sequence[dict[object, object]]) -> list[str]:
    """Return the lines of a table."""
    return [
        _line(column.name for column in columns),
        _line("---" if column.words else "---:" for column in columns),
        *(_line(_cell(column.cell(row)) for column in columns) for row in rows),
    ]


def _across_text(across: Across, links: Sequence[tuple[str, str]]) -> str:
    average, order = across.average_rank, across.order
    names = [escape(across.names[place]) for place in order]
    lines = [f"### {escape(across.scenario)}, protocol {escape(across.protocol)}", "", sentences.ranking(across)]
    if across.ranked_on:
        lines.append(escape(f"Ranked on: {'; '.join(across.ranked_on)}."))
    lines += [
        "",
        _line(["Strategy", "Average rank", "Tables", "10th percentile", *(f"beats {name}" for name in names)]),
    ]
    lines.append(_line(["---", *["---:"] * (len(names) + 3)]))
    for place, name in zip(order, names, strict=True):
        low = across.percentile[place]
        rank = average.get(across.names[place])
        wins = [across.wins[place][other] for other in order]
        cells = [
            MISSING if rank is None else f"{rank:.2f}",
            str(across.tables[place]),
            MISSING if low is None else f"{100 * low:.1f}",
            *(MISSING if math.isnan(rate) else f"{100 * rate:.0f} %" for rate in wins),
        ]
        lines.append(_line([name, *cells]))
    if links:
        lines += ["", f"Figures: {', '.join(f'[{_link(text)}]({file})' for text, file in links)}"]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return {"best": f"**{text}**", "tied": f"{text} ≈"}.get(cell.standing, text)


def escape(text: str) -> str:
    """Return text that cannot break a table, nor be HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\r", " ").replace("\n", " ")


def _link(text: str) -> str:
    return escape(re.sub(r"([\\\[\]])", r"\\\1", text))
