"""Whether inputs are what a saved model reads, and how they become tensors as its stream stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cl_suite.core.errors import UsageError
from cl_suite.core.types import Inputs
from cl_suite.data.texts import encode_texts


class StoredKind(Protocol):
    """What samples are as they are stored."""

    @property
    def shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """Of one sample; by name where there are several tensors."""
        ...

    @property
    def dtype(self) -> str | dict[str, str]:
        """Likewise, e.g. "uint8"."""
        ...

    @property
    def texts(self) -> bool:
        """Whether samples are texts."""
        ...


def as_stored(inputs: Any, kind: StoredKind) -> Inputs:
    """Return inputs as tensors of the stream's own shape and type, on the CPU or where they are.

    Raise UsageError for inputs that are something else.
    """
    if kind.texts:
        return _texts(inputs)
    if isinstance(kind.shape, dict):
        if not isinstance(inputs, Mapping) or inputs.keys() != kind.shape.keys():
            given = ", ".join(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise UsageError(f"the model reads a dictionary of {', '.join(kind.shape)}, not {given}.")
        assert isinstance(kind.dtype, dict)
        return {name: _tensor(inputs[name], kind.shape[name], kind.dtype[name], name) for name in kind.shape}
    assert isinstance(kind.dtype, str)
    return _tensor(inputs, kind.shape, kind.dtype, "inputs")


def _texts(inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and inputs.dim() == 2:
        return inputs
    if isinstance(inputs, str):
        inputs = [inputs]
    if not (isinstance(inputs, Sequence) and all(isinstance(each, str) for each in inputs)):
        raise UsageError("the model reads texts. Give a list of them.")
    return encode_texts(inputs)


def _tensor(value: Any, shape: tuple[int, ...], dtype: str, what: str) -> Tensor:
    try:
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    except (TypeError, ValueError) as problem:
        raise UsageError(f"{what} are no tensor of numbers ({problem}). Give [B, {_sizes(shape)}].") from problem
    if tuple(tensor.shape[1:]) != shape or tensor.dim() == 0:
        alone = " Give one sample as a batch of one." if tuple(tensor.shape) == shape else ""
        raise UsageError(
            f"{what} have the shape [{_sizes(tuple(tensor.shape))}], and the model reads [B, {_sizes(shape)}].{alone}"
        )
    if dtype == "uint8" and tensor.dtype != torch.uint8:
        raise UsageError(
            f"{what} are {str(tensor.dtype).removeprefix('torch.')}, and the model reads pixel values 0..255 as uint8."
        )
    return tensor.to(getattr(torch, dtype))


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
