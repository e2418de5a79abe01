"""Where a parallel gripper that points down can take hold of a thing, from the shapes it collides with. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cl_suite.robots import Array

UP = np.array([0.0, 0.0, 1.0])
STEP = np.pi / 36  # rad: the hand's direction is tried every 5 degrees
OPENING = 0.072  # metres: what is wider is taken by its rim (the Panda opens 8 cm)
DEPTH = 0.035  # metres from a thing's top down to where it is held, if it is tall enough
FLOOR = 0.012  # metres from a thing's bottom up to where it is held, at least
RIM = 0.012  # metres from a rim's top down to where it is held
WALL = 0.006  # metres from the widest point inwards to where a rim is held
ROOM = 0.01  # metres to the next thing: more makes no grasp better
BESIDE = 0.08  # metres to the side of its way that a carried thing may reach
# The open hand, in metres from where it holds: along the direction in which it closes, across it, upwards.
HAND = np.array(
    [(s * 0.048, 0.0, z) for s in (-1, 1) for z in (0.0, 0.025)]
    + [(along, across, z) for along in (-0.1, -0.05, 0.0, 0.05, 0.1) for across in (-0.03, 0.03) for z in (0.055, 0.1)]
)


class Shape(NamedTuple):
    """A box: position [3] of its middle, rotation [3, 3], half its size [3]; metres in the world."""

    position: Array
    rotation: Array
    size: Array


class Grasp(NamedTuple):
    """Where the hand goes, [3] in metres, and the direction in which it closes, rad about the vertical."""

    position: Array
    yaw: float


def extent(shapes: Sequence[Shape], direction: Array) -> tuple[float, float]:
    """Return where shapes begin and end along a unit vector [3], in metres."""
    middles = np.array([shape.position @ direction for shape in shapes])
    reach = np.array([np.abs(shape.rotation.T @ direction) @ shape.size for shape in shapes])
    return float((middles - reach).min()), float((middles + reach).max())


def across(yaw: float) -> Array:
    """Return the horizontal unit vector [3] of an angle in rad."""
    return np.array([np.cos(yaw), np.sin(yaw), 0.0])


def clearance(grasp: Grasp, obstacles: Sequence[Shape]) -> float:
    """Return the distance from the open hand to the nearest obstacle, in metres; negative = inside; infinity = none."""
    if not obstacles:
        return float("inf")
    points = grasp.position + HAND @ np.stack([across(grasp.yaw), across(grasp.yaw + np.pi / 2), UP])
    nearest = float("inf")
    for shape in obstacles:
        outside = np.abs((points - shape.position) @ shape.rotation) - shape.size
        apart = np.linalg.norm(np.maximum(outside, 0.0), axis=1) + np.minimum(outside.max(axis=1), 0.0)
        nearest = min(nearest, float(apart.min()))
    return nearest


def grasps(shapes: Sequence[Shape], obstacles: Sequence[Shape], *, yaw: float) -> list[Grasp]:
    """Return grasps of a thing, the best first: with room for the hand, then across the narrowest width.

    shapes:    what the thing is made of
    obstacles: everything else the hand may hit
    yaw:       rad, the hand's direction now: a rim is taken where it need turn least
    """
    low, high = extent(shapes, UP)
    height = max(high - DEPTH, low + FLOOR)
    spans = {angle: (extent(shapes, across(angle)), extent(shapes, across(angle + np.pi / 2))) for angle in _angles()}
    candidates: list[tuple[float, Grasp]] = []
    for angle, ((begin, end), (left, right)) in spans.items():
        middle = across(angle) * (begin + end) / 2 + across(angle + np.pi / 2) * (left + right) / 2
        if end - begin <= OPENING:
            candidates.append((end - begin, Grasp(middle + height * UP, angle)))
    if not candidates:
        for angle, ((begin, end), (left, right)) in spans.items():
            beside = across(angle + np.pi / 2) * (left + right) / 2 + max(high - RIM, low + FLOOR) * UP
            for edge in (begin + WALL, end - WALL):
                candidates.append((abs(turn(angle, yaw)), Grasp(across(angle) * edge + beside, angle)))
    order = [(-round(min(clearance(grasp, obstacles), ROOM) / 0.005), cost) for cost, grasp in candidates]
    return [candidates[index][1] for index in sorted(range(len(candidates)), key=order.__getitem__)]


def highest_between(start: Array, end: Array, shapes: Sequence[Shape]) -> float:
    """Return the top, in metres, of what is within 8 cm of a straight way from [2] to [2]; -infinity = nothing is."""
    way = start + np.linspace(0.0, 1.0, 16)[:, None] * (end - start)
    highest = -float("inf")
    for shape in shapes:
        reach = np.abs(shape.rotation) @ shape.size
        apart = np.maximum(np.abs(way - shape.position[:2]) - reach[:2], 0.0)
        if np.linalg.norm(apart, axis=1).min() < BESIDE:
            highest = max(highest, float(shape.position[2] + reach[2]))
    return highest


def _angles() -> list[float]:
    return [float(angle) for angle in np.arange(0.0, np.pi - STEP / 2, STEP)]


def turn(target: float, now: float) -> float:
    """Return the smallest turn from a direction to another, rad in [-pi/2, pi/2): a gripper is the same from behind."""
    return float((target - now + np.pi / 2) % np.pi - np.pi / 2)
