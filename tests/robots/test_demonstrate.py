"""How a demonstration ends, and what of it noise may move."""

import sys
import types

import numpy as np
import pytest

from cl_suite.robots.simulator import RobotTask
from cl_suite.robots.worker import _Crew


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
