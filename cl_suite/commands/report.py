"""`cl-bench report`: saved records to a leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path

from cl_suite.commands.flags import add_results_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_results_flag(parser)
    parser.add_argument("--output", type=Path, help="where the leaderboard goes (default: the folder of records)")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.report import build_report

    for path in build_report(options.results, options.output or options.results):
        print(path)
    return 0
