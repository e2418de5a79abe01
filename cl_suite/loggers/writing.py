"""The process of one logger: reads events from standard input, one JSON object a line, until it closes.

Started by `cl_suite.loggers.log_process`: `python -m cl_suite.loggers.writing NAME`. Events: `start` with the run,
`scalars`, `end`. Answers one line on standard output, the reason, if the logger fails.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from cl_suite.loggers.choice import class_of
from cl_suite.loggers.curve_logger import CurveLogger, LoggedRun


def serve(name: str, lines: Iterable[str]) -> None:
    """Pass events on to a logger. Raise whatever it raises."""
    logger: CurveLogger | None = None
    for line in lines:
        event = json.loads(line)
        if event["event"] == "start":
            logger = _load(name)(LoggedRun(**{**event["run"], "root": Path(event["run"]["root"])}))
        elif event["event"] == "scalars" and logger is not None:
            logger.scalars(event["samples"], event["values"])
        elif logger is not None:
            logger.finish(event["status"], event["values"])
            return
    if logger is not None:  # whoever wrote the events is gone
        logger.finish("interrupted", {})


def _load(name: str) -> Any:
    module, _, attribute = class_of(name).partition(":")
    return getattr(import_module(module), attribute)


def main() -> None:
    """Serve standard input. A library that prints or asks reaches neither the events nor the answer."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the run decides when it ends, by closing our input
        signal.signal(number, signal.SIG_IGN)
    events = os.fdopen(os.dup(0), encoding="utf-8")
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # Nothing is sent about the use of the libraries themselves, unless the user wants it.
    for switch, off in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("WANDB_ERROR_REPORTING", "false")):
        os.environ.setdefault(switch, off)
    try:
        serve(sys.argv[1], iter(events.readline, ""))  # line by line: reading ahead would hold events back
    except (Exception, SystemExit) as problem:  # a library may raise anything
        first = str(problem).strip().partition("\n")[0]
        print(json.dumps(f"{type(problem).__name__}: {first}"), file=answer, flush=True)
        os._exit(0)  # no clean-up of a library that has failed may hold the run up


if __name__ == "__main__":
    main()
