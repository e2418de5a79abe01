"""The command line: `cl-bench`. Parses, calls, prints. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cl_suite import __version__
from cl_suite.errors import CLSuiteError, DataError, UsageError, nearest

VERBS = {
    "run": "train a strategy on a stream (also without the word: cl-bench --strategy ...)",
    "list": "name the installed strategies and streams",
    "report": "turn saved records into a leaderboard",
    "check": "run the conformance suite on a strategy",
    "new": "write a working single-file plugin and its test",
    "data": "fetch or verify the files of streams",
    "speed": "measure what the harness costs beside a bare loop, or a strategy beside finetune",
}
INTERRUPTED = 130


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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See {self.prog} --help.")


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        _run_parser().print_help()
        return 2
    verb, rest = (arguments[0], arguments[1:]) if arguments[0] in VERBS else ("run", arguments)
    if verb == "run" and rest and not rest[0].startswith("-") and "=" not in rest[0]:
        raise UsageError(f"there is no command {rest[0]!r}. {nearest(rest[0], VERBS)}")
    actions: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "list": _list,
        "report": _report,
        "check": _check,
        "new": _new,
        "data": _data,
        "speed": _speed,
    }
    return actions[verb](rest)


def _run_parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:8}{text}" for name, text in VERBS.items())
    parser = _Parser(
        prog="cl-bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a continual-learning strategy on a task stream, score it, save a record.",
        epilog=f"commands (each has --help):\n{verbs}\n\nexamples:\n"
        "  cl-bench --strategy exssnet --stream split_cifar100\n"
        "  cl-bench --strategy er --stream split_digits --scenario class_incremental strategy.buffer_size=200\n"
        "  cl-bench --strategy my_method.py:MyMethod --stream split_digits --seeds 0,1,2 train.epochs=3",
    )
    parser.add_argument("--version", action="version", version=f"cl-suite {__version__}")
    parser.add_argument("--strategy", required=True, help="a name from `cl-bench list`, or path/to/file.py:Class")
    parser.add_argument("--stream", required=True, help="a name from `cl-bench list`, or path/to/file.py:Class")
    parser.add_argument("--scenario", help="task_incremental, class_incremental, domain_incremental, task_agnostic")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, help="one seed (default 0)")
    seeds.add_argument("--seeds", help="several seeds, e.g. 0,1,2")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the cores this process may use)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where records go (default: results)")
    _add_data_flags(parser)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on where a run ended")
    parser.add_argument("--overwrite", action="store_true", help="run again although a finished record is there")
    parser.add_argument(
        "--evaluate",
        choices=("preferences", "open_set", "learning"),
        help="also ask for trade-offs between tasks, show samples of no task, or score tasks while they are learned",
    )
    parser.add_argument(
        "--diagnostics", choices=("modules", "video"), help="also measure how each module moves, or film robots"
    )
    parser.add_argument("--quiet", action="store_true", help="print only the table")
    parser.add_argument("--json", action="store_true", help="print the records as JSON and nothing else")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. strategy.lr=0.1 stream.n_tasks=10 protocol=standard"
    )
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-root", type=Path, help="where data lives (default: $CL_SUITE_DATA, else the user's cache)"
    )
    parser.add_argument("--offline", action="store_true", help="never download")


def _data_root(options: argparse.Namespace) -> Any:
    from cl_suite.data_root import DataRoot, default_data_root

    return DataRoot(options.data_root or default_data_root(), offline=options.offline)


def _run(arguments: list[str]) -> int:
    options = _run_parser().parse_intermixed_args(arguments)
    seeds = _parse_seeds(options.seeds) if options.seeds is not None else [options.seed]
    from cl_suite.planning import Request, plan
    from cl_suite.runs import run_all
    from cl_suite.terminal import report_interruption, report_results

    evaluated = [f"{options.evaluate}.evaluate=true"] if options.evaluate else []
    plans = [
        plan(
            Request(
                strategy=options.strategy,
                stream=options.stream,
                scenario=options.scenario,
                seed=seed,
                device=options.device,
                threads=options.threads,
                results=options.results,
                data_root=_data_root(options),
                overrides=(*options.overrides, *evaluated),
                resume=options.resume,
                overwrite=options.overwrite,
                diagnostics=(options.diagnostics,) if options.diagnostics else (),
                command=tuple(arguments),
            )
        )
        for seed in seeds
    ]
    quiet = options.quiet or options.json
    try:
        outcomes = run_all(plans, quiet=quiet, debug=options.debug)
    except KeyboardInterrupt:
        report_interruption(plans)
        return INTERRUPTED
    report_results(outcomes, as_json=options.json, target=plans[0].target)
    return 1 if any(outcome.record.status == "failed" for outcome in outcomes) else 0


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as problem:
        raise UsageError(
            f"--seeds {text} is not a list of whole numbers. Write for example --seeds 0,1,2."
        ) from problem
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds {text} names a seed twice. Name each once.")
    return seeds


def _list(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench list", description=VERBS["list"])
    parser.add_argument("what", nargs="?", choices=("strategies", "streams"), help="only these")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    from cl_suite.registry import STRATEGY, STREAM, installed, summary

    kinds = {"strategies": STRATEGY, "streams": STREAM}
    found = {
        what: [
            {"name": name, "summary": summary(point), "class": point.value} for name, point in installed(kind).items()
        ]
        for what, kind in kinds.items()
        if options.what in (None, what)
    }
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for what, entries in found.items():
        print(f"{what}:")
        for entry in entries:
            print(f"  {entry['name']:23} {entry['summary']}")
    return 0


def _report(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench report", description=VERBS["report"])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records (default: results)")
    parser.add_argument("--output", type=Path, help="where the leaderboard goes (default: the folder of records)")
    options = parser.parse_args(arguments)
    from cl_suite.report import build_report

    for path in build_report(options.results, options.output or options.results):
        print(path)
    return 0


def _check(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench check", description=VERBS["check"])
    parser.add_argument("spec", help="a name from `cl-bench list`, or path/to/file.py:Class")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. strategy.lr=0.1")
    options = parser.parse_intermixed_args(arguments)
    from cl_suite.checks import check_strategy

    findings = check_strategy(options.spec, overrides=options.overrides)
    for finding in findings:
        print(finding)
    return 1 if any(finding.failed for finding in findings) else 0


def _new(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench new", description=VERBS["new"])
    parser.add_argument("kind", choices=("strategy",), help="what to write")
    parser.add_argument("name", help="in snake_case, e.g. my_method")
    options = parser.parse_args(arguments)
    from cl_suite.scaffold import write_strategy

    for path in write_strategy(options.name, Path.cwd()):
        print(path)
    return 0


def _data(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench data", description=VERBS["data"])
    parser.add_argument("streams", nargs="*", metavar="STREAM", help="names from `cl-bench list` (default: all)")
    _add_data_flags(parser)
    options = parser.parse_args(arguments)
    from cl_suite.registry import STREAM, choose, installed

    root = _data_root(options)
    chosen = [choose(STREAM, name) for name in options.streams or installed(STREAM)]
    status = 0
    for stream in chosen:
        try:
            checksums = stream.cls(stream.cls.Config()).fetch(root)
        except DataError as problem:  # the others may still be fetched
            print(f"cl-bench: {problem}", file=sys.stderr)
            status = problem.exit_status
            continue
        print(f"{stream.name}: {f'{len(checksums)} files verified in {root.path}' if checksums else 'needs no files'}")
    return status


def _speed(arguments: list[str]) -> int:
    parser = _Parser(prog="cl-bench speed", description=VERBS["speed"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--steps", type=int, default=300, help="training steps per measurement (default 300)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each loop, alternating (default 3)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    beside = parser.add_argument_group(
        "a strategy beside finetune", "the last task of a synthetic task-incremental stream"
    )
    beside.add_argument("--strategy", action="append", metavar="NAME", help="which one; give it again for several")
    beside.add_argument("--model", default="conv_small", metavar="NAME", help="backbone (default conv_small)")
    beside.add_argument("--batch-size", type=int, default=64, help="samples (default 64)")
    beside.add_argument("--tasks", type=int, default=3, help="tasks; the last is timed (default 3)")
    beside.add_argument("overrides", nargs="*", metavar="key=value", help="their options, e.g. strategy.eps2=-1")
    options = parser.parse_intermixed_args(arguments)
    if options.overrides and not options.strategy:
        raise UsageError(f"{options.overrides[0]!r} is an option of a strategy. Name one with --strategy.")
    if options.strategy:
        from cl_suite.speed_strategies import measure_strategies, render_strategies

        compared = measure_strategies(
            options.strategy,
            device=options.device,
            steps=options.steps,
            repeats=options.repeats,
            model=options.model,
            batch_size=options.batch_size,
            tasks=options.tasks,
            overrides=options.overrides,
        )
        print(json.dumps(compared, indent=2) if options.json else render_strategies(compared))
        return 0
    from cl_suite.speed import measure, render

    measured = measure(device=options.device, steps=options.steps, repeats=options.repeats)
    print(json.dumps(measured, indent=2) if options.json else render(measured))
    return 0
