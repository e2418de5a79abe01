"""What commands share: a parser whose errors are ours, and where data lies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from cl_suite.core.errors import UsageError

INTERRUPTED = 130  # exit status


class Parser(argparse.ArgumentParser):
    """Raises UsageError, which `main` turns into one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the message and where help is."""
        raise UsageError(f"{message}. See {self.prog} --help.")


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add --data-root and --offline."""
    parser.add_argument(
        "--data-root", type=Path, help="where data lives (default: $CL_SUITE_DATA, else the user's cache)"
    )
    parser.add_argument("--offline", action="store_true", help="never download")


def data_root(options: argparse.Namespace) -> Any:
    """Return the DataRoot that these flags name."""
    from cl_suite.core.data_root import DataRoot, default_data_root

    return DataRoot(options.data_root or default_data_root(), offline=options.offline)


def add_results_flag(parser: argparse.ArgumentParser) -> None:
    """Add --results."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")


def add_beside_flag(parser: argparse.ArgumentParser) -> None:
    """Add --beside."""
    parser.add_argument(
        "--beside",
        metavar="reference|FOLDER",
        help="set your rows among those of the records that come with cl-suite, or of another folder",
    )


def add_debug_flag(parser: argparse.ArgumentParser) -> None:
    """Add --debug, which `main` reads."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
