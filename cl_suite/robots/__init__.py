"""The public API for streams of robot tasks: simulators, demonstrations, imitation, success in rollouts.

Names are loaded on first use, so that a simulator's process does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "kept_demonstrations": ["Demonstrations", "demonstrations"],
    "imitation": ["PrepareStates", "imitation_task"],
    "instructions": ["embed_instructions"],
    "objectives": ["BehaviourCloning", "imitation_objective"],
    "pool": ["RobotPool", "robot_pool"],
    "rendering": ["choose_renderer"],
    "rollouts": ["SuccessRate", "policy_of"],
    "simulator": ["Array", "Observation", "RobotTask"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from cl_suite.robots.imitation import PrepareStates, imitation_task
    from cl_suite.robots.instructions import embed_instructions
    from cl_suite.robots.kept_demonstrations import Demonstrations, demonstrations
    from cl_suite.robots.objectives import BehaviourCloning, imitation_objective
    from cl_suite.robots.pool import RobotPool, robot_pool
    from cl_suite.robots.rendering import choose_renderer
    from cl_suite.robots.rollouts import SuccessRate, policy_of
    from cl_suite.robots.simulator import Array, Observation, RobotTask
