"""`cl-bench run`, the default: train, score, save a record."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_suite.cli.flags import INTERRUPTED, add_data_flags, add_debug_flag, add_results_flag, data_root
from cl_suite.core.errors import UsageError
from cl_suite.core.registry import DEFAULT_STRATEGY, DEFAULT_STREAM
from cl_suite.runs.evaluations import DIAGNOSED, EVALUATED, chosen_evaluations

if TYPE_CHECKING:
    from cl_suite.cli.support.from_file import FromFile
    from cl_suite.runs.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    either = "a name from `cl-bench list`, or path/to/file.py:Class"
    parser.add_argument("--strategy", help=f"{either} (default: {DEFAULT_STRATEGY})")
    parser.add_argument("--stream", help=f"{either} (default: {DEFAULT_STREAM}, which needs no files)")
    parser.add_argument("--scenario", help="task_incremental, class_incremental, domain_incremental, task_agnostic")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, help="one seed (default 0)")
    seeds.add_argument("--seeds", help="several seeds, e.g. 0,1,2")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the cores this process may use)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="strategy, stream, scenario, seeds and options from a file of YAML"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only tell what would run: configuration, plan, estimate"
    )
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
        "--save-model",
        action="store_true",
        help="keep what answers at the end, beside the record, for `cl-bench predict`",
    )
    parser.add_argument(
        "--continue-from",
        type=Path,
        metavar="RECORD",
        help="learn further tasks after a finished run with a saved model",
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
    asked = _parse_seeds(options.seeds) if options.seeds is not None else None
    asked = [options.seed] if options.seed is not None else asked
    options.evaluate = chosen_evaluations(options.evaluate)
    from cl_suite.cli.support.from_file import with_file

    wanted = with_file(options)
    seeds = asked or wanted.seeds or [0]
    try:
        plans = _plans(options, wanted, seeds)
    except UsageError as problem:
        if wanted.file is None:
            raise
        raise wanted.file.blamed(problem) from problem
    if options.dry_run:
        return _preview(plans, as_json=options.json)
    from cl_suite.cli.support.results import report_interruption, report_results, suggest_next
    from cl_suite.runs.execute import run_all

    quiet = options.quiet or options.json
    keeper = None
    if options.save_model:
        from cl_suite.saved_models.save import ModelKeeper

        keeper = ModelKeeper()
    try:
        outcomes = run_all(plans, quiet=quiet, debug=options.debug, keeper=keeper)
    except KeyboardInterrupt:
        report_interruption(plans)
        return INTERRUPTED
    report_results(outcomes, as_json=options.json, target=plans[0].target)
    failed = any(outcome.record.status == "failed" for outcome in outcomes)
    if wanted.by_default and not (quiet or failed):
        suggest_next()
    return 1 if failed else 0


def _plans(options: argparse.Namespace, wanted: FromFile, seeds: list[int]) -> list[Plan]:
    from cl_suite.loggers.choice import chosen_loggers
    from cl_suite.runs.plan import Request, plan

    log = chosen_loggers(options.log)
    evaluated = [f"{name}.evaluate=true" for name in options.evaluate]
    return [
        plan(
            Request(
                strategy=wanted.strategy,
                stream=wanted.stream,
                scenario=wanted.scenario,
                seed=seed,
                device=options.device,
                threads=options.threads,
                results=options.results,
                data_root=data_root(options),
                overrides=(*wanted.overrides, *options.overrides, *evaluated),
                resume=options.resume,
                overwrite=options.overwrite,
                diagnostics=(options.diagnostics,) if options.diagnostics else (),
                command=(*wanted.by_default, *options.arguments),
                log=log,
                log_dir=options.log_dir,
                dry_run=options.dry_run,
                beginning=_beginning(options.continue_from, seed),
            )
        )
        for seed in seeds
    ]


def _preview(plans: list[Plan], *, as_json: bool) -> int:
    from cl_suite.info.dry_run import preview

    shown = preview(plans)
    print(json.dumps(shown.to_dict(), indent=2) if as_json else shown.to_text())
    return 0


def _beginning(record: Path | None, seed: int) -> Any:
    """Return what a run with --continue-from goes on from."""
    if record is None:
        return None
    from cl_suite.saved_models.continuing import beginning_of

    return beginning_of(record, seed=seed)


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
