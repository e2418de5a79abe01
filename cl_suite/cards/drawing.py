"""Pictures of cards as small PNG files: rows of images, clouds of points, words. Never imports torch."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_suite.report.charts.drawing import COLOURS, as_png

Array = NDArray[Any]

MOST_BYTES = 95_000  # of a file: cards lie in repositories
PALETTES = (256, 160, 96, 64, 48, 32, 16)  # colours, tried in turn until a file is small enough
REFINED = 3  # rounds of k-means on a palette: without them rare strong colours become brown
DPI = 100
LABEL = (60, 160)  # pixels beside a row, at least and at most
LETTERS = 22  # of a line of a label
GAP = 4  # pixels between images
INK, PALE, EDGE = "#222222", "#D0D0D0", 0xD0


def small_png(draw: Callable[[], Any]) -> bytes:
    """Return what `draw` returns, a figure, as PNG with as many colours as the size allows; shrunk if none does."""
    from PIL import Image

    whole = Image.open(io.BytesIO(as_png(draw))).convert("RGB")
    while True:
        for colours in PALETTES:
            content = io.BytesIO()
            reduced = whole.quantize(colours, Image.Quantize.MEDIANCUT, REFINED, dither=Image.Dither.NONE)
            reduced.save(content, "PNG", optimize=True)
            if len(content.getvalue()) <= MOST_BYTES:
                return content.getvalue()
        whole = whole.resize((max(1, whole.width // 2), max(1, whole.height // 2)), Image.Resampling.BOX)


def image_rows(labels: Sequence[str], rows: Sequence[Sequence[Array]], *, cell: int) -> bytes:
    """Return a row of images, [h, w, 3] uint8 each, for every label; an image is fitted into `cell` pixels."""
    across = max(len(row) for row in rows)
    step, beside = cell + GAP, _beside(labels)
    height, width = len(rows) * step + GAP, beside + across * step + GAP
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    for down, row in enumerate(rows):
        for right, image in enumerate(row):
            placed = fitted(image, cell)
            top, left = GAP + down * step, beside + right * step
            canvas[top : top + placed.shape[0], left : left + placed.shape[1]] = placed
    texts = [
        (8, GAP + down * step + cell / 2, _wrapped(label, LETTERS, 3), "left") for down, label in enumerate(labels)
    ]
    return small_png(lambda: _annotated(canvas, texts))


def frames(labels: Sequence[str], pictures: Sequence[Array], *, cell: int, across: int) -> bytes:
    """Return pictures, [h, w, 3] uint8 each, framed, with their labels above them; fitted into `cell` pixels."""
    fit = [np.pad(fitted(picture, cell - 2), ((1, 1), (1, 1), (0, 0)), constant_values=EDGE) for picture in pictures]
    cell = max(100, *(picture.shape[1] for picture in fit))
    wrapped = [_wrapped(label, cell // 6, 3) for label in labels]
    above = 12 * max(text.count("\n") + 1 for text in wrapped) + 10  # pixels of the labels
    high = max(picture.shape[0] for picture in fit)
    down, across = -(-len(fit) // across), min(across, len(fit))
    canvas = np.full((down * (high + above) + GAP, across * (cell + GAP) + GAP, 3), 255, dtype=np.uint8)
    texts = []
    for number, (label, picture) in enumerate(zip(wrapped, fit, strict=True)):
        top, left = number // across * (high + above) + above, number % across * (cell + GAP) + GAP
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        texts.append((left + cell / 2, top - above / 2, label, "center"))
    return small_png(lambda: _annotated(canvas, texts))


def fitted(image: Array, cell: int) -> Array:
    """Return an image [h, w, 3] uint8 whose longer side is at most `cell`: enlarged by a whole number, or shrunk."""
    from PIL import Image

    longer = max(image.shape[:2])
    if longer <= cell:
        times = max(1, cell // longer)
        return image.repeat(times, axis=0).repeat(times, axis=1)
    height, width = (max(1, round(side * cell / longer)) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def clouds(labels: Sequence[str], points: Sequence[Array], classes: Sequence[Array], names: Sequence[str]) -> bytes:
    """Return a panel for each task: its points [N, 2] by class [N], those of the other tasks in grey.

    names: of the classes where all tasks have the same, for a legend; empty = none
    """
    across = 3 if len(labels) in (3, 5, 6) else min(len(labels), 4)
    down = -(-len(labels) // across)
    everything = np.concatenate(points)
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = 0.05 * np.maximum(high - low, 1e-6)

    def draw() -> Any:
        from matplotlib.figure import Figure

        canvas = Figure(figsize=(2.1 * across, 2.1 * down + (0.4 if names else 0)), dpi=DPI, layout="constrained")
        panels = canvas.subplots(down, across, squeeze=False).flat
        for number, axes in enumerate(panels):
            axes.set_axis_off()
            if number >= len(labels):
                continue
            axes.set_axis_on()
            axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_color(PALE)
            axes.set_title(_wrapped(labels[number], 30, 2), fontsize=8, color=INK)
            axes.scatter(*everything.T, s=2, color=PALE, linewidths=0)
            for each in np.unique(classes[number]):
                own = points[number][classes[number] == each]
                label = names[each] if names and number == 0 else None
                axes.scatter(*own.T, s=5, color=COLOURS[each % len(COLOURS)], linewidths=0, label=label)
        if names:
            canvas.legend(
                loc="outside lower center", ncols=min(5, len(names)), fontsize=8, frameon=False, markerscale=2
            )
        return canvas

    return small_png(draw)


def word_rows(labels: Sequence[str], words: Sequence[Sequence[str]]) -> bytes:
    """Return the words of each label in a row, the first ones largest."""
    step, width, beside = 34, 900, _beside(labels)

    def draw() -> Any:
        from matplotlib.figure import Figure
        from matplotlib.textpath import TextPath

        height = len(labels) * step + 2 * GAP
        canvas = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        for down, (label, row) in enumerate(zip(labels, words, strict=True)):
            middle = 1 - (GAP + (down + 0.5) * step) / height
            name = _wrapped(label, LETTERS, 2)
            canvas.text(8 / width, middle, name, fontsize=8, color=INK, va="center_baseline", linespacing=1.0)
            left = beside + 10.0
            for place, word in enumerate(row):
                size = max(8.0, 15.0 - 1.1 * place)
                long = TextPath((0, 0), word, size=size).get_extents().width * DPI / 72
                if left + long > width - 8:
                    break
                colour = COLOURS[down % len(COLOURS)]
                canvas.text(left / width, middle, word, fontsize=size, color=colour, va="center_baseline")
                left += long + 14
        return canvas

    return small_png(draw)


def _annotated(pixels: Array, texts: Sequence[tuple[float, float, str, str]]) -> Any:
    """Return a figure of exactly these pixels [H, W, 3] with (x, y from the top, text, alignment) written on it."""
    from matplotlib.figure import Figure

    height, width = pixels.shape[:2]
    canvas = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    canvas.figimage(pixels, 0, 0)
    for x, y, text, side in texts:
        canvas.text(x / width, 1 - y / height, text, fontsize=8, color=INK, ha=side, va="center", linespacing=1.0)
    return canvas


def _beside(labels: Sequence[str]) -> int:
    """Return how many pixels the labels of rows take."""
    least, most = LABEL
    longest = max(len(line) for label in labels for line in _wrapped(label, LETTERS, 3).split("\n"))
    return min(most, max(least, 7 * longest + 16))


def _wrapped(text: str, width: int, lines: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))
