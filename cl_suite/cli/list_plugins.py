"""`cl-bench list`: the installed strategies and streams."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("what", nargs="?", choices=("strategies", "streams"), help="only these")
    parser.add_argument("--json", action="store_true", help="as JSON")


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    from cl_suite.core.registry import STRATEGY, STREAM, installed, provided, summary

    kinds = {"strategies": STRATEGY, "streams": STREAM}
    found = {
        what: [
            *(
                {"name": name, "summary": summary(point), "class": point.value}
                for name, point in installed(kind).items()
            ),
            *({"name": name, "summary": text, "class": module} for name, (text, module) in provided(kind).items()),
        ]
        for what, kind in kinds.items()
        if options.what in (None, what)
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max((len(entry["name"]) for entries in found.values() for entry in entries), default=0)
    for what, entries in found.items():
        print(f"{what}:")
        for entry in entries:
            print(f"  {entry['name']:{width}} {entry['summary']}")
    return 0
