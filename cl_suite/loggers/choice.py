"""Which loggers there are, and which were asked for. Imports none of their libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from cl_suite.core.errors import UsageError, nearest

INSTALL = "pip install 'cl-suite[log]'"
# Name -> (what it is installed as, module:Class that writes it)
LOGGERS = {
    "tensorboard": ("tensorboard", "cl_suite.loggers.tensorboard_curves:TensorBoardCurves"),
    "wandb": ("wandb", "cl_suite.loggers.wandb_curves:WandbCurves"),
    "mlflow": ("mlflow", "cl_suite.loggers.mlflow_curves:MLflowCurves"),
}


def chosen_loggers(values: Sequence[str]) -> tuple[str, ...]:
    """Return the loggers that `--log` names, in order: each value one name, or several with commas.

    Besides the three there is `package.module:Class`, a `cl_suite.loggers.curve_logger.CurveLogger` of one's own.
    Raise UsageError for an unknown one, one named twice, and one whose library is not installed.
    """
    names = [name for value in values for name in value.split(",")]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--log names {name} twice. Name each once.")
        if name in LOGGERS:
            module, move = LOGGERS[name][0], f"Install it: {INSTALL}"
        elif ":" in name:
            module, move = name.partition(":")[0], "Name a module that Python finds"
        else:
            raise UsageError(f"--log {name} is not known. {nearest(name, LOGGERS)}")
        if not _is_there(module):
            raise UsageError(f"--log {name} needs {module}, which is not installed. {move}.")
    return tuple(names)


def class_of(name: str) -> str:
    """Return `module:Class` of a logger."""
    return LOGGERS[name][1] if name in LOGGERS else name


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is absent, or the name is none
        return False
