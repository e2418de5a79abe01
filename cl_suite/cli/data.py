"""`cl-bench data`: files of streams."""

from __future__ import annotations

import argparse
import sys

from cl_suite.cli.flags import add_data_flags, data_root
from cl_suite.core.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "streams",
        nargs="*",
        metavar="STREAM",
        help="names from `cl-bench list`, or images:FOLDER (default: all installed)",
    )
    add_data_flags(parser)


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.core.registry import STREAM, choose, installed

    root = data_root(options)
    chosen = [choose(STREAM, name) for name in options.streams or installed(STREAM)]
    status = 0
    for stream in chosen:
        own = stream.cls(stream.cls.Config())
        try:
            checksums, content = own.fetch(root), own.content_digest(root)
        except DataError as problem:  # the others may still be fetched
            print(f"cl-bench: {problem}", file=sys.stderr)
            status = problem.exit_status
            continue
        where = f"read, content {content}" if content else f"verified in {root.path}"
        print(f"{stream.name}: {f'{len(checksums)} files {where}' if checksums else 'needs no files'}")
    return status
