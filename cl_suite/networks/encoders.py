"""Encoders of Hugging Face's `transformers`, by hub name or from a folder: as a backbone, or frozen beneath one.

`transformers` is an optional package, imported only where an encoder is asked for. No code from a hub or folder is run.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from cl_suite.core.devices import forked_rng
from cl_suite.core.errors import DataError, UsageError
from cl_suite.core.files import sha256_of
from cl_suite.core.types import Inputs
from cl_suite.data.tokenizers import TOKENIZER_FILES, saved_files
from cl_suite.networks.embeddings import masked_mean, tokens_and_mask

INSTALL = "pip install 'cl-suite[text]' (or: uv pip install 'cl-suite[text]')"


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder as it was read, in evaluation mode, and its tokenizer.

    revision: of the hub, or "sha256:..." over a folder's files
    """

    name: str
    model: nn.Module
    tokenizer: Any
    revision: str

    @property
    def dimensions(self) -> int:
        """Size of a token's vector."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @property
    def longest(self) -> int:
        """How many tokens of a text it can read."""
        places = getattr(self.model.config, "max_position_embeddings", None) or self.tokenizer.model_max_length
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                places = places - 1 - module.padding_idx  # type: ignore[operator]  # RoBERTa counts from behind it
        return int(min(places, self.tokenizer.model_max_length))


_read: dict[str, Encoder] = {}  # by name: many networks of one run share what was read


def load_encoder(name: str, *, option: str = "model.encoder", offline: bool = False) -> Encoder:
    """Return the encoder of a hub name or local folder, read once per process and shared: do not train it.

    option: that named it, for messages

    Raise UsageError where `transformers` is absent or the model is no encoder, DataError where files are, or where
    tokenizer and encoder do not fit.
    """
    transformers = _transformers(option)
    folder = _folder(name, option)
    key = folder_digest(folder) if folder else name  # an encoder saved anew is another one
    if key not in _read:
        tokenizer = load_tokenizer(name, option=option, offline=offline)
        with _quiet(transformers), forked_rng():
            torch.manual_seed(0)  # whatever of the model is not in the files is not drawn from the run's generator
            model = _fetched(transformers.AutoModel.from_pretrained, name, option, offline)
        if model.config.is_encoder_decoder:
            raise UsageError(f"{option}={name} also decodes ({type(model).__name__}). Use an encoder, such as BERT.")
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # not used: its weights would have no gradient
        rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise DataError(
                f"{option}={name}: its tokenizer knows {len(tokenizer)} tokens, but the encoder only {rows}. "
                "They do not belong together: save both anew there."
            )
        revision = f"sha256:{key}" if folder else _revision(model)
        _read[key] = Encoder(name, model.eval().float(), tokenizer, revision)
    return _read[key]


def load_tokenizer(name: str, *, option: str = "text.tokenizer", offline: bool = False) -> Any:
    """Return the tokenizer of an encoder, as `transformers` has it.

    Raise UsageError where `transformers` is absent, DataError where there is no tokenizer, or none that pads.
    """
    transformers = _transformers(option)
    folder = _folder(name, option)
    if folder and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise DataError(
            f"{option}={name} holds no tokenizer ({', '.join(TOKENIZER_FILES[:3])}, ...). "
            "Save the encoder's there: tokenizer.save_pretrained(folder)."
        )
    with _quiet(transformers):
        tokenizer = _fetched(transformers.AutoTokenizer.from_pretrained, name, option, offline)
    if tokenizer.pad_token_id is None:
        raise DataError(f"{option}={name}: its tokenizer has no padding token. Use an encoder, such as BERT.")
    return tokenizer


def _revision(model: Any) -> str:
    """Return the hub's commit, or where it is not told a digest of the weights."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return str(commit)
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.float().contiguous().numpy().tobytes())
    return f"sha256 of the weights:{digest.hexdigest()}"


def folder_digest(folder: Path) -> str:
    """Return the sha256 over names and contents of all files in a folder, 64 hex digits.

    Weights are large and every network of a run asks: files are read again only if a size or a time has changed.
    """
    files = sorted(file for file in folder.resolve().rglob("*") if file.is_file() and ".git" not in file.parts)
    return _digest(folder.resolve(), tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache
def _digest(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    lines = [f"{file.relative_to(folder).as_posix()} {sha256_of(file)}" for file, _, _ in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def encoder_files(encoder: Encoder) -> dict[str, Tensor]:
    """Return the files of a folder that `load_encoder` reads this encoder from, {name: [n] uint8}."""

    def save(folder: str) -> None:
        encoder.model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        encoder.tokenizer.save_pretrained(folder)

    return saved_files(save)


class TransformerEncoder(nn.Module):
    """A pretrained encoder to finetune: the mean of its last layer's token vectors is the feature.

    Its dropout is active in training. The tokens must be its own: `text.tokenizer` as `model.encoder`.
    """

    one_at_a_time = True  # see cl_suite/methods/fisher.py

    def __init__(
        self, input_shape: Mapping[str, tuple[int, ...]], *, vocabulary: int, encoder: str | None = None
    ) -> None:
        super().__init__()
        if encoder is None:
            raise UsageError(
                "model.name=transformer_encoder has no encoder. Set model.encoder=<hub name or folder>, and "
                "text.tokenizer to the same."
            )
        read = _matching(encoder, vocabulary)
        self.model = copy.deepcopy(read.model).cpu().requires_grad_(True)  # what is shared may be frozen
        self.padding = int(read.tokenizer.pad_token_id)
        self.feature_dim = read.dimensions

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens and mask [B, L] -> [B, D]."""
        return masked_mean(last_layer(self.model, inputs, self.padding), tokens_and_mask(inputs)[1])


class _Shared:
    """Holds a module that is not copied, saved, trained or counted with the network it is used in."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


class EncoderVectors(nn.Module):
    """Token vectors of a frozen encoder's last layer, in evaluation mode; zero where the mask is false.

    The encoder is no part of the network's parameters or state: it is read anew from its files.
    """

    one_at_a_time = True  # see cl_suite/methods/fisher.py

    def __init__(self, encoder: str, *, vocabulary: int) -> None:
        super().__init__()
        read = _matching(encoder, vocabulary)
        self._held = _Shared(read.model.requires_grad_(False))
        self.padding = int(read.tokenizer.pad_token_id)
        self.dimensions = read.dimensions

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EncoderVectors:
        self._held.model._apply(fn, recurse)  # follow the network to its device
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens and mask [B, L] -> [B, L, D]."""
        vectors = last_layer(self._held.model, inputs, self.padding)
        return vectors * tokens_and_mask(inputs)[1][..., None]


def last_layer(model: nn.Module, inputs: Inputs, padding: int) -> Tensor:
    """Return an encoder's last layer, [B, L, D]; of a text without tokens, what it makes of one padding token."""
    tokens, mask = tokens_and_mask(inputs)
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    attended = mask | (first & ~mask.any(dim=1, keepdim=True))  # attention over nothing would be NaN
    tokens = tokens.masked_fill(~mask, padding)
    return model(input_ids=tokens, attention_mask=attended.long()).last_hidden_state


def check_encoder(name: str, *, tokenizer: str, length: int, offline: bool) -> None:
    """Read an encoder ahead of its networks.

    tokenizer: what made the token ids; length: of the longest text, in tokens

    Raise as `load_encoder`, UsageError too where the ids are not the encoder's own, or more than it can read.
    """
    places = [Path(each).expanduser() for each in (name, tokenizer)]
    same = name == tokenizer or (all(place.is_dir() for place in places) and places[0].samefile(places[1]))
    if not same:
        raise UsageError(
            f"model.encoder={name} reads its own tokens, not those of text.tokenizer={tokenizer}. "
            f"Set text.tokenizer={name}."
        )
    read = load_encoder(name, offline=offline)
    if length > read.longest:
        raise UsageError(
            f"model.encoder={name} reads texts of at most {read.longest} tokens, and the stream has {length}. "
            f"Set text.max_length={read.longest}."
        )


def _matching(name: str, vocabulary: int) -> Encoder:
    """Return the encoder, if token ids below `vocabulary` can be its own."""
    read = load_encoder(name)
    known = len(read.tokenizer)
    if vocabulary != known:
        raise UsageError(
            f"model.encoder={name} knows {known} tokens, but the stream was made into tokens of {vocabulary}. "
            f"Set text.tokenizer={name}."
        )
    return read


def _transformers(option: str) -> Any:
    try:
        import transformers
    except ImportError as problem:
        raise UsageError(f"{option} needs the package transformers, which is not installed: {INSTALL}.") from problem
    return transformers


def _folder(name: str, option: str) -> Path | None:
    """Return the folder that a name is, or None for a hub name. Raise DataError for a path that is no folder."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DataError(
                f"{option}={name} holds no config.json, so it is no encoder. Save one there: save_pretrained."
            )
        return path
    if path.exists() or name.startswith((".", "~", "/")) or name.count("/") > 1 or not name:
        raise DataError(f"{option}={name} is not a folder. Give a folder with an encoder, or a hub name.")
    return None


def _fetched(read: Callable[..., Any], name: str, option: str, offline: bool) -> Any:
    """Read from a folder or Hugging Face's cache, else from the hub."""
    folder = _folder(name, option)
    source = str(folder) if folder else name
    try:
        return read(source, local_files_only=True)
    except Exception as problem:  # transformers, tokenizers, safetensors and the hub have errors of their own
        if folder or not isinstance(problem, OSError):
            raise DataError(f"{option}={name} cannot be read ({_reason(problem)}). Save it anew there.") from problem
        if offline:
            raise DataError(
                f"{option}={name} is not in Hugging Face's cache, and --offline forbids a download. "
                "Run once without it, or give a folder."
            ) from problem
    try:
        return read(source)
    except Exception as problem:
        raise DataError(
            f"{option}={name} is not in Hugging Face's cache, and the download failed ({_reason(problem)}). "
            "Look at the name and the network, or give a folder."
        ) from problem


def _reason(problem: Exception) -> str:
    return shorten(str(problem), 160) or type(problem).__name__


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Within it `transformers` shows no progress and no advice."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
