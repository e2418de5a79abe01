"""The networks behind `features.*`: trained on task 0, random, from torchvision, or from a file; then frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.data_root import DataRoot
from cl_suite.core.devices import forked_rng
from cl_suite.core.errors import DataError, UsageError, nearest
from cl_suite.core.files import sha256_of
from cl_suite.core.samples import Samples, hold_out
from cl_suite.core.seeding import Seeds, generator_for, seed_for
from cl_suite.core.stream import StreamData
from cl_suite.core.types import Inputs
from cl_suite.data.descriptions import described, made_again
from cl_suite.data.prepare import PrepareImages
from cl_suite.features.weights import fill, published_network, without_head
from cl_suite.networks.encoders import folder_digest
from cl_suite.networks.images import BACKBONES
from cl_suite.networks.network import Network, build_network

OFF = "none"
IMAGE_FEATURES = "image_features"  # the kind of encoder in a saved model
ENCODER = "encoder"  # of texts: cl_suite/features/text_vectors.py
FIRST_TASK, RANDOM, TORCHVISION = "first_task", "random", "torchvision:"
PUBLISHED = ("resnet18", "resnet34", "resnet50")  # of torchvision, with its first ImageNet weights
SUFFIXES = (".pt", ".pth", ".safetensors")
BATCH = 64  # samples, in training on the first task
HALF = (0.5, 0.5, 0.5)  # mean and deviation that IBCL's program gives torchvision's network


@dataclass
class FeatureOptions:
    """Frozen features in place of images or texts: `features.<field>=...`. Filled in by Hydra."""

    # none: samples stay as they are; a backbone (see model.name), or with torchvision:<name> that name; encoder: texts
    # go through the encoder that `weights` names
    network: str = OFF
    # first_task: trained on task 0 alone; random: as initialised (both from seeds.model);
    # torchvision:resnet18: on ImageNet; or a file of the backbone's state_dict, .pt, .pth or .safetensors;
    # of an encoder: its name on the Hugging Face hub, or its folder
    weights: str = FIRST_TASK
    epochs: int = 10  # passes over the training data of task 0; first_task alone
    lr: float = 0.001  # step size of Adam; first_task alone
    pooling: str = "mean"  # of an encoder's token vectors: mean, cls (the first token's); encoder alone
    max_length: int = 256  # tokens read of a text at most, special ones included; encoder alone

    @property
    def is_on(self) -> bool:
        """Whether images are replaced."""
        return self.network != OFF

    @property
    def file(self) -> Path | None:
        """The file of weights, if they come from one."""
        named = self.weights in (FIRST_TASK, RANDOM) or self.weights.startswith(TORCHVISION)
        return None if named or self.network == ENCODER else Path(self.weights).expanduser()

    @property
    def folder(self) -> Path | None:
        """The local folder of an encoder, if it comes from one."""
        place = Path(self.weights).expanduser()
        return place if self.network == ENCODER and place.is_dir() else None

    def check(self) -> None:
        """Raise UsageError for options that name nothing that is, or that would have no effect."""
        if not self.is_on:
            if self != FeatureOptions():
                raise UsageError("features.* has no effect without a network. Set features.network, e.g. conv_small.")
            return
        if self.network == ENCODER:
            self._check_encoder()
            return
        if (self.pooling, self.max_length) != (FeatureOptions.pooling, FeatureOptions.max_length):
            raise UsageError(
                f"features.pooling and features.max_length have no effect on features.network={self.network}. "
                f"They are of features.network={ENCODER}."
            )
        published = self.weights.removeprefix(TORCHVISION)
        if published != self.weights and published not in PUBLISHED:
            raise UsageError(f"features.weights={self.weights} is not offered. {nearest(published, PUBLISHED)}")
        if published in PUBLISHED and self.network != published:
            raise UsageError(
                f"features.weights={self.weights} is another network than features.network={self.network}. "
                f"Set features.network={published}."
            )
        if self.network not in BACKBONES and published not in PUBLISHED:
            known = [*BACKBONES, ENCODER]
            raise UsageError(f"features.network={self.network} is not a backbone. {nearest(self.network, known)}")
        if self.file is not None and self.file.suffix not in SUFFIXES:
            raise UsageError(
                f"features.weights={self.weights} is not known. Use {FIRST_TASK}, {RANDOM}, {TORCHVISION}resnet18, "
                f"or a file ending in {', '.join(SUFFIXES)}."
            )
        if self.file is not None and not self.file.is_file():
            raise DataError(f"features.weights={self.weights} is not a file. Give the path of a state_dict.")
        if self.epochs < 1:
            raise UsageError(
                f"features.epochs={self.epochs} is too small. Use 1 or more, or features.weights={RANDOM}."
            )
        if not 0 < self.lr < math.inf:
            raise UsageError(f"features.lr={self.lr} is not a step size. Use a positive number, e.g. 0.001.")

    def _check_encoder(self) -> None:
        if self.weights in (FIRST_TASK, RANDOM) or self.weights.startswith(TORCHVISION) or not self.weights:
            raise UsageError(
                f"features.network={ENCODER} has no encoder. Set features.weights=<hub name or folder>, "
                "e.g. sentence-transformers/all-MiniLM-L6-v2."
            )
        if self.pooling not in ("mean", "cls"):
            raise UsageError(f"features.pooling={self.pooling} is not known. Use mean or cls.")
        if self.max_length < 2:
            raise UsageError(f"features.max_length={self.max_length} is too small. Use 2 or more tokens, e.g. 256.")


def pinned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which files of weights stand by name and digest, not by their place on this machine.

    So an edited file is another configuration, and a moved one is not. The same for folders of encoders.
    """
    result = dict(config)
    options = config.get("features")
    if isinstance(options, Mapping) and options["network"] != OFF:
        features = FeatureOptions(**options)
        if features.file is not None:
            result["features"] = {**options, "weights": f"{features.file.name} sha256:{sha256_of(features.file)[:12]}"}
        elif features.folder is not None:
            result["features"] = {**options, "weights": pinned_folder(features.folder)}
    for group in ("model", "stream"):  # of token vectors, of a robot's instructions
        settings = config.get(group)
        if (
            isinstance(settings, Mapping)
            and settings.get("encoder")
            and Path(settings["encoder"]).expanduser().is_dir()
        ):
            result[group] = {**settings, "encoder": pinned_folder(Path(settings["encoder"]).expanduser())}
    return result


def pinned_folder(folder: Path) -> str:
    """Return a folder's name and the digest of its files."""
    return f"{folder.resolve().name} sha256:{folder_digest(folder)[:12]}"


@dataclass(frozen=True)
class FrozenNetwork:
    """What turns stored images into features.

    network: [B, C, H, W] prepared -> [B, D], in evaluation mode, without gradients
    prepare: images as stored -> what the network reads
    facts:   for the record: where the weights come from
    recipe:  what `empty_network` makes the network of, without its weights
    """

    network: nn.Module
    prepare: Callable[[Inputs], Inputs]
    facts: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @torch.no_grad()
    def __call__(self, raw: Inputs) -> Tensor:
        """[B, C, H, W] as stored, on the network's device -> features [B, D] float32; nothing is augmented."""
        return self.network(self.prepare(raw)).float()

    def to(self, device: torch.device) -> FrozenNetwork:
        """Return the same with its network, which is moved, on `device`."""
        return replace(self, network=self.network.to(device))

    def state_dict(self) -> dict[str, Any]:
        """Return the network's recipe and weights, and how images are prepared for it."""
        return {
            "kind": IMAGE_FEATURES,
            "recipe": dict(self.recipe),
            "weights": self.network.state_dict(),
            "prepare": described(self.prepare, "the preparation of images for features.network"),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FrozenNetwork:
        """Return what `state_dict` describes, on the CPU."""
        network = empty_network(**state["recipe"])
        network.load_state_dict(state["weights"])
        frozen = network.eval().requires_grad_(False)
        return cls(frozen, made_again(state["prepare"]), {}, state["recipe"])


def empty_network(network: str, shape: Sequence[int], published: bool) -> nn.Module:
    """Return a network for features before its weights are loaded: ours up to the heads, or torchvision's."""
    if published:
        return without_head(network)
    return build_network(network, tuple(shape), 1).backbone


def frozen_network(
    options: FeatureOptions, data: StreamData, *, root: DataRoot, seeds: Seeds, device: torch.device, validation: float
) -> FrozenNetwork:
    """Return the network that `options` ask for, on `device`; nothing is drawn from the global generators.

    validation: share of the first task's training data that it must not be trained on, as `train.validation`

    Raise UsageError where the stream's samples are not what it reads, DataError where weights are absent or do not fit.
    """
    shape = data.input_shape
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise UsageError(
            f"features.network={options.network} reads images [C, H, W], but this stream's samples are of shape "
            f"{shape}. Set features.network={OFF}, or take a stream of images."
        )
    with forked_rng(device):
        torch.manual_seed(seed_for(seeds.model, "features"))
        published = options.weights.startswith(TORCHVISION)
        recipe = {"network": options.network, "shape": list(shape), "published": published}
        if published:
            network, facts = published_network(options.network, root)
            prepare = _pixels(options, data)
        else:
            network, facts = _ours(options, data, shape, seeds, device, validation)
            prepare = data.prepare
    return FrozenNetwork(network.to(device).eval().requires_grad_(False), prepare, facts, recipe)


def _ours(
    options: FeatureOptions,
    data: StreamData,
    shape: tuple[int, ...],
    seeds: Seeds,
    device: torch.device,
    validation: float,
) -> tuple[nn.Module, dict[str, Any]]:
    targets = data.tasks[0].train.targets
    n_outputs = len(data.tasks[0].classes) if targets.dim() == 1 else targets.shape[1]
    network = build_network(options.network, shape, n_outputs)
    if any(getattr(module, "track_running_stats", True) is False for module in network.modules()):
        raise UsageError(
            f"features.network={options.network} normalises each batch by itself, so that a sample has no features of "
            "its own. Use resnet18_reduced or conv_small."
        )
    network.heads.open()
    facts: dict[str, Any] = {}
    if options.weights == FIRST_TASK:
        training, _ = hold_out(data.tasks[0].train, validation, generator_for(seeds.data, "validation", 0))
        accuracy = _train(network.to(device), training, data, options, seeds)
        facts["trained_on"] = {
            "task": data.tasks[0].name,
            "samples": len(training),
            "epochs": options.epochs,
            "lr": options.lr,
            "training_accuracy": accuracy,
        }
    elif options.file is not None:
        fill(network.backbone, options.file, options.network)
        facts["sha256"] = sha256_of(options.file)
    return network.backbone, facts


def _train(network: Network, samples: Samples, data: StreamData, options: FeatureOptions, seeds: Seeds) -> float:
    """Train by Adam on the samples as they are, not augmented; return the accuracy on them, in evaluation mode."""
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), lr=options.lr)
    pieces = -(-len(samples) // BATCH)

    def batch(positions: Tensor) -> tuple[Inputs, Tensor]:
        raw, targets = samples.take(positions)
        assert isinstance(raw, Tensor)  # images, as `frozen_network` has seen
        return data.prepare(raw.to(device)), targets.to(device)

    network.train()
    for epoch in range(options.epochs):
        generator = generator_for(seeds.model, "features", "order", epoch)
        # Pieces of nearly one size: batch norm cannot learn from a last batch of one sample.
        for positions in torch.randperm(len(samples), generator=generator).tensor_split(pieces):
            inputs, targets = batch(positions)
            loss = data.objective.loss(network(inputs), targets).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    network.eval()
    correct = torch.zeros((), device=device)
    with torch.no_grad():
        for positions in torch.arange(len(samples)).tensor_split(pieces):
            inputs, targets = batch(positions)
            outputs = network(inputs)
            visible = torch.ones(outputs.shape[1], dtype=torch.bool, device=device)
            correct += data.objective.correct(outputs, targets, visible).sum()
    return correct.item() / len(samples)


def _pixels(options: FeatureOptions, data: StreamData) -> Callable[[Inputs], Inputs]:
    """Return what makes three channels of pixel values and normalises them as IBCL does, without resizing."""
    if not isinstance(data.prepare, PrepareImages):
        raise UsageError(
            f"features.weights={options.weights} reads pixel values, but this stream normalises its images itself. "
            f"Use features.weights={FIRST_TASK}."
        )
    return Coloured(PrepareImages(mean=HALF, std=HALF))


@dataclass(frozen=True)
class Coloured:
    """Images [B, 1 or 3, H, W] uint8 -> three channels, prepared."""

    prepare: PrepareImages

    def __call__(self, raw: Inputs) -> Tensor:
        """Return [B, 3, H, W] float32."""
        assert isinstance(raw, Tensor)
        return self.prepare(raw.expand(-1, 3, -1, -1))


def facts_of(options: FeatureOptions) -> dict[str, Any]:
    """Return the options as they may stand in a record: a file by its name alone."""
    place = options.file or (options.folder.resolve() if options.folder else None)
    return {"network": options.network, "weights": options.weights if place is None else place.name}
