"""Our scripted expert for LIBERO: picks a thing up and places it, from poses of the simulator. Never torch.

What it shows is scripted: these are not LIBERO's official demonstrations, which people gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from benchmarks.libero.bddl import Goal
from benchmarks.libero.geometry import UP, Grasp, Shape, extent, grasps, highest_between, turn
from cl_suite import DataError
from cl_suite.robots import Array

OPEN, CLOSE = -1.0, 1.0
FULL = 0.03  # metres: a position error for which the hand moves at full speed
FULL_TURN = 0.3  # rad: the same for turning
ABOVE = 0.10  # metres over a thing before the hand goes down
CARRY = 0.05  # metres of air under a carried thing on its way
LIFTED = 0.03  # metres a thing must have risen to be held
CLOSING, OPENING, RESTING = 10, 8, 5  # steps to close, to open, and before the episode ends
ATTEMPTS = 6
FREE = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)  # what noise may move on the way
STILL = np.zeros(7, dtype=np.float32)


class Scene(Protocol):
    """What the expert sees: a `Libero`."""

    @property
    def environment(self) -> Any:
        """robosuite's environment."""
        ...

    @property
    def hand(self) -> tuple[Array, Array]:
        """Position [3] in metres and quaternion [4], x y z w."""
        ...

    def pose(self, name: str) -> Array:
        """Position and quaternion of an object, [7]."""
        ...


class PickAndPlace:
    """Above the thing, down, close, lift, above the place, down, open, away; called before each step until it stops.

    takes_noise: [7], 1 for what may be carried out with noise: the hand's motion where nothing is near
    """

    def __init__(self, scene: Scene, goal: Goal, place: str | None) -> None:
        if goal.relation not in ("in", "on") or place is None or goal.place is None:
            raise DataError(
                f"no scripted expert for a goal ({goal.relation} {goal.thing} {goal.place or ''}): only for a thing "
                "that is put in or on another. Use demonstrations from files."
            )
        self.takes_noise = STILL
        self._scene, self._goal, self._place = scene, goal, place
        self._geoms: dict[str, list[tuple[int, Array]]] = {}
        gripper = scene.environment.robots[0].gripper
        sim = scene.environment.sim
        left, right = (
            sim.data.get_geom_xpos(gripper.important_geoms[f"{side}_fingerpad"][0]) for side in ("left", "right")
        )
        self._closes = _rotation(scene.hand[1]).T @ (left - right)  # the axis along which the fingers move, in the hand
        self._steps = self._episode()

    def __call__(self) -> Array:
        """Return the next action [7] in [-1, 1]. Raise StopIteration when all is done, solved or not."""
        return next(self._steps)

    @property
    def _yaw(self) -> float:
        along = _rotation(self._scene.hand[1]) @ self._closes
        return float(np.arctan2(along[1], along[0]))

    def _act(self, target: Array, yaw: float, gripper: float, *, free: bool = False) -> Array:
        position = self._scene.hand[0]
        self.takes_noise = FREE if free else STILL
        action = np.zeros(7, dtype=np.float32)
        action[:3] = np.clip((target - position) / FULL, -1.0, 1.0)
        action[5] = np.clip(turn(yaw, self._yaw) / FULL_TURN, -1.0, 1.0)
        action[6] = gripper
        return action

    def _move(
        self, target: Array, yaw: float, gripper: float, *, within: float = 0.01, limit: int = 80, free: bool = False
    ) -> Iterator[Array]:
        """Go to a place, until the hand is `within` so many metres of it."""
        for _ in range(limit):
            near = np.linalg.norm(target - self._scene.hand[0]) < within
            if near and abs(turn(yaw, self._yaw)) < 0.1:
                return
            yield self._act(target, yaw, gripper, free=free)

    def _wait(self, steps: int, target: Array, yaw: float, gripper: float) -> Iterator[Array]:
        for _ in range(steps):
            yield self._act(target, yaw, gripper)

    def _episode(self) -> Iterator[Array]:
        yaw = self._yaw
        for attempt in range(ATTEMPTS):
            grasp = self._grasp(attempt)
            yaw = grasp.yaw
            yield from self._pick(grasp)
            if self._in_hand:
                break
        yield from self._deliver(yaw)
        yield from self._wait(RESTING, self._scene.hand[0], yaw, OPEN)

    def _grasp(self, attempt: int) -> Grasp:
        """Choose a grasp from how things lie now: the best, then a little lower, then the next in another direction."""
        shapes = self._shapes(self._goal.thing)
        candidates = grasps(shapes, self._obstacles, yaw=self._yaw)
        direction, lower = divmod(attempt, 2)
        best = candidates[min(direction * 7, len(candidates) - 1)]
        bottom = extent(shapes, UP)[0]
        height = max(best.position[2] - 0.01 * lower, bottom + 0.008)
        return Grasp(np.array([*best.position[:2], height]), best.yaw)

    def _pick(self, grasp: Grasp) -> Iterator[Array]:
        top = extent(self._shapes(self._goal.thing), UP)[1]
        above = np.array([*grasp.position[:2], max(top, grasp.position[2]) + ABOVE])
        self._rested = float(self._scene.pose(self._goal.thing)[2])
        if self._scene.hand[0][2] < above[2] - 0.02:  # up before sideways
            yield from self._move(np.array([*self._scene.hand[0][:2], above[2]]), self._yaw, OPEN, within=0.03)
        yield from self._move(above, grasp.yaw, OPEN, within=0.015, free=True)
        yield from self._move(grasp.position, grasp.yaw, OPEN, within=0.008, limit=40)
        yield from self._wait(CLOSING, grasp.position, grasp.yaw, CLOSE)
        yield from self._move(grasp.position + 0.08 * UP, grasp.yaw, CLOSE, within=0.02, limit=25)
        if not self._in_hand:
            yield from self._wait(OPENING, self._scene.hand[0], grasp.yaw, OPEN)

    @property
    def _in_hand(self) -> bool:
        return bool(self._scene.pose(self._goal.thing)[2] > self._rested + LIFTED)

    def _deliver(self, yaw: float) -> Iterator[Array]:
        place = self._shapes(self._place)
        bottom, top = extent(place, UP)
        if self._goal.relation == "in":
            target, floor = self._scene.environment.sim.data.get_site_xpos(self._goal.place).copy(), top - 0.04
        else:
            target, floor = self._scene.pose(self._place)[:3], bottom + 0.015
        start = self._scene.pose(self._goal.thing)[:2]
        height = max(top, highest_between(start, target[:2], self._obstacles)) + CARRY
        yield from self._carry(start, height, yaw, limit=40)
        yield from self._carry(target[:2], height, yaw, limit=80, free=True)
        yield from self._carry(target[:2], floor, yaw, limit=40)
        here = self._scene.hand[0].copy()
        yield from self._wait(OPENING, here, yaw, OPEN)
        yield from self._move(here + 0.12 * UP, yaw, OPEN, within=0.02, limit=30)

    def _carry(self, target: Array, bottom: float, yaw: float, *, limit: int, free: bool = False) -> Iterator[Array]:
        """Bring the thing to a place [2], its lowest point to a height: it is not quite where the hand is."""
        for _ in range(limit):
            aside = target - self._scene.pose(self._goal.thing)[:2]
            rise = bottom - extent(self._shapes(self._goal.thing), UP)[0]
            if np.linalg.norm(aside) < 0.015 and abs(rise) < 0.015:
                return
            yield self._act(self._scene.hand[0] + np.array([*aside, rise]), yaw, CLOSE, free=free)

    @property
    def _obstacles(self) -> list[Shape]:
        names = [name for name in self._scene.environment.obj_body_id if name != self._goal.thing]
        return [shape for name in names for shape in self._shapes(name)]

    def _shapes(self, name: str) -> list[Shape]:
        """Return the boxes around what an object collides with."""
        sim = self._scene.environment.sim
        if name not in self._geoms:
            self._geoms[name] = _colliding(sim.model, self._scene.environment.obj_body_id[name])
        positions, matrices = sim.data.geom_xpos, sim.data.geom_xmat
        return [
            Shape(positions[geom].copy(), matrices[geom].reshape(3, 3).copy(), size) for geom, size in self._geoms[name]
        ]


def _colliding(model: Any, root: int) -> list[tuple[int, Array]]:
    """Return the geoms of a body and those below it that collide, and half the size of the box around each."""
    inside = {root}
    for body in range(root + 1, model.nbody):  # parents come before their children
        if model.body_parentid[body] in inside:
            inside.add(body)
    contype, conaffinity, owner = model.geom_contype, model.geom_conaffinity, model.geom_bodyid
    geoms = [geom for geom in range(model.ngeom) if owner[geom] in inside and (contype[geom] or conaffinity[geom])]
    return [(geom, _half_size(model, geom)) for geom in geoms]


def _half_size(model: Any, geom: int) -> Array:
    """Half the size [3] of a geom's own box; MuJoCo keeps a sphere's radius, a capsule's and a cylinder's length."""
    size, kind = np.array(model.geom_size[geom]), int(model.geom_type[geom])
    if kind == 2:  # sphere
        return np.full(3, size[0])
    if kind in (3, 5):  # capsule, cylinder: radius and half the length, without a capsule's caps
        return np.array([size[0], size[0], size[1] + (size[0] if kind == 3 else 0.0)])
    return size


def _rotation(quaternion: Array) -> Array:
    """The matrix [3, 3] of a quaternion x y z w."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
