"""LIBERO's suites learned one task after another from demonstrations (Liu et al. 2023, arXiv 2306.03310).

Streams named ..._offline need the files of demonstrations alone. Their score is how well the actions of demonstrations
that were held out are foretold. That is never a success rate, and neither can be told from the other.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cl_suite import (
    LIBERO_SUITES,
    DataError,
    DataRoot,
    LiberoFile,
    PrepareStates,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    UsageError,
    embed_instructions,
    imitation_objective,
    imitation_task,
    libero_instruction,
    libero_tasks,
    open_libero_file,
)

ACTIONS = ("move x", "move y", "move z", "turn x", "turn y", "turn z", "gripper")
# Metres over the reach of the arm, from the floor or from a table; radians; joints from where LIBERO's robot starts.
PLACE = ((0.0, 0.0, 0.6), (3.0, 3.0, 3.0))
TURN = ((0.0,) * 3, (0.5,) * 3)
FINGERS = ((0.0, 0.0), (25.0, 25.0))
JOINTS = ((0.0, -0.16, 0.0, -2.44, 0.0, 2.23, 0.79), (1.0,) * 7)
POSE = tuple(PLACE[k] + ((0.0,) * 4, (1.0,) * 4)[k] for k in (0, 1))
SCALING = PrepareStates(*(PLACE[k] + TURN[k] + FINGERS[k] + JOINTS[k] + POSE[k] + POSE[k] for k in (0, 1)))


class _Offline(Stream):
    """Demonstrations from files; the score is the share of held-out actions within a tolerance, not success."""

    suite: ClassVar[str]

    # The instruction, which is part of the input, says what to do; whether a strategy is told more is the scenario's.
    scenarios = (Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL)
    source = "Liu et al. 2023, LIBERO, arXiv 2306.03310; https://libero-project.github.io"
    licence = "CC BY 4.0 (demonstrations), MIT (tasks)"

    @dataclass
    class Config:
        """Which tasks and demonstrations, what is shown of them, and how near an action must be."""

        task_order_index: int = 0  # a published order of the ten tasks, 0 to 20 (LIBERO-90: 0)
        tasks: list[int] = field(default_factory=list)  # numbers in the suite, 0 and up, in this order; empty = all
        folder: str = "libero"  # below the data root; in it <suite>/<task>_demo.hdf5
        demonstrations: int = 0  # the first so many of each file; 0 = all (50 in official files)
        held_out: int = 5  # the last so many of them are not learned from: they are the test samples
        drop_first: int = 0  # steps left out at the start of each; official files lack the first five already
        observation_shift: int = 1  # 1: observations were stored after the action (official files), 0: before it
        cameras: list[str] = field(default_factory=list)  # agentview, eye_in_hand; empty = states alone
        language: str = "onehot"  # the instruction as a vector: onehot or hashed (a bag of words)
        head: str = "l1"  # what is minimised: l1, mse, or gmm, a mixture of Gaussians
        history: int = 1  # latest moments the policy is shown
        tolerance: float = 0.2  # by which each of the seven numbers of an action, in [-1, 1], may differ

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read the files. Raise DataError where they are absent or wrong, and without h5py."""
        c = self.config
        for name, low in (("demonstrations", 0), ("held_out", 1), ("drop_first", 0), ("history", 1)):
            if getattr(c, name) < low:
                raise UsageError(f"stream.{name}={getattr(c, name)} is too small. Use {low} or more.")
        if not 0 < c.tolerance < 1:
            raise UsageError(f"stream.tolerance={c.tolerance} is not a tolerance. Use a number between 0 and 1.")
        objective = dataclasses.replace(imitation_objective(c.head), tolerance=c.tolerance)
        files = self.files(root)
        vectors = embed_instructions([file.instruction for file in files.values()], c.language)
        tasks, checksums = [], {}
        for (name, file), vector in zip(files.items(), vectors, strict=True):
            count = c.demonstrations or len(file.demos)
            if c.held_out >= count:
                raise UsageError(
                    f"stream.held_out={c.held_out} leaves none of {count} demonstrations of {file.path} to learn from. "
                    f"Use less than {count}."
                )
            shown = file.read(
                count=count, cameras=c.cameras, drop_first=c.drop_first, observation_shift=c.observation_shift
            )
            checksums[f"{c.folder}/{self.suite}/{file.path.name}"] = file.checksum
            tasks.append(
                imitation_task(
                    name,
                    shown.observations,
                    shown.actions,
                    shown.lengths,
                    held_out=c.held_out,
                    instruction=vector,
                    outputs=objective.outputs(ACTIONS),
                    history=c.history,
                )
            )
        return StreamData(
            tuple(tasks), SCALING, labels="shared", checksums=checksums, objective=objective, one_head=True
        )

    def files(self, root: DataRoot) -> dict[str, LiberoFile]:
        """Return {task: its file, looked at}. Raise DataError, with where to get them, if one is absent or wrong."""
        folder = root.path / self.config.folder / self.suite
        names = libero_tasks(self.suite, order=self.config.task_order_index, numbers=self.config.tasks)
        paths = {name: folder / f"{name}_demo.hdf5" for name in names}
        absent = [path for path in paths.values() if not path.is_file()]
        if absent:
            raise DataError(f"{self._absent(absent, folder)} or use --stream split_digits, which needs no files.")
        files = {name: open_libero_file(path) for name, path in paths.items()}
        sizes = {camera: {file.cameras.get(camera) for file in files.values()} for camera in self.config.cameras}
        for camera, found in sizes.items():
            if len(found) > 1:
                raise DataError(
                    f"{folder}: the pictures of {camera} differ from file to file: {found}. Choose tasks alike."
                )
        return files

    def _absent(self, absent: list[Path], folder: Path) -> str:
        tasks = LIBERO_SUITES[self.suite]
        numbers = [str(k) for k, name in enumerate(tasks) if (folder / f"{name}_demo.hdf5").is_file()]
        there = f" Tasks with a file: stream.tasks=[{','.join(numbers)}]." if numbers else ""
        return (
            f"{self.suite}: {absent[0].name} is not in {folder} ({len(absent)} files are absent; --data-root or "
            f"CL_SUITE_DATA sets the data root), and there is no automatic download.{there} "
            "Get them from https://libero-project.github.io (datasets, CC BY 4.0) and put them there,"
        )

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Read and check every file that is asked for; nothing is downloaded."""
        return self.load(root, Seeds(0, 0, 0)).checksums

    def card(self) -> dict[str, Any]:
        """Return the public facts, what the robot is told in each task, and that the score is no success rate."""
        told = {name: libero_instruction(name) for name in LIBERO_SUITES[self.suite]}
        score = "share of held-out actions within the tolerance; not a success rate"
        return super().card() | {"instructions": told, "score": score}


class LiberoSpatialOffline(_Offline):
    """LIBERO-Spatial: the same bowl in ten places, from files; held-out action error, not success (extra `libero`)."""

    suite = "libero_spatial"


class LiberoObjectOffline(_Offline):
    """LIBERO-Object: ten things into a basket, from files; held-out action error, not success (extra `libero`)."""

    suite = "libero_object"


class LiberoGoalOffline(_Offline):
    """LIBERO-Goal: ten goals in one scene, from files; held-out action error, not success (extra `libero`)."""

    suite = "libero_goal"


class Libero10Offline(_Offline):
    """LIBERO-10 (LONG): ten long tasks, from files; held-out action error, not success (extra `libero`)."""

    suite = "libero_10"


class Libero90Offline(_Offline):
    """LIBERO-90: 90 short tasks, from files; held-out action error, not success (extra `libero`)."""

    suite = "libero_90"
