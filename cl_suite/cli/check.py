"""`cl-bench check`: the conformance suite."""

from __future__ import annotations

import argparse

from cl_suite.cli.flags import add_debug_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("spec", help="a name from `cl-bench list`, or path/to/file.py:Class")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. strategy.lr=0.1")
    add_debug_flag(parser)


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.conformance.check import check_strategy

    findings = check_strategy(options.spec, overrides=options.overrides)
    for finding in findings:
        print(finding)
    return 1 if any(finding.failed for finding in findings) else 0
