"""Files of LIBERO's demonstrations: what is read, at which moment, which way up, and every way a file may be broken."""

import pickle
import sys

import numpy as np
import pytest
import torch

from benchmarks.libero.files import open_libero_file
from benchmarks.libero.poses import goal_objects, object_poses, read_scene
from benchmarks.libero.suites import libero_instruction
from cl_suite import DataError, UsageError
from tests.helpers.libero_writer import (
    BASKET,
    CUP,
    MODEL,
    SIZE,
    WIDTH,
    change,
    replace,
    states_of,
    task_file,
    upright,
    write_libero,
)

h5py = pytest.importorskip("h5py")

SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
TURN = 2**-0.5


@pytest.fixture
def path(tmp_path):
    return write_libero(tmp_path / "libero_object" / f"{SOUP}_demo.hdf5")


def test_demonstrations_are_in_the_order_of_their_numbers(tmp_path):
    file = open_libero_file(write_libero(tmp_path / "many_demo.hdf5", lengths=range(2, 14), cameras=()))
    assert file.demos == tuple(f"demo_{k}" for k in range(12)) and file.lengths == tuple(range(2, 14))
    shown = file.read()
    assert shown.lengths.tolist() == list(range(1, 13))
    firsts = shown.lengths.cumsum(0) - shown.lengths
    assert shown.observations["states"][firsts, 0].tolist() == list(range(12))
    few = file.read(count=3)
    assert torch.equal(few.actions, shown.actions[: shown.first(3)]) and few.facts["demonstrations"] == [
        *file.demos[:3]
    ]


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (SOUP, "pick up the alphabet soup and place it in the basket"),
        ("KITCHEN_SCENE3_turn_on_the_stove", "turn on the stove"),
        ("KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet", "close the top drawer of the cabinet"),
        ("LIVING_ROOM_SCENE5_put_the_red_mug_on_the_left_plate", "put the red mug on the left plate"),
    ],
)
def test_the_instruction_is_the_file_name_without_scene(task, sentence, tmp_path):
    assert open_libero_file(write_libero(tmp_path / f"{task}_demo.hdf5")).instruction == sentence
    assert libero_instruction(task) == sentence


@pytest.mark.parametrize(("drop", "first"), [(0, 1), (1, 1), (3, 3)])
def test_observations_of_after_the_action_go_with_the_next_one(drop, first, path):
    shown = open_libero_file(path).read(drop_first=drop, observation_shift=1, cameras=("agentview",))
    assert shown.lengths.tolist() == [4 - first, 5 - first, 6 - first]
    states, moment = shown.observations["states"], first
    assert states[0, :3].tolist() == [0.0, moment, 0.0]  # what was seen after action `first` - 1
    assert shown.actions[0, 0] == pytest.approx(first / 100)
    assert torch.allclose(states[0, 8:15], torch.full((7,), 0.05 * moment))
    assert states[0, 16] == pytest.approx(0.001 * moment)  # poses of the same moment, from `states` before the action
    assert shown.observations["agentview"][0, 0, 0, 0] == upright(moment)[0, 0, 0]


@pytest.mark.parametrize("drop", [0, 2])
def test_observations_of_before_the_action_go_with_it(drop, tmp_path):
    shown = open_libero_file(write_libero(tmp_path / "before_demo.hdf5", after=False)).read(
        drop_first=drop, observation_shift=0
    )
    assert shown.lengths.tolist() == [4 - drop, 5 - drop, 6 - drop]
    assert shown.observations["states"][0, :3].tolist() == [0.0, drop, 0.0]
    assert shown.actions[0, 0] == pytest.approx(drop / 100)
    assert shown.observations["states"][-1, :3].tolist() == [2.0, 5.0, 0.0]


@pytest.mark.parametrize("after", [True, False])
def test_a_shift_that_states_contradict_is_refused(after, tmp_path):
    file = open_libero_file(write_libero(tmp_path / "shift_demo.hdf5", after=after))
    message = (
        rf"stored {'after' if after else 'before'} each action, as states show\. .*observation_shift={int(after)}\."
    )
    with pytest.raises(DataError, match=message):
        file.read(observation_shift=1 - after)
    assert file.read(observation_shift=int(after)).facts["observation_shift"] == after


@pytest.mark.parametrize(("drift", "refused"), [(0.005, True), (0.03, False)])
def test_a_shift_is_refused_only_where_states_are_clear(drift, refused, path):
    def moved(data):
        for demo in data.values():
            demo["obs/joint_states"][...] = demo["obs/joint_states"][()] + drift  # a replay that left the recording

    change(path, moved)
    file = open_libero_file(path)
    assert len(file.read(observation_shift=1).actions) == 12
    if refused:
        with pytest.raises(DataError, match="as states show"):
            file.read(observation_shift=0)
    else:
        assert len(file.read(observation_shift=0).actions) == 15


def test_pictures_are_turned_upright_and_read_only_when_asked_for(path):
    file = open_libero_file(path)
    assert file.cameras == {"agentview": SIZE, "eye_in_hand": SIZE} and set(file.read().observations) == {"states"}
    pictures = file.read(cameras=("eye_in_hand", "agentview")).observations
    assert pictures["agentview"].shape == (12, 3, *SIZE) and pictures["agentview"].dtype == torch.uint8
    assert torch.equal(pictures["agentview"][0], torch.from_numpy(upright(1)).permute(2, 0, 1))
    assert torch.equal(pictures["eye_in_hand"], pictures["agentview"])
    change(path, lambda data: data.attrs.modify("macros_image_convention", "opencv"))
    stored = open_libero_file(path).read(cameras=("agentview",)).observations["agentview"]
    assert torch.equal(stored, pictures["agentview"].flip(2))
    change(path, lambda data: replace(data, "demo_2/obs/agentview_rgb", np.zeros((6, *SIZE, 3))))
    assert set(open_libero_file(path).read().observations) == {"states"}  # nobody looked at the broken ones
    with pytest.raises(DataError, match=r"demo_2: obs/agentview_rgb is float64 \[6, 6, 4, 3\], not uint8"):
        open_libero_file(path).read(cameras=("agentview",))


def test_nothing_stays_open_and_everything_can_be_sent_to_another_process(path):
    file = pickle.loads(pickle.dumps(open_libero_file(path)))
    shown = file.read(cameras=("agentview",))
    again = pickle.loads(pickle.dumps(shown))
    assert again.checksum == shown.checksum and file.checksum == open_libero_file(path).checksum
    with h5py.File(path, "r"), pytest.raises(OSError):
        h5py.File(path, "r+")  # what HDF5 says where a file is open
    h5py.File(path, "r+").close()


def test_poses_are_those_of_free_joints_and_of_bodies_that_nothing_moves():
    scene = read_scene(MODEL, source="tiny")
    assert scene.width == WIDTH and scene.free == {"cup_1_joint0", "basket_1_joint0"}
    assert (scene.addresses["robot0_joint1"], scene.addresses["finger1"]) == (0, 7)
    assert (scene.addresses["cup_1_joint0"], scene.addresses["basket_1_joint0"]) == (CUP - 1, BASKET - 1)
    states = states_of(3, 2)
    poses = object_poses(states, scene, ["cup_1", "cabinet_1", "main_table", "table", None], source="tiny")
    assert poses.shape == (3, 5, 7)
    assert np.array_equal(poses[:, 0], states[:, CUP : CUP + 7])
    assert np.allclose(poses[:, 1], [1.0, 2.0, 0.5, TURN, 0.0, 0.0, TURN])  # 2 along x, turned to y, from x = 1
    assert not poses[:, [2, 4]].any()
    assert np.allclose(poses[:, 3], [0.0, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0])


def test_joints_of_a_body_come_before_those_of_the_bodies_on_it():
    scene = read_scene(
        "<mujoco><worldbody><body name='a'><body name='b'><joint name='inner' type='ball'/></body>"
        "<joint name='outer'/></body><body name='c'><joint name='last'/></body></worldbody></mujoco>",
        source="tiny",
    )
    assert scene.addresses == {"outer": 0, "inner": 1, "last": 5} and not scene.fixed
    assert scene.width == 1 + 6 + 5


def test_models_that_cannot_be_followed_are_refused():
    scene = read_scene(MODEL, source="tiny")
    with pytest.raises(DataError, match=r"tiny: states are \[2, 5\], but model_file has 47 numbers a moment"):
        object_poses(np.zeros((2, 5)), scene, ["cup_1"], source="tiny")
    with pytest.raises(DataError, match="tiny: model_file is not XML"):
        read_scene("<mujoco>", source="tiny")
    with pytest.raises(DataError, match="the unknown type screw"):
        read_scene(MODEL.replace('type="slide"', 'type="screw"'), source="tiny")
    with pytest.raises(DataError, match="turns the body stand by other than a quaternion"):
        read_scene(MODEL.replace('quat="0.70710678 0 0 0.70710678"', 'euler="0 0 1"'), source="tiny")
    hinged = read_scene(MODEL.replace('joint0" type="free"', 'joint0" type="hinge"'), source="tiny")
    with pytest.raises(DataError, match="cup_1_joint0 of model_file is not a free joint"):
        object_poses(np.zeros((1, hinged.width)), hinged, ["cup_1"], source="tiny")


@pytest.mark.parametrize(
    ("goal", "objects"),
    [
        ("(In cup_1 basket_1_contain_region)", ("cup_1", "basket_1")),
        ("(On cup_1 basket_1_lid_top)", ("cup_1", "basket_1_lid")),
        ("(On cup_1 basket_1)", ("cup_1", "basket_1")),
        ("(Open cabinet_1_top_region) (In cup_1 cabinet_1_top_region)", ("cabinet_1", None)),
        ("(On basket_1 main_table_front_region)", ("basket_1", "main_table")),
    ],
)
def test_a_place_belongs_to_the_object_with_the_longest_name_it_begins_with(goal, objects):
    assert goal_objects(task_file(goal), source="tiny") == objects


def test_a_goal_of_nothing_that_is_declared_is_refused():
    with pytest.raises(DataError, match="tiny: the goal names cup_12, which is of no declared object"):
        goal_objects(task_file("(On cup_12 basket_1)"), source="tiny")


@pytest.mark.parametrize(
    ("goal", "place"),
    [
        (None, [0.3, 0.003, 0.5, 1.0, 0.0, 0.0, 0.0]),
        ("(On cup_1 cabinet_1_top_side)", [1.0, 2.0, 0.5, TURN, 0.0, 0.0, TURN]),
        ("(Grasped cup_1)", [0.0] * 7),
    ],
)
def test_a_state_is_the_robot_then_the_thing_then_the_place(goal, place, tmp_path):
    states = open_libero_file(write_libero(tmp_path / "goal_demo.hdf5", goal=goal)).read().observations["states"]
    due = [0.0, 3.0, 0.0, 3.0, 0.0, 0.1, 0.04, -0.04, *[0.15] * 7, 0.1, 0.003, 0.5, 1.0, 0.0, 0.0, 0.0, *place]
    assert states.dtype == torch.float32 and len(due) == states.shape[1] == 29
    assert torch.allclose(states[2], torch.tensor(due))


BROKEN = [
    (lambda data: data.attrs.__delitem__("num_demos"), "the attribute num_demos is absent"),
    (lambda data: data.attrs.__delitem__("bddl_file_content"), "the attribute bddl_file_content is absent"),
    (lambda data: data.attrs.modify("bddl_file_content", "(define)"), "has no goal with a predicate"),
    (lambda data: data.attrs.modify("num_demos", 4), "num_demos is 4, but there are 3 demonstrations"),
    (lambda data: data["demo_1"].attrs.modify("num_samples", 9), "demo_1: num_samples is 9, but there are 5 actions"),
    (lambda data: data["demo_1"].attrs.__delitem__("model_file"), "demo_1: the attribute model_file is absent"),
    (lambda data: data.__delitem__("demo_1/actions"), "demo_1: actions is absent"),
    (lambda data: data.__delitem__("demo_1/states"), "demo_1: states is absent"),
    (lambda data: data.__delitem__("demo_1/obs/ee_ori"), "demo_1: obs/ee_ori is absent"),
    (lambda data: replace(data, "demo_1/actions", np.zeros((5, 6))), r"demo_1: actions are \[5, 6\], not \[steps, 7\]"),
    (lambda data: replace(data, "demo_1/actions", np.zeros(5)), r"demo_1: actions are \[5\], not \[steps, 7\]"),
    (
        lambda data: data["demo_1/actions"].write_direct(np.full((5, 7), 1.5)),
        r"actions are out of \[-1, 1\], .* by 0.5",
    ),
    (lambda data: replace(data, "demo_1/obs/ee_pos", np.zeros((4, 3))), r"obs/ee_pos is \[4, 3\], not \[5, 3\]"),
    (lambda data: replace(data, "demo_1/states", np.zeros((5, 9))), r"demo_1: states is \[5, 9\], not \[5, 47\]"),
]


@pytest.mark.parametrize(("edit", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_file_is_refused_in_one_line(edit, message, path):
    change(path, edit)
    with pytest.raises(DataError, match=message) as refused:
        open_libero_file(path).read()
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    assert str(refused.value).endswith(("again.", "CC BY 4.0)."))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["actions", "states", "obs/joint_states"])
def test_numbers_that_are_not_finite_name_the_demonstration_and_the_step(key, value, path):
    def spoil(data):
        data[f"demo_1/{key}"][3, 2] = value

    change(path, spoil)
    with pytest.raises(DataError, match=rf"demo_1: {key} is not finite, first at step 3\. Fetch") as refused:
        open_libero_file(path).read()
    assert "\n" not in str(refused.value)
    assert len(open_libero_file(path).read(count=1).actions) == 3  # the first one is as it should be


def test_what_is_no_file_or_no_hdf5_or_truncated_is_refused_in_one_line(path, tmp_path):
    with pytest.raises(DataError, match=r"absent\.hdf5 is absent\. Get it from https://libero-project"):
        open_libero_file(tmp_path / "absent.hdf5")
    (tmp_path / "text.hdf5").write_text("not HDF5")
    truncated = tmp_path / "half.hdf5"
    truncated.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for broken in (tmp_path / "text.hdf5", truncated):
        with pytest.raises(DataError, match="this is not a whole HDF5 file") as refused:
            open_libero_file(broken).read()
        assert "\n" not in str(refused.value)
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with pytest.raises(DataError, match=r"empty\.hdf5: data is absent"):
        open_libero_file(tmp_path / "empty.hdf5")


def test_without_h5py_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'cl-suite\[libero\]', or run with uv run --extra libero"):
        open_libero_file(path)


def test_cameras_that_are_not_there_are_refused(path, tmp_path):
    with pytest.raises(UsageError, match=r"stream\.cameras names agentveiw, which is none\. Did you mean agentview"):
        open_libero_file(path).read(cameras=("agentveiw",))
    change(path, lambda data: data.__delitem__("demo_1/obs/eye_in_hand_rgb"))
    with pytest.raises(
        DataError, match=r"not every demonstration has obs/eye_in_hand_rgb\. It has of cameras: agentview"
    ):
        open_libero_file(path).read(cameras=("eye_in_hand",))
    change(path, lambda data: data.attrs.__delitem__("macros_image_convention"))
    assert len(open_libero_file(path).read().actions) == 12  # states need no convention
    with pytest.raises(DataError, match="macros_image_convention is absent"):
        open_libero_file(path).read(cameras=("agentview",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 4}, r"stream\.demonstrations=4, but .* has 3"),
        ({"observation_shift": 2}, r"stream\.observation_shift=2 is not known"),
        ({"drop_first": 4}, r"demo_0: stream\.drop_first=4 .* leave nothing of 4 steps"),
        ({"drop_first": -1}, r"stream\.drop_first=-1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options, message, path):
    with pytest.raises(UsageError, match=message) as refused:
        open_libero_file(path).read(**options)
    assert "\n" not in str(refused.value)
