"""Meta-World tasks of Continual World learned one after another from scripted demonstrations, scored by success.

Wołczyk et al. 2021, "Continual World" (arXiv 2105.10919), chose the ten tasks and their order. Its scores are of
reinforcement learning in version 1 of the environments: they cannot be compared with these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from benchmarks.metaworld.simulator import METAWORLD_INSTRUCTIONS, metaworld_facts, metaworld_task
from cl_suite import (
    DataRoot,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskOutline,
    UsageError,
)
from cl_suite.robots import (
    PrepareStates,
    SuccessRate,
    demonstrations,
    embed_instructions,
    imitation_objective,
    imitation_task,
    robot_pool,
)

CW10 = (
    *("hammer", "push-wall", "faucet-close", "push-back", "stick-pull"),
    *("handle-press-side", "push", "shelf-place", "window-close", "peg-unplug-side"),
)
CW3 = ("hammer", "push", "shelf-place")
HELD_OUT = 2  # demonstrations of each task that are not learned from
HORIZON = 500  # steps
ACTIONS = ("move x", "move y", "move z", "gripper")
# Share of clean episodes that the scripted expert solves: 16 to 19 of each task, initial states 100,000, 100,002, ...
# (metaworld 3.1.1, mujoco 3.3.0). No policy can be expected to do better.
EXPERT_SUCCESS = {name: 0.84 if name == "stick-pull" else 1.0 for name in CW10}
# Share of episodes that a policy trained on one task alone (rows) solves of the others, each told its own instruction;
# tasks that are absent: none. Five episodes each, bc_mlp, 2,000 steps: `python docs/scripts/measure_metaworld.py 5`.
ZERO_SHOT: dict[str, dict[str, float]] = {
    "hammer": {"hammer": 1.0},
    "push-wall": {"push-wall": 1.0, "faucet-close": 0.6, "window-close": 0.2},
    "faucet-close": {"faucet-close": 1.0, "window-close": 1.0},
    "push-back": {"push-back": 0.6, "window-close": 0.6},
    "stick-pull": {"stick-pull": 1.0, "hammer": 0.2},
    "handle-press-side": {"handle-press-side": 1.0},
    "push": {"push": 1.0, "handle-press-side": 1.0, "window-close": 1.0},
    "shelf-place": {"shelf-place": 1.0},
    "window-close": {"window-close": 1.0, "faucet-close": 1.0, "peg-unplug-side": 0.2},
    "peg-unplug-side": {"peg-unplug-side": 1.0},
}
# Hand, gripper, two objects (position, quaternion), in metres from the middle of the table over its size; twice, goal.
PLACE = ((0.0, 0.6, 0.2), (3.0, 3.0, 4.0))
NOW = (
    (*PLACE[0], 0.0, *PLACE[0], *(0.0,) * 4, *PLACE[0], *(0.0,) * 4),
    (*PLACE[1], 1.0, *PLACE[1], *(1.0,) * 4, *PLACE[1], *(1.0,) * 4),
)
SCALING = PrepareStates(*(NOW[k] + NOW[k] + PLACE[k] for k in (0, 1)))


class _MetaWorld(Stream):
    """What the streams have in common: demonstrations of each task, an instruction, rollouts from fixed states."""

    tasks: ClassVar[tuple[str, ...]]

    facts = StreamFacts(
        modality="robots",
        citation="Yu et al. 2019, Meta-World, arXiv 1910.10897",
        source="scripted experts of the package metaworld",
        licence="MIT",
        prerequisites="extra robot",
        # The instruction, part of the input, says what to do; whether a strategy is told more is the scenario's.
        scenarios=(Scenario.TASK_INCREMENTAL, Scenario.DOMAIN_INCREMENTAL),
    )

    @dataclass
    class Config:
        """How much is shown, and how success is measured."""

        demonstrations: int = 32  # of each task; the last two are not learned from
        noise: float = 0.3  # deviation of the noise on the actions of every second one; labels are without it
        language: str = "onehot"  # the instruction as a vector: onehot, hashed (a bag of words), encoder
        # a frozen sentence encoder, by its folder or its name on the Hugging Face hub; language=encoder alone
        encoder: str | None = None
        head: str = "l1"  # what is minimised: l1, mse, or gmm, a mixture of Gaussians
        history: int = 1  # latest moments the policy is shown
        episodes: int = 20  # rollouts of each task in every evaluation, from initial states 0, 1, ...
        horizon: int = HORIZON  # steps after which an episode has failed (Meta-World: 500)

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Make the demonstrations, or read them from the data root. Raise DataError without the extra `robot`."""
        c = self.config
        for name, low in (("demonstrations", 3), ("history", 1), ("episodes", 1), ("horizon", 1)):
            if getattr(c, name) < low:
                raise UsageError(f"stream.{name}={getattr(c, name)} is too small. Use {low} or more.")
        if c.horizon > HORIZON:
            raise UsageError(
                f"stream.horizon={c.horizon}: Meta-World ends episodes at {HORIZON} steps. Use that or less."
            )
        if not 0 <= c.noise < float("inf"):
            raise UsageError(f"stream.noise={c.noise} is not a deviation. Use 0 or more.")
        objective, facts, pool = imitation_objective(c.head), metaworld_facts(), robot_pool()
        names = list(dict.fromkeys(self.tasks))
        instructions = [METAWORLD_INSTRUCTIONS[name] for name in names]
        vectors = embed_instructions(instructions, c.language, encoder=c.encoder, root=root)
        tasks, checksums, demonstration_facts = {}, {}, {}
        for name, vector in zip(names, vectors, strict=True):
            robot = facts.task(name, horizon=c.horizon)
            demos = demonstrations(
                robot, count=c.demonstrations, noise=c.noise, made_by=facts.versions, root=root.path, pool=pool
            )
            checksums[f"robots/{name}"], demonstration_facts[name] = demos.checksum, dict(demos.facts)
            tasks[name] = imitation_task(
                name,
                demos,
                held_out=HELD_OUT,
                instruction=vector,
                outputs=objective.outputs(ACTIONS),
                history=c.history,
                scorer=SuccessRate(robot, tuple(range(c.episodes)), pool, c.history),
            )
        return StreamData(
            tuple(tasks[name] for name in self.tasks),
            SCALING,
            labels="shared",
            checksums=checksums,
            objective=objective,
            single_head=True,
            facts={"versions": facts.versions, "demonstrations": demonstration_facts},
        )

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Make the demonstrations ahead of time."""
        return self.load(root, Seeds(0, 0, 0)).checksums

    def outline(self, root: DataRoot) -> tuple[TaskOutline, ...]:
        """Return the tasks without their demonstrations, which take minutes to make."""
        c = self.config
        outputs = imitation_objective(c.head).outputs(ACTIONS)
        return tuple(
            TaskOutline(name, outputs, c.episodes, metaworld_task(name, horizon=c.horizon)) for name in self.tasks
        )

    def card(self) -> dict[str, Any]:
        """Return the public facts, what the robot is told, what the experts and the policies of other tasks solve."""
        return super().card() | {
            "instructions": {name: METAWORLD_INSTRUCTIONS[name] for name in self.tasks},
            "expert_success": {name: EXPERT_SUCCESS[name] for name in self.tasks},
            "zero_shot": {
                name: {other: ZERO_SHOT[name].get(other, 0.0) for other in self.tasks} for name in self.tasks
            },
        }


class MetaWorldCW10(_MetaWorld):
    """Meta-World: the ten tasks of Continual World in its order, by imitation of scripted experts (extra `robot`)."""

    facts = replace(
        _MetaWorld.facts,
        sizes=StreamSizes(tasks=10, train=29_135, episodes=200, input_shape={"states": (1, 39), "instruction": (10,)}),
    )
    tasks = CW10


class MetaWorldCW3(_MetaWorld):
    """Meta-World: hammer, push and shelf-place one after another, minutes on two cores (extra `robot`)."""

    facts = replace(
        _MetaWorld.facts,
        sizes=StreamSizes(tasks=3, train=7_456, episodes=60, input_shape={"states": (1, 39), "instruction": (3,)}),
    )
    tasks = CW3


class MetaWorldCW20(_MetaWorld):
    """Meta-World: the ten tasks of Continual World twice; the second time nothing is new (extra `robot`)."""

    facts = replace(
        _MetaWorld.facts,
        sizes=StreamSizes(tasks=20, train=58_270, episodes=400, input_shape={"states": (1, 39), "instruction": (10,)}),
    )
    tasks = (*CW10, *CW10)
