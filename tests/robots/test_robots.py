"""Robots: demonstrations, rollouts in processes, what happens when a simulator dies, and scores while learning."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.toy.point_mass import GOALS, point_mass_task
from cl_suite import DataError, RunError, UsageError
from cl_suite.cli.main import main
from cl_suite.evaluation.learning_curve import LearningSettings
from cl_suite.metrics.matrix import libero_metrics
from cl_suite.records.record import config_hash, load_record
from cl_suite.robots import RobotPool, SuccessRate, demonstrations, embed_instructions
from cl_suite.robots.kept_demonstrations import SEEDS, kept_alone
from cl_suite.robots.simulator import RobotTask
from tests.helpers.robot_doubles import lost_task, troubled_task
from tests.helpers.slow import slow_but

SHORT = ("stream.n_tasks=2", "stream.episodes=4", "train.epochs=100", "model.hidden=[64,64]")


@pytest.fixture(scope="module")
def pool():
    pool = RobotPool(2, wait=5.0)
    yield pool
    pool.close()


def towards(goal):
    """Return the policy that goes to a goal whatever it is told."""
    return lambda seen: np.clip((np.array(GOALS[goal]) - seen["states"][:, -1]) * 10, -1, 1).astype(np.float32)


def status_of(command):
    with pytest.raises(SystemExit) as ended:
        main(command)
    return ended.value.code


def run(tmp_path, *arguments):
    command = ["--stream", "toy_reach", "--results", str(tmp_path), "--threads", "1", "--quiet", *arguments]
    assert status_of(command) == 0
    (path,) = tmp_path.rglob("seed_0.json")
    return load_record(path)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """Return the record of a run of er that several tests look at."""
    return run(tmp_path_factory.mktemp("rehearsed"), "--strategy", "er", *SHORT)


def test_a_policy_that_reaches_the_goal_succeeds_and_one_that_goes_elsewhere_does_not(pool):
    right = SuccessRate(point_mass_task("right"), tuple(range(7)), pool)
    assert right.rollout(towards("right")).value == 1.0
    assert right.rollout(towards("left")).value == 0.0
    assert right.rollout(towards("right")).count == 7


def test_an_episode_does_not_depend_on_which_others_run_beside_it(pool):
    # A policy that moves more or less by where the robot began: only some episodes are solved in time.
    def slow(seen):
        return np.where(seen["states"][:, :1, 0] > 0, 0.26, 0.2) * np.array([[1.0, 0.0]], dtype=np.float32)

    task = point_mass_task("right")
    together = SuccessRate(task, tuple(range(25)), pool).rollout(slow).value
    alone = [SuccessRate(task, (seed,), pool).rollout(slow).value for seed in range(25)]
    assert 0 < together < 1 and together == pytest.approx(sum(alone) / 25)


def test_a_policy_is_shown_the_latest_moments_and_the_first_one_again_before_there_are_so_many(pool):
    shown = []

    def act(seen):
        shown.append(seen["states"].copy())
        return np.ones((len(seen["states"]), 2), dtype=np.float32)

    SuccessRate(point_mass_task("up"), (3,), pool, history=3).rollout(act)
    first, second, third, fourth = shown[:4]
    assert first.shape == (1, 3, 2) and (first == first[:, :1]).all()
    assert np.array_equal(second[:, :2], first[:, :2]) and np.allclose(second[0, 2] - first[0, 2], 0.1)
    assert np.array_equal(fourth[:, :2], third[:, 1:])


@pytest.mark.parametrize("trouble", ["crash", "hang", "raise"])
def test_a_simulator_that_dies_once_is_started_anew_and_nothing_is_lost(tmp_path, trouble):
    pool = RobotPool(1, wait=2.0)
    task = troubled_task(trouble, tmp_path / "times", count=1)
    assert SuccessRate(task, (0, 1, 2), pool).rollout(towards("right")).value == 1.0
    pool.close()


@pytest.mark.parametrize(
    ("trouble", "told"), [("crash", "exit code 7"), ("hang", "no answer"), ("raise", "the physics exploded")]
)
def test_a_simulator_that_dies_again_is_reported_and_never_a_failure_of_the_policy(tmp_path, trouble, told):
    pool = RobotPool(1, wait=1.0)
    task = troubled_task(trouble, tmp_path / "times", count=5)
    with pytest.raises(RunError, match=told):
        SuccessRate(task, (0, 1), pool).rollout(towards("right"))
    healthy = SuccessRate(point_mass_task("right"), (0,), pool)  # the pool can be used again
    assert healthy.rollout(towards("right")).value == 1.0
    pool.close()


def test_demonstrations_are_the_experts_clean_actions_and_only_successes(pool):
    made = demonstrations(point_mass_task("up"), count=6, noise=0.3, made_by={}, root=None, pool=pool)
    assert len(made.lengths) == 6 and int(made.lengths.sum()) == len(made.actions) == len(made.observations["states"])
    places = made.observations["states"].double()
    assert torch.allclose(made.actions.double(), ((torch.tensor([0.0, 1.0]) - places) / 0.1).clamp(-1, 1), atol=1e-4)
    ends = places[made.lengths.cumsum(0) - 1] + 0.1 * made.actions[made.lengths.cumsum(0) - 1].double()
    clean = ends[::2]  # every second one was carried out with noise
    assert bool(((clean - torch.tensor([0.0, 1.0])).norm(dim=1) < 0.1).all())
    assert made.facts["seeds_from"] == SEEDS and made.facts["expert_success"] == 1.0


def test_demonstrations_are_kept_with_how_they_came_to_be_and_damage_is_noticed(tmp_path, pool):
    def made(**changes):
        asked = {"count": 4, "noise": 0.3, "made_by": {"physics": "1"}, "root": tmp_path, "pool": pool, **changes}
        return demonstrations(point_mass_task("up"), **asked)

    first = made()
    (file,) = tmp_path.rglob("*.safetensors")
    stamp = file.stat().st_mtime_ns
    assert made().checksum == first.checksum and file.stat().st_mtime_ns == stamp
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert made().checksum == first.checksum and file.read_bytes() != bytes(content)
    made(made_by={"physics": "2"})
    made(noise=0.0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_demonstrations_are_found_again_when_the_code_of_their_simulator_has_moved(tmp_path, pool):
    task = point_mass_task("up")
    asked = {"count": 4, "noise": 0.3, "made_by": {}, "root": tmp_path, "pool": pool}
    first = demonstrations(task, **asked)
    with kept_alone():  # nothing is made
        moved = demonstrations(dataclasses.replace(task, factory="elsewhere:PointMass"), **asked)
    assert moved.checksum == first.checksum
    with kept_alone(), pytest.raises(DataError, match="are not kept"):
        demonstrations(dataclasses.replace(task, kind="another simulator"), **asked)


def test_an_expert_that_fails_is_said_to(pool):
    with pytest.raises(RunError, match="the expert of lost succeeded in 0 of 10 episodes; 2 demonstrations"):
        demonstrations(lost_task(), count=2, noise=0.0, made_by={}, root=None, pool=pool)


def test_instructions_as_vectors():
    sentences = ["push the puck", "push the block", "open the door"]
    assert torch.equal(embed_instructions(sentences, "onehot"), torch.eye(3))
    hashed = embed_instructions(sentences, "hashed")
    assert torch.allclose(hashed.norm(dim=1), torch.ones(3))
    assert hashed[0] @ hashed[1] > hashed[0] @ hashed[2]  # more words in common
    with pytest.raises(UsageError, match=r"stream\.language=spoken"):
        embed_instructions(sentences, "spoken")


def test_finetuning_forgets_where_a_robot_was_sent_and_rehearsal_does_not(tmp_path, rehearsed):
    forgets = run(tmp_path / "a", "--strategy", "finetune", *SHORT)
    keeps = rehearsed
    assert min(forgets.R[0][0], forgets.R[1][1], keeps.R[0][0], keeps.R[1][1]) >= 0.75
    assert forgets.R[1][0] <= 0.25 and keeps.R[1][0] >= 0.75
    assert forgets.test_samples == [4, 4]  # episodes, not held-out steps


@pytest.mark.parametrize("head", slow_but({"gmm"}, ["mse", "gmm"]))
def test_other_heads_learn_the_task_too(tmp_path, head):
    record = run(tmp_path, "--strategy", "joint", f"stream.head={head}", "stream.history=2", *SHORT)
    assert min(record.R[-1]) >= 0.75


def test_libero_metrics_that_are_worked_out_by_hand():
    # Task 1: 0, .5, 1 then flat (the best is held): (0 + .5 + 1 + 1) / 4; task 2: .2, .4, .4, .4 after its best at 1.
    points = [[0.0, 0.5, 1.0, 0.75], [0.2, 0.4, 0.3, 0.1]]
    R = [[1.0, 0.2], [0.6, 0.4]]
    found = libero_metrics(R, points)
    assert found["libero_fwt"] == pytest.approx((0.625 + 0.35) / 2)
    assert found["libero_nbt"] == pytest.approx((0.4 + 0.0) / 2)  # divided by 2 tasks, though the last loses nothing
    assert found["libero_auc"] == pytest.approx(((0.625 + 0.6) / 2 + 0.35) / 2)


def test_libero_metrics_of_three_tasks_and_of_points_without_an_answer():
    points = [[None, 0.9], [0.0, 0.8], [0.5, 0.5]]
    R = [[0.9, 0.0, None], [0.5, 0.8, 0.1], [0.3, 0.6, 0.7]]
    found = libero_metrics(R, points)
    assert found["libero_fwt"] == pytest.approx((0.45 + 0.4 + 0.5) / 3)
    assert found["libero_nbt"] == pytest.approx(((0.4 + 0.6) / 2 + 0.2) / 3)
    assert found["libero_auc"] == pytest.approx(((0.45 + 0.5 + 0.3) / 3 + (0.4 + 0.6) / 2 + 0.5) / 3)
    assert set(libero_metrics(R, points[:2]).values()) == {None}
    assert set(libero_metrics([[None, 0.0], [0.0, 0.0]], points[:2]).values()) == {None}


def test_a_task_is_scored_while_it_is_learned_and_that_changes_nothing(tmp_path, rehearsed):
    watched = run(tmp_path / "a", "--strategy", "er", "--evaluate", "learning", "learning.points=4", *SHORT)
    silent = rehearsed
    assert watched.R == silent.R and watched.model_selection == "none"
    points = watched.diagnostics["learning"]["points"]
    assert [len(row) for row in points] == [4, 4]
    assert points[0][0] is None and points[0][-1] == watched.R[0][0]  # nothing could answer before the first task
    assert points[1][0] == watched.R[0][1] and points[1][-1] == watched.R[1][1]
    assert watched.metrics["libero_fwt"] == libero_metrics(watched.R, points)["libero_fwt"]
    assert "libero_fwt" not in silent.metrics


@pytest.mark.parametrize("strategy", slow_but({"er"}, ["finetune", "er", "ewc"]))
def test_going_on_with_the_best_point_is_labelled_as_a_look_at_the_test(tmp_path, strategy):
    # After so many epochs at such a rate the last point is not the best of all.
    shaky = ("strategy.lr=0.05", "learning.points=9", "learning.keep_best=true", "--seeds", "0")
    record = run(tmp_path, "--strategy", strategy, "--evaluate", "learning", *SHORT, *shaky)
    assert record.model_selection == "oracle"
    for number, points in enumerate(record.diagnostics["learning"]["points"]):
        assert record.R[number][number] == max(score for score in points if score is not None)


def test_an_episode_of_each_task_is_filmed_beside_the_record(tmp_path):
    from PIL import Image

    record = run(tmp_path, "--strategy", "er", "--diagnostics", "video", *SHORT)
    films = record.diagnostics["video"]
    assert films == {"go right": "seed_0_task_0.gif", "go up": "seed_0_task_1.gif"}
    (folder,) = {path.parent for path in tmp_path.rglob("seed_0.json")}
    with Image.open(folder / films["go right"]) as film:
        assert film.n_frames >= 2 and film.size == (96, 96)
        first = np.asarray(film.convert("L"))
        film.seek(film.n_frames - 1)
        last = np.asarray(film.convert("L"))

    def column(picture):
        return np.argwhere(picture < 60)[:, 1].mean()  # of the black point

    assert column(last) > column(first) + 15  # it went to the right


def test_what_is_no_robot_cannot_be_filmed(tmp_path, capsys):
    command = ["--strategy", "er", "--stream", "split_digits", "--results", str(tmp_path), "--diagnostics", "video"]
    assert status_of(command) == 2
    assert "--diagnostics video films robots, and split_digits has none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("learning.points=5",), "Add --evaluate learning"),
        (("--evaluate", "learning", "learning.points=1"), r"learning.points=1 is too small"),
        (("--scenario", "class_incremental"), "class_incremental"),
        (("stream.head=l3",), r"stream.head=l3 is not known"),
        (("stream.history=0",), r"stream.history=0 is too small"),
        (("model.name=conv_small",), "conv_small reads images or vectors, not what robots see. Use bc_mlp"),
        (("model.name=text_cnn",), "text_cnn reads tokens of texts, not what robots see"),
        (("--strategy", "icarl"), "icarl"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, arguments, told):
    command = ["--strategy", "er", "--stream", "toy_reach", "--results", str(tmp_path), *SHORT, *arguments]
    assert status_of(command) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_configuration_from_before_learning_could_be_asked_for_has_the_hash_it_had():
    old = {"strategy": {"lr": 0.1}, "stream": {}}
    assert config_hash({**old, "learning": LearningSettings().__dict__}) == config_hash(old)
    asked = {"evaluate": True, "points": 11, "keep_best": False}
    assert config_hash({**old, "learning": asked}) != config_hash(old)


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(tmp_path):
    # The second episode that is asked for outlasts the wait, and is not needed.
    pool = RobotPool(1, wait=1.0)
    slow = point_mass_task("right")
    requests = iter(pool.map([("demonstrate", slow, 1, 0.0), ("demonstrate", slow, 2, 0.0)]))
    next(requests)
    pool.workers[0].ask("demonstrate", slow, 3, 0.0)  # given up without an answer
    made = demonstrations(point_mass_task("up"), count=2, noise=0.0, made_by={}, root=None, pool=pool)
    assert bool((made.actions[:3, 1] == 1.0).all())  # up, not right
    pool.close()


def test_a_process_with_simulators_has_one_thread(pool):
    pool.workers[0].ask("begin", point_mass_task("up"), [0])
    pool.workers[0].answer()
    threads = len(list(Path(f"/proc/{pool.workers[0].process_id}/task").iterdir()))
    assert threads == 1


def test_what_no_new_process_would_mend_is_said_at_once(pool):
    absent = RobotTask("absent", "tests.helpers.robot_doubles:Absent", 10, {})
    with pytest.raises(DataError, match=r"^the wine rack is absent\. Fetch it\.$"):
        SuccessRate(absent, (0,), pool).rollout(towards("up"))
    assert SuccessRate(point_mass_task("up"), (0,), pool).rollout(towards("up")).value == 1.0


@pytest.mark.parametrize("strategy", ["exssnet", "packnet", "joint"])
def test_weights_are_not_put_back_where_they_are_not_the_whole_answer(tmp_path, capsys, strategy):
    command = ["--strategy", strategy, "--stream", "toy_reach", "--results", str(tmp_path), *SHORT]
    assert status_of([*command, "--evaluate", "learning", "learning.keep_best=true"]) == 2
    assert "answers by more than weights" in capsys.readouterr().err
