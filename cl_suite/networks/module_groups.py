"""A network's tensors by module: what forgetting is measured on, and what FPF finetunes.

Zhao et al. 2023, "Does Continual Learning Equally Forget All Parameters?" (arXiv 2304.04158).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from cl_suite.networks.embeddings import VectorTable

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
COUNTERS = "num_batches_tracked"


def module_groups(network: nn.Module) -> dict[str, list[str]]:
    """Return {module: names of its tensors in `network.state_dict()`}, from the input to the output.

    A ResNet: conv1, stage1 to stage4, shortcuts, bn (scale and shift), bn_statistics, fc_weight, fc_bias. Other
    networks: every layer for itself (conv1, conv2, linear1, ...), batch norm and the head as above.
    """
    stages = {
        f"backbone.{child}": stage
        for stage, children in getattr(getattr(network, "backbone", None), "stages", {}).items()
        for child in children
    }
    tensors = network.state_dict()
    groups: dict[str, list[str]] = {}
    numbers = {"conv": 0, "linear": 0}
    for path, module in network.named_modules():
        names = [name for name in tensors if name.rpartition(".")[0] == path and name.rpartition(".")[2] != COUNTERS]
        names = [name for name in names if tensors[name].is_floating_point()]
        if not names:
            continue
        layer = _layer_name(path, module, stages, numbers)
        for name in names:
            tensor = name.rpartition(".")[2]
            key = layer
            if isinstance(module, NORMS) and tensor.startswith("running"):
                key = f"{layer}_statistics"
            elif path.startswith("heads"):
                key = f"{layer}_{tensor}"
            groups.setdefault(key, []).append(name)
    last = [key for key in groups if key.startswith(("bn", "fc"))]  # batch norm is spread over the network
    order = [*(key for key in groups if key not in last), *sorted(last)]
    return {key: groups[key] for key in order}


def _layer_name(path: str, module: nn.Module, stages: Mapping[str, str], numbers: dict[str, int]) -> str:
    if path.startswith("heads"):
        return "fc"
    if isinstance(module, NORMS):
        return "bn"
    if isinstance(module, VectorTable):
        return "embeddings"
    if "shortcut" in path.split("."):
        return "shortcuts"
    for prefix, stage in stages.items():
        if path.startswith(f"{prefix}."):
            return stage
    for kind, classes in (("conv", nn.modules.conv._ConvNd), ("linear", nn.Linear)):
        if isinstance(module, classes):
            numbers[kind] += 1
            return f"{kind}{numbers[kind]}"
    return path.removeprefix("backbone.")


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's tensors by name."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)  # so that sums do not depend on the layout
        for name, value in network.state_dict().items()
    }


def parameter_count(network: nn.Module, names: Iterable[str]) -> int:
    """Return how many of a network's trained parameters are among the tensors `names`."""
    wanted = set(names)
    return sum(value.numel() for name, value in network.named_parameters() if name in wanted)


@torch.no_grad()
def mean_change(
    groups: Mapping[str, list[str]], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return for each module the mean absolute change of its entries, D_l = |theta' - theta|_1 / |theta|."""
    names = list(groups)
    sums = [torch.stack([(after[t] - before[t]).abs().sum().double() for t in groups[name]]).sum() for name in names]
    entries = [sum(before[t].numel() for t in groups[name]) for name in names]
    values = torch.stack(sums).tolist() if sums else []
    return {name: value / count for name, value, count in zip(names, values, entries, strict=True)}
