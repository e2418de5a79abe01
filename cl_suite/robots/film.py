"""Films of what a policy does in each task after the last experience: `--diagnostics video`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from cl_suite.core.errors import DataError, RunError, UnseenTask, UsageError
from cl_suite.core.files import write_atomic
from cl_suite.core.scenario_stream import Task
from cl_suite.core.strategy import Predictor
from cl_suite.robots.frames import drawable, drawing_process
from cl_suite.robots.pool import SimulatorLost
from cl_suite.robots.rendering import choose_renderer
from cl_suite.robots.rollouts import Policy, SuccessRate, first_moments, next_moments, policy_of
from cl_suite.robots.simulator import Array

EVERY = 4  # steps from one picture to the next
MILLISECONDS = 60  # that a picture is shown


def check_films(tasks: Sequence[Task], stream: str) -> None:
    """Before anything is trained: raise UsageError where there is no robot, DataError where nothing can be drawn."""
    scorers = [task.scorer for task in tasks]
    if not all(isinstance(scorer, SuccessRate) for scorer in scorers):
        raise UsageError(
            f"--diagnostics video films robots, and {stream} has none. Use a stream such as toy_reach or metaworld_cw3."
        )
    if any(isinstance(scorer, SuccessRate) and scorer.task.graphics for scorer in scorers):
        choose_renderer()


def film_tasks(tasks: Sequence[Task], predictor_of: Callable[[Task], Predictor], record: Path) -> dict[str, str]:
    """Write a GIF of the first episode of each task beside the record; return {task: file, or why there is none}."""
    films = {}
    for task in tasks:
        assert isinstance(task.scorer, SuccessRate)
        file = record.with_name(f"{record.stem}_task_{task.index}.gif")
        try:
            policy = policy_of(task, predictor_of(task))
            write_atomic(file, animated(film_episode(task.scorer, policy)), flag="--results")
            films[task.name] = file.name
        except (UnseenTask, RunError, DataError, UsageError) as problem:  # the run is whole all the same
            films[task.name] = str(problem).partition("\n")[0]
    return films


def film_episode(rate: SuccessRate, policy: Policy) -> list[Array]:
    """Roll out the first episode of an evaluation; return every fourth moment and the last, [h, w, 3] uint8 each.

    Raise DataError where pictures cannot be drawn, RunError where the simulator fails.
    """
    task, pictures, lane = rate.task, list[Array](), [0]
    with drawing_process(task) as (worker, renderer):
        try:
            worker.ask("begin", drawable(task, renderer), rate.seeds[:1])
            moments = first_moments(worker.answer(), rate.history)
            for step in range(task.horizon):
                if step % EVERY == 0:
                    worker.ask("picture", 0)
                    pictures.append(worker.answer())
                worker.ask("step", lane, policy(moments))
                latest, solved = worker.answer()
                moments = next_moments(moments, latest, lane)
                if solved[0]:
                    break
            worker.ask("picture", 0)
            return [*pictures, worker.answer()]
        except SimulatorLost as problem:
            raise RunError(f"{task.name} could not be filmed: {problem}. Leave --diagnostics video out.") from problem


def animated(pictures: list[Array]) -> bytes:
    """Return pictures [h, w, 3] uint8 as a GIF that begins anew at its end."""
    from PIL import Image

    frames = [Image.fromarray(picture) for picture in pictures]
    content = io.BytesIO()
    frames[0].save(
        content, "GIF", save_all=True, append_images=frames[1:], duration=[MILLISECONDS] * len(frames), loop=0
    )
    return content.getvalue()
