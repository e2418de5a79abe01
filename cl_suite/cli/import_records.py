"""`cl-bench import`: take the records of an archive in, once they are verified."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cl_suite.cli.flags import add_results_flag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a file that `cl-bench submit` wrote")
    add_results_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace records that are there and differ")
    parser.add_argument("--dry-run", action="store_true", help="only verify; write nothing")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status: 2 if any record was refused."""
    from cl_suite.records.archive import Archive, texts
    from cl_suite.records.sharing import receive

    with Archive(options.archive) as archive:
        done = receive(archive, options.results, overwrite=options.overwrite, dry_run=options.dry_run)
        for line in texts(archive.manifest):
            print(line)
        print(f"manifest sha256: {archive.fingerprint}")
    for path in done.imported:
        print(f"{'would be imported' if options.dry_run else 'imported'}: {path}")
    for place, reasons in done.refused.items():
        print(f"cl-bench: refused {place}: {'; '.join(reasons)}", file=sys.stderr)
    verb = "would be imported" if options.dry_run else "imported"
    print(f"{len(done.imported)} {verb}, {len(done.present)} already there, {len(done.refused)} refused")
    return 2 if done.refused else 0
