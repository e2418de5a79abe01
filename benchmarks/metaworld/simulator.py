"""Meta-World v3 (Yu et al. 2019, arXiv 1910.10897) as a simulator: state observations, scripted experts. Never torch.

Observations are 39 numbers: 18 of now (hand 3, gripper 1, two objects of position 3 and quaternion 4), 18 of the step
before, and the goal 3. Actions are 4: hand motion and gripper, in [-1, 1].
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from cl_suite import DataError
from cl_suite.robots import Array, Observation, RobotTask

KIND = "cl_suite.robots.metaworld:MetaWorld"  # in the key of kept demonstrations; as it was when they were first kept
OBSERVATION = 39
ACTIONS = ("move x", "move y", "move z", "gripper")
HORIZON = 500
PICTURE, CAMERA = (240, 320), "corner"  # height and width in pixels; one of Meta-World's cameras
# Written by us: Meta-World ships none.
METAWORLD_INSTRUCTIONS = {
    "hammer": "pick up the hammer and drive the nail into the box",
    "push-wall": "push the puck around the wall to the goal",
    "faucet-close": "turn the handle of the faucet to close it",
    "push-back": "pull the block back towards the robot to the goal",
    "stick-pull": "grasp the stick and pull the thermos with it",
    "handle-press-side": "press the handle down from the side",
    "push": "push the puck to the goal",
    "shelf-place": "pick up the block and place it on the shelf",
    "window-close": "slide the window shut",
    "peg-unplug-side": "pull the peg out of the hole sideways",
}


class MetaWorld:
    """One environment of Meta-World with a goal one can see; a seed stands for one initial state."""

    def __init__(self, task: str, renderer: str | None = None) -> None:
        if renderer is not None:
            os.environ.setdefault("MUJOCO_GL", renderer)  # read when MuJoCo is imported
        envs, policies = _package()
        self._expert = policies[f"{task}-v3"]
        self._environment: Any = envs[f"{task}-v3-goal-observable"](seed=0)
        self._environment._freeze_rand_vec = False  # or every reset is the first one
        self._environment.seeded_rand_vec = True
        self._observation = np.zeros(OBSERVATION)
        self._drawing: Any = None

    def reset(self, seed: int) -> Observation:
        """Return the first observation of initial state `seed`."""
        self._environment.seed(seed)
        self._observation, _ = self._environment.reset(seed=seed)
        return self._as_observation()

    def step(self, action: Array) -> tuple[Observation, bool]:
        """Move; success is Meta-World's own."""
        carried = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
        self._observation, _, _, _, info = self._environment.step(carried)
        return self._as_observation(), bool(info["success"])

    def _as_observation(self) -> Observation:
        return {"states": self._observation.astype(np.float32)}

    def expert(self) -> Callable[[], Array]:
        """Return Meta-World's scripted policy for the task."""
        policy = self._expert()

        def act() -> Array:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its constants may be too high: they are clipped
                return np.asarray(policy.get_action(self._observation), dtype=np.float32)

        return act

    def picture(self) -> Array:
        """Return what a camera at the corner of the table sees, [240, 320, 3] uint8."""
        import mujoco

        if self._drawing is None:
            self._drawing = mujoco.Renderer(self._environment.model, *PICTURE)
        self._drawing.update_scene(self._environment.data, camera=CAMERA)
        return np.ascontiguousarray(self._drawing.render()[::-1, ::-1])  # this camera hangs upside down

    def close(self) -> None:
        """Free MuJoCo's memory."""
        if self._drawing is not None:
            self._drawing.close()
        self._environment.close()


class Facts(NamedTuple):
    """What a stream needs to know without building a simulator.

    versions: of what decides the physics
    """

    versions: dict[str, str]

    def task(self, name: str, *, horizon: int = HORIZON) -> RobotTask:
        """Return what any process can build the simulator of a task from."""
        return metaworld_task(name, horizon=horizon)


def metaworld_task(name: str, *, horizon: int = HORIZON) -> RobotTask:
    """Return a task; the package is needed only where its simulator is built."""
    return RobotTask(name, "benchmarks.metaworld.simulator:MetaWorld", horizon, {"task": name}, kind=KIND)


def metaworld_facts() -> Facts:
    """Return the versions. Raise DataError where the extra is not installed."""
    _package()
    return Facts({name: version(name) for name in ("metaworld", "mujoco")})


def _package() -> tuple[Any, Any]:
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as problem:
        raise DataError(
            f"Meta-World is not installed ({problem}). Install the extra: pip install 'cl-suite[robot]', "
            "or run with uv run --extra robot."
        ) from problem
    return ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE, ENV_POLICY_MAP
