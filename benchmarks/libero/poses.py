"""Where things are in a scene of LIBERO: poses from flattened states and the model file. numpy and xml.etree only."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.libero.bddl import owner_of, read_goals, read_things
from cl_suite import DataError

Array = NDArray[Any]
Pose = tuple[Array, Array]  # position [3] in metres, quaternion [4] as w, x, y, z

POSITIONS = {"free": 7, "ball": 4, "hinge": 1, "slide": 1}  # entries of qpos by kind of joint
VELOCITIES = {"free": 6, "ball": 3, "hinge": 1, "slide": 1}  # entries of qvel
OTHER_ORIENTATIONS = ("euler", "axisangle", "xyaxes", "zaxis")  # a saved model has none of them


@dataclass(frozen=True)
class SceneModel:
    """What a model file says of places.

    addresses: {joint: its first entry in qpos}, of every joint with a name
    free:      names of the joints that let a body move and turn freely
    fixed:     {body: its pose in the world}, of bodies that no joint moves
    width:     entries of a flattened state: the time, qpos and qvel
    """

    addresses: Mapping[str, int]
    free: frozenset[str]
    fixed: Mapping[str, Pose]
    width: int


def read_scene(xml: str, *, source: str) -> SceneModel:
    """Read a model file (MJCF) as MuJoCo saves it. Raise DataError, naming `source`, if it is not one."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as problem:
        raise DataError(f"{source}: model_file is not XML ({problem}). Fetch the file again.") from problem
    addresses: dict[str, int] = {}
    free: set[str] = set()
    fixed: dict[str, Pose] = {}
    positions = velocities = 0
    for body, pose in _bodies(root, source):
        for joint in _joints(body):
            kind = "free" if joint.tag == "freejoint" else joint.get("type", "hinge")
            if kind not in POSITIONS:
                raise DataError(f"{source}: model_file has a joint of the unknown type {kind}. Fetch the file again.")
            name = joint.get("name")
            if name is not None:
                addresses[name] = positions
                free |= {name} if kind == "free" else set()
            positions, velocities = positions + POSITIONS[kind], velocities + VELOCITIES[kind]
        if pose is not None:
            fixed[body.get("name", "")] = pose
    return SceneModel(addresses, frozenset(free), fixed, 1 + positions + velocities)


def _joints(body: ElementTree.Element) -> list[ElementTree.Element]:
    return [child for child in body if child.tag in ("joint", "freejoint")]


def _bodies(root: ElementTree.Element, source: str) -> Iterator[tuple[ElementTree.Element, Pose | None]]:
    """Yield bodies in MuJoCo's order, each before those on it, and their poses in the world; None where they move.

    Only what is below <worldbody>: <default>, <sensor> and <equality> have elements named joint that are none.
    """
    world: Pose = (np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))
    waiting: list[tuple[ElementTree.Element, Pose | None]] = []
    for part in root.findall("worldbody")[::-1]:
        waiting += [(body, world) for body in part.findall("body")[::-1]]
    while waiting:
        body, below = waiting.pop()
        pose = None if below is None or _joints(body) else _placed(body, below, source)
        yield body, pose
        waiting += [(child, pose) for child in body.findall("body")[::-1]]


def _placed(body: ElementTree.Element, below: Pose, source: str) -> Pose:
    """Return the pose in the world of a body that is fixed to one of pose `below`."""
    if any(body.get(name) for name in OTHER_ORIENTATIONS):
        raise DataError(
            f"{source}: model_file turns the body {body.get('name')} by other than a quaternion; a model that MuJoCo "
            "saved does not. Fetch the file again."
        )
    position = np.array(body.get("pos", "0 0 0").split(), dtype=np.float64)
    quaternion = np.array(body.get("quat", "1 0 0 0").split(), dtype=np.float64)
    quaternion = quaternion / np.linalg.norm(quaternion)
    moved = _product(_product(below[1], np.array([0.0, *position])), below[1] * [1.0, -1.0, -1.0, -1.0])
    return below[0] + moved[1:], _product(below[1], quaternion)


def _product(first: Array, second: Array) -> Array:
    """Return the product of two quaternions, w, x, y, z."""
    vector = first[0] * second[1:] + second[0] * first[1:] + np.cross(first[1:], second[1:])
    return np.array([first[0] * second[0] - first[1:] @ second[1:], *vector])


def object_poses(states: Array, scene: SceneModel, names: Sequence[str | None], *, source: str) -> Array:
    """Return where objects are at each moment, [T, len(names), 7]: position in metres, quaternion w, x, y, z.

    states: [T, 1 + nq + nv], the time, qpos and qvel
    names:  of objects and fixtures as the task file has them. One with the free joint <name>_joint0 has its pose in
            qpos; another is where the model fixes its body <name>_main, or <name>. No name, and a table, which has no
            body of its name: zeros.

    Raise DataError, naming `source`, where states do not fit the model or an object moves in another way.
    """
    if states.ndim != 2 or states.shape[1] != scene.width:
        raise DataError(
            f"{source}: states are {list(states.shape)}, but model_file has {scene.width} numbers a moment "
            "(time, qpos, qvel). Fetch the file again."
        )
    poses = np.zeros((len(states), len(names), 7))
    for place, name in enumerate(names):
        joint = f"{name}_joint0"
        body = next((body for body in (f"{name}_main", name) if body in scene.fixed), None)
        if joint in scene.free:
            start = 1 + scene.addresses[joint]
            poses[:, place] = states[:, start : start + 7]
        elif body is not None:
            poses[:, place] = np.concatenate(scene.fixed[body])
        elif joint in scene.addresses:
            raise DataError(f"{source}: {joint} of model_file is not a free joint. Fetch the file again.")
    return poses


def goal_objects(bddl: str, *, source: str) -> tuple[str, str | None]:
    """Return the object of the goal's first predicate, and the object it goes to; None where the goal names one.

    A region (basket_1_contain_region) stands for what it is part of (basket_1): of the objects and fixtures that the
    task file declares, the one with the longest name that the region's begins with.

    Raise DataError, naming `source`, where there is no goal or the goal is of nothing that is declared.
    """
    goal = read_goals(bddl, source=source)[0]
    things = read_things(bddl)

    def owner(name: str) -> str:
        thing = owner_of(name, things)
        if thing is None:
            raise DataError(f"{source}: the goal names {name}, which is of no declared object. Fetch the file again.")
        return thing

    return owner(goal.thing), None if goal.place is None else owner(goal.place)
