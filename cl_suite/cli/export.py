"""`cl-bench export`: a saved model as one program."""

from __future__ import annotations

import argparse
from pathlib import Path

from cl_suite.cli.flags import add_debug_flag, add_model_flags, preference, saved_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_model_flags(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="ends in .pt2 (torch.export) or .onnx (extra: onnx)")
    add_debug_flag(parser)


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    weights = preference(options)
    written = saved_model(options).export(options.file, options.task, preference=weights)
    print(f"program: {written}")
    return 0
