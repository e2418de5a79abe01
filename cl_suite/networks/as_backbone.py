"""Make a backbone of any module: find what its classifier reads, and leave the classifier out.

The head's input is, in this order: what a method or child `features` returns, [B, D]; else what the last linear layer
reads, if the network ends with one; else the network's output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cl_suite.core.devices import forked_rng
from cl_suite.core.types import Inputs, map_inputs
from cl_suite.networks.origins import Wanted
from cl_suite.networks.trial import checked, checked_features, tried


class OwnNetwork(nn.Module):
    """A module `net` as a backbone: inputs [B, ...] -> features [B, D].

    head_input: in words, where the features are taken; left_out: its layers that have no part in them
    """

    def __init__(self, net: nn.Module, head_input: str) -> None:
        super().__init__()
        self.net = net
        self.feature_dim = 0  # known after the first trial
        self.head_input = head_input
        self.left_out: tuple[str, ...] = ()

    def forward(self, inputs: Inputs) -> Tensor:
        """Return features [B, D]."""
        # Images come in channels_last, on which `view`, common in networks' code, fails.
        return self.features(map_inputs(lambda each: each.contiguous(), inputs))

    def features(self, inputs: Inputs) -> Tensor:
        """Return [B, D] of inputs that are contiguous."""
        return self.net(inputs)


class OwnFeatures(OwnNetwork):
    """One that says its features itself."""

    def features(self, inputs: Inputs) -> Tensor:
        """Return what its `features` gives."""
        return self.net.features(inputs)  # type: ignore[operator,union-attr]


class _HeadInput(nn.Module):
    """Stands for a linear layer: keeps what it reads, and answers zeros of the layer's shape."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features
        self.held: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        self.held = features
        return features.new_zeros(*features.shape[:-1], self.out_features)

    def take(self) -> Tensor:
        """Return what was read, and keep it no longer."""
        held, self.held = self.held, None
        assert held is not None
        return held


class OwnBeforeTheRest(OwnNetwork):
    """One in which something without parameters follows the last linear layer, such as a softmax: it has no part."""

    def features(self, inputs: Inputs) -> Tensor:
        """Return what its last linear layer would have read."""
        self.net(inputs)
        return next(module for module in self.net.modules() if isinstance(module, _HeadInput)).take()


def as_backbone(module: nn.Module, wanted: Wanted, *, name: str, told: bool, whole: bool = False) -> nn.Module:
    """Return the backbone that a fresh `module` is, with `feature_dim`. It is changed; random state is not.

    told:  whether the module was told the number of outputs, and must then give so many
    whole: its output is the head's input, whatever its layers are

    Raise PluginError, in one line, if the module cannot read the samples, or gives what is no [B, D] or not finite.
    """
    samples = wanted.samples()
    modes = {each: each.training for each in module.modules()}
    with forked_rng():
        module.eval()
        _materialise(module, samples, name)
        backbone = OwnNetwork(module, "output") if whole else _cut(module, wanted, samples, name=name, told=told)
        features = checked_features(backbone, samples, name)
        backbone.feature_dim = features.shape[1]  # type: ignore[assignment]
        _leave_out_unused(backbone, samples, features)
    for each in backbone.modules():
        each.training = modes.get(each, True)
    return backbone


def _cut(module: nn.Module, wanted: Wanted, samples: Inputs, *, name: str, told: bool) -> nn.Module:
    if _says_features(module, samples):
        return OwnFeatures(module, "features")
    calls = _Calls(module)
    with calls.watched():
        output = tried(lambda: module(samples), samples, name)
    outputs = wanted.n_outputs if told else None
    expected = f"[2, {outputs}]: a number for each output" if told else "[2, D]: a vector for each"
    checked(output, f"{name}: its output", expected, width=outputs)
    last = calls.last_linear()
    if last is None:
        return OwnNetwork(module, "output")
    names = [path for path, each in module.named_modules(remove_duplicate=False) if each is last]
    head_input = f"input of {names[0] or 'the layer'}"
    if names == [""]:
        return OwnNetwork(nn.Identity(), head_input)
    direct = output is calls.outputs[last]
    cut: nn.Module = nn.Identity() if direct else _HeadInput(last.out_features)
    for path in names:
        module.set_submodule(path, cut)
    if not direct:
        made: nn.Module = OwnBeforeTheRest(module, head_input)
    elif _is_plain_chain(module):
        made = module  # methods that look into a chain of layers see it
        made.head_input, made.left_out = head_input, ()  # type: ignore[assignment]
    else:
        made = OwnNetwork(module, head_input)
    made.left_out = tuple(names)  # type: ignore[assignment]
    return made


def _says_features(module: nn.Module, samples: Inputs) -> bool:
    """Whether `features` is a method, or a child that gives [B, D]; of torchvision's networks it gives maps."""
    features = getattr(module, "features", None)
    if not isinstance(features, nn.Module):
        return callable(features)
    try:
        with torch.no_grad():
            result = features(samples)
    except Exception:  # a part that reads something else than the samples
        return False
    return isinstance(result, Tensor) and result.dim() == 2


class _Calls:
    """Which layers with parameters were called in a forward pass, in order, and what the linear ones gave."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [each for each in module.modules() if next(each.parameters(recurse=False), None) is not None]
        self.order: list[nn.Module] = []
        self.outputs: dict[nn.Module, Any] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it calls are noted."""
        handles = [each.register_forward_pre_hook(lambda layer, _: self.order.append(layer)) for each in self._layers]
        handles += [each.register_forward_hook(self._keep) for each in self._layers if isinstance(each, nn.Linear)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, layer: nn.Module, _: Any, output: Any) -> None:
        self.outputs[layer] = output

    def last_linear(self) -> nn.Linear | None:
        """Return the layer that was called last, if it is linear, was called once, and gave [B, D]."""
        last = self.order[-1] if self.order else None
        once = isinstance(last, nn.Linear) and self.order.count(last) == 1 and self.outputs[last].dim() == 2
        return last if once else None  # type: ignore[return-value]


def _is_plain_chain(module: nn.Module) -> bool:
    """Whether it is an nn.Sequential of PyTorch's own layers, which read images in any layout."""
    parts = [each for each in module.modules() if next(each.children(), None) is None]
    chains = [each for each in module.modules() if next(each.children(), None) is not None]
    return all(type(each).__module__.startswith("torch.nn.") for each in parts) and all(
        type(each).forward is nn.Sequential.forward for each in chains
    )


def _leave_out_unused(backbone: nn.Module, samples: Inputs, features: Tensor) -> None:
    """Take out layers that have no part in the features, such as a classifier behind `features`; note their names.

    A parameter without a part in a layer that has one becomes a buffer: a constant that no method trains.
    """
    calls = _Calls(backbone)
    with calls.watched():
        unused = _unused(backbone, samples)
    called = set(calls.order)
    modules: list[tuple[str, nn.Module]] = list(backbone.named_modules())[1:]
    for path, each in modules:
        own = {id(parameter) for parameter in each.parameters()}
        if not own or not own <= unused or called & set(each.modules()):
            continue
        above, _, last = path.rpartition(".")
        if getattr(backbone.get_submodule(above), last, None) is not each:
            continue  # below one that is out already
        backbone.set_submodule(path, nn.Identity())
        if _same(backbone, samples, features):
            backbone.left_out = (*backbone.left_out, path.removeprefix("net."))  # type: ignore[assignment,misc]
        else:
            backbone.set_submodule(path, each)
    for each in backbone.modules():
        for key, parameter in list(each.named_parameters(recurse=False)):
            if id(parameter) in unused:
                delattr(each, key)
                each.register_buffer(key, parameter.detach())


def _unused(backbone: nn.Module, samples: Inputs) -> set[int]:
    """Return the ids of the parameters on which the features depend neither at test nor in training."""
    parameters = list(backbone.parameters())
    wishes = [parameter.requires_grad for parameter in parameters]
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    for parameter in parameters:
        parameter.requires_grad_(parameter.is_floating_point())
    able = [parameter for parameter in parameters if parameter.requires_grad]
    unused = {id(parameter) for parameter in able}
    try:
        for training in (False, True):
            for module in backbone.modules():
                module.training = training
            with torch.enable_grad():
                outputs = backbone(samples).sum()
                parts = torch.autograd.grad(outputs, able, allow_unused=True) if outputs.requires_grad else able
            unused -= {id(parameter) for parameter, part in zip(able, parts, strict=True) if part is not None}
    except Exception:  # in training, which is looked at later
        pass
    finally:
        backbone.eval()
        for key, value in backbone.named_buffers():
            value.copy_(before.get(key, value))
        for parameter, wish in zip(parameters, wishes, strict=True):
            parameter.requires_grad_(wish)
    return unused


def _same(backbone: nn.Module, samples: Inputs, features: Tensor) -> bool:
    try:
        with torch.no_grad():
            return torch.equal(backbone(samples), features)
    except Exception:  # it is needed after all
        return False


def _materialise(module: nn.Module, samples: Inputs, name: str) -> None:
    """Give lazy layers their shapes."""
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        tried(lambda: module(samples), samples, name)
