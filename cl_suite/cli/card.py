"""`cl-bench card`: what the tasks of a stream are."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from cl_suite.cli.flags import add_data_flags, add_debug_flag, add_results_flag, data_root
from cl_suite.core.errors import DataError, UsageError

FOLDER = "cards"  # below the folder of records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "stream", nargs="?", metavar="STREAM", help="a name from `cl-bench list`, or path/to/file.py:Class"
    )
    parser.add_argument("--all", action="store_true", help="every installed stream whose data is at hand, and an index")
    parser.add_argument("--scenario", help="task_incremental, class_incremental, domain_incremental, task_agnostic")
    add_results_flag(parser)
    parser.add_argument("--output", type=Path, help=f"where cards go (default: {FOLDER}/ in the folder of records)")
    add_data_flags(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON and nothing else")
    add_debug_flag(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. stream.n_tasks=10")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    output = options.output or options.results / FOLDER
    if options.all:
        return _all(options, output)
    if options.stream is None:
        raise UsageError("which stream? Name one of `cl-bench list streams`, or write --all.")
    from cl_suite.cards.write import write_card

    written = write_card(
        options.stream,
        output,
        root=data_root(options),
        results=options.results,
        scenario=options.scenario,
        overrides=options.overrides,
    )
    if options.json:
        print(json.dumps({**dataclasses.asdict(written.card), "written": list(map(str, written.files))}, indent=2))
    else:
        _show(written.text)
        print("\n".join(f"{kind}: {path}" for kind, path in zip(("card", "picture"), written.files, strict=False)))
    if written.card.missing:
        print(f"cl-bench: {written.card.missing}", file=sys.stderr)
        return DataError.exit_status
    return 0


def _all(options: argparse.Namespace, output: Path) -> int:
    if options.stream or options.overrides or options.scenario or options.json:
        raise UsageError("--all writes the usual card of every stream. Leave the stream, its options and --json out.")
    from cl_suite.cards.write import INDEX, write_all

    cards, others = write_all(output, root=data_root(options), results=options.results)
    for written in cards:
        print(written.files[0])
    print(output / INDEX)
    for name, reason in others.items():
        print(f"cl-bench: no card of {name}: {reason}", file=sys.stderr)
    return 0


def _show(text: str) -> None:
    """Print Markdown, laid out where there is a terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)
