"""LIBERO (Liu et al. 2023, arXiv 2306.03310) as a simulator, with its official initial states. Never torch.

"states" are 29 numbers, the same in every suite: hand position 3 (m), hand orientation 3 (axis times angle, rad),
fingers 2 (m), arm joints 7 (rad), then position 3 and quaternion 4 (w first) of the thing the goal names first and of
the place it is to get to (zeros if there is none). Actions are 7: hand motion 3, hand rotation 3, gripper (-1 opens, 1
closes), in [-1, 1].
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.libero.bddl import Goal, owner_of, read_goals, read_things
from benchmarks.libero.experts import PickAndPlace
from benchmarks.libero.package import (
    assets_digest,
    find_assets,
    installed_versions,
    open_package,
    read_initial_states,
    task_file,
    task_names,
)
from cl_suite import DataError
from cl_suite.robots import Array, Observation, RobotTask, choose_renderer

KIND = "cl_suite.robots.libero:Libero"  # in the key of kept demonstrations; as it was when they were first kept
STATES = 29
ACTIONS = ("move x", "move y", "move z", "turn x", "turn y", "turn z", "gripper")
HORIZON = 600
OFFICIAL = 50  # fixed initial states of each task: seeds 0 ... 49
RANDOM = 100_000  # seeds from here on stand for random initial states, which evaluation never sees
SETTLE = 5  # steps of zeros before an episode, as LIBERO's evaluation has them
AFTER = 30  # steps a demonstration goes on once the task is solved: to let go and to move away
EXPERT = "1"  # raise it when the scripted expert shows something else: demonstrations are kept under it
SIZE = 128  # pixels, height and width
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
PROPRIOCEPTION = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "robot0_joint_pos")


class Libero:
    """One environment of LIBERO. Seeds 0 to 49 are the official initial states, seeds from 100,000 random ones.

    assets:   the folder with LIBERO's models
    cameras:  "agentview", "eye_in_hand"; none = states only, which needs no graphics
    renderer: value of MUJOCO_GL, where it is not set; None = cameras take EGL, and without cameras nothing is drawn
    """

    def __init__(
        self, suite: str, task: str, *, assets: str, cameras: Sequence[str] = (), renderer: str | None = None
    ) -> None:
        draws = bool(cameras) or renderer is not None
        control_env = open_package(Path(assets), (renderer or "egl") if draws else "disable")
        file = task_file("bddl", suite, task)
        text = file.read_text(encoding="utf-8")
        self._goal: Goal = read_goals(text, source=str(file))[0]
        self._place = owner_of(self._goal.place, read_things(text)) if self._goal.place else None
        self._initial = read_initial_states(task_file("init", suite, task))
        self._cameras = tuple(cameras)
        try:
            with _quiet(), _random(0):
                self._environment: Any = control_env(
                    bddl_file_name=str(file),
                    use_camera_obs=False,
                    has_offscreen_renderer=draws,
                    ignore_done=True,
                    hard_reset=False,
                )
        except FileNotFoundError as problem:
            raise DataError(f"LIBERO's assets at {assets} lack what {task} needs ({problem}).") from problem
        inner = self._environment.env
        for name in inner.observation_names - set(PROPRIOCEPTION):
            inner.modify_observable(name, "enabled", False)
        # A reset places things relative to where fixtures were before: they are put back first.
        model = self._untouched_model()
        self._fixtures = model.body_pos.copy(), model.body_quat.copy()
        self._raw_observation: dict[str, Array] = {}

    def _untouched_model(self) -> Any:
        inner = self._environment.env
        return type(inner.sim).from_xml_string(inner.model.get_xml()).model._model

    @property
    def environment(self) -> Any:
        """robosuite's environment: its `sim` is what a scripted expert reads."""
        return self._environment.env

    @property
    def hand(self) -> tuple[Array, Array]:
        """Position [3] of the hand in metres, and its quaternion [4], x y z w."""
        return self._raw_observation["robot0_eef_pos"], self._raw_observation["robot0_eef_quat"]

    def reset(self, seed: int) -> Observation:
        """Return the first observation of an initial state: official (0 to 49) or random (from 100,000).

        Raise DataError for a seed between them, or for an official state that does not fit the model.
        """
        if not (0 <= seed < OFFICIAL or seed >= RANDOM):
            raise DataError(
                f"LIBERO has no initial state {seed}: 0 to {OFFICIAL - 1} are official, {RANDOM} and above random."
            )
        sim = self.environment.sim
        sim.model.body_pos[:], sim.model.body_quat[:] = self._fixtures
        self.environment.robots[0].gripper.current_action = np.zeros(self.environment.robots[0].gripper.dof)
        with _quiet(), _random(seed):
            self._raw_observation = self._environment.reset()
        if seed < OFFICIAL:
            state = self._initial[seed]
            if len(state) != 1 + sim.model.nq + sim.model.nv:
                raise DataError(f"initial state {seed} has {len(state)} numbers and does not fit the model's.")
            self._raw_observation = self._environment.set_init_state(state)
        for _ in range(SETTLE):
            self._raw_observation, *_ = self._environment.step(np.zeros(len(ACTIONS)))
        return self._observation()

    def step(self, action: Array) -> tuple[Observation, bool]:
        """Move; success is LIBERO's own: the whole goal holds now."""
        carried = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        self._raw_observation, _, solved, _ = self._environment.step(carried)
        return self._observation(), bool(solved)

    def _observation(self) -> Observation:
        position, quaternion, fingers, joints = (self._raw_observation[name] for name in PROPRIOCEPTION)
        poses = [self.pose(name) if name else np.zeros(7) for name in (self._goal.thing, self._place)]
        states = np.concatenate([position, axis_angle(quaternion), fingers, joints, *poses]).astype(np.float32)
        pictures = {name: self.picture(name).transpose(2, 0, 1) for name in self._cameras}
        return {"states": states} | {name: np.ascontiguousarray(value) for name, value in pictures.items()}

    def pose(self, name: str) -> Array:
        """Return position and quaternion (w first) of an object, [7]; zeros for a name that has no body."""
        sim, body = self.environment.sim, self.environment.obj_body_id.get(name)
        if body is None:
            return np.zeros(7)
        joint = sim.model.body_jntadr[body]
        if joint >= 0 and sim.model.jnt_type[joint] == 0:  # a free joint
            start = sim.model.jnt_qposadr[joint]
            return np.array(sim.data.qpos[start : start + 7])
        return np.concatenate([sim.data.body_xpos[body], sim.data.body_xquat[body]])

    def picture(self, name: str = "agentview") -> Array:
        """Return what a camera sees, upright, [h, w, 3] uint8."""
        image = self.environment.sim.render(camera_name=CAMERAS[name], width=SIZE, height=SIZE)
        return np.ascontiguousarray(image[::-1])  # OpenGL's first row is the lowest

    def expert(self) -> Callable[[], Array]:
        """Return our scripted expert, which picks up and places. Raise DataError for goals that need anything else."""
        return PickAndPlace(self, self._goal, self._place)

    def close(self) -> None:
        """Free MuJoCo's memory."""
        self._environment.close()


class LiberoFacts(NamedTuple):
    """What a stream needs to know without building a simulator.

    versions: of what decides the physics, the assets among them, and of the scripted expert
    assets:   their folder
    """

    versions: dict[str, str]
    assets: Path

    def tasks(self, suite: str) -> tuple[str, ...]:
        """Return the names of a suite's tasks in LIBERO's order. Raise DataError for an unknown suite."""
        return task_names(suite)

    def task(
        self,
        suite: str,
        name: str,
        *,
        horizon: int = HORIZON,
        cameras: Sequence[str] = (),
        steps_after_success: int = AFTER,
    ) -> RobotTask:
        """Return what any process can build the simulator of a task from.

        horizon:             steps after which an episode has failed
        cameras:             "agentview", "eye_in_hand", [3, 128, 128] each; none = states only
        steps_after_success: how long a demonstration goes on once the task is solved

        Raise DataError for an unknown task or camera, and where cameras are asked for but cannot draw.
        """
        task_file("bddl", suite, name)
        unknown = sorted(set(cameras) - set(CAMERAS))
        if unknown:
            raise DataError(f"LIBERO has no camera {unknown[0]}. Known: {', '.join(CAMERAS)}.")
        local = {"assets": str(self.assets)}
        if cameras:
            local["renderer"] = choose_renderer()
        options: dict[str, Any] = {"suite": suite, "task": name, "cameras": list(cameras)}
        return RobotTask(
            name, "benchmarks.libero.simulator:Libero", horizon, options, local, steps_after_success, kind=KIND
        )


def libero_shown_by_script(suite: str, task: str) -> bool:
    """Whether our expert can show a task: one predicate, and it puts a thing in or on another.

    Raise DataError where the package or the task is absent.
    """
    file = task_file("bddl", suite, task)
    goals = read_goals(file.read_text(encoding="utf-8"), source=str(file))
    return len(goals) == 1 and goals[0].relation in ("in", "on") and goals[0].place is not None


def libero_facts(root: Path) -> LiberoFacts:
    """Return versions and the place of the assets below the data root.

    Raise DataError, saying what to install or where assets are looked for, if a package or the assets are absent.
    """
    versions = installed_versions()
    assets = find_assets(root)
    return LiberoFacts({**versions, "libero_assets": assets_digest(assets), "libero_expert": EXPERT}, assets)


def axis_angle(quaternion: Array) -> Array:
    """Return the axis times the angle (0 to 2 pi), [3], of a quaternion [4], x y z w: as LIBERO's ee_ori has it."""
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    sine = np.sqrt(1.0 - w * w)
    if sine < 1e-9:
        return np.zeros(3)
    return np.asarray(quaternion[:3] * (2.0 * np.arccos(w) / sine))


@contextlib.contextmanager
def _random(seed: int) -> Iterator[None]:
    """LIBERO draws from NumPy's global generator: seed it, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What LIBERO prints while it builds a scene is of no use."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
