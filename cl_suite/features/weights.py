"""Weights for frozen features: from a file, without running what is in it, or fetched for torchvision's networks."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import DataError
from cl_suite.core.files import sha256_of
from cl_suite.networks.weights import misfit, read_tensors

OPTION = "features.weights"
CACHE = Path("torch/hub/checkpoints")  # below the data root, as torch.hub lays it out


def fill(backbone: nn.Module, file: Path, name: str) -> None:
    """Load a state_dict: of the backbone, or of a whole network of ours, whose heads are then left out."""
    state = read_tensors(file, option=OPTION)
    inner = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    state = inner or state
    wanted = backbone.state_dict()
    lacks, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    if unfit := misfit({"lacks": lacks, "has besides": extra, "has in another shape": other}):
        raise DataError(
            f"features.weights: {file.name} is not a state_dict of {name}: it {unfit}. "
            "Save that backbone's own state_dict, or name its network with features.network."
        )
    backbone.load_state_dict(state)


def published_network(name: str, root: DataRoot) -> tuple[nn.Module, dict[str, Any]]:
    """Return torchvision's network up to its average pooling, with ImageNet weights, and the sha256 of their file."""
    from torchvision import models

    file = _fetched(published_address(name), root)
    digest = sha256_of(file)
    expected = file.stem.rpartition("-")[2]  # torchvision's files end in the first digits of their sha256
    if not digest.startswith(expected):
        raise DataError(
            f"features.weights: {file} is truncated or altered (sha256 {digest[:8]}, expected {expected}). "
            "Delete it and run again to fetch it anew."
        )
    network = models.get_model(name, weights=None)
    network.load_state_dict(read_tensors(file, option=OPTION))
    network.fc = nn.Identity()
    return network.to(memory_format=torch.channels_last), {"sha256": digest, "normalisation": "mean 0.5, std 0.5"}


def without_head(name: str) -> nn.Module:
    """Return torchvision's network up to its average pooling, as `published_network` has it, without its weights."""
    from torchvision import models

    network = models.get_model(name, weights=None)
    network.fc = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def published_address(name: str) -> str:
    """Return where torchvision's first ImageNet weights of a network are."""
    from torchvision import models

    return str(models.get_model_weights(name)["IMAGENET1K_V1"].url)


def _fetched(address: str, root: DataRoot) -> Path:
    """Return the file of weights below the data root, downloaded if it is not there."""
    file = root.path / CACHE / address.rpartition("/")[2]
    if file.is_file():
        return file
    place = f"features.weights: {file.name} is not in {file.parent}"
    instead = f"Put it there from {address}, or use features.weights=first_task."
    if root.offline:
        raise DataError(f"{place}, and --offline forbids a download. {instead}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(file), hash_prefix=file.stem.rpartition("-")[2], progress=False)
    except (OSError, RuntimeError) as problem:
        raise DataError(f"{place}, and the download failed ({shorten(str(problem), 200)}). {instead}") from problem
    return file
