"""`cl-bench speed`: what the harness and strategies cost."""

from __future__ import annotations

import argparse
import json

from cl_suite.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
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


def execute(options: argparse.Namespace) -> int:
    """Return the exit status."""
    if options.overrides and not options.strategy:
        raise UsageError(f"{options.overrides[0]!r} is an option of a strategy. Name one with --strategy.")
    if options.strategy:
        from cl_suite.speed.strategies import measure_strategies, render_strategies

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
    from cl_suite.speed.harness import measure, render

    measured = measure(device=options.device, steps=options.steps, repeats=options.repeats)
    print(json.dumps(measured, indent=2) if options.json else render(measured))
    return 0
