"""LIBERO's suites learned one task after another from demonstrations (Liu et al. 2023, arXiv 2306.03310).

Streams named ..._offline need the files of demonstrations alone. Their score is how well the actions of demonstrations
that were held out are foretold. That is never a success rate, and neither can be told from the other. Those named after
a suite need LIBERO's simulator too, and their score is success.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from benchmarks.libero.files import LiberoFile, find_libero_files
from benchmarks.libero.simulator import libero_facts, libero_shown_by_script
from benchmarks.libero.suites import LIBERO_SUITES, libero_instruction, libero_tasks
from cl_suite import (
    DataError,
    DataRoot,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskOutline,
    UsageError,
)
from cl_suite.robots import (
    PrepareStates,
    SuccessRate,
    demonstrations,
    embed_instructions,
    imitation_objective,
    imitation_task,
    robot_pool,
)

ACTIONS = ("move x", "move y", "move z", "turn x", "turn y", "turn z", "gripper")
# Metres over the reach of the arm, from the floor or from a table; radians; joints from where LIBERO's robot starts.
PLACE = ((0.0, 0.0, 0.6), (3.0, 3.0, 3.0))
TURN = ((0.0,) * 3, (0.5,) * 3)
FINGERS = ((0.0, 0.0), (25.0, 25.0))
JOINTS = ((0.0, -0.16, 0.0, -2.44, 0.0, 2.23, 0.79), (1.0,) * 7)
POSE = tuple(PLACE[k] + ((0.0,) * 4, (1.0,) * 4)[k] for k in (0, 1))
SCALING = PrepareStates(*(PLACE[k] + TURN[k] + FINGERS[k] + JOINTS[k] + POSE[k] + POSE[k] for k in (0, 1)))


def _check(config: Any, lowest: Mapping[str, int]) -> None:
    for name, low in lowest.items():
        if getattr(config, name) < low:
            raise UsageError(f"stream.{name}={getattr(config, name)} is too small. Use {low} or more.")


class _Suite(Stream):
    """What streams of files and of rollouts have in common."""

    suite: ClassVar[str]

    facts = StreamFacts(
        modality="robots",
        citation="Liu et al. 2023, LIBERO, arXiv 2306.03310",
        source="https://libero-project.github.io",
        # The instruction, part of the input, says what to do; whether a strategy is told more is the scenario's.
        scenarios=(Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL),
    )

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Check every file that is asked for, or make the demonstrations ahead of time; nothing is downloaded."""
        return self.load(root, Seeds(0, 0, 0)).checksums

    def names(self) -> tuple[str, ...]:
        """Return the tasks that are asked for."""
        return libero_tasks(self.suite, order=self.config.task_order_index, numbers=self.config.tasks)

    def files(self, root: DataRoot) -> dict[str, LiberoFile]:
        """Return {task: its file, looked at}. Raise DataError, with where to get them, if one is absent or wrong."""
        folder = root.path / self.config.folder / self.suite
        return find_libero_files(self.suite, self.names(), folder=folder, cameras=self.config.cameras)

    def outline(self, root: DataRoot) -> tuple[TaskOutline, ...]:
        """Return the tasks that are asked for, with their simulators where those are at hand."""
        c, names = self.config, self.names()
        outputs, robots = imitation_objective(c.head).outputs(ACTIONS), self.robots(names, root)
        episodes = getattr(c, "episodes", None)
        return tuple(TaskOutline(name, outputs, episodes, robots.get(name)) for name in names)

    def robots(self, names: tuple[str, ...], root: DataRoot) -> dict[str, Any]:
        """Return what simulators of tasks can be built from; none for streams of files alone."""
        return {}


class _Offline(_Suite):
    """Demonstrations from files; the score is the share of held-out actions within a tolerance, not success."""

    facts = replace(
        _Suite.facts,
        licence="CC BY 4.0 (demonstrations), MIT (tasks)",
        prerequisites="extra libero, files",
        sizes=StreamSizes(tasks=10),
    )

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
        language: str = "onehot"  # the instruction as a vector: onehot, hashed (a bag of words), encoder
        encoder: str | None = None  # language=encoder: a frozen sentence encoder, by its folder or name on the hub
        head: str = "l1"  # what is minimised: l1, mse, or gmm, a mixture of Gaussians
        history: int = 1  # latest moments the policy is shown
        tolerance: float = 0.2  # by which each of the seven numbers of an action, in [-1, 1], may differ

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Read the files. Raise DataError where they are absent or wrong, and without h5py."""
        c = self.config
        _check(c, {"demonstrations": 0, "held_out": 1, "drop_first": 0, "history": 1})
        if not 0 < c.tolerance < 1:
            raise UsageError(f"stream.tolerance={c.tolerance} is not a tolerance. Use a number between 0 and 1.")
        objective = replace(imitation_objective(c.head), tolerance=c.tolerance)
        files = self.files(root)
        instructions = [file.instruction for file in files.values()]
        vectors = embed_instructions(instructions, c.language, encoder=c.encoder, root=root)
        tasks, checksums = [], {}
        for (name, file), vector in zip(files.items(), vectors, strict=True):
            count = c.demonstrations or len(file.demos)
            if c.held_out >= count:
                raise UsageError(
                    f"stream.held_out={c.held_out} leaves none of {count} demonstrations of {file.path} to learn from. "
                    f"Use less than {count}."
                )
            demos = file.read(
                count=count, cameras=c.cameras, drop_first=c.drop_first, observation_shift=c.observation_shift
            )
            checksums[f"{c.folder}/{self.suite}/{file.path.name}"] = file.checksum
            tasks.append(
                imitation_task(
                    name,
                    demos,
                    held_out=c.held_out,
                    instruction=vector,
                    outputs=objective.outputs(ACTIONS),
                    history=c.history,
                )
            )
        return StreamData(
            tuple(tasks), SCALING, labels="shared", checksums=checksums, objective=objective, single_head=True
        )

    def card(self) -> dict[str, Any]:
        """Return the public facts, what the robot is told in each task, and that the score is no success rate."""
        instructions = {name: libero_instruction(name) for name in LIBERO_SUITES[self.suite]}
        score = "share of held-out actions within the tolerance; not a success rate"
        return super().card() | {"instructions": instructions, "score": score}


class _Simulated(_Suite):
    """Rollouts in LIBERO's own environments; demonstrations from files, or by our scripted expert."""

    facts = replace(
        _Suite.facts,
        licence="MIT (tasks, models), CC BY 4.0 (official demonstrations)",
        prerequisites="extra libero, simulator",
        sizes=StreamSizes(tasks=10, episodes=200),
    )

    @dataclass
    class Config:
        """Which tasks, who shows them, what the policy is shown, and how success is measured."""

        task_order_index: int = 0  # a published order of the ten tasks, 0 to 20 (LIBERO-90: 0)
        tasks: list[int] = field(default_factory=list)  # numbers in the suite, 0 and up, in this order; empty = all
        shown_by: str = "script"  # script: our expert, not the official human demonstrations; files: HDF5 files
        demonstrations: int = 20  # of each task, all learned from (files: the first so many)
        noise: float = 0.1  # script: deviation of the noise on every second one's hand motion in free space
        folder: str = "libero"  # files: below the data root; in it <suite>/<task>_demo.hdf5
        observation_shift: int = 1  # files: 1: observations were stored after the action (official), 0: before it
        cameras: list[str] = field(default_factory=list)  # agentview, eye_in_hand; empty = states alone, no graphics
        language: str = "onehot"  # the instruction as a vector: onehot, hashed (a bag of words), encoder
        encoder: str | None = None  # language=encoder: a frozen sentence encoder, by its folder or name on the hub
        head: str = "l1"  # what is minimised: l1, mse, or gmm, a mixture of Gaussians
        history: int = 1  # latest moments the policy is shown
        episodes: int = 20  # rollouts of each task in every evaluation, from official initial states 0, 1, ... (50 are)
        horizon: int = 600  # steps after which an episode has failed (LIBERO: 600)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Make or read the demonstrations. Raise DataError where packages, assets or files are absent or wrong."""
        c = self.config
        _check(c, {"demonstrations": 1, "history": 1, "episodes": 1, "horizon": 1})
        if c.episodes > 50:
            raise UsageError(f"stream.episodes={c.episodes}: each task has 50 initial states. Use 50 or less.")
        if not 0 <= c.noise < float("inf"):
            raise UsageError(f"stream.noise={c.noise} is not a deviation. Use 0 or more.")
        if c.shown_by not in ("script", "files"):
            raise UsageError(f"stream.shown_by={c.shown_by} is not known. Use script or files.")
        objective, pool, facts = imitation_objective(c.head), robot_pool(), libero_facts(root.path)
        names, files = self.names(), self.files(root) if c.shown_by == "files" else {}
        if not files:
            self._check_script(names)
        instructions = [libero_instruction(name) for name in names]
        vectors = embed_instructions(instructions, c.language, encoder=c.encoder, root=root)
        tasks, checksums, demonstration_facts = [], {}, dict[str, Any]()
        for name, vector in zip(names, vectors, strict=True):
            robot = facts.task(self.suite, name, horizon=c.horizon, cameras=c.cameras)
            if name in files:
                demos = files[name].read(
                    count=c.demonstrations, cameras=c.cameras, observation_shift=c.observation_shift
                )
                checksums[f"{c.folder}/{self.suite}/{files[name].path.name}"] = files[name].checksum
            else:
                demos = demonstrations(
                    robot, count=c.demonstrations, noise=c.noise, made_by=facts.versions, root=root.path, pool=pool
                )
                checksums[f"robots/{name} (scripted)"], demonstration_facts[name] = demos.checksum, dict(demos.facts)
            tasks.append(
                imitation_task(
                    name,
                    demos,
                    held_out=0,
                    instruction=vector,
                    outputs=objective.outputs(ACTIONS),
                    history=c.history,
                    scorer=SuccessRate(robot, tuple(range(c.episodes)), pool, c.history),
                )
            )
        return StreamData(
            tuple(tasks),
            SCALING,
            labels="shared",
            checksums=checksums,
            objective=objective,
            single_head=True,
            facts={"versions": facts.versions, "demonstrations": demonstration_facts},
        )

    def _check_script(self, names: tuple[str, ...]) -> None:
        """Raise UsageError, with the tasks that are left, where our expert cannot show one."""
        whole = LIBERO_SUITES[self.suite]
        able = [str(k) for k, name in enumerate(whole) if libero_shown_by_script(self.suite, name)]
        for name in names:
            if str(whole.index(name)) not in able:
                raise UsageError(
                    f"{self.suite}: no script shows {name}, only tasks that put one thing in or on another: "
                    f"stream.tasks=[{','.join(able)}]. Or use official files: stream.shown_by=files."
                )

    def robots(self, names: tuple[str, ...], root: DataRoot) -> dict[str, Any]:
        """Return what simulators of tasks can be built from; none where LIBERO or its assets are absent."""
        try:
            facts = libero_facts(root.path)
            return {name: facts.task(self.suite, name, horizon=self.config.horizon) for name in names}
        except DataError:
            return {}

    def card(self) -> dict[str, Any]:
        """Return the public facts, what the robot is told in each task, and who showed it."""
        instructions = {name: libero_instruction(name) for name in LIBERO_SUITES[self.suite]}
        who = {"script": "scripted, not the official human demonstrations", "files": f"files in {self.config.folder}"}
        return super().card() | {"instructions": instructions, "demonstrations": who.get(self.config.shown_by, "")}


class LiberoSpatial(_Simulated):
    """LIBERO-Spatial: the same bowl in ten places, success in the simulator (extra `libero`, then its simulator)."""

    suite = "libero_spatial"


class LiberoObject(_Simulated):
    """LIBERO-Object: ten things into a basket, success in the simulator (extra `libero`, then its simulator)."""

    suite = "libero_object"


class LiberoGoal(_Simulated):
    """LIBERO-Goal: ten goals in one scene, success in the simulator (extra `libero`, then its simulator)."""

    suite = "libero_goal"


class Libero10(_Simulated):
    """LIBERO-10 (LONG): ten long tasks, success in the simulator (extra `libero`, then its simulator)."""

    suite = "libero_10"


class Libero90(_Simulated):
    """LIBERO-90: 90 short tasks, success in the simulator (extra `libero`, then its simulator)."""

    facts = replace(_Simulated.facts, sizes=StreamSizes(tasks=90, episodes=1_800))

    suite = "libero_90"


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

    facts = replace(_Offline.facts, sizes=StreamSizes(tasks=90))

    suite = "libero_90"
