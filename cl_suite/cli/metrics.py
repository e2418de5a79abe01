"""`cl-bench metrics`: one run as every library would report it, and where they differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cl_suite.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("record", type=Path, metavar="RECORD", help="a record, results/.../seed_<n>.json")
    parser.add_argument(
        "--definitions",
        default="all",
        metavar="NAMES",
        help="all (the default), or some: bwt@gem,forgetting (every forgetting@...)",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="RECORD",
        help="another run on the same tasks, for what is held against one: of joint, or single_task",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.report.definitions import as_text, every_definition

    reference = None if options.reference is None else _load(options.reference)
    computed = every_definition(_load(options.record), reference, options.definitions)
    print(json.dumps(computed, indent=2) if options.json else as_text(computed))
    return 0


def _load(path: Path) -> Any:
    from cl_suite.records.record import load_record

    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name one record in it, e.g. {_first(path)}.")
    if not path.exists():
        raise UsageError(f"there is no record {path}. Records lie in results/<stream>/<scenario>/<strategy>/<hash>/.")
    return load_record(path)


def _first(folder: Path) -> str:
    return str(next(iter(sorted(folder.rglob("seed_*.json"))), "seed_0.json"))
