"""Films of what a policy does in each task after the last experience: `--diagnostics video`."""

from __future__ import annotations

from pathlib import Path

from cl_suite.core.errors import DataError, RunError, UnseenTask, UsageError
from cl_suite.core.scenario_stream import Presentation
from cl_suite.records.record import write_atomic
from cl_suite.robots.film import animated, film_episode
from cl_suite.robots.rendering import choose_renderer
from cl_suite.robots.rollouts import SuccessRate
from cl_suite.run.harness import Harness

VIDEO = "video"


def check_films(presentation: Presentation) -> None:
    """Before anything is trained: raise UsageError where there is no robot, DataError where nothing can be drawn."""
    measures = [task.measure for task in presentation.tasks]
    if not all(isinstance(measure, SuccessRate) for measure in measures):
        raise UsageError(
            f"--diagnostics video films robots, and {presentation.info.stream} has none. "
            "Use a stream such as toy_reach or metaworld_cw3."
        )
    if any(isinstance(measure, SuccessRate) and measure.task.graphics for measure in measures):
        choose_renderer()


def film_tasks(harness: Harness, record: Path) -> dict[str, str]:
    """Write a GIF of the first episode of each task beside the record; return {task: file, or why there is none}."""
    films = {}
    for task in harness.presentation.tasks:
        assert isinstance(task.measure, SuccessRate)
        file = record.with_name(f"{record.stem}_task_{task.index}.gif")
        try:
            policy = task.policy(harness.predictor_of(task))
            write_atomic(file, animated(film_episode(task.measure, policy)), flag="--results")
            films[task.name] = file.name
        except (UnseenTask, RunError, DataError) as problem:  # the run is whole all the same
            films[task.name] = str(problem).partition("\n")[0]
    return films
