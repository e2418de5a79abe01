"""`cl-bench list`: the installed strategies and streams."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from cl_suite.core.scenario import StreamFacts, StreamSizes

LEAST = 60  # characters left for a line about a plugin; with fewer it stands below the plugin
SIZES = [field.name for field in dataclasses.fields(StreamSizes)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("what", nargs="?", choices=("strategies", "streams"), help="only these")
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    plugins = {
        what: entries()
        for what, entries in (("strategies", _strategies), ("streams", _streams))
        if options.what in (None, what)
    }
    if options.json:
        print(json.dumps(plugins, indent=2))
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for what, entries in plugins.items():
        print(f"{what}:")
        rows: list[tuple[str, ...]]
        if what == "strategies":
            rows = [(entry["name"],) for entry in entries]
        else:
            rows = [(entry["name"], entry["modality"] or "-", _size(entry), entry["needs"] or "-") for entry in entries]
            rows.insert(0, ("name", "modality", "tasks x classes", "needs"))
        summaries = [entry["summary"] for entry in entries]
        for line in laid_out(rows, ["what it is"] * (len(rows) - len(entries)) + summaries, width):
            print(line)
    return 0


def laid_out(rows: Sequence[Sequence[str]], summaries: Sequence[str], width: int) -> list[str]:
    """Return lines of aligned columns, each with its summary behind it; in a narrow terminal the summary is below.

    width: of the terminal; 0 = there is none, and each row is one line
    """
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(len(rows[0]) if rows else 0)]
    room = width - 2 - sum(each + 1 for each in widths)
    lines = []
    for row, summary in zip(rows, summaries, strict=True):
        cells = " ".join(f"{cell:{wide}}" for cell, wide in zip(row, widths, strict=True))
        if not width:
            lines.append(f"  {cells} {summary}".rstrip())
        elif room >= LEAST or len(widths) == 1:
            first, *more = textwrap.wrap(summary, max(room, 20)) or [""]
            lines += [f"  {cells} {first}".rstrip(), *(f"{' ' * (width - room)}{line}" for line in more)]
        else:
            lines += [
                f"  {cells}".rstrip(),
                *textwrap.wrap(summary, width, initial_indent=" " * 6, subsequent_indent=" " * 6),
            ]
    return lines


def _strategies() -> list[dict[str, Any]]:
    from cl_suite.core.registry import STRATEGY, installed, provided, summary

    return [
        *(
            {"name": name, "summary": summary(point), "class": point.value}
            for name, point in installed(STRATEGY).items()
        ),
        *({"name": name, "summary": text, "class": module} for name, (text, module) in provided(STRATEGY).items()),
    ]


def _streams() -> list[dict[str, Any]]:
    from cl_suite.cli.read_facts import facts_of, opener_facts, provided_facts
    from cl_suite.core.registry import STREAM, installed, openers, provided, summary

    return [
        *(
            {"name": name, "summary": summary(point), "class": point.value, **_public(facts_of(name, point))}
            for name, point in installed(STREAM).items()
        ),
        *(
            {"name": name, "summary": text, "class": module, **_public(provided_facts(name, module))}
            for name, (text, module) in provided(STREAM).items()
        ),
        *(
            {"name": form, "summary": summary(point), "class": point.value, **_public(opener_facts(point))}
            for form, point in openers(STREAM).items()
        ),
    ]


def _public(facts: StreamFacts | None) -> dict[str, Any]:
    """Return facts for JSON; all None where a stream says nothing."""
    if facts is None:
        names = [each.name for each in dataclasses.fields(StreamFacts) if each.name != "prerequisites"]
        return {**dict.fromkeys([*names, "needs"]), "sizes": dict.fromkeys(SIZES)}
    public = dataclasses.asdict(facts)
    del public["prerequisites"]
    return {**public, "needs": facts.needs}


def _size(entry: dict[str, Any]) -> str:
    """Return tasks x classes of a task, as far as they are known: 20 x 5, 16 x 2-10, 10."""
    tasks, classes = entry["sizes"]["tasks"], entry["sizes"]["classes_per_task"]
    if isinstance(classes, tuple):
        classes = "-".join(map(str, classes))
    return " x ".join(str(each) for each in (tasks, classes) if each is not None) or "-"
