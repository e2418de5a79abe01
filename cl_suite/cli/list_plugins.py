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

from cl_suite.core.errors import CLSuiteError, UsageError, nearest
from cl_suite.core.scenario import Scenario, StreamFacts, StreamSizes

LEAST = 60  # characters left for a line about a plugin; with fewer it stands below the plugin
MODALITIES = ("image", "text", "robot", "vector")
SIZES = [field.name for field in dataclasses.fields(StreamSizes)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("what", nargs="?", choices=("strategies", "streams"), help="only these")
    parser.add_argument(
        "--modality", type=_modality, metavar="|".join(MODALITIES), help="only streams whose samples are of this kind"
    )
    parser.add_argument("--scenario", metavar="NAME", help="only what runs in this scenario; of strategies, how")
    parser.add_argument("--embedded", action="store_true", help="only streams that need no files")
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    of_streams = options.embedded or options.modality is not None
    if of_streams and options.what == "strategies":
        raise UsageError("--modality and --embedded are of streams. Leave them out, or write: cl-bench list streams.")
    scenario = None if options.scenario is None else _scenario(options.scenario)
    wanted = options.what or ("streams" if of_streams else None)
    plugins = {}
    if wanted in (None, "strategies"):
        plugins["strategies"] = _strategies() if scenario is None else _strategies_in(scenario)
    if wanted in (None, "streams"):
        plugins["streams"] = [
            entry
            for entry in _streams()
            if (options.modality in (None, entry["modality"]))
            and (scenario is None or scenario in (entry["scenarios"] or ()))
            and (entry["embedded"] or not options.embedded)
        ]
    if options.json:
        print(json.dumps(plugins, indent=2))
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for what, entries in plugins.items():
        print(f"{what}:")
        rows: list[tuple[str, ...]]
        if what == "strategies":
            rows = [(entry["name"],) for entry in entries]
            if scenario is not None:
                rows = [(entry["name"], entry["options"]) for entry in entries]
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


def _modality(text: str) -> str:
    """Return a modality as streams state it: `text` and `texts` are both texts."""
    known = [f"{each}s" for each in MODALITIES]
    if f"{text.removesuffix('s')}s" not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none. {nearest(text, MODALITIES)}")
    return f"{text.removesuffix('s')}s"


def _scenario(name: str) -> Scenario:
    if name not in list(Scenario):
        raise UsageError(f"--scenario {name} is not known. {nearest(name, [each.value for each in Scenario])}")
    return Scenario(name)


def _strategies_in(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the strategies that run in a scenario, with the options under which they do, "" = by default.

    One that cannot be loaded is passed over.
    """
    from cl_suite.info.strategies import runs_in

    found = []
    for entry in _strategies():
        try:
            ways = runs_in(entry["name"], scenario)
        except CLSuiteError:
            continue
        found += [{**entry, "options": ways[0]}] if ways else []
    return found


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
    from cl_suite.core.registry import STREAM, installed, openers, provided, summary
    from cl_suite.info.read_facts import facts_of, opener_facts, provided_facts

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
