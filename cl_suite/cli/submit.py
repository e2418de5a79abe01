"""`cl-bench submit`: records into one archive that can be verified."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cl_suite.cli.flags import add_results_flag
from cl_suite.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_results_flag(parser)
    parser.add_argument("--stream", action="append", default=[], help="only this stream; may be given again")
    parser.add_argument("--strategy", action="append", default=[], help="only this strategy; may be given again")
    parser.add_argument("--output", type=Path, default=Path("submission.zip"), help="default: submission.zip")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that is there")
    parser.add_argument("--name", default="", help="what the archive is called, in its manifest")
    parser.add_argument("--who", default="", help="who sends it, in its manifest (default: not told)")
    parser.add_argument("--skip-invalid", action="store_true", help="leave out records that fail validation")
    parser.add_argument("--dry-run", action="store_true", help="only validate; write nothing")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status: 2 if a record failed validation, unless it was to be left out."""
    from cl_suite.records.sharing import bundle, summary, survey

    if options.output.exists() and not (options.overwrite or options.dry_run):
        raise UsageError(f"{options.output} is there already. Name another file with --output, or --overwrite it.")
    records = survey(options.results, streams=options.stream, strategies=options.strategy)
    for place, reasons in records.refused.items():
        print(f"cl-bench: {options.results / place}: {'; '.join(reasons)}", file=sys.stderr)
    counts = summary(records.sound.values())["counts"]
    valid = f"{counts['records']} records valid ({counts['complete']} complete, {counts['failed']} failed runs)"
    if options.dry_run:
        print(f"{valid}, {len(records.refused)} not")
        return 2 if records.refused else 0
    if records.refused and not options.skip_invalid:
        raise UsageError(
            f"{len(records.refused)} of {len(records.refused) + counts['records']} records failed validation, and "
            "nothing was written. Run them again, or leave them out with --skip-invalid."
        )
    if not records.sound:
        raise UsageError(f"no record below {options.results} is valid, and nothing was written. Run them again.")
    from cl_suite.core.files import write_atomic

    content, fingerprint = bundle(options.results, records.sound, name=options.name, who=options.who)
    write_atomic(options.output, content, flag="--output")
    print(f"{options.output}: {valid}, {len(content)} bytes")
    print(f"manifest sha256: {fingerprint}")
    return 0
