"""`cl-bench predict`: what a saved model answers for files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cl_suite.cli.flags import add_debug_flag, add_model_flags, preference, saved_model
from cl_suite.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_model_flags(parser)
    parser.add_argument(
        "inputs",
        type=Path,
        metavar="INPUTS",
        help="a folder of images, an image, a CSV of numbers, texts (CSV, or a line each), or .npz",
    )
    parser.add_argument("--columns", metavar="A,B", help="columns of a CSV to read: the text's, or the numbers'")
    parser.add_argument("--resize", action="store_true", help="make images of another size or mode fit")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, auto (default: cpu)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--output", type=Path, metavar="FILE.csv", help="write the answers there instead")
    shape.add_argument("--json", action="store_true", help="print the answers as JSON and nothing else")
    add_debug_flag(parser)


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    weights = preference(options)
    if options.output is not None and options.output.suffix != ".csv":
        raise UsageError(f"--output {options.output} is no .csv. Name it so, or use --json.")
    if not options.inputs.exists():
        raise UsageError(f"there is no {options.inputs}. Check the path of the inputs.")
    saved = saved_model(options, device=options.device)
    from cl_suite.saved_models.answers import answers_for, as_csv
    from cl_suite.saved_models.input_files import read_inputs

    saved.check_classes()
    read = read_inputs(
        options.inputs,
        saved.task(options.task) or saved.tasks[0],
        columns=options.columns.split(",") if options.columns else None,
        learned=saved.info["columns"],
        resize=options.resize,
    )
    rows = answers_for(saved, read, options.task, preference=weights)
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.output is not None:
        from cl_suite.core.files import write_atomic

        write_atomic(options.output, as_csv(rows), flag="--output")
        print(f"answers: {options.output}")
    else:
        _show(rows)
    return 0


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table of plain text."""
    names = list(rows[0])
    cells = [[f"{row[name]:.4f}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[n]) for line in cells)) for n, name in enumerate(names)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
