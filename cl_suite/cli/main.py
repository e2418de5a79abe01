"""The command line: `cl-bench`. Parses, calls, prints. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from cl_suite.cli import COMMANDS
from cl_suite.cli.flags import INTERRUPTED, Parser
from cl_suite.core.errors import CLSuiteError, UsageError, nearest
from cl_suite.core.version import __version__

DEFAULT = "run"  # the command that needs no word


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `cl-bench` and exit: 0 done, 1 a run failed, 2 the request was wrong, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    # Threads that wait sleep instead of spinning: beside another busy process a run is then not many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = _dispatch(arguments)
    except CLSuiteError as problem:
        if debug:
            traceback.print_exc()
        print(f"cl-bench: {problem}", file=sys.stderr)
        status = problem.exit_status
    except BrokenPipeError:  # the reader, e.g. `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as problem:  # the last resort: still one line, and where to see more
        if debug:
            traceback.print_exc()
        text = str(problem).partition("\n")[0]
        print(f"cl-bench: {type(problem).__name__}: {text}. See where with --debug.", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("cl-bench: interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


def _interrupt(signal_number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        _parser(DEFAULT).print_help()
        return 2
    name, rest = (arguments[0], arguments[1:]) if arguments[0] in COMMANDS else (DEFAULT, arguments)
    if name == DEFAULT and rest and not rest[0].startswith("-") and "=" not in rest[0]:
        raise UsageError(f"there is no command {rest[0]!r}. {nearest(rest[0], COMMANDS)}")
    options = _parser(name).parse_intermixed_args(rest)
    options.arguments = rest  # as they were written, for the record
    status: int = _module(name).execute(options)
    return status


def _module(name: str) -> Any:
    return import_module(f"cl_suite.cli.{COMMANDS[name][0]}")


def _parser(name: str) -> argparse.ArgumentParser:
    text = COMMANDS[name][1]
    parser = _main_parser() if name == DEFAULT else Parser(prog=f"cl-bench {name}", description=text)
    _module(name).add_arguments(parser)
    return parser


def _main_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:8}{text}" for name, (_, text) in COMMANDS.items())
    parser = Parser(
        prog="cl-bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a continual-learning strategy on a task stream, score it, save a record.",
        epilog=f"commands (each has --help):\n{commands}\n\nexamples:\n"
        "  cl-bench run\n"
        "  cl-bench --strategy exssnet --stream split_cifar100\n"
        "  cl-bench --strategy er --stream split_digits --scenario class_incremental strategy.buffer_size=200\n"
        "  cl-bench --strategy my_method.py:MyMethod --stream split_digits --seeds 0,1,2 train.epochs=3",
    )
    parser.add_argument("--version", action="version", version=f"cl-suite {__version__}")
    return parser
