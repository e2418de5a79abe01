"""Meta-World: what a state is, which seeds there are, what the experts can do. Needs the extra `robot`."""

import sys

import numpy as np
import pytest

from benchmarks.metaworld.simulator import metaworld_facts
from cl_suite import DataError
from cl_suite.core.data_root import DataRoot
from cl_suite.core.registry import STREAM, choose
from cl_suite.core.seeding import Seeds
from cl_suite.robots import RobotPool, SuccessRate, demonstrations


@pytest.fixture(scope="module")
def pool():
    pytest.importorskip("metaworld", reason="needs the extra robot")
    pool = RobotPool(2)
    yield pool
    pool.close()


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    stream = choose(STREAM, "metaworld_cw3").cls
    with pytest.raises(DataError, match=r"pip install 'cl-suite\[robot\]'"):
        stream(stream.Config()).load(DataRoot(tmp_path, offline=True), Seeds(0, 0, 0))


def test_the_ten_tasks_are_those_of_continual_world_in_its_order():
    ten, twenty = (choose(STREAM, f"metaworld_{name}").cls.tasks for name in ("cw10", "cw20"))
    assert len(ten) == 10 and ten[0] == "hammer" and ten[-1] == "peg-unplug-side"
    assert twenty == ten * 2
    assert set(choose(STREAM, "metaworld_cw3").cls.tasks) < set(ten)


def test_the_card_says_what_is_told_and_what_the_expert_can_do_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    stream = choose(STREAM, "metaworld_cw10").cls
    card = stream(stream.Config()).card()
    assert list(card["instructions"]) == list(card["expert_success"]) == list(stream.tasks)
    assert all(0.8 < share <= 1 for share in card["expert_success"].values())


@pytest.mark.slow
def test_the_card_is_what_the_experts_do(pool):
    facts, stream = metaworld_facts(), choose(STREAM, "metaworld_cw10").cls
    told = stream(stream.Config()).card()["expert_success"]
    for name in ("hammer", "stick-pull", "handle-press-side"):
        made = demonstrations(facts.task(name), count=32, noise=0.3, made_by=facts.versions, root=None, pool=pool)
        assert made.facts["expert_success"] == pytest.approx(told[name], abs=0.005)


def test_a_seed_stands_for_one_initial_state_and_another_seed_for_another(pool):
    simulator = metaworld_facts().task("push").simulator()
    first, again, other = (simulator.reset(seed)["states"] for seed in (0, 0, 1))
    simulator.step(np.ones(4, dtype=np.float32))
    later = simulator.reset(0)["states"]
    assert first.shape == (39,) and first.dtype == np.float32
    assert np.array_equal(first, again) and np.array_equal(first, later) and not np.array_equal(first, other)


def test_demonstrations_of_a_hammer_are_kept_and_never_start_where_a_policy_is_tested(pool, tmp_path):
    facts = metaworld_facts()
    robot = facts.task("hammer")
    made = demonstrations(robot, count=3, noise=0.3, made_by=facts.versions, root=tmp_path, pool=pool)
    assert made.observations["states"].shape[1] == 39 and made.actions.shape[1] == 4
    assert float(made.actions.abs().max()) <= 1.0
    assert made.facts["mujoco"] == facts.versions["mujoco"]
    simulator = robot.simulator()
    tested = [simulator.reset(seed)["states"] for seed in range(20)]
    starts = made.observations["states"][(made.lengths.cumsum(0) - made.lengths)].numpy()
    assert not any(np.allclose(a, b) for a in starts for b in tested)


def test_who_does_nothing_has_no_success(pool):
    task = metaworld_facts().task("push", horizon=60)
    assert SuccessRate(task, (0, 1), pool).rollout(lambda seen: np.zeros((len(seen["states"]), 4))).value == 0.0
