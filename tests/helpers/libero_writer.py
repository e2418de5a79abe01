"""Writes tiny files in the layout of LIBERO's demonstrations, with numbers that tell demonstration and moment."""

import json

import numpy as np

SIZE = (6, 4)  # height and width of pictures
LINKS = 7
CUP, BASKET = 1 + LINKS + 2, 1 + LINKS + 2 + 7  # where their poses start in a flattened state
WIDTH = 1 + (LINKS + 2 + 7 + 7 + 1) + (LINKS + 2 + 6 + 6 + 1)

# The cabinet stands on a stand that is turned by 90 degrees about z; its drawer slides. The default is of no joint.
MODEL = """<mujoco model="tiny">
  <default><default class="loose"><joint name="decoy" type="ball"/></default></default>
  <worldbody>
    <geom name="ground" type="plane" size="1 1 1"/>
    <body name="table" pos="0 0 0.4"/>
    <body name="robot0_base" pos="-0.6 0 0">LINKS
      <body name="left"><joint name="finger1" type="slide"/></body>
      <body name="right"><joint name="finger2" type="slide"/></body>
    </body>
    <body name="cup_1_main"><joint name="cup_1_joint0" type="free"/></body>
    <body name="basket_1_main"><freejoint name="basket_1_joint0"/></body>
    <body name="stand" pos="1 0 0" quat="0.70710678 0 0 0.70710678">
      <body name="cabinet_1_main" pos="2 0 0.5" quat="2 0 0 0">
        <body name="cabinet_1_drawer"><joint name="cabinet_1_slide" type="slide"/></body>
      </body>
    </body>
  </worldbody>
  <equality><joint joint1="finger1" joint2="finger2"/></equality>
  <sensor><jointpos joint="finger1"/></sensor>
</mujoco>
""".replace(
    "LINKS", "".join(f'<body name="link{k}"><joint name="robot0_joint{k}"/></body>' for k in range(1, LINKS + 1))
)

TASK = """(define (problem LIBERO_Tabletop_Manipulation)
  (:domain robosuite)
  (:language other words than those of the file name)
  (:fixtures main_table - table cabinet_1 - cabinet)
  (:objects cup_1 - cup basket_1 basket_1_lid - basket)
  (:goal (And GOAL))
)
"""


def task_file(goal="(In cup_1 basket_1_contain_region)"):
    """Return the text of a task file."""
    return TASK.replace("GOAL", goal)


def states_of(demo, steps):
    """Return flattened states [steps + 1, WIDTH]: the moments before each action, and that after the last one."""
    moments = np.arange(steps + 1)
    states = np.zeros((steps + 1, WIDTH))
    states[:, 0] = moments
    states[:, 1 : 1 + LINKS] = 0.1 * demo + 0.05 * moments[:, None]
    for start, place in ((CUP, 0.1), (BASKET, 0.3)):
        states[:, start : start + 7] = [place, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0]
        states[:, start + 1] = 0.01 * demo + 0.001 * moments
    return states


def write_libero(path, *, lengths=(4, 5, 6), after=True, cameras=("agentview_rgb", "eye_in_hand_rgb"), goal=None):
    """Write a file; demonstration d, moment t have ee_pos (d, t, 0) and a first action of t / 100.

    after: observations are of after the action, as in official files, else of before
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
        data.attrs["problem_info"] = json.dumps({"language_instruction": "other words"})
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["bddl_file_name"] = "bddl_files/tiny.bddl"
        data.attrs["bddl_file_content"] = task_file() if goal is None else task_file(goal)
        data.attrs["env_args"] = json.dumps({"type": 1})
        data.attrs["num_demos"], data.attrs["total"] = len(lengths), sum(lengths)
        for number, steps in enumerate(lengths):
            _write_demo(data.create_group(f"demo_{number}"), number, steps, after=after, cameras=cameras)
    return path


def _write_demo(group, number, steps, *, after, cameras):
    states = states_of(number, steps)
    moments = np.arange(steps) + (1 if after else 0)
    actions = np.zeros((steps, 7))
    actions[:, 0] = np.arange(steps) / 100
    actions[:, 6] = np.where(np.arange(steps) < steps // 2, -1.0, 1.0)
    last = (np.arange(steps) == steps - 1).astype(np.uint8)
    group.attrs["num_samples"], group.attrs["model_file"], group.attrs["init_state"] = steps, MODEL, states[0]
    group["actions"], group["states"], group["robot_states"] = actions, states[:-1], np.zeros((steps, 9))
    group["rewards"], group["dones"] = last, last
    places = np.stack([np.full(steps, number), moments, np.zeros(steps)], axis=1).astype(float)
    turns = np.tile([3.0, 0.0, 0.1], (steps, 1))
    group["obs/ee_pos"], group["obs/ee_ori"], group["obs/ee_states"] = places, turns, np.hstack([places, turns])
    group["obs/gripper_states"] = np.tile([0.04, -0.04], (steps, 1))
    group["obs/joint_states"] = states[moments, 1 : 1 + LINKS]
    for key in cameras:
        group[f"obs/{key}"] = np.stack([upright(moment)[::-1] for moment in moments])


def upright(moment):
    """Return the picture of a moment the right way up, [H, W, 3]: its row times 10, its colour, 20 a moment."""
    rows = 10 * np.arange(SIZE[0])[:, None, None]
    return (rows + 20 * moment + np.arange(3)).repeat(SIZE[1], axis=1).astype(np.uint8)


def change(path, edit):
    """Let `edit` break a file's group `data`."""
    import h5py

    with h5py.File(path, "r+") as file:
        edit(file["data"])


def replace(group, key, value):
    del group[key]
    group[key] = value
