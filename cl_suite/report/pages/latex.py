"""Tables as LaTeX with booktabs: a document that compiles by itself, and whose tables can be copied out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cl_suite.report.pages import sentences
from cl_suite.report.pages.columns import COSTS, SCORES, Cell, Column, with_values
from cl_suite.report.tables.leaderboard import LeaderboardTable

BEGIN = r"""% Written by cl-bench report. Needs booktabs; graphicx shrinks what is wider than the page.
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\setlength{\parindent}{0pt}
\begin{document}
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    '"': r"\textquotedbl{}",
    "-": r"{-}",  # never a ligature
}
CHARACTERS = 48  # of a row's name


def to_latex(tables: Sequence[LeaderboardTable]) -> str:
    """Return the document: scores and costs of each table."""
    legend = sentences.INTRODUCTION.replace("`", "").replace("marked as tied", "underlined")
    parts = [BEGIN, escape(legend) + "\n"]
    parts += [_table(table) for table in tables]
    return "\n".join(parts) + "\\end{document}\n"


def _table(table: LeaderboardTable) -> str:
    rows = table.lines
    lines = [f"\\section*{{{escape(sentences.heading(table))}}}", f"{escape(sentences.facts(table))}", ""]
    lines += _tabular(with_values(SCORES, table), rows)
    lines += [escape(line) + "\n" for line in (sentences.claim(table), *sentences.notes(table)) if line]
    costs = with_values(COSTS, table)
    if len(costs) > 2:
        lines += _tabular(costs, [row for row in rows if row["seeds"]])
    return "\n".join(lines)


def _tabular(columns: Sequence[Column], rows: Sequence[dict[object, object]]) -> list[str]:
    kinds = "".join("l" if column.words else "r" for column in columns)
    return [
        r"\medskip\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        f"\\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        " & ".join(escape(column.name) for column in columns) + r" \\",
        r"\midrule",
        *(" & ".join(_cell(column.cell(row)) for column in columns) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\medskip",
    ]


def _cell(cell: Cell) -> str:
    text = escape(cell.text if len(cell.text) <= CHARACTERS else f"{cell.text[: CHARACTERS - 3]}...")
    if cell.text == "-":
        return "--"
    return {"best": f"\\textbf{{{text}}}", "tied": f"\\underline{{{text}}}"}.get(cell.standing, text)


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is; letters that its usual fonts lack become a question mark."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
    signed = re.sub(r"(?<![\w.])-(?=\d)", "\x00", plain)  # a minus sign, not a hyphen
    latin = "".join(letter if letter == "\x00" or ord(letter) < 256 else "?" for letter in signed)
    return "".join(SPECIAL.get(letter, letter) for letter in latin).replace("\x00", "$-$")
