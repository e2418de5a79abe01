"""`cl-bench new`: a plugin to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("kind", choices=("strategy",), help="what to write")
    parser.add_argument("name", help="in snake_case, e.g. my_method")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.cli.support.scaffold import write_strategy

    for path in write_strategy(options.name, Path.cwd()):
        print(path)
    return 0
