"""Curves for TensorBoard, through its own writer: `<log folder>/tensorboard/<place of the run>/`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cl_suite.loggers.curve_logger import LoggedRun


class TensorBoardCurves:
    """Writes event files; the step is the number of samples drawn, the configuration are hyperparameters.

    A run that is run again, or resumed, marks what was written at later steps before as superseded.
    """

    def __init__(self, run: LoggedRun) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._log = event_pb2.SessionLog
        self._writer: Any = EventFileWriter(str(run.root / "tensorboard" / run.place))
        begins = run.samples + 1 if run.resumed else 0
        self._add(begins, session_log=self._log(status=self._log.START))
        self._add(begins, summary=hparams_pb({**run.config, **run.facts}, trial_id=run.row))
        names = "\n".join(f"- task_{number:02d}: {name}" for number, name in enumerate(run.tasks))
        self._add(begins, summary=text_pb("run", f"{run.title}\n\n{names}"))
        self._writer.flush()
        self._samples = run.samples

    def scalars(self, samples: int, values: Mapping[str, float]) -> None:
        """Write values at a step."""
        self._samples = samples
        entries = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(samples, summary=self._summary(value=entries))
        self._writer.flush()

    def finish(self, status: str, values: Mapping[str, float]) -> None:
        """Write the last values, if there are any, and close."""
        if values:
            self.scalars(self._samples, values)
        self._writer.close()

    def _add(self, samples: int, **content: Any) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=samples, **content))
