"""What is read out of an open HDF5 file of LIBERO, every array checked as it is read. h5py and numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.libero.poses import SceneModel, read_scene
from cl_suite import DataError

Array = NDArray[Any]

SOURCE = "https://libero-project.github.io (datasets, CC BY 4.0)"
SENSES = {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2, "joint_states": 7}  # of obs, in the order of the state vector
ACTION_SIZE = 7
BEYOND = 1e-6  # by which an action may be out of [-1, 1] through rounding


class Demo:
    """One demonstration of an open file.

    steps: T, how many actions it has; every other array must be as long
    """

    def __init__(self, group: Any, where: str, steps: int) -> None:
        self._group, self.where, self._steps = group, where, steps

    def scene(self) -> SceneModel:
        """Return the joints and bodies of its scene."""
        return read_scene(str(attribute(self._group, "model_file", self.where)), source=self.where)

    def states(self, scene: SceneModel) -> Array:
        """Return time, qpos and qvel, [T, 1 + nq + nv]."""
        return self._numbers("states", scene.width)

    def senses(self) -> dict[str, Array]:
        """Return what the robot senses of itself, [T, size] each."""
        return {key: self._numbers(f"obs/{key}", size) for key, size in SENSES.items()}

    def actions(self) -> Array:
        """Return the actions, [T, 7] in [-1, 1]."""
        actions = self._numbers("actions", ACTION_SIZE)
        most = np.abs(actions).max()
        if most > 1 + BEYOND:
            step = int(np.argmax(np.abs(actions).max(axis=1)))
            raise wrong(self.where, f"actions are out of [-1, 1], at step {step} by {most - 1:.3g}")
        return actions.clip(-1.0, 1.0)

    def pictures(self, key: str, moments: slice, *, size: tuple[int, int], upside_down: bool) -> Array:
        """Return a camera's pictures at these moments, [T', 3, H, W] uint8, upright; no others are read.

        size:        H, W
        upside_down: they are stored so
        """
        name = f"obs/{key}"
        stored = entry(self._group, name, self.where)
        if stored.dtype != np.uint8 or stored.shape != (self._steps, *size, 3):
            due = [self._steps, *size, 3]
            raise wrong(self.where, f"{name} is {stored.dtype} {list(stored.shape)}, not uint8 {due}")
        pixels: Array = stored[moments]
        pixels = pixels[:, ::-1] if upside_down else pixels
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def _numbers(self, key: str, width: int) -> Array:
        stored = entry(self._group, key, self.where)
        if stored.shape != (self._steps, width):
            raise wrong(self.where, f"{key} is {list(stored.shape)}, not [{self._steps}, {width}]")
        numbers: Array = np.asarray(stored[()], dtype=np.float64)
        finite = np.isfinite(numbers).all(axis=1)
        if not finite.all():
            raise wrong(self.where, f"{key} is not finite, first at step {int(np.argmin(finite))}")
        return numbers


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; raise DataError without h5py, and where the file is absent or damaged."""
    try:
        import h5py
    except ImportError as problem:
        raise DataError(
            f"LIBERO's files need h5py, which is not installed ({problem}). Install the extra: "
            "pip install 'cl-suite[libero]', or run with uv run --extra libero."
        ) from problem
    if not path.is_file():
        raise DataError(f"{path} is absent. Get it from {SOURCE} and put it there.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as problem:  # whichever HDF5 answers a damaged file with
        reason = " ".join(str(problem).split())[:200]
        raise wrong(str(path), f"this is not a whole HDF5 file ({reason})") from problem


def attribute(group: Any, name: str, where: str) -> Any:
    """Return an attribute, as text where it is text. Raise DataError where it is absent."""
    if name not in group.attrs:
        raise wrong(where, f"the attribute {name} is absent")
    value = group.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def entry(group: Any, key: str, where: str) -> Any:
    """Return an array or group, unread. Raise DataError where it is absent."""
    if key not in group:
        raise wrong(where, f"{key} is absent")
    return group[key]


def wrong(where: str, what: str) -> DataError:
    """Return the error for a file that is not as LIBERO's are."""
    return DataError(f"{where}: {what}. Fetch the file again from {SOURCE}.")
