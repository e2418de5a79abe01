"""What a robot is told to do, as a vector that is part of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from cl_suite.core.data_root import DataRoot, default_data_root
from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.samples import Samples
from cl_suite.data.texts import encode_texts
from cl_suite.features.frozen_networks import ENCODER, FeatureOptions
from cl_suite.features.text_vectors import TextVectors

KINDS = ("onehot", "hashed", ENCODER)
HASHED = 32  # dimensions of a hashed bag of words
OPTION = "stream.encoder"


def embed_instructions(
    sentences: Sequence[str], kind: str, *, encoder: str | None = None, root: DataRoot | None = None
) -> Tensor:
    """Return one vector of length 1 for each instruction, [T, E] float32.

    onehot:  the place of the task in the whole family; says nothing of what tasks have in common
    hashed:  a bag of words, each word +1 or -1 in one of 32 places (Weinberger et al. 2009, 0902.2206)
    encoder: the mean of the token vectors of a frozen sentence encoder, as `features.network=encoder` makes them

    encoder: for that kind alone: a folder with an encoder, or its name on the Hugging Face hub
    root:    where such vectors are kept, and whether a download is forbidden; None = the usual place

    Raise UsageError for another kind, an encoder that is missing or not asked for, or without the extra `text`;
    DataError for one that cannot be read.
    """
    if kind not in KINDS:
        raise UsageError(f"stream.language={kind} is not known. {nearest(kind, KINDS)}")
    if encoder is not None and kind != ENCODER:
        raise UsageError(
            f"{OPTION}={encoder} has no effect with stream.language={kind}. Set stream.language={ENCODER}, "
            f"or {OPTION}=null."
        )
    if kind == "onehot":
        return torch.eye(len(sentences))
    vectors = _encoded(sentences, encoder, root) if kind == ENCODER else _hashed(sentences)
    return torch.nn.functional.normalize(vectors, dim=1)


def _hashed(sentences: Sequence[str]) -> Tensor:
    rows = torch.zeros(len(sentences), HASHED)
    for row, sentence in zip(rows, sentences, strict=True):
        for word in sentence.lower().split():
            digest = hashlib.sha256(word.encode()).digest()
            row[digest[0] % HASHED] += 1.0 if digest[1] % 2 else -1.0
    return rows


def _encoded(sentences: Sequence[str], encoder: str | None, root: DataRoot | None) -> Tensor:
    if not encoder:
        raise UsageError(
            f"stream.language={ENCODER} has no encoder. Set {OPTION}=<folder or hub name>, "
            "e.g. sentence-transformers/all-MiniLM-L6-v2."
        )
    options = FeatureOptions(network=ENCODER, weights=encoder)
    vectors = TextVectors(
        options, root=root or DataRoot(default_data_root()), device=torch.device("cpu"), option=OPTION
    )
    return vectors.of(Samples(encode_texts(sentences), torch.zeros(len(sentences), dtype=torch.long)))
