"""LIBERO's simulator: what is found and refused, and the real thing where it is installed."""

import os
import pickle
import zipfile
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.libero.bddl import Goal, owner_of, read_things
from benchmarks.libero.experts import PickAndPlace
from benchmarks.libero.package import (
    INSTALL,
    assets_digest,
    find_assets,
    read_initial_states,
    write_config,
)
from benchmarks.libero.simulator import RANDOM, STATES, Libero, axis_angle, libero_facts
from cl_suite import DataError
from cl_suite.robots.pool import Worker
from cl_suite.robots.rendering import choose_renderer
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
        simulator._raw_observation = simulator._environment.set_init_state(states[0])
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
