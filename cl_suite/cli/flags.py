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


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the saved model, what chooses among its answers, and where plugins are that came from files."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="what --save-model wrote: seed_<n>.model.safetensors")
    parser.add_argument("--task", help="number or name of the task; needed where the scenario tells it")
    parser.add_argument("--preference", help="one weight per task learned, e.g. 0.7,0.3, of strategies that have one")
    parser.add_argument("--strategy", help="path/to/file.py:Class, where the strategy's file has moved")
    parser.add_argument("--stream", help="path/to/file.py:Class, where the stream's file has moved")


def saved_model(options: argparse.Namespace, *, device: str = "cpu") -> Any:
    """Return the predictor that these flags name."""
    from cl_suite.saved_models.load import load_predictor

    return load_predictor(options.model, device, strategy=options.strategy, stream=options.stream)


def preference(options: argparse.Namespace) -> list[float] | None:
    """Return the weights of --preference. Raise UsageError for what is no list of numbers."""
    if options.preference is None:
        return None
    try:
        return [float(part) for part in options.preference.split(",")]
    except ValueError as problem:
        raise UsageError(
            f"--preference {options.preference} is not a list of weights. Write for example --preference 0.7,0.3."
        ) from problem


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
