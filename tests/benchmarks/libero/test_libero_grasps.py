"""Where a gripper that points down takes hold of a thing, and how high it is carried: pure geometry."""

import numpy as np
import pytest

from benchmarks.libero.geometry import (
    OPENING,
    Grasp,
    Shape,
    across,
    clearance,
    extent,
    grasps,
    highest_between,
    turn,
)


def box(position, size, yaw=0.0):
    c, s = np.cos(yaw), np.sin(yaw)
    return Shape(np.array(position), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(size))


def test_a_box_is_taken_across_its_narrow_side_whichever_way_it_lies():
    for lies in (0.0, np.pi / 6, np.pi / 3):
        shapes = [box((0.1, 0.2, 0.03), (0.06, 0.02, 0.03), lies)]
        best = grasps(shapes, [], yaw=0.0)[0]
        assert abs(turn(best.yaw, lies + np.pi / 2)) < 1e-6  # along the short side
        assert np.allclose(best.position[:2], (0.1, 0.2), atol=1e-9)
        begin, end = extent(shapes, across(best.yaw))
        assert end - begin == pytest.approx(0.04)


def test_the_hand_goes_near_the_top_of_what_is_tall_and_not_into_the_floor():
    tall = grasps([box((0, 0, 0.1), (0.02, 0.02, 0.1))], [], yaw=0.0)[0]
    flat = grasps([box((0, 0, 0.01), (0.02, 0.02, 0.01))], [], yaw=0.0)[0]
    assert tall.position[2] == pytest.approx(0.165)
    assert flat.position[2] == pytest.approx(0.012)


def test_a_bowl_is_taken_by_its_rim_where_the_hand_turns_least():
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    bowl = [box((0.06 * np.cos(a), 0.06 * np.sin(a), 0.03), (0.002, 0.01, 0.03), a) for a in angles]
    assert extent(bowl, across(0.3))[1] > OPENING / 2
    best = grasps(bowl, [], yaw=np.pi / 4)[0]
    assert best.yaw == pytest.approx(np.pi / 4)
    assert np.linalg.norm(best.position[:2]) == pytest.approx(0.056, abs=0.004)
    assert abs(best.position @ across(best.yaw + np.pi / 2)) < 0.005  # radially


def test_a_grasp_with_room_for_the_hand_comes_before_a_narrower_one():
    thing = [box((0, 0, 0.02), (0.03, 0.02, 0.02))]
    assert grasps(thing, [], yaw=0.0)[0].yaw == pytest.approx(np.pi / 2)
    walls = [box((0, y, 0.05), (0.1, 0.005, 0.05)) for y in (-0.05, 0.05)]
    freed = grasps(thing, walls, yaw=0.0)[0]
    assert abs(turn(freed.yaw, 0.0)) < np.pi / 4
    assert clearance(freed, walls) > clearance(Grasp(freed.position, np.pi / 2), walls)


def test_distances_to_obstacles_are_those_of_the_open_hand():
    hand = Grasp(np.zeros(3), 0.0)
    assert clearance(hand, []) == np.inf
    assert clearance(hand, [box((0.148, 0.0, 0.0), (0.05, 1.0, 0.001))]) == pytest.approx(0.05)  # a finger
    assert clearance(hand, [box((0.0, 0.0, 0.3), (1.0, 1.0, 0.1))]) == pytest.approx(0.1)  # the hand's back
    assert clearance(hand, [box((0.048, 0.0, 0.0), (0.01, 0.01, 0.005))]) == pytest.approx(-0.005)


def test_only_what_is_near_the_way_is_carried_over():
    start, end = np.zeros(2), np.array([0.4, 0.0])
    assert highest_between(start, end, []) == -np.inf
    wall = box((0.2, 0.1, 0.05), (0.01, 0.03, 0.05))
    far = box((0.2, 0.2, 0.3), (0.01, 0.03, 0.05))
    assert highest_between(start, end, [wall, far]) == pytest.approx(0.1)
    turned = box((0.2, 0.2, 0.3), (0.01, 0.15, 0.05), np.pi / 6)  # its corner reaches the way
    assert highest_between(start, end, [wall, turned]) == pytest.approx(0.35)
    assert highest_between(start, end, [box((-0.2, 0.0, 0.3), (0.05, 0.05, 0.05))]) == -np.inf  # behind the start


def test_a_gripper_never_turns_more_than_a_quarter():
    for target in np.arange(-7.0, 7.0, 0.1):
        assert -np.pi / 2 <= turn(target, 0.4) < np.pi / 2
        assert np.tan(turn(target, 0.4)) == pytest.approx(np.tan(target - 0.4), rel=1e-6)
