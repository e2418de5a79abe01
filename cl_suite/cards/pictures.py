"""The picture of a card: chosen by what the samples are, images, texts, numbers, or a robot in its simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_suite.cards import drawing
from cl_suite.cards.plain_text import plain
from cl_suite.cards.shown_samples import spread_over_classes
from cl_suite.cards.stream_card import TaskRow
from cl_suite.core.errors import CLSuiteError
from cl_suite.core.samples import Samples
from cl_suite.core.stream import StreamData, TaskData
from cl_suite.data.texts import PrepareTexts
from cl_suite.robots.frames import first_frames
from cl_suite.robots.simulator import RobotTask

MOST_TASKS = 20  # rows of a picture
MOST_PANELS = 12  # clouds of points
MOST_FRAMES = 10  # simulators that are opened for one picture: some take seconds each
MOST_IMAGES = 100  # of a picture in all
MOST_POINTS = 300  # of a task
ACROSS = (4, 20)  # images of a row
CELL = 56  # pixels of an image
FRAME, FRAMES_ACROSS = 180, 4  # pixels of a simulator's picture


def is_image(sample: Tensor) -> bool:
    """Whether one sample [...] is an image: [1 or 3, H, W]."""
    return sample.dim() == 3 and sample.shape[0] in (1, 3) and min(sample.shape[1:]) > 1


def draw_picture(data: StreamData | None, rows: Sequence[TaskRow], robots: Sequence[RobotTask]) -> tuple[bytes, str]:
    """Return (PNG, what it shows), or (b"", why there is none).

    data:   as the stream has it, before features and tokens; None where it could not be read
    rows:   of the tasks, for their words
    robots: of the tasks, without repetitions; empty where there are none
    """
    if robots:
        return _frames(robots)
    if data is None:
        return b"", "the data is not at hand"
    tasks = data.tasks[:MOST_TASKS]
    sample, _ = _some(tasks[0]).take(torch.zeros(1, dtype=torch.long))
    some = _of(MOST_TASKS, len(data.tasks))
    if isinstance(data.prepare, PrepareTexts):
        labels, words = _names(tasks), [row.typical for row in rows[:MOST_TASKS]]
        return drawing.word_rows(labels, words), f"Words that tell a task from the others{some}"
    if isinstance(sample, Mapping):
        camera = next((name for name, value in sample.items() if value.dim() == 5 and is_image(value[0, -1])), None)
        if camera is None:
            return b"", "samples are states of a robot, and no camera is among them"
        return _images(tasks, camera), f"Moments of demonstrations, {camera}{some}"
    if is_image(sample[0]):
        return _images(tasks), f"Test samples of each task{some}"
    if sample.is_floating_point() and sample[0].numel():
        return _clouds(data.tasks[:MOST_PANELS], shared=data.labels == "shared"), _clouds_in_words(data)
    return b"", f"samples are {tuple(sample.shape[1:])} {sample.dtype}, which nothing here draws".replace("torch.", "")


def _some(task: TaskData) -> Samples:
    """Return the test samples, of a task that has none those it is trained on."""
    return task.test if len(task.test) else task.train


def _names(tasks: Sequence[TaskData | RobotTask]) -> list[str]:
    return [plain(task.name).replace("_", " ") for task in tasks]  # so that long names have places to break at


def _of(most: int, tasks: int) -> str:
    return f", the first {most} of {tasks} tasks" if tasks > most else ""


def _frames(robots: Sequence[RobotTask]) -> tuple[bytes, str]:
    first = robots[:MOST_FRAMES]
    try:
        pictures = first_frames(first)
    except CLSuiteError as problem:  # no simulator or nothing to draw with: the card is whole all the same
        return b"", str(problem)
    across = min(len(first), FRAMES_ACROSS if len(first) > 5 else 3)
    content = drawing.frames(_names(first), pictures, cell=FRAME, across=across)
    return content, f"Initial state 0 of each task{_of(MOST_FRAMES, len(robots))}"


def _images(tasks: Sequence[TaskData], entry: str = "") -> bytes:
    least, most = ACROSS
    widest = max(10, max(len(task.classes) for task in tasks))
    across = max(least, min(widest, most, MOST_IMAGES // len(tasks)))
    rows = []
    for task in tasks:
        samples = _some(task)
        raw, _ = samples.take(spread_over_classes(samples, across))
        chosen: Any = raw[entry][:, -1] if isinstance(raw, Mapping) else raw
        rows.append(list(as_pixels(chosen)))
    longer = max(rows[0][0].shape[:2])
    cell = longer * max(1, round(CELL / longer)) if longer <= 1.5 * CELL else CELL  # small ones grow by whole numbers
    return drawing.image_rows(_names(tasks), rows, cell=cell)


def as_pixels(images: Tensor) -> np.ndarray[Any, Any]:
    """Return images [K, 1 or 3, H, W] as [K, H, W, 3] uint8; others than uint8 are scaled to 0..255."""
    if images.dtype != torch.uint8:
        finite = images.float().nan_to_num(0.0, 0.0, 0.0)
        low, high = finite.amin(), finite.amax()
        images = (255 * (finite - low) / (high - low).clamp(min=1e-12)).round().to(torch.uint8)
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def _clouds(tasks: Sequence[TaskData], *, shared: bool) -> bytes:
    parts, classes = [], []
    for task in tasks:
        samples = _some(task)
        chosen = spread_over_classes(samples, MOST_POINTS)
        raw, targets = samples.take(chosen)
        assert isinstance(raw, Tensor)
        parts.append(raw.flatten(1).double().nan_to_num(0.0, 0.0, 0.0))
        classes.append(targets.numpy() if targets.dim() == 1 else np.zeros(len(targets), dtype=int))
    flat = plane(torch.cat(parts)).split([len(part) for part in parts])
    named = shared and len(tasks[0].classes) <= len(drawing.COLOURS)
    names = [plain(name, 30) for name in tasks[0].classes] if named else []
    return drawing.clouds(_names(tasks), [part.numpy() for part in flat], classes, names)


def plane(points: Tensor) -> Tensor:
    """Return points [N, D] in the plane of their first two principal components, [N, 2]; as they are where D is 2.

    The sign of a component is such that its largest entry is positive: the same picture wherever it is drawn.
    """
    if points.shape[1] == 1:
        return torch.cat([points, torch.zeros_like(points)], dim=1)
    if points.shape[1] == 2:
        return points
    centred = points - points.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    first = directions[:2]  # [2, D]
    largest = first.gather(1, first.abs().argmax(dim=1, keepdim=True))
    flat = centred @ (first * largest.sign()).T
    return torch.nn.functional.pad(flat, (0, 2 - flat.shape[1]))


def _clouds_in_words(data: StreamData) -> str:
    sample, _ = data.tasks[0].train.take(torch.zeros(1, dtype=torch.long))
    assert isinstance(sample, Tensor)
    size = sample[0].numel()
    what = "Test samples" if size <= 2 else f"Test samples of {size} numbers, along their two principal components"
    return f"{what}: the classes of a task in colours, the other tasks in grey{_of(MOST_PANELS, len(data.tasks))}"
