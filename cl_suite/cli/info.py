"""`cl-bench info`: what a strategy, a stream, a network, a metric or anything else with a name is."""

from __future__ import annotations

import argparse
import json

from cl_suite.cli.flags import add_debug_flag, add_results_flag
from cl_suite.core.errors import UsageError

EXAMPLES = "er, split_mnist, conv_small, forgetting, calibration, quick, class_incremental, train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"such as {EXAMPLES}; or path/to/file.py:Class of your own"
    )
    add_results_flag(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_debug_flag(parser)


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.info.find import find

    if options.name is None:
        raise UsageError(f"what about? Name a strategy, a stream, a network, a metric, ...: {EXAMPLES}.")
    answers = find(options.name, options.results)
    if options.json:
        print(json.dumps([answer.to_dict() for answer in answers], indent=2))
    else:
        print("\n\n".join(answer.to_text() for answer in answers))
    return 0
