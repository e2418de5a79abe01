"""Weights that networks start from: tensors by name out of a file, none of whose code is run, laid into a backbone."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cl_suite.core.errors import DataError
from cl_suite.core.files import sha256_of
from cl_suite.networks.as_backbone import OwnNetwork

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
HEADS = ("heads", "head", "fc", "classifier")  # what networks call their last layer
COUNTER = "num_batches_tracked"  # of batch norm; absent from old files, and without effect


def read_tensors(file: Path, *, option: str) -> dict[str, Tensor]:
    """Read tensors by name from a file that may come from anywhere: no code in it is run.

    A checkpoint of training may hold them under one of its entries, such as `state_dict`; option: for messages.
    Raise DataError, in one line, for a file that holds something else or is damaged.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # safetensors, zip and pickle each have errors of their own
        unsafe = isinstance(problem, pickle.UnpicklingError)
        reason = "it holds more than tensors, or is damaged" if unsafe else shorten(str(problem), 150) or "empty"
        raise DataError(f"{option}: {file} cannot be read ({reason}). Save a plain state_dict.") from problem
    entries = [state] if _is_state(state) else [each for each in _values(state) if _is_state(each)]
    if len(entries) != 1:
        what = "no state_dict" if not entries else f"{len(entries)} of them"
        raise DataError(f"{option}: {file} holds {what}. Save one with torch.save(net.state_dict(), ...).")
    return dict(entries[0])


def _values(state: Any) -> list[Any]:
    return list(state.values()) if isinstance(state, Mapping) else []


def _is_state(state: Any) -> bool:
    """Whether it is tensors by name."""
    return (
        isinstance(state, Mapping)
        and bool(state)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
    )


@dataclass(frozen=True)
class Filled:
    """What of a file became part of a backbone: how many tensors, and the names of those that were left out."""

    tensors: int
    left_out: tuple[str, ...]


class Weights(Protocol):
    """Tensors that networks start from, wherever they are kept."""

    @property
    def name(self) -> str:
        """Of the file they came from, without its folder."""
        ...

    @property
    def digest(self) -> str:
        """The sha256 of that file."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return them by name."""
        ...


@dataclass(frozen=True)
class KeptWeights:
    """Weights that were read once and are kept with what started from them."""

    name: str
    digest: str
    kept: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return them by name."""
        return dict(self.kept)


@dataclass(frozen=True)
class StartingWeights:
    """A file of weights as it was when a run was planned. digest: its sha256."""

    file: Path
    digest: str

    @classmethod
    def of(cls, place: str) -> StartingWeights:
        """Return those of a file. Raise DataError if there is none, or it is of another kind."""
        file = Path(place).expanduser()
        if not file.is_file():
            raise DataError(f"model.weights={place} is not a file. Give the path of a state_dict.")
        if file.suffix not in SUFFIXES:
            raise DataError(f"model.weights={place} is of no known kind. Give a file ending in {', '.join(SUFFIXES)}.")
        return cls(file, file_digest(file))

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return self.file.name

    @property
    def identity(self) -> str:
        """What stands for them in a configuration: an edited file is another one, a moved file is not."""
        return f"{self.name} sha256:{self.digest[:12]}"

    def tensors(self) -> dict[str, Tensor]:
        """Read them. Raise DataError if the file is not what it was, or holds no tensors by name."""
        if not self.file.is_file() or file_digest(self.file) != self.digest:
            raise DataError(f"model.weights: {self.file} has changed since the run was planned. Ask for the run anew.")
        return read_tensors(self.file, option="model.weights")


def file_digest(file: Path) -> str:
    """Return the sha256 of a file, 64 hex digits; read again only if its size or time has changed."""
    status = file.stat()
    return _digest(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(file: Path, size: int, time: int) -> str:
    return sha256_of(file)


def fill(backbone: nn.Module, tensors: Mapping[str, Tensor], *, file: str, name: str) -> Filled:
    """Lay tensors into a backbone: all of its own must be there, in its shapes.

    Names in the file may all begin with something more (`module.`, `backbone.`): the part before which every tensor of
    the backbone is found. What does not begin so is of something else, and left out, as is the classifier.

    Raise DataError, naming what lacks, is there besides or has another shape.
    """
    own = _own_names(backbone)
    if not own:
        raise DataError(f"model.weights: model.name={name} has no weights before its head. Leave model.weights out.")
    prefix = _prefix(own, tensors, file=file, name=name)
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    lacks = [key for key in own if key not in inside and not key.endswith(COUNTER)]
    other = [key for key in own if key in inside and inside[key].shape != own[key].shape]
    besides = [key for key in inside if key not in own and not _is_head(backbone, key)]
    shapes = [f"{prefix}{key} {[*inside[key].shape]} for {[*own[key].shape]}" for key in other]
    if unfit := misfit({"lacks": lacks, "has in another shape": shapes, "has besides": besides}):
        raise DataError(
            f"model.weights: {file} does not fit model.name={name}: it {unfit}. "
            "Give weights of that network, made with the same model options for samples of this shape."
        )
    with torch.no_grad():
        for key, value in own.items():
            if key in inside:
                value.copy_(inside[key])
    return Filled(len(own), tuple(key for key in tensors if key.removeprefix(prefix) not in own))


def misfit(tensors: Mapping[str, Sequence[str]]) -> str:
    """Return the first of {what: names of tensors} that has any, in words, "lacks fc.weight and 3 more"; "" = none."""
    for what, keys in tensors.items():
        if keys:
            return f"{what} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
    return ""


def _own_names(backbone: nn.Module) -> dict[str, Tensor]:
    """Return a backbone's tensors by the names its module has by itself."""
    return dict((backbone.net if isinstance(backbone, OwnNetwork) else backbone).state_dict())


def _prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, file: str, name: str) -> str:
    """Return what stands before the names of a backbone's tensors in a file."""
    names = [key for key in own if not key.endswith(COUNTER)]
    found: dict[str, int] = {"": 0}
    for key in names:
        for candidate in (each.removesuffix(key) for each in tensors if each.endswith(key)):
            if candidate == "" or candidate[-1] in "./":
                found[candidate] = found.get(candidate, 0) + 1
    most = max(found.values())
    whole = [prefix for prefix, count in found.items() if count == most]
    best = [each for each in whole if _shapes_fit(own, tensors, each)] or whole
    if "" not in best and len(best) > 1 and most == len(names):
        raise DataError(
            f"model.weights: {file} holds weights for model.name={name} {len(best)} times ({best[0]}, {best[1]}, ...). "
            "Save those of one network."
        )
    return min(best, key=len)


def _shapes_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str) -> bool:
    return all(tensors[prefix + key].shape == value.shape for key, value in own.items() if prefix + key in tensors)


def _is_head(backbone: nn.Module, key: str) -> bool:
    left_out = getattr(backbone, "left_out", ())
    return key.partition(".")[0] in HEADS or any(key.startswith(f"{name}.") for name in left_out)
