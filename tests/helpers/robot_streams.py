"""Tiny tasks of imitation out of tensors, without a simulator."""

import torch

from cl_suite import Seeds, StreamData, TrainSettings
from cl_suite.core.scenario import Scenario
from cl_suite.core.scenario_stream import ScenarioStream
from cl_suite.robots import PrepareStates, imitation_objective, imitation_task
from cl_suite.robots.kept_demonstrations import Demonstrations

SIZE = 4  # numbers of a state
ACTIONS = ("x", "y")
CPU = torch.device("cpu")


def moves(task, states):
    """What the expert does: task 0 follows the first two numbers, task 1 does the contrary with the others."""
    wanted = states[:, 2 * task : 2 * task + 2] * (-1) ** task
    return (0.8 * wanted).clamp(-0.9, 0.9)


def robot_stream(head="l1", *, history=1, episodes=8, steps=10, n_tasks=2):
    """Return tasks of `episodes` demonstrations, the last two of them test samples, told apart by the instruction."""
    generator = torch.Generator().manual_seed(0)
    objective = imitation_objective(head)
    tasks = []
    for number in range(n_tasks):
        states = torch.randn(episodes * steps, SIZE, generator=generator)
        tasks.append(
            imitation_task(
                f"task {number}",
                Demonstrations({"states": states}, moves(number, states), torch.full((episodes,), steps), {}),
                held_out=2,
                instruction=torch.eye(n_tasks)[number],
                outputs=objective.outputs(ACTIONS),
                history=history,
            )
        )
    scaling = PrepareStates((0.0,) * SIZE, (1.0,) * SIZE)
    return StreamData(tuple(tasks), scaling, labels="shared", objective=objective, single_head=True)


def robot_presentation(data, scenario=Scenario.TASK_INCREMENTAL, *, epochs=2, **train):
    """Return the stream under a scenario."""
    settings = TrainSettings(epochs=epochs, batch_size=8, **train)
    return ScenarioStream("robots", data, scenario, train=settings, seeds=Seeds(0, 0, 0), device=CPU)
