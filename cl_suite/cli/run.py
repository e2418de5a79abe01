"""`cl-bench run`, the default: train, score, save a record."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from cl_suite.cli.flags import INTERRUPTED, add_data_flags, add_debug_flag, add_results_flag, data_root
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import DEFAULT_STRATEGY, DEFAULT_STREAM
from cl_suite.runs.evaluations import DIAGNOSED, EVALUATED, chosen_evaluations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    either = "a name from `cl-bench list`, or path/to/file.py:Class"
    parser.add_argument("--strategy", help=f"{either} (default: {DEFAULT_STRATEGY})")
    parser.add_argument("--stream", help=f"{either} (default: {DEFAULT_STREAM}, which needs no files)")
    parser.add_argument("--scenario", help="task_incremental, class_incremental, domain_incremental, task_agnostic")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, help="one seed (default 0)")
    seeds.add_argument("--seeds", help="several seeds, e.g. 0,1,2")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the cores this process may use)")
    add_results_flag(parser)
    add_data_flags(parser)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="go on where a run ended")
    parser.add_argument("--overwrite", action="store_true", help="run again although a finished record is there")
    parser.add_argument(
        "--evaluate",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{', '.join(EVALUATED)}, or several: {_alternatives(entry.what for entry in EVALUATED.values())}",
    )
    parser.add_argument(
        "--diagnostics",
        choices=tuple(DIAGNOSED),
        help=f"also {_alternatives(entry.what for entry in DIAGNOSED.values())}",
    )
    parser.add_argument(
        "--log", action="append", default=[], metavar="NAME", help="draw curves: tensorboard, wandb, mlflow, or several"
    )
    parser.add_argument("--log-dir", type=Path, default=Path("logs"), help="where curves go (default: logs)")
    parser.add_argument("--quiet", action="store_true", help="print only the table")
    parser.add_argument("--json", action="store_true", help="print the records as JSON and nothing else")
    add_debug_flag(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. strategy.lr=0.1 stream.n_tasks=10 protocol=standard"
    )


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    seeds = _parse_seeds(options.seeds) if options.seeds is not None else [options.seed]
    evaluated = [f"{name}.evaluate=true" for name in chosen_evaluations(options.evaluate)]
    from cl_suite.cli.results import report_interruption, report_results, suggest_next
    from cl_suite.loggers.choice import chosen_loggers
    from cl_suite.runs.execute import run_all
    from cl_suite.runs.plan import Request, plan

    log = chosen_loggers(options.log)
    strategy, stream = options.strategy or DEFAULT_STRATEGY, options.stream or DEFAULT_STREAM
    by_default = [] if options.strategy else ["--strategy", strategy]
    by_default += [] if options.stream else ["--stream", stream]
    plans = [
        plan(
            Request(
                strategy=strategy,
                stream=stream,
                scenario=options.scenario,
                seed=seed,
                device=options.device,
                threads=options.threads,
                results=options.results,
                data_root=data_root(options),
                overrides=(*options.overrides, *evaluated),
                resume=options.resume,
                overwrite=options.overwrite,
                diagnostics=(options.diagnostics,) if options.diagnostics else (),
                command=(*by_default, *options.arguments),
                log=log,
                log_dir=options.log_dir,
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
    failed = any(outcome.record.status == "failed" for outcome in outcomes)
    if by_default and not (quiet or failed):
        suggest_next()
    return 1 if failed else 0


def _alternatives(texts: Iterable[str]) -> str:
    """Return "a, b, or c"."""
    *first, last = texts
    return f"{', '.join(first)}, or {last}"


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
