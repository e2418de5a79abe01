"""Curves for Weights & Biases, through its own library: `<log folder>/wandb/`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

from cl_suite.loggers.curve_logger import LoggedRun

EXIT_CODES = {"complete": 0, "failed": 1, "interrupted": 130}


class WandbCurves:
    """Writes a run of the project `cl-suite` (or $WANDB_PROJECT), drawn over the samples drawn; seeds share a group.

    Nothing leaves the machine unless WANDB_MODE=online asks for it: `wandb sync` sends it later. Code, console output
    and the state of a git checkout are not collected.
    """

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        run.root.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cl-suite"),
            dir=str(run.root),
            id=run.kept_id("wandb") or run.keep_id("wandb", uuid.uuid4().hex),
            resume="allow" if run.resumed else None,
            name=run.title,
            group=run.row,
            config={**run.config, **run.facts, "tasks": list(run.tasks)},
            mode="offline" if run.offline or not os.environ.get("WANDB_MODE") else None,
            settings=wandb.Settings(console="off", disable_git=True, save_code=False),
        )
        self._run.define_metric("samples", hidden=True)
        self._run.define_metric("*", step_metric="samples")
        self._samples = run.samples

    def scalars(self, samples: int, values: Mapping[str, float]) -> None:
        """Write values beside the number of samples."""
        self._samples = samples
        self._run.log({**values, "samples": samples})

    def finish(self, status: str, values: Mapping[str, float]) -> None:
        """Write the last values into the summary and close."""
        self._run.summary.update({**values, "status": status})
        self._run.finish(exit_code=EXIT_CODES[status])
