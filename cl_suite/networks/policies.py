"""Policies of robots: {"states": [B, H, D], "instruction": [B, E], cameras: [B, H, 3, h, w]} -> features [B, F].

H are the latest moments, oldest first; an action is for the last one. The head on the features is of the objective.
Every entry besides states and instruction is a camera, and there may be none; networks/cameras.py looks at them.
The layers are Linear and Conv2d, so that masks, projections and pruning find them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Inputs
from cl_suite.networks.attention import AttentionBlock, check_dimensions
from cl_suite.networks.cameras import INSTRUCTION, STATES, Cameras, Shape, sizes
from cl_suite.networks.embeddings import VectorTable


class PolicyMLP(nn.Module):
    """Fully connected layers with ReLU on all states, the features of all pictures and the instruction at once.

    hidden:     units of each layer
    dimensions: numbers that stand for a picture; None = 64. Without cameras it has no meaning
    vision:     what looks at pictures: cnn or vit; None = cnn. Without cameras it has no meaning

    Raise UsageError for options that have none, or out of range.
    """

    def __init__(
        self,
        input_shape: Shape,
        *,
        hidden: Sequence[int] = (256, 256, 256),
        dimensions: int | None = None,
        vision: str | None = None,
    ) -> None:
        super().__init__()
        moments, size, instruction_size = sizes(input_shape)
        self.cameras = Cameras(input_shape, vision=vision, features=dimensions)
        if dimensions is not None and not self.cameras.count:
            raise UsageError(
                f"model.dimensions={dimensions} has no effect on bc_mlp: this robot has no camera. "
                "Set model.dimensions=null."
            )
        width = moments * (size + self.cameras.count * self.cameras.size) + instruction_size
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*layers)
        self.feature_dim = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Return [B, F]."""
        assert isinstance(inputs, Mapping)
        parts = [part.flatten(1) for part in (inputs[STATES], *self.cameras(inputs))]
        return self.layers(torch.cat([*parts, inputs[INSTRUCTION]], dim=1))


class RecurrentLayer(nn.Module):
    """A long short-term memory (Hochreiter & Schmidhuber 1997) whose weights are two linear layers.

    `nn.LSTM` would be a layer that no mask, projection or pruning knows. Forget gates start open, with a bias of 1
    (Jozefowicz et al. 2015).
    """

    def __init__(self, size: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.new = nn.Linear(size, 4 * units)  # input, forget, output gate, candidate
        self.past = nn.Linear(units, 4 * units, bias=False)
        with torch.no_grad():
            self.new.bias[units : 2 * units] = 1.0

    def forward(self, moments: Tensor) -> Tensor:
        """[B, H, size] -> what is held after each moment, [B, H, units]."""
        hidden = cell = moments.new_zeros(len(moments), self.units)
        after = []
        for new in self.new(moments).unbind(1):
            gates = new + self.past(hidden)
            let_in, keep, let_out = gates[:, : 3 * self.units].sigmoid().chunk(3, dim=1)
            cell = keep * cell + let_in * gates[:, 3 * self.units :].tanh()
            hidden = let_out * cell.tanh()
            after.append(hidden)
        return torch.stack(after, dim=1)


class PolicyRNN(nn.Module):
    """BC-RNN: each moment embedded, then an LSTM; what it holds after the last moment is the feature.

    As robomimic (Mandlekar et al. 2021, arXiv 2108.03298) and LIBERO (Liu et al. 2023, arXiv 2306.03310) have it, in
    small: states, pictures and the instruction go through linear layers, one for each, and are read side by side.

    hidden:     units of the LSTM, a number for each of its layers
    dimensions: numbers that stand for the state, each picture and the instruction at a moment
    vision:     what looks at pictures: cnn or vit; None = cnn. Without cameras it has no meaning

    Raise UsageError for options that have none, or out of range.
    """

    def __init__(
        self,
        input_shape: Shape,
        *,
        hidden: Sequence[int] = (256,),
        dimensions: int = 64,
        vision: str | None = None,
    ) -> None:
        super().__init__()
        _, size, instruction_size = sizes(input_shape)
        if not hidden:
            raise UsageError("model.hidden=[] leaves bc_rnn without a memory. Give the units of a layer, e.g. [256].")
        self.cameras = Cameras(input_shape, vision=vision, features=dimensions)
        self.states = nn.Linear(size, dimensions)
        self.instruction = nn.Linear(instruction_size, dimensions)
        width = dimensions * (2 + self.cameras.count)
        layers = []
        for units in hidden:
            layers.append(RecurrentLayer(width, units))
            width = units
        self.recurrent = nn.Sequential(*layers)
        self.feature_dim = width

    def forward(self, inputs: Inputs) -> Tensor:
        """Return [B, F]."""
        assert isinstance(inputs, Mapping)
        states = self.states(inputs[STATES])  # [B, H, dimensions]
        instruction = self.instruction(inputs[INSTRUCTION])[:, None].expand_as(states)
        moments = torch.cat([states, *self.cameras(inputs), instruction], dim=2).relu()
        return self.recurrent(moments)[:, -1]


class PolicyTransformer(nn.Module):
    """BC-Transformer: one token of language, then a state token and one of each camera for every moment.

    As LIBERO has it (Liu et al. 2023, arXiv 2306.03310), in small. All tokens see each other: nothing is asked but the
    last moment's action. Each place in the sequence has a learned vector; the last state token is the feature.

    hidden:     units of the feed-forward layers, a number for each block
    dimensions: of a token, a multiple of 32: one attention head for each 32
    vision:     what looks at pictures: cnn or vit; None = cnn. Without cameras it has no meaning

    Raise UsageError for options that have none, or out of range.
    """

    def __init__(
        self,
        input_shape: Shape,
        *,
        hidden: Sequence[int] = (256, 256),
        dimensions: int = 64,
        vision: str | None = None,
    ) -> None:
        super().__init__()
        moments, size, instruction_size = sizes(input_shape)
        check_dimensions(dimensions)
        if not hidden:
            raise UsageError("model.hidden=[] leaves bc_transformer without a block. Give e.g. [256,256].")
        self.cameras = Cameras(input_shape, vision=vision, features=dimensions)
        self.states = nn.Linear(size, dimensions)
        self.instruction = nn.Linear(instruction_size, dimensions)
        self.places = VectorTable(1 + moments * (1 + self.cameras.count), dimensions)
        self.blocks = nn.ModuleList(AttentionBlock(dimensions, units) for units in hidden)
        self.norm = nn.LayerNorm(dimensions)
        self.feature_dim = dimensions

    def forward(self, inputs: Inputs) -> Tensor:
        """Return [B, F]."""
        assert isinstance(inputs, Mapping)
        # A moment's state token comes last, so that the last token of all is the one to read.
        moments = torch.stack([*self.cameras(inputs), self.states(inputs[STATES])], dim=2)  # [B, H, 1 + cameras, D]
        instruction = self.instruction(inputs[INSTRUCTION])[:, None]
        stream = torch.cat([instruction, moments.flatten(1, 2)], dim=1) + self.places.weight
        present = torch.ones(stream.shape[:2], dtype=torch.bool, device=stream.device)
        for block in self.blocks:
            stream = block(stream, present)
        return self.norm(stream[:, -1])


POLICIES: dict[str, Callable[..., nn.Module]] = {
    "bc_mlp": PolicyMLP,
    "bc_rnn": PolicyRNN,
    "bc_transformer": PolicyTransformer,
}
