"""Networks of one's own: any `torch.nn.Module` class, or function that returns one, from a file or an installed module.

Its signature says what it is given: `input_shape`, `n_outputs` and their like by name (GIVEN), or both by position.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from inspect import BoundArguments, Parameter, Signature
from pathlib import Path
from typing import Any

from torch import nn

from cl_suite.core.errors import CLSuiteError, PluginError, UsageError
from cl_suite.core.files import sha256_of
from cl_suite.core.registry import Kind, load_object
from cl_suite.networks.as_backbone import as_backbone
from cl_suite.networks.built_in import check_options
from cl_suite.networks.origins import ChosenNetwork, Wanted
from cl_suite.networks.trial import place_of

NETWORK = Kind("network", group="", providers="", openers="", base="torch.nn:Module")


def _channels(wanted: Wanted) -> int | None:
    shape = wanted.input_shape
    return shape[0] if not isinstance(shape, Mapping) and len(shape) == 3 else None


def _numbers(wanted: Wanted) -> int | None:
    return None if isinstance(wanted.input_shape, Mapping) else math.prod(wanted.input_shape)


OF_INPUTS: dict[str, Callable[[Wanted], Any]] = {
    "input_shape": lambda wanted: wanted.input_shape,
    **dict.fromkeys(("in_channels", "in_chans"), _channels),  # of images [C, H, W]
    **dict.fromkeys(("in_features", "input_dim"), _numbers),  # of a sample, flattened
    **dict.fromkeys(("vocabulary", "vocab_size"), lambda wanted: wanted.vocabulary),  # token ids, padding included
}
OF_OUTPUTS: dict[str, Callable[[Wanted], Any]] = dict.fromkeys(
    ("n_outputs", "num_outputs", "n_classes", "num_classes"), lambda wanted: wanted.n_outputs
)
GIVEN = {**OF_INPUTS, **OF_OUTPUTS}


def own_network(spec: str) -> ChosenNetwork:
    """Return the network that `path/to/net.py:Net` or `module:Net` names.

    Raise UsageError where there is none, PluginError where it cannot be imported or is nothing that makes networks.
    """
    build = load_object(NETWORK, spec)
    if isinstance(build, nn.Module):
        raise PluginError(f"model.name={spec} is a network already made. Name its class, or a function that makes one.")
    if not callable(build) or (inspect.isclass(build) and not issubclass(build, nn.Module)):
        raise PluginError(
            f"model.name={spec} is no torch.nn.Module class, nor a function that returns one. Derive it from that."
        )
    file, attribute = _file_of(spec, build)
    place, _, called = spec.rpartition(":")
    place, called = (place, called) if place and called.isidentifier() else (spec, attribute)
    name = f"{Path(place).name if '.py' in place else place}:{called}"
    make = partial(_make, name, build)
    return ChosenNetwork(name, make, sha256_of(file) if file else "", channels_last=False)


def _file_of(spec: str, build: Any) -> tuple[Path | None, str]:
    try:
        source = inspect.getsourcefile(inspect.unwrap(build))
    except TypeError:  # a partial, say
        source = None
    if ".py" in spec:
        source = str(Path(spec.rpartition(".py")[0] + ".py").expanduser())
    return Path(source) if source else None, getattr(build, "__name__", "")


def _make(name: str, build: Callable[..., Any], wanted: Wanted) -> nn.Module:
    bound, told = arguments_of(name, build, wanted)
    try:
        module = build(*bound.args, **bound.kwargs)
    except CLSuiteError:
        raise
    except Exception as problem:  # a stranger's constructor may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in bound.arguments.items())
        raise PluginError(
            f"model.name={name} could not be made with ({given}): {place_of(problem)}. "
            "Mend it, or set what it needs with model.options={...}."
        ) from problem
    if not isinstance(module, nn.Module):
        raise PluginError(f"model.name={name} returned a {type(module).__name__}, not a torch.nn.Module. Return one.")
    return as_backbone(module, wanted, name=name, told=told)


def arguments_of(name: str, build: Callable[..., Any], wanted: Wanted) -> tuple[BoundArguments, bool]:
    """Return what a class or function is called with, and whether it is told the number of outputs.

    It is given what it names of GIVEN, or the shape and the outputs for its only two parameters without default, and
    `wanted.options`.

    Raise UsageError for an option that it does not take, or a parameter without default that nothing is known of.
    """
    signature = _signature(build)
    parameters = signature.parameters
    if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
        check_options(wanted.options, [each for each in parameters if each not in GIVEN], name=name)
    given = {key: value(wanted) for key, value in GIVEN.items() if key in parameters}
    given = {key: value for key, value in given.items() if value is not None} | dict(wanted.options)
    told = bool(OF_OUTPUTS.keys() & given.keys())
    missing = [key for key in _required(signature) if key not in given]
    if len(missing) == 2 and not GIVEN.keys() & given.keys():
        given |= dict(zip(missing, (wanted.input_shape, wanted.n_outputs), strict=True))
        missing, told = [], True
    if missing:
        raise UsageError(
            f"model.name={name} needs {', '.join(missing)}, of which nothing is known. "
            f"Set model.options={{{missing[0]}: ...}}, or give it a default; known by name: {', '.join(GIVEN)}."
        )
    bound = BoundArguments(signature, {key: given[key] for key in parameters if key in given})  # type: ignore[arg-type]
    further = {key: value for key, value in given.items() if key not in parameters}
    for each in parameters.values():
        if each.kind is Parameter.VAR_KEYWORD and further:
            bound.arguments[each.name] = further
    return bound, told


def _required(signature: Signature) -> list[str]:
    """Return the parameters without a default, in order."""
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature.parameters.items()
    return [key for key, each in parameters if each.default is each.empty and each.kind not in variable]


def _signature(build: Callable[..., Any]) -> Signature:
    try:
        return inspect.signature(build)
    except (TypeError, ValueError):  # written in C, say
        return Signature([Parameter(key, Parameter.POSITIONAL_ONLY) for key in ("input_shape", "n_outputs")])
