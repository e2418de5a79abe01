"""What a network's origin is asked for, and what it answers: a name for the record and a maker of backbones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cl_suite.core.types import Inputs

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Wanted:
    """What a backbone is made for.

    input_shape: of one sample, (D,), (C, H, W) or {"tokens": (L,), "mask": (L,)}
    n_outputs:   of the heads that will stand on it
    vocabulary:  number of token ids, padding included; None where samples are no tokens
    options:     of the backbone by name, those alone that were set; unchecked
    """

    input_shape: Shape
    n_outputs: int
    vocabulary: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def samples(self, count: int = 2) -> Inputs:
        """Return [count, ...] inputs as such a network reads them: normal numbers, any token ids. Always the same."""
        generator = torch.Generator().manual_seed(0)
        if not isinstance(self.input_shape, Mapping):
            return torch.randn((count, *self.input_shape), generator=generator)
        if self.vocabulary is None:
            return {n: torch.randn((count, *shape), generator=generator) for n, shape in self.input_shape.items()}
        shape = (count, *self.input_shape["tokens"])
        tokens = torch.randint(1, max(2, self.vocabulary), shape, generator=generator)
        return {"tokens": tokens, "mask": torch.ones(shape, dtype=torch.bool)}


@dataclass(frozen=True)
class ChosenNetwork:
    """A network that was asked for by name, ready to be made.

    name:          as it may stand in a record, without a folder of this machine
    make:          a fresh backbone each time; raises UsageError where it cannot be, or does not fit
    digest:        sha256 of the file it is written in; "" where the name says all
    channels_last: whether its convolutions may be stored so; code that uses `view` on their outputs forbids it
    shipped:       whether it is one of this package, which needs no trial
    """

    name: str
    make: Callable[[Wanted], nn.Module]
    digest: str = ""
    channels_last: bool = True
    shipped: bool = False

    @property
    def identity(self) -> str:
        """What stands for it in a configuration: an edited file is another network."""
        return f"{self.name} sha256:{self.digest[:12]}" if self.digest else self.name
