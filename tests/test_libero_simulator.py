"""LIBERO's simulator: what is found and refused, how a gripper is placed, and the real thing where it is installed."""

import os
import pickle
import sys
import types
import zipfile
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

from cl_suite import DataError, libero_facts
from cl_suite.robots.bddl import Goal, owner_of, read_things
from cl_suite.robots.libero import RANDOM, STATES, Libero, axis_angle
from cl_suite.robots.libero_experts import PickAndPlace
from cl_suite.robots.libero_geometry import (
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
from cl_suite.robots.libero_package import (
    INSTALL,
    assets_digest,
    choose_renderer,
    find_assets,
    read_initial_states,
    write_config,
)
from cl_suite.robots.pool import Worker
from cl_suite.robots.simulator import RobotTask
from cl_suite.robots.worker import _Crew

PROBLEM = """(define (problem LIBERO_Floor_Manipulation)
  (:fixtures
    floor - floor
    wooden_cabinet_1 - wooden_cabinet
  )
  (:objects
    basket_1 basket_1_lid - basket
    alphabet_soup_1 - alphabet_soup
  )
  (:goal (And (In alphabet_soup_1 basket_1_contain_region)))
)"""


def box(position, size, yaw=0.0):
    c, s = np.cos(yaw), np.sin(yaw)
    return Shape(np.array(position), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(size))


# What a goal names


def test_a_place_belongs_to_the_longest_name_it_starts_with():
    things = read_things(PROBLEM)
    assert things == ["floor", "wooden_cabinet_1", "basket_1", "basket_1_lid", "alphabet_soup_1"]
    assert owner_of("basket_1_contain_region", things) == "basket_1"
    assert owner_of("basket_1_lid_top", things) == "basket_1_lid"
    assert owner_of("wooden_cabinet_1_top_region", things) == "wooden_cabinet_1"
    assert owner_of("alphabet_soup_1", things) == "alphabet_soup_1"
    assert owner_of("basket_10_contain_region", things) is None


def test_there_is_no_expert_for_a_goal_with_one_thing():
    with pytest.raises(DataError, match=r"no scripted expert for a goal \(open cabinet_1_top_region \)"):
        PickAndPlace(None, Goal("open", "cabinet_1_top_region", None), None)


# Where a gripper takes hold


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


def test_axis_and_angle_are_those_of_the_demonstrations():
    assert axis_angle(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0.0, 0.0, 0.0]
    assert axis_angle(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx([np.pi, 0.0, 0.0])
    half = axis_angle(np.array([np.sin(2.0), 0.0, 0.0, np.cos(2.0)]))  # beyond pi it goes on, it does not turn back
    assert half == pytest.approx([4.0, 0.0, 0.0])


# What is found, and what is said where it is not


def test_the_config_is_whole_and_may_be_written_again(tmp_path):
    yaml = pytest.importorskip("yaml")
    folder = write_config(Path("/some/libero's"), Path("/assets: here"), tmp_path / "config")
    write_config(Path("/some/libero's"), Path("/assets: here"), folder)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert written == {
        "benchmark_root": "/some/libero's",
        "bddl_files": "/some/libero's/bddl_files",
        "init_states": "/some/libero's/init_files",
        "datasets": "/some/datasets",
        "assets": "/assets: here",
    }


def test_a_missing_package_is_named_with_both_steps(tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(DataError, match="hf-libero is missing") as problem:
        libero_facts(tmp_path)
    message = str(problem.value)
    assert "pip install 'cl-suite[libero]'" in message and "\n" not in message
    assert "pip install --no-deps hf-libero==0.1.4 robosuite==1.4.0 bddl==1.0.1" in message


def test_absent_assets_say_where_they_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1")
    with pytest.raises(DataError, match="LIBERO's assets are absent") as problem:
        libero_facts(tmp_path)
    message = str(problem.value)
    assert all(str(tmp_path / name / "assets") in message for name in ("libero", "libero_assets_small"))
    assert "CL_SUITE_DATA" in message and "github.com" in message and "\n" not in message


def test_full_assets_come_before_small_ones_and_xml_decides_the_digest(tmp_path):
    for place in ("libero_assets_small", "libero"):
        (tmp_path / place / "assets" / "scenes").mkdir(parents=True)
        found = find_assets(tmp_path)
        assert found == (tmp_path / place / "assets").resolve()
    (found / "scenes" / "floor.xml").write_text("<a/>")
    (found / "scenes" / "wall.png").write_bytes(b"12")
    before = assets_digest(found)
    (found / "scenes" / "wall.png").write_bytes(b"34")
    assert assets_digest(found) == before
    (found / "scenes" / "floor.xml").write_text("<b/>")
    assert assets_digest(found) != before


def archive(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
    return path


def test_initial_states_are_arrays_and_nothing_that_runs(tmp_path):
    states = np.arange(6.0).reshape(2, 3)
    assert (read_initial_states(archive(tmp_path / "good", pickle.dumps(states, protocol=2))) == states).all()

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(DataError, match=r"asks for .*mkdir"):
        read_initial_states(archive(tmp_path / "bad", pickle.dumps(Harm())))
    assert not (tmp_path / "made").exists()
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(DataError, match="holds no initial states"):
        read_initial_states(tmp_path / "text")
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        read_initial_states(archive(tmp_path / "flat", pickle.dumps(states[0], protocol=2)))


def test_pictures_are_drawn_with_what_works_or_refused_in_one_line(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert choose_renderer(lambda name: True) == "egl"
    assert choose_renderer(lambda name: name == "osmesa") == "osmesa"
    with pytest.raises(DataError, match="egl and osmesa failed") as problem:
        choose_renderer(lambda name: False)
    assert "libosmesa6" in str(problem.value) and "leave the cameras out" in str(problem.value)
    assert "\n" not in str(problem.value)
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(DataError, match="glfw failed"):
        choose_renderer(lambda name: name == "egl")


# How a demonstration ends, and what noise may move


class Counter:
    """Solved at the steps it is told; remembers what was carried out."""

    def __init__(self, solved, noisy, stops):
        self.solved, self.noisy, self.stops, self.carried = solved, noisy, stops, []

    def reset(self, seed):
        return {"states": np.zeros(1, dtype=np.float32)}

    def step(self, action):
        self.carried.append(action)
        return {"states": np.full(1, len(self.carried), dtype=np.float32)}, len(self.carried) in self.solved

    def expert(self):
        def act():
            if len(self.carried) == self.stops:
                raise StopIteration
            return np.zeros(2, dtype=np.float32)

        if self.noisy is not None:
            act.takes_noise = self.noisy
        return act

    def close(self):
        pass


@pytest.fixture
def show(monkeypatch):
    def demonstrate(*, solved, after=0, noise=0.0, noisy=None, stops=None):
        counter = Counter(solved, noisy, stops)
        monkeypatch.setitem(sys.modules, "counting_robot", types.SimpleNamespace(make=lambda: counter))
        task = RobotTask("count", "counting_robot:make", 10, steps_after_success=after)
        _, actions, success = _Crew().demonstrate(task, 1, noise)
        return len(actions), success, np.array(counter.carried)

    return demonstrate


def test_a_demonstration_goes_on_after_success_and_must_be_solved_at_its_end(show):
    assert show(solved={4})[:2] == (4, True)
    assert show(solved={4}, after=3)[:2] == (7, False)
    assert show(solved={4, 7}, after=3)[:2] == (7, True)
    assert show(solved={9, 10}, after=3)[:2] == (10, True)
    assert show(solved=set(), after=3)[:2] == (10, False)
    assert show(solved={4, 6}, after=3, stops=6)[:2] == (6, True)
    assert show(solved={4}, after=3, stops=6)[:2] == (6, False)


def test_noise_moves_only_what_the_expert_lets_it(show):
    everywhere = show(solved={8}, noise=0.1)[2]
    first = show(solved={8}, noise=0.1, noisy=np.array([1.0, 0.0]))[2]
    assert (everywhere != 0).all() and (first[:, 1] == 0).all()
    assert (first[:, 0] == everywhere[:, 0]).all()
    assert not show(solved={8}, noise=0.1, noisy=0)[2].any()


# The real simulator

DATA = os.environ.get("CL_SUITE_DATA", "")
SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
DRAWER = "pick_up_the_black_bowl_in_the_top_drawer_of_the_wooden_cabinet_and_place_it_on_the_plate"


def needed():
    if not DATA:
        return "needs LIBERO's assets: set CL_SUITE_DATA"
    if any(util.find_spec(name) is None for name in ("libero", "robosuite", "mujoco")):
        return f"needs LIBERO's simulator. {INSTALL}"
    try:
        find_assets(Path(DATA))
    except DataError as problem:
        return str(problem)
    return ""


real = [pytest.mark.data, pytest.mark.skipif(bool(needed()), reason=needed() or "here")]


def marked(test):
    for mark in real:
        test = mark(test)
    return test


def built(suite, task):
    facts = libero_facts(Path(DATA))
    made = facts.task(suite, task).simulator()
    assert isinstance(made, Libero)
    return made


@marked
def test_the_tasks_are_libero_s_in_its_order():
    facts = libero_facts(Path(DATA))
    assert facts.versions["hf-libero"] == "0.1.4" and facts.versions["libero_assets"].startswith("sha256:")
    sizes = {suite: len(facts.tasks(suite)) for suite in ("libero_object", "libero_goal", "libero_90")}
    assert sizes == {"libero_object": 10, "libero_goal": 10, "libero_90": 90}
    assert facts.tasks("libero_object")[0] == SOUP and facts.tasks("libero_spatial")[4] == DRAWER
    with pytest.raises(DataError, match="no suite libero_odd"):
        facts.tasks("libero_odd")
    with pytest.raises(DataError, match="no task juggle"):
        facts.task("libero_object", "juggle")
    with pytest.raises(DataError, match="no camera sideview"):
        facts.task("libero_object", SOUP, cameras=("sideview",))


@marked
def test_an_initial_state_is_the_same_whatever_came_before(capfd):
    simulator = built("libero_spatial", DRAWER)
    try:
        first = {seed: simulator.reset(seed)["states"] for seed in (3, 4, RANDOM, RANDOM + 1)}
        for seed in (RANDOM + 1, RANDOM, 4, 3):
            simulator.step(np.ones(7))
            assert (simulator.reset(seed)["states"] == first[seed]).all()
        assert len({states.tobytes() for states in first.values()}) == 4
        for seed in (-1, 50, RANDOM - 1):
            with pytest.raises(DataError, match=f"no initial state {seed}"):
                simulator.reset(seed)
    finally:
        simulator.close()
    out, err = capfd.readouterr()
    assert out == "" and "robosuite" not in err and "Gym" not in err


@marked
def test_states_are_those_of_the_demonstrations():
    h5py = pytest.importorskip("h5py")
    file = Path(DATA) / "libero_demos_small" / "libero_object" / f"{SOUP}_demo.hdf5"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    simulator = built("libero_object", SOUP)
    with h5py.File(file) as content:
        demo = content["data/demo_0"]
        states, actions = demo["states"][:], demo["actions"][:]
        seen = {name: demo["obs"][name][:] for name in ("ee_pos", "ee_ori", "gripper_states", "joint_states")}
    try:
        simulator.reset(0)
        simulator._seen = simulator._environment.set_init_state(states[0])
        simulator.environment.robots[0].gripper.current_action = np.array([1.0, -1.0])  # open: recorded in motion
        for step in range(20):
            shown = simulator._observation()["states"]
            assert shown.shape == (STATES,) and shown.dtype == np.float32
            expected = np.concatenate([value[step] for value in seen.values()])
            assert shown[:15] == pytest.approx(expected, abs=5e-3)
            assert shown[15:22] == pytest.approx(states[step, 10:17], abs=5e-3)  # the soup is the first free joint
            assert shown[22:29] == pytest.approx(states[step, 17:24], abs=5e-3)  # the basket is the second
            simulator.step(actions[step])
    finally:
        simulator.close()


@marked
def test_the_expert_puts_the_soup_into_the_basket_and_lets_go():
    facts = libero_facts(Path(DATA))
    task = facts.task("libero_object", SOUP)
    crew = _Crew()
    try:
        observations, actions, success = crew.demonstrate(task, RANDOM, 0.1)
    finally:
        crew.close()
    assert success and observations["states"].shape == (len(actions), STATES)
    assert actions.shape[1] == 7 and np.abs(actions).max() <= 1
    assert actions[0, 6] == -1 and actions[:, 6].max() == 1 and actions[-1, 6] == -1


@marked
def test_pictures_are_upright():
    try:
        choose_renderer()
    except DataError as problem:
        pytest.skip(str(problem))
    task = libero_facts(Path(DATA)).task("libero_object", SOUP, cameras=("agentview", "eye_in_hand"))
    worker = Worker()  # this process has LIBERO without pictures
    try:
        worker.ask("begin", task, [0])
        before = worker.answer()
        for _ in range(8):
            worker.ask("step", [0], np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))
            after, _ = worker.answer()
    finally:
        worker.stop()
    assert before["agentview"].shape == before["eye_in_hand"].shape == (1, 3, 128, 128)
    assert before["agentview"].dtype == np.uint8
    moved = (after["eye_in_hand"][0].astype(float) - before["eye_in_hand"][0]).std(axis=2).mean(axis=0)
    # The hand itself is below and goes with its camera: there no edge moves, though the light changes.
    assert moved[:16].mean() > 5 > 1 > moved[-16:].mean(), moved
