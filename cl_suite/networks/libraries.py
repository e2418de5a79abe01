"""Networks of other libraries by name: `timm:NAME` (extra `vision`) and `torchvision:NAME`, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from cl_suite.core.errors import PluginError, UsageError, nearest
from cl_suite.networks.as_backbone import as_backbone
from cl_suite.networks.origins import ChosenNetwork, Wanted
from cl_suite.networks.trial import place_of

INSTALL = "pip install 'cl-suite[vision]' (in a clone: uv sync --extra vision)"
COLOUR = 3  # channels that torchvision's networks read


def timm_network(model: str) -> ChosenNetwork:
    """Return a network of timm by its name, its tag included.

    It is told the number of channels, and the size of images where it is made for one. Its pooled output is the head's
    input. Raise UsageError where timm is absent or has no such network.
    """
    try:
        import timm
    except ImportError as problem:
        raise UsageError(
            f"model.name=timm:{model} needs the package timm, which is not installed: {INSTALL}."
        ) from problem
    architecture, known = model.partition(".")[0], timm.list_models()
    if architecture in known:
        try:
            timm.get_pretrained_cfg(model)
        except RuntimeError:  # its tag, which says how weights were trained
            known = timm.list_models(f"{architecture}.*", pretrained=True)
        else:
            return ChosenNetwork(f"timm:{model}", partial(_made_by_timm, model))
    raise UsageError(f"model.name=timm:{model} is no network of timm's. {nearest(model, known)}")


def _made_by_timm(model: str, wanted: Wanted) -> nn.Module:
    import timm

    channels, *size = _image_shape(f"timm:{model}", wanted)
    arguments: dict[str, Any] = {"in_chans": channels}
    configuration = timm.get_pretrained_cfg(model)
    if configuration is not None and configuration.fixed_input_size:
        arguments["img_size"] = tuple(size)
    arguments |= wanted.options
    module = _made(f"timm:{model}", lambda: timm.create_model(model, pretrained=False, num_classes=0, **arguments))
    classifier: Any = (getattr(module, "pretrained_cfg", None) or {}).get("classifier") or ()
    backbone: Any = as_backbone(module, wanted, name=f"timm:{model}", told=False, whole=True)
    backbone.left_out += (classifier,) if isinstance(classifier, str) else tuple(classifier)  # in files of weights
    return backbone


def torchvision_network(model: str) -> ChosenNetwork:
    """Return a classifier of torchvision by its name; its last linear layer becomes the head.

    Raise UsageError where there is none.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise UsageError(f"model.name=torchvision:{model} is no classifier of torchvision's. {nearest(model, known)}")
    return ChosenNetwork(f"torchvision:{model}", partial(_made_by_torchvision, model))


def _made_by_torchvision(model: str, wanted: Wanted) -> nn.Module:
    from torchvision import models

    channels, *_ = _image_shape(f"torchvision:{model}", wanted)
    if channels != COLOUR:
        raise UsageError(
            f"model.name=torchvision:{model} reads images of {COLOUR} channels, and this stream's have {channels}. "
            "Use timm:NAME, whose networks read any number, or a backbone of cl-suite's."
        )
    arguments = {"num_classes": wanted.n_outputs, **wanted.options}
    module = _made(f"torchvision:{model}", lambda: models.get_model(model, weights=None, **arguments))
    return as_backbone(module, wanted, name=f"torchvision:{model}", told=True)


def _image_shape(name: str, wanted: Wanted) -> tuple[int, ...]:
    if isinstance(wanted.input_shape, Mapping) or len(wanted.input_shape) != 3:
        raise UsageError(
            f"model.name={name} reads images [C, H, W], not samples of shape {wanted.input_shape}. Use model.name=auto."
        )
    return wanted.input_shape


def _made(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except Exception as problem:  # options it does not have, a size it cannot be made for
        raise PluginError(
            f"model.name={name} could not be made: {place_of(problem)}. "
            "Look at model.options, or take a network for images of this size."
        ) from problem


LIBRARIES: dict[str, Callable[[str], ChosenNetwork]] = {"timm": timm_network, "torchvision": torchvision_network}
