"""Demonstrations of LIBERO as HDF5 files: <suite>/<task>_demo.hdf5. Needs h5py (extra `libero`), no simulator.

What is read when: `open_libero_file` reads names, sizes and attributes, no array. `LiberoFile.read` reads the arrays of
the demonstrations asked for, one after another, and pictures only of the cameras asked for, straight to where they
stay: [N, 3, H, W] uint8 in memory, since a run has its samples on its device. No file stays open, so what is returned
can be sent to other processes. Two cameras of 128 x 128 take 98 kB a step, about 0.7 GB for 50 official demonstrations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.libero.arrays import ACTION_SIZE, SENSES, Array, Demo, attribute, entry, opened, wrong
from benchmarks.libero.poses import SceneModel, goal_objects, object_poses
from benchmarks.libero.suites import LIBERO_SUITES, libero_instruction
from cl_suite import DataError, UsageError, nearest
from cl_suite.robots import Demonstrations

SUFFIX = "_demo.hdf5"
STATE_SIZE = 29  # what the robot senses of itself, 15, the pose of what the goal moves, and that of where it goes
CAMERAS = {"agentview": "agentview_rgb", "eye_in_hand": "eye_in_hand_rgb"}  # our name: theirs in obs
UPSIDE_DOWN = {"opengl": True, "opencv": False}  # by the file's macros_image_convention
JOINTS = [f"robot0_joint{number}" for number in range(1, 8)]


@dataclass(frozen=True)
class LiberoFile:
    """A file that was looked at: whose demonstrations, how many steps each has, which cameras.

    instruction: from the file name, as LIBERO takes it; the task file's own words differ
    goal:        the object that the goal moves, and the one it goes to, if any
    demos:       names, by number: demo_2 before demo_10
    lengths:     steps of each
    cameras:     {name: (height, width)} of those that every demonstration has
    convention:  which way up pictures are stored: "opengl" (upside down), "opencv", or "" where the file does not say
    """

    path: Path
    instruction: str
    goal: tuple[str, str | None]
    demos: tuple[str, ...]
    lengths: tuple[int, ...]
    cameras: Mapping[str, tuple[int, int]]
    convention: str

    @property
    def checksum(self) -> str:
        """Of the whole file, as "sha256:<hex>"; reads all of it."""
        with self.path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def read(
        self, *, count: int = 0, cameras: Sequence[str] = (), drop_first: int = 0, observation_shift: int = 1
    ) -> Demonstrations:
        """Read the first `count` demonstrations; 0 = all.

        cameras:           agentview, eye_in_hand; turned upright
        drop_first:        steps left out at the start of each. LIBERO leaves out five when it makes its files: 0 here
        observation_shift: 1: obs[t] was stored after actions[t], as in the official files, so obs[t - 1] goes with
                           actions[t] and the first step has none; 0: before it. `states` are before it in both

        Observations are {"states": [N, 29] float32, cameras: [N, 3, H, W] uint8}; a state is ee_pos 3, ee_ori 3
        (axis-angle), gripper_states 2, joint_states 7, then position 3 and quaternion 4 (w, x, y, z) of the goal's
        thing, and of its place (zeros where there is none). Actions are [N, 7] float32 in [-1, 1].

        Raise UsageError for options that cannot be met; DataError, in one line, where numbers are absent, of a wrong
        size, not finite, out of range, or stored at another moment than asked for.
        """
        start = self._start(count, cameras, drop_first, observation_shift)
        demos = self.demos[: count or None]
        lengths = torch.tensor(self.lengths[: len(demos)]) - start
        total = int(lengths.sum())
        states, actions = torch.empty(total, STATE_SIZE), torch.empty(total, ACTION_SIZE)
        pictures = {name: torch.empty(total, 3, *self.cameras[name], dtype=torch.uint8) for name in cameras}
        distances, end = np.zeros(2), 0
        with opened(self.path) as file:
            for name, steps in zip(demos, self.lengths, strict=False):
                demo = Demo(file["data"][name], f"{self.path}, {name}", steps)
                scene = demo.scene()
                moments, senses = demo.states(scene), demo.senses()
                distances += _distances(moments, senses["joint_states"], scene)
                begin, end = end, end + steps - start
                rows = slice(start - observation_shift, steps - observation_shift)
                parts = [senses[key][rows] for key in SENSES]
                parts.append(object_poses(moments[start:], scene, self.goal, source=demo.where).reshape(-1, 14))
                states[begin:end] = torch.from_numpy(np.concatenate(parts, axis=1))
                actions[begin:end] = torch.from_numpy(demo.actions()[start:])
                for camera, pixels in pictures.items():
                    frames = demo.pictures(
                        CAMERAS[camera], rows, size=self.cameras[camera], upside_down=UPSIDE_DOWN[self.convention]
                    )
                    pixels[begin:end] = torch.from_numpy(frames)
        self._check_shift(distances, observation_shift)
        facts = {
            "file": self.path.name,
            "instruction": self.instruction,
            "demonstrations": list(demos),
            "drop_first": drop_first,
            "observation_shift": observation_shift,
        }
        return Demonstrations({"states": states, **pictures}, actions, lengths, facts)

    def _start(self, count: int, cameras: Sequence[str], drop_first: int, observation_shift: int) -> int:
        """Return the first step of each demonstration that is read, after checking what is asked for."""
        if not 0 <= count <= len(self.demos):
            raise UsageError(
                f"stream.demonstrations={count}, but {self.path} has {len(self.demos)}. Use 0 for all of them."
            )
        if observation_shift not in (0, 1):
            raise UsageError(f"stream.observation_shift={observation_shift} is not known. Use 1 (official files) or 0.")
        for name in cameras:
            if name not in CAMERAS:
                raise UsageError(f"stream.cameras names {name}, which is none. {nearest(name, CAMERAS)}")
            if name not in self.cameras:
                had = " and ".join(self.cameras) or "none"
                raise DataError(
                    f"{self.path}: not every demonstration has obs/{CAMERAS[name]}. It has of cameras: {had}. "
                    "Ask for no other in stream.cameras."
                )
        if cameras and self.convention not in UPSIDE_DOWN:
            convention = self.convention or "absent"
            raise wrong(
                str(self.path), f"macros_image_convention is {convention}, which way up pictures are is not known"
            )
        start = max(drop_first, observation_shift)
        steps, name = min(zip(self.lengths[: count or None], self.demos, strict=False))
        if drop_first < 0 or steps <= start:
            raise UsageError(
                f"{self.path}, {name}: stream.drop_first={drop_first} and stream.observation_shift="
                f"{observation_shift} leave nothing of {steps} steps. Use a smaller stream.drop_first, 0 or more."
            )
        return start

    def _check_shift(self, distances: Array, observation_shift: int) -> None:
        """Refuse observations whose joints are clearly those of the other moment in `states`."""
        distance, other = distances[observation_shift], distances[1 - observation_shift]
        if distance > 1e-3 and distance > 4 * other:
            when = "before" if observation_shift else "after"
            raise DataError(
                f"{self.path}: obs/joint_states were stored {when} each action, as states show. "
                f"Use stream.observation_shift={1 - observation_shift}."
            )


def open_libero_file(path: Path) -> LiberoFile:
    """Look at a file: its attributes, names and sizes; arrays are not read.

    Raise DataError, in one line, where it is absent, is not HDF5, or lacks what LIBERO's files have; without h5py too.
    """
    with opened(path) as file:
        data = entry(file, "data", str(path))
        numbers = sorted((int(match[1]), name) for name in data if (match := re.fullmatch(r"demo_(\d+)", name)))
        demos = tuple(name for _, name in numbers)
        count = int(attribute(data, "num_demos", str(path)))
        if count != len(demos) or not demos:
            raise wrong(str(path), f"num_demos is {count}, but there are {len(demos)} demonstrations")
        lengths, cameras = [], []
        for name in demos:
            where = f"{path}, {name}"
            actions = entry(data[name], "actions", where)
            if actions.shape[1:] != (ACTION_SIZE,) or not len(actions):
                raise wrong(where, f"actions are {list(actions.shape)}, not [steps, {ACTION_SIZE}]")
            steps = int(data[name].attrs.get("num_samples", len(actions)))
            if steps != len(actions):
                raise wrong(where, f"num_samples is {steps}, but there are {len(actions)} actions")
            lengths.append(len(actions))
            cameras.append({camera: data[name].get(f"obs/{key}") for camera, key in CAMERAS.items()})
        return LiberoFile(
            path,
            libero_instruction(path.name.removesuffix(SUFFIX)),
            goal_objects(str(attribute(data, "bddl_file_content", str(path))), source=str(path)),
            demos,
            tuple(lengths),
            {
                name: (first.shape[1], first.shape[2])
                for name, first in cameras[0].items()
                if all(each[name] is not None and each[name].ndim == 4 for each in cameras)
            },
            str(data.attrs.get("macros_image_convention", "")),
        )


def find_libero_files(
    suite: str, names: Sequence[str], *, folder: Path, cameras: Sequence[str] = ()
) -> dict[str, LiberoFile]:
    """Return {task: its file, looked at} of the tasks `names` of a suite, whose files lie in `folder`.

    Raise DataError, with where to get them, if one is absent or wrong, or if pictures of `cameras` differ in size.
    """
    paths = {name: folder / f"{name}{SUFFIX}" for name in names}
    absent = [path for path in paths.values() if not path.is_file()]
    if absent:
        raise DataError(f"{_absent(suite, absent, folder)} or use --stream split_digits, which needs no files.")
    files = {name: open_libero_file(path) for name, path in paths.items()}
    sizes = {camera: {file.cameras.get(camera) for file in files.values()} for camera in cameras}
    for camera, shapes in sizes.items():
        if len(shapes) > 1:
            raise DataError(
                f"{folder}: the pictures of {camera} differ from file to file: {shapes}. Choose tasks alike."
            )
    return files


def _absent(suite: str, absent: list[Path], folder: Path) -> str:
    tasks = LIBERO_SUITES[suite]
    numbers = [str(k) for k, name in enumerate(tasks) if (folder / f"{name}{SUFFIX}").is_file()]
    there = f" Tasks with a file: stream.tasks=[{','.join(numbers)}]." if numbers else ""
    return (
        f"{suite}: {absent[0].name} is not in {folder} ({len(absent)} files are absent; --data-root or "
        f"CL_SUITE_DATA sets the data root), and there is no automatic download.{there} "
        "Get them from https://libero-project.github.io (datasets, CC BY 4.0) and put them there,"
    )


def _distances(states: Array, joints: Array, scene: SceneModel) -> Array:
    """Return how far observed joints [T, 7] are on average from those in `states` [T, N]: now, and one step later."""
    if not all(name in scene.addresses for name in JOINTS) or len(states) < 2:
        return np.zeros(2)
    positions = states[:, [1 + scene.addresses[name] for name in JOINTS]]
    return np.array([np.abs(joints[:-1] - moment).mean() for moment in (positions[:-1], positions[1:])])
