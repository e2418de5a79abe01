"""`cl-bench report`: saved records to a leaderboard, or one record to a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from cl_suite.cli.flags import add_beside_flag, add_results_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_results_flag(parser)
    add_beside_flag(parser)
    parser.add_argument("--output", type=Path, help="where the leaderboard goes (default: the folder of records)")
    parser.add_argument("--run", type=Path, metavar="RECORD", help="show this one run instead: its seed_N.json")
    parser.add_argument(
        "--charts",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw charts of the tables (default: up to 2,000 records)",
    )


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.report.build import build_report, build_run_page

    if options.run:
        print(build_run_page(options.run, options.output))
        return 0
    output = options.output or options.results
    for path in build_report(options.results, output, charts=options.charts, beside=options.beside):
        print(path)
    return 0
