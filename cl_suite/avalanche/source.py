"""How a benchmark of Avalanche is read as a stream: what a table of them says. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cl_suite.core.scenario import StreamFacts


@dataclass(frozen=True)
class AvalancheSource:
    """One benchmark of Avalanche.

    target:    "module:function" that makes it
    summary:   one line for `cl-bench list`
    what:      its data set's name
    files:     name of its checksums in cl_suite/data/image_files.py, e.g. "MNIST_FILES"; "" = it is not checked
    download:  "module:Class" of torchvision that fetches the files
    mean, std: of the training images, per channel; empty = measured on the first task
    padding, flip: how training images are augmented
    defaults:  of arguments that have none, {name: value}
    filled:    arguments that are no options
    modality:  what its samples are; None = not known before it is made
    """

    target: str
    summary: str
    what: str = ""
    files: str = ""
    download: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    padding: int = 0
    flip: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    licence: str = "see the data set's own"
    modality: Literal["images"] | None = None

    @property
    def facts(self) -> StreamFacts:
        """What the stream that is made of it says of itself."""
        source = f"{self.what or self.target}; cut by Avalanche"
        return StreamFacts(modality=self.modality, source=source, licence=self.licence)
