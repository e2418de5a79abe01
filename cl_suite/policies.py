"""Policies of robots: {"states": [B, H, D], "instruction": [B, E], cameras: [B, H, 3, h, w]} -> features [B, F].

H are the latest moments, oldest first; an action is for the last one. The head on the features is of the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cl_suite.types import Inputs

Shape = Mapping[str, tuple[int, ...]]


class PolicyMLP(nn.Module):
    """Fully connected layers with ReLU on all states and the instruction, one after another. No cameras."""

    def __init__(self, input_shape: Shape, *, hidden: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        moments, size = input_shape["states"]
        width = moments * size + input_shape["instruction"][0]
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*layers)
        self.feature_dim = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Return [B, F]."""
        assert isinstance(inputs, Mapping)
        return self.layers(torch.cat([inputs["states"].flatten(1), inputs["instruction"]], dim=1))


POLICIES: dict[str, Callable[..., nn.Module]] = {"bc_mlp": PolicyMLP}
