"""Runs asked for in Python that take a fraction of a second."""

FAST = {"stream": "toy_gaussians", "n_tasks": 2, "n_train": 40, "epochs": 1, "threads": 1, "device": "cpu"}
FAST_FLAGS = ["--stream", "toy_gaussians", "--threads", "1", "--device", "cpu"]
FAST_FLAGS += ["stream.n_tasks=2", "stream.n_train=40", "train.epochs=1"]

METHOD = """
from dataclasses import dataclass
from cl_suite import GradientStrategy

SCALE = {scale}

def scaled(loss):
    return {factor} * loss

class Mine(GradientStrategy):
    @dataclass
    class Config(GradientStrategy.Config):
        pull: float = {pull}

    def loss(self, batch):
        return scaled(super().loss(batch)) * SCALE
"""


def method(scale=1.0, factor=1.0, pull=0.5):
    """Return the source of a strategy `Mine` that leans on a helper, a constant and an option."""
    return METHOD.format(scale=scale, factor=factor, pull=pull)


def at_a_prompt(source, module="__main__"):
    """Return the class `Mine` as if its source had been typed at a prompt, or in a cell of a notebook."""
    names = {"__name__": module}
    exec(compile(source, "<cell>", "exec"), names)
    return names["Mine"]
