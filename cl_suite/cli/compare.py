"""`cl-bench compare`: two strategies beside each other, or ours beside published figures."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cl_suite.cli.flags import add_beside_flag, add_results_flag
from cl_suite.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("rows", nargs="*", metavar="STRATEGY", help="two of them; er@3f2a is one configuration of er")
    parser.add_argument("--against", choices=("paper",), help="set our figures beside published ones instead")
    parser.add_argument("--metric", help="what to compare two strategies in (default: acc)")
    parser.add_argument("--stream", help="only this stream")
    parser.add_argument("--scenario", help="only this scenario")
    add_results_flag(parser)
    add_beside_flag(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    if options.against and options.rows:
        raise UsageError("--against paper takes no strategies. Leave them out, or leave out --against.")
    if options.against and options.metric:
        raise UsageError("--against paper compares ACC. Leave out --metric.")
    options.metric = options.metric or "acc"
    if not options.against and len(options.rows) != 2:
        raise UsageError("name two strategies, such as: cl-bench compare er der++. Or use --against paper.")
    from cl_suite.report.build import read_records

    if options.against and options.beside:
        raise UsageError("--against paper takes your own records. Leave out --beside.")
    loaded = read_records(options.results, options.beside).only(
        lambda record: options.stream in (None, record.stream) and options.scenario in (None, record.scenario)
    )
    entries = _published(loaded.records, options) if options.against else _compared(loaded, options)
    if options.json:
        print(json.dumps([each.to_dict() for each in entries], indent=2))
        return 0
    from rich.console import Console

    from cl_suite.report.compare.terminal import comparisons, published

    console = Console()
    for piece in published(entries) if options.against else comparisons(entries, options.metric):
        console.print(piece)
    return 0


def _published(records: list[Any], options: argparse.Namespace) -> list[Any]:
    from cl_suite.core.registry import STRATEGY, STREAM, installed
    from cl_suite.report.compare.published import beside_published, setting_names

    names = setting_names([*installed(STRATEGY)], [*installed(STREAM)])
    figures = beside_published(records, names)
    selection = [
        each for each in figures if options.stream in (None, each.stream) and options.scenario in (None, each.scenario)
    ]
    if not selection:
        raise UsageError("no published figure is kept for this stream and scenario. Leave out --stream or --scenario.")
    return selection


def _compared(loaded: Any, options: argparse.Namespace) -> list[Any]:
    from cl_suite.report.build import tables_of
    from cl_suite.report.compare.paired import compare

    if not loaded.records:
        raise UsageError(f"no record of this stream and scenario below {options.results}. Check the names.")
    return list(compare(tables_of(loaded), *options.rows, measure=options.metric))
