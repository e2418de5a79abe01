"""Frozen features of a text stream: each text goes once through a frozen encoder, and its vector is kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UsageError
from cl_suite.core.files import slug, write_atomic
from cl_suite.core.samples import Samples
from cl_suite.core.types import Inputs
from cl_suite.data.texts import decode_texts
from cl_suite.data.tokenizers import write_files
from cl_suite.features.frozen_networks import ENCODER, FeatureOptions, facts_of
from cl_suite.networks.embeddings import masked_mean
from cl_suite.networks.encoders import Encoder, encoder_files, folder_digest, last_layer, load_encoder

CACHE = Path("features")  # below the data root
BATCH = 64  # texts at a time, of nearly one length
CHUNK = 4096  # stored texts read at a time
TEXT_FEATURES = "text_features"  # the kind of encoder in a saved model
FORMAT = 1  # raise it when the vectors of the same texts change


class TextVectors:
    """Makes texts into vectors with one encoder, or reads them from where they were kept.

    A file of vectors is named by a key: the sha256 of the encoder's revision, the options and the texts themselves.

    option: that named the encoder, for messages

    Raise UsageError or DataError as `load_encoder`.
    """

    def __init__(
        self, options: FeatureOptions, *, root: DataRoot, device: torch.device, option: str = "features.weights"
    ) -> None:
        self._options, self._root, self._device, self._option = options, root, device, option
        self._revision = f"sha256:{folder_digest(options.folder)}" if options.folder else self._encoder.revision
        self._remarks: list[str] = []

    @property
    def facts(self) -> dict[str, Any]:
        """For the record: which encoder, how a text is pooled, whether its vectors were read or made."""
        return {
            "revision": self._revision,
            "pooling": self._options.pooling,
            "max_length": self._options.max_length,
            "cache": ", ".join(dict.fromkeys(self._remarks)),
        }

    def __call__(self, raw: Inputs) -> Tensor:
        """Return the vectors [B, D] float32 of texts as bytes [B, L], where they are; nothing is kept on disk."""
        assert isinstance(raw, Tensor)
        return self._encode_all(decode_texts(raw)).to(raw.device)

    def to(self, device: torch.device) -> TextVectors:
        """Work on `device` from now on; return itself."""
        self._device = device
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return how texts are read, and the files of encoder and tokenizer as bytes."""
        options = {"pooling": self._options.pooling, "max_length": self._options.max_length}
        return {"kind": TEXT_FEATURES, "options": options, "files": encoder_files(self._encoder)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TextVectors:
        """Return what `state_dict` describes, on the CPU."""
        with TemporaryDirectory() as folder:
            place = write_files(state["files"], Path(folder))
            options = FeatureOptions(network=ENCODER, weights=str(place), **state["options"])
            vectors = cls(options, root=DataRoot(place, offline=True), device=torch.device("cpu"))
            assert vectors._encoder  # read while its files are there
        return vectors

    @cached_property
    def _encoder(self) -> Encoder:
        """Read when it is first needed: not for vectors that are kept, if it comes from a folder."""
        return load_encoder(self._options.weights, option=self._option, offline=self._root.offline)

    def of(self, samples: Samples) -> Tensor:
        """Return the vectors of texts stored as bytes, [N, D] float32 on the CPU."""
        texts: list[str] = []
        for raw, _ in samples.chunks(CHUNK):
            assert isinstance(raw, Tensor)
            texts += decode_texts(raw)
        key = self._key(texts)
        file = self._root.path / CACHE / f"{slug(facts_of(self._options)['weights'])}-{key[:16]}.safetensors"
        vectors = self._read(file, key, len(texts))
        if vectors is None:
            vectors = self._encode_all(texts)
            self._keep(file, key, vectors)
        return vectors

    def _key(self, texts: list[str]) -> str:
        digest = hashlib.sha256()
        for text in texts:
            content = text.encode("utf-8")
            digest.update(len(content).to_bytes(8, "little") + content)
        c = self._options
        parts = [FORMAT, self._revision, c.pooling, c.max_length, digest.hexdigest()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _encode_all(self, texts: list[str]) -> Tensor:
        """Encode each different text once, the longest first, so that batches have little padding."""
        different = sorted(set(texts), key=lambda text: (-len(text), text))
        place = {text: number for number, text in enumerate(different)}
        model = self._encoder.model.to(self._device)
        parts = [self._encode(model, different[n : n + BATCH]) for n in range(0, len(different), BATCH)]
        return torch.cat(parts)[[place[text] for text in texts]]

    @torch.no_grad()
    def _encode(self, model: Any, texts: list[str]) -> Tensor:
        longest = min(self._options.max_length, self._encoder.longest)
        read = self._encoder.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {
            "tokens": read["input_ids"].to(self._device),
            "mask": read["attention_mask"].bool().to(self._device),
        }
        vectors = last_layer(model, inputs, int(self._encoder.tokenizer.pad_token_id))
        pooled = vectors[:, 0] if self._options.pooling == "cls" else masked_mean(vectors, inputs["mask"])
        return pooled.float().cpu()

    # -- on disk ----------------------------------------------------------------------------------------------------

    def _read(self, file: Path, key: str, count: int) -> Tensor | None:
        """Return the vectors of a file if they are whole and of this key, else None."""
        if not file.is_file():
            self._remarks.append("made")
            return None
        try:
            with safe_open(str(file), framework="pt") as content:
                facts: Mapping[str, str] = content.metadata() or {}
                vectors: Tensor = content.get_tensor("vectors")
        except (SafetensorError, OSError):
            facts, vectors = {}, torch.zeros(0)
        if facts.get("key") != key or len(vectors) != count or facts.get("sha256") != _sha256(vectors):
            self._remarks.append(f"{file.name} was damaged and is made anew")
            return None
        self._remarks.append("read from the cache")
        return vectors

    def _keep(self, file: Path, key: str, vectors: Tensor) -> None:
        facts = {"key": key, "sha256": _sha256(vectors)}
        try:
            write_atomic(file, save({"vectors": vectors.contiguous()}, metadata=facts))
        except UsageError as problem:  # a data root one may only read
            self._remarks.append(f"not kept ({shorten(str(problem).partition('. ')[0], 120)})")


def _sha256(vectors: Tensor) -> str:
    return hashlib.sha256(vectors.contiguous().numpy().tobytes()).hexdigest()
