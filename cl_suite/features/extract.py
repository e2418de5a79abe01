"""Frozen features: each image or text goes once through one frozen network, and the stream is of vectors."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UsageError
from cl_suite.core.samples import Samples
from cl_suite.core.seeding import Seeds
from cl_suite.core.stream import StreamData
from cl_suite.core.types import Inputs, map_inputs
from cl_suite.data.conversion import convert
from cl_suite.data.prepare import PrepareVectors
from cl_suite.data.texts import PrepareTexts
from cl_suite.features.frozen_networks import ENCODER, FeatureOptions, FrozenNetwork, facts_of, frozen_network
from cl_suite.features.text_vectors import TextVectors

BATCH = 250  # images at a time; a constant, so that features do not depend on the run


def as_features(
    data: StreamData,
    options: FeatureOptions,
    *,
    root: DataRoot,
    seeds: Seeds,
    device: torch.device,
    validation: float = 0.0,
) -> tuple[StreamData, dict[str, Any]]:
    """Return (the stream with vectors [D] float32 in place of its images or texts, what was used); (data, {}) if off.

    Images are prepared as the stream does, not augmented, after the task's own transform; storage that tasks share is
    gone through once, and of it only what some task uses. The vectors are kept in memory: 4 D bytes a sample. Those of
    texts are kept on disk too, see cl_suite/features/text_vectors.py.

    root:       where downloaded weights are kept
    device:     where the network works; the features come back to where the images are
    validation: share of task 0 a network trained on it must not see, as `train.validation`

    Raise UsageError or DataError as `frozen_network` and `TextVectors`, UsageError for features that are not finite.
    """
    if not options.is_on:
        return data, {}
    _check_kind(data, options)
    started = time.perf_counter()
    # Deterministic algorithms, so that a run which goes on from its checkpoint sees the same features on a GPU too.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        frozen: TextVectors | FrozenNetwork
        if options.network == ENCODER:
            frozen = TextVectors(options, root=root, device=device)
        else:
            frozen = frozen_network(options, data, root=root, seeds=seeds, device=device, validation=validation)
        encoded = convert(data, lambda samples: _features(samples, frozen, device))
    stores = _stores(encoded)
    if not all(bool(store.isfinite().all()) for store in stores):
        raise UsageError(
            f"features.network={options.network} gave numbers that are not finite. Lower features.lr, or use others."
        )
    facts = {
        **facts_of(options),
        **frozen.facts,
        "dimensions": stores[0].shape[1],
        "samples": sum(len(store) for store in stores),
        "bytes": sum(store.nbytes for store in stores),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return dataclasses.replace(encoded, prepare=PrepareVectors(), encoders=(*data.encoders, frozen)), facts


def features_summary(facts: dict[str, Any]) -> str:
    """Return one line on what `as_features` did, for the user."""
    cache = f" ({facts['cache']})" if facts.get("cache") else ""
    return f"{facts['dimensions']} features of {facts['network']}, in {facts['seconds']:.0f} s{cache}."


def public_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what the stream's card may tell of features: nothing of where a task ends."""
    return {"features": {name: facts[name] for name in ("network", "weights", "dimensions")}} if facts else {}


def _stores(data: StreamData) -> list[Tensor]:
    """Return the vectors, each storage once."""
    stores: dict[int, Tensor] = {}

    def note(samples: Samples) -> Samples:
        assert isinstance(samples.inputs, Tensor)
        stores[id(samples.inputs)] = samples.inputs
        return samples

    data.with_samples(note)
    return list(stores.values())


def _check_kind(data: StreamData, options: FeatureOptions) -> None:
    """Raise UsageError for a network that does not read what the stream's samples are."""
    if isinstance(data.prepare, PrepareTexts) != (options.network == ENCODER):
        reads, are = ("texts", "no texts") if options.network == ENCODER else ("images", "texts")
        instead = "a backbone, e.g. conv_small" if are == "no texts" else f"features.network={ENCODER}"
        raise UsageError(
            f"features.network={options.network} reads {reads}, but this stream's samples are {are}. Use {instead}."
        )


def _features(samples: Samples, frozen: FrozenNetwork | TextVectors, device: torch.device) -> Tensor:
    """Return [N, D] float32, where the samples are."""
    if isinstance(frozen, TextVectors):
        return frozen.of(samples)

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    def encode(raw: Inputs) -> Tensor:
        return frozen(map_inputs(move, raw)).cpu()

    return torch.cat([encode(raw) for raw, _ in samples.chunks(BATCH)])
