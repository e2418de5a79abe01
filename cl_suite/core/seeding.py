"""Randomness has a name: every generator is derived from a seed, a purpose and a place in the stream."""

import hashlib
from dataclasses import dataclass

import torch


def seed_for(seed: int, *parts: object) -> int:
    """Return a 63-bit seed for one purpose, e.g. `seed_for(seed, "buffer", experience.index)`.

    Independent of process, platform and Python's hash randomisation.
    """
    text = "/".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator on `device`, seeded with `seed_for(seed, *parts)`."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, *parts))


@dataclass(frozen=True)
class Seeds:
    """The three seeds of a run, separately settable (`seeds.model`, `seeds.data`, `seeds.classes`).

    model:   initial weights, mask scores and everything else drawn before training
    data:    order of the samples, augmentation, buffers, dropout, the validation split
    classes: order of the classes or tasks, where a stream is asked to shuffle them
    """

    model: int
    data: int
    classes: int
