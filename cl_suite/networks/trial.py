"""Try a network of somebody else's on two samples, and say in one line what is wrong with it."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.devices import forked_rng
from cl_suite.core.errors import CLSuiteError, PluginError
from cl_suite.core.types import Inputs


def checked_features(backbone: nn.Module, samples: Inputs, name: str) -> Tensor:
    """Return a backbone's features of two samples, [2, D]. Raise PluginError, in one line, for anything else."""
    what = f"{name}: its {getattr(backbone, 'head_input', 'output')}"
    return checked(tried(lambda: backbone(samples), samples, name), what, "[2, D]: a vector for each")


def check_in_training(backbone: nn.Module, samples: Inputs, name: str) -> None:
    """Try a copy in training mode. Raise PluginError if it cannot be copied, or gives something else than at test."""
    try:
        trial = copy.deepcopy(backbone)
    except Exception as problem:
        raise PluginError(
            f"model.name={name} cannot be copied ({place_of(problem)}), which strategies do. "
            "Keep tensors as parameters or buffers."
        ) from problem
    with forked_rng():
        width = checked_features(trial.train(), samples, f"{name}, in training mode").shape[1]
    if width != backbone.feature_dim:
        raise PluginError(
            f"model.name={name} gives {width} features in training and {backbone.feature_dim} at test. "
            "Give as many in both."
        )


def tried(forward: Callable[[], Any], samples: Inputs, name: str) -> Any:
    """Return what `forward` gives of `samples`. Raise PluginError, with its place, for whatever it raises."""
    try:
        with torch.no_grad():
            return forward()
    except Exception as problem:  # a stranger's network may raise anything
        shapes = samples.shape if isinstance(samples, Tensor) else {key: each.shape for key, each in samples.items()}
        listed = {key: [*shape] for key, shape in shapes.items()} if isinstance(shapes, dict) else [*shapes]
        raise PluginError(
            f"model.name={name} cannot read two samples of this stream, {listed}: {place_of(problem)}. "
            "Mend its forward pass, or take another network."
        ) from problem


def checked(output: Any, what: str, expected: str, *, width: int | None = None) -> Tensor:
    """Return an output that is finite numbers, [2, D] or [2, width]. Raise PluginError, naming `what`, for another."""
    if not isinstance(output, Tensor):
        raise PluginError(f"model.name={what} is a {type(output).__name__}, not a tensor {expected}. Return that.")
    if output.dim() != 2 or len(output) != 2 or width not in (None, output.shape[1]):
        raise PluginError(
            f"model.name={what} has the shape {[*output.shape]} for two samples, not {expected}. Return that."
        )
    if not output.is_floating_point():
        raise PluginError(f"model.name={what} is {output.dtype}, not floating-point numbers. Return those.")
    if not bool(output.isfinite().all()):
        raise PluginError(
            f"model.name={what} holds NaN or infinity before any training. Look at its initial weights and divisions."
        )
    return output


def place_of(problem: BaseException) -> str:
    """Return an error of somebody's code in a line, with its file and line."""
    if isinstance(problem, CLSuiteError):
        return str(problem)
    text = str(problem).partition("\n")[0][:300]
    frames = traceback.extract_tb(problem.__traceback__)
    not_theirs = (Path(torch.__file__).parent, Path(__file__).parent)
    theirs = [frame for frame in frames if not any(map(Path(frame.filename).is_relative_to, not_theirs))] or frames
    return f"{type(problem).__name__}: {text} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"
