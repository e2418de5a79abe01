"""Curves for MLflow, through its own client: the server of $MLFLOW_TRACKING_URI, else `<log folder>/mlflow.db`."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_suite.loggers.curve_logger import LoggedRun

ENDS = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
PARAMS = 100  # of one call, the service's limit
LENGTH = 500  # characters of a parameter that every store takes


class MLflowCurves:
    """Writes a run of the experiment `<stream>/<scenario>`; the step is the number of samples drawn."""

    def __init__(self, run: LoggedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric: Any = Metric
        root = run.root.absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = MlflowClient(uri or _store(root))
        self._samples = run.samples
        run_id = run.kept_id("mlflow")
        if run_id is not None:
            self._run = run_id
            self._client.update_run(run_id, status="RUNNING")
            return
        experiment = self._experiment(f"{run.facts['stream']}/{run.facts['scenario']}", None if uri else root.as_uri())
        tags = {f"task_{number:02d}": name[:LENGTH] for number, name in enumerate(run.tasks)}
        entity = self._client.create_run(experiment, run_name=run.title, tags={**tags, "configuration": run.row})
        self._run = run.keep_id("mlflow", entity.info.run_id)
        params = [Param(name, str(value)[:LENGTH]) for name, value in {**run.config, **run.facts}.items()]
        for first in range(0, len(params), PARAMS):
            self._client.log_batch(self._run, params=params[first : first + PARAMS])

    def scalars(self, samples: int, values: Mapping[str, float]) -> None:
        """Write values at a step."""
        self._samples = samples
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [self._metric(name, value, now, samples) for name, value in values.items()])

    def finish(self, status: str, values: Mapping[str, float]) -> None:
        """Write the last values, if there are any, and end the run."""
        if values:
            self.scalars(self._samples, values)
        self._client.set_terminated(self._run, ENDS[status])

    def _experiment(self, name: str, folder: str | None) -> str:
        """Return the id of an experiment, made if it is not there. folder: where its files would go, as a URI."""
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            artifacts = None if folder is None else f"{folder}/mlflow-artifacts"
            try:
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            except MlflowException:  # another run has made it meanwhile
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)


def _store(root: Path) -> str:
    """Return the URI of the database in a folder, made if it is not there: whole or not at all, by one run at a time.

    Making it takes MLflow seconds, and one that was stopped on the way could never be opened again.
    """
    from filelock import FileLock
    from mlflow import MlflowClient

    root.mkdir(parents=True, exist_ok=True)
    file = root / "mlflow.db"
    with FileLock(root / ".mlflow.lock"):
        if not file.exists():
            unfinished = root / f".mlflow-{uuid.uuid4().hex[:8]}.tmp"
            MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
            unfinished.replace(file)
    return f"sqlite:///{file}"
