"""What is printed when runs have ended, or were stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from cl_suite.runs.execute import Outcome
    from cl_suite.runs.plan import Plan

PIPED_WIDTH = 120  # columns of the table where there is no terminal to measure


def report_results(outcomes: Sequence[Outcome], *, as_json: bool, target: dict[str, Any]) -> None:
    """Print the table and the paths of the records to standard output, or the records as JSON."""
    if as_json:
        print(
            json.dumps(
                [{**json.loads(outcome.record.to_json()), "path": str(outcome.path)} for outcome in outcomes], indent=2
            )
        )
    for outcome in outcomes:
        if outcome.record.status == "failed":
            print(f"cl-bench: seed {outcome.record.seed} failed: {outcome.record.error}", file=sys.stderr)
    finished = [outcome.record for outcome in outcomes if outcome.record.status == "complete"]
    if as_json:
        return
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=PIPED_WIDTH)
    if finished:
        from cl_suite.runs.display import summary_table

        console.print(summary_table(finished))
    if target and finished:
        console.print(f"reported: {target['value']} ({target['metric']}, {target['source']})")
    for outcome in outcomes:
        console.print(f"record: {outcome.path}")


NEXT = (
    ("--stream split_cifar100", "20 tasks of CIFAR-100"),
    ("new strategy my_method", "a method of your own, one file"),
    ("report --beside reference", "your rows among ours"),
)


def suggest_next() -> None:
    """Print what a newcomer may type next, as it is typed where this was started: by uv, or from an environment."""
    start = "uv run cl-bench" if "UV" in os.environ else "cl-bench"
    width = max(len(arguments) for arguments, _ in NEXT)
    print("\nnext:")
    for arguments, what in NEXT:
        print(f"  {start} {arguments:{width}}  # {what}")


def report_interruption(plans: Sequence[Plan]) -> None:
    """Say what was saved and how to go on."""
    saved = [plan for plan in plans if plan.checkpoint.exists()]
    done = [plan for plan in plans if plan.record_path.exists() and plan not in saved]
    lines = ["Interrupted."]
    if done:
        lines.append(f"Finished and saved: {', '.join(str(plan.record_path) for plan in done)}.")
    if saved:
        lines.append(f"Saved up to the last finished experience: {', '.join(str(plan.checkpoint) for plan in saved)}.")
    else:
        lines.append("No experience of the unfinished run was complete.")
    lines.append("The same command goes on from there.")
    print(" ".join(lines), file=sys.stderr)
