"""One episode of a policy as an animated picture: `--diagnostics video`."""

from __future__ import annotations

import io

from cl_suite.core.errors import RunError
from cl_suite.robots.frames import drawable, drawing_process
from cl_suite.robots.pool import SimulatorLost
from cl_suite.robots.rollouts import Policy, SuccessRate, first_moments, next_moments
from cl_suite.robots.simulator import Array

EVERY = 4  # steps from one picture to the next
MILLISECONDS = 60  # that a picture is shown


def film_episode(measure: SuccessRate, policy: Policy) -> list[Array]:
    """Roll out the first episode of an evaluation; return every fourth moment and the last, [h, w, 3] uint8 each.

    Raise DataError where pictures cannot be drawn, RunError where the simulator fails.
    """
    task, pictures, lane = measure.task, list[Array](), [0]
    with drawing_process(task) as (worker, renderer):
        try:
            worker.ask("begin", drawable(task, renderer), measure.seeds[:1])
            seen = first_moments(worker.answer(), measure.history)
            for step in range(task.horizon):
                if step % EVERY == 0:
                    worker.ask("picture", 0)
                    pictures.append(worker.answer())
                worker.ask("step", lane, policy(seen))
                latest, solved = worker.answer()
                seen = next_moments(seen, latest, lane)
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
