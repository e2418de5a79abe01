"""Measure what the card of the Meta-World streams says: each expert's success, and each task's policy on all tasks.

python docs/scripts/measure_metaworld.py [EPISODES]      # two cores: a quarter of an hour; needs the extra robot
"""

import json
import sys

import numpy as np
import torch

from benchmarks.metaworld.simulator import metaworld_facts
from cl_suite.core.data_root import DataRoot, default_data_root
from cl_suite.core.registry import STREAM, choose
from cl_suite.core.seeding import Seeds
from cl_suite.networks.network import build_network
from cl_suite.robots import RobotPool, SuccessRate

EPISODES = int(sys.argv[1]) if len(sys.argv) > 1 else 20
STEPS, BATCH = 2000, 256


def expert_success(pool, robot):
    """Return the share of the evaluation's episodes that the scripted expert solves."""
    requests = (("demonstrate", robot, seed, 0.0) for seed in range(EPISODES))
    return float(np.mean([solved for _, _, solved in pool.map(requests)]))


def policy_of(task, prepare):
    """Return a policy trained on one task alone."""
    torch.manual_seed(0)
    shape = {"states": (1, 39), "instruction": (10,)}
    network = build_network("bc_mlp", shape, 4)
    network.heads.open()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        raw, targets = task.train.take(torch.randint(0, len(task.train), (BATCH,)))
        loss = (network(prepare(raw)) - targets).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def main():
    """Print both as JSON."""
    pool, facts = RobotPool(), metaworld_facts()
    stream = choose(STREAM, "metaworld_cw10").cls
    config = stream.Config(episodes=EPISODES)
    data = stream(config).load(DataRoot(default_data_root()), Seeds(0, 0, 0))
    names = [task.name for task in data.tasks]
    experts = {name: expert_success(pool, facts.task(name)) for name in names}
    crossed = {}
    for task in data.tasks:
        network = policy_of(task, data.prepare)
        row = {}
        for other in data.tasks:
            instructed = other.train.transform

            def act(seen, network=network, instructed=instructed):
                raw = instructed({name: torch.from_numpy(value) for name, value in seen.items()})
                with torch.no_grad():
                    return network(data.prepare(raw)).numpy()

            row[other.name] = SuccessRate(facts.task(other.name), tuple(range(EPISODES)), pool).rollout(act).value
        crossed[task.name] = row
        print(task.name, row, file=sys.stderr)
    print(json.dumps({"versions": facts.versions, "episodes": EPISODES, "experts": experts, "zero_shot": crossed}))


if __name__ == "__main__":
    main()
