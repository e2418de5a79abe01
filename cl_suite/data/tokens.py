"""Texts become token ids once, before the run: the training loop never touches a string."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cl_suite.core.data_root import DataRoot
from cl_suite.core.errors import UsageError
from cl_suite.core.samples import Samples, hold_out
from cl_suite.core.seeding import Seeds, generator_for
from cl_suite.core.stream import StreamData
from cl_suite.core.types import Inputs
from cl_suite.data.conversion import convert
from cl_suite.data.texts import TEXT_BYTES, PrepareTexts, decode_texts, filled
from cl_suite.data.tokenizers import (
    Pieces,
    TextOptions,
    Tokenizer,
    build_tokenizer,
    pinned_tokenizer,
    tokenizer_from,
)

__all__ = ["PrepareTokens", "TextOptions", "as_tokens", "pinned_tokenizer"]

TOKENS = "tokens"  # the kind of encoder in a saved model
BATCH = 4096  # texts at a time
MULTIPLE = 8  # lengths of batches are rounded up to it, so that few different shapes are met


@dataclass(frozen=True)
class PrepareTokens:
    """Token ids {"tokens": [B, L] int64, "mask": [B, L] bool} -> the same, cut to the longest text of the batch.

    The length is rounded up to a multiple of 8, at most L. On a GPU nothing is cut: reading the length would wait for
    the device. A network must not look at what the mask leaves out, so that its answers do not depend on it.
    """

    def __call__(self, raw: Inputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return {"tokens", "mask"}; nothing to augment."""
        assert not isinstance(raw, Tensor)
        mask = raw["mask"]
        if mask.device.type != "cpu" or not len(mask):
            return dict(raw)
        used = mask.any(dim=0).nonzero()
        longest = int(used[-1]) + 1 if len(used) else 1
        length = -(-longest // MULTIPLE) * MULTIPLE
        return {name: value[:, :length] for name, value in raw.items()}


@dataclass(frozen=True)
class TokenEncoder:
    """Texts as bytes [B, L] uint8 -> {"tokens": [B, width] int64, "mask": [B, width] bool}, as `as_tokens` made them.

    width: of the stream's longest text; a longer one is cut there
    """

    tokenizer: Tokenizer
    width: int

    def __call__(self, raw: Inputs) -> dict[str, Tensor]:
        """Return token ids and mask, where the texts are."""
        assert isinstance(raw, Tensor)
        pieces = self.tokenizer(decode_texts(raw), self.width)
        ids = torch.tensor([number for each in pieces for number in each.ids], dtype=torch.int64)
        lengths = torch.tensor([len(each.ids) for each in pieces], dtype=torch.int64)
        return {name: value.to(raw.device) for name, value in _padded(ids, lengths, width=self.width).items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the tokenizer with its vocabulary, and the width."""
        return {"kind": TOKENS, "tokenizer": self.tokenizer.state_dict(), "width": self.width}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TokenEncoder:
        """Return what `state_dict` describes."""
        return cls(tokenizer_from(state["tokenizer"], max_length=state["width"]), state["width"])


@dataclass
class _Counts:
    """What the tokenizer met. Each stored text counts once, however many tasks show it."""

    texts: int = 0
    empty: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0
    longest: int = 0
    filled: int = 0

    def add(self, pieces: list[Pieces]) -> None:
        lengths = [len(each.ids) for each in pieces]
        self.texts += len(pieces)
        self.empty += lengths.count(0)
        self.cut += sum(each.cut for each in pieces)
        self.tokens += sum(lengths)
        self.unknown += sum(each.unknown for each in pieces)
        self.longest = max([self.longest, *lengths])


def as_tokens(
    data: StreamData, options: TextOptions, *, root: DataRoot, seeds: Seeds, validation: float = 0.0
) -> tuple[StreamData, dict[str, Any]]:
    """Return (the stream with token ids in place of its texts, what was used); (data, {}) for one not of texts.

    The inputs become {"tokens": int64 [N, L], "mask": bool [N, L]}, alike in every task: 0 and False are padding. L is
    the length of the longest text, rounded up to a multiple of 8, at most `options.max_length`. A text without tokens
    is one padding token which the mask shows, so that no network divides by the number of none.

    root:       whether a tokenizer may be downloaded
    validation: share of task 0 a vocabulary of words must not be made of, as `train.validation`

    Raise UsageError for options without effect, UsageError or DataError as `build_tokenizer`.
    """
    if not isinstance(data.prepare, PrepareTexts):
        if options != TextOptions():
            raise UsageError(
                "text.* makes tokens of texts, and there are none: this stream has no texts, or features.network made "
                "vectors of them. Leave text.* out, or take a stream of texts, e.g. clinc150."
            )
        return data, {}
    started = time.perf_counter()
    tokenizer = build_tokenizer(
        options, lambda: _first_texts(data, seeds=seeds, validation=validation), offline=root.offline
    )
    counts = _Counts()
    token_rows: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of a stand-in: ids of all texts in a row, and lengths

    def read(samples: Samples) -> Tensor:
        ids, lengths = [], []
        for raw, _ in samples.chunks(BATCH):
            assert isinstance(raw, Tensor)
            pieces = tokenizer(decode_texts(raw), options.max_length)
            counts.filled += filled(raw)
            counts.add(pieces)
            ids.append(torch.tensor([number for each in pieces for number in each.ids], dtype=torch.int64))
            lengths.append(torch.tensor([len(each.ids) for each in pieces], dtype=torch.int64))
        stand_in = torch.cat(lengths)
        token_rows[id(stand_in)] = (torch.cat(ids), stand_in)
        return stand_in

    # First all texts are read, which gives L; only then are the rectangles made.
    read_once = convert(data, read)
    width = min(options.max_length, -(-max(1, counts.longest) // MULTIPLE) * MULTIPLE)
    padded = {key: _padded(*parts, width=width) for key, parts in token_rows.items()}

    def with_tokens(samples: Samples) -> Samples:
        return dataclasses.replace(samples, inputs=padded[id(samples.inputs)])

    folder = options.folder
    facts = {
        "tokenizer": options.tokenizer if folder is None else folder.resolve().name,
        "vocabulary": tokenizer.size,
        "max_length": options.max_length,
        "length": width,
        **tokenizer.facts,
        "texts": counts.texts,
        "empty_texts": counts.empty,
        "share_cut": round(counts.cut / max(1, counts.texts), 6),
        "share_stored_cut": round(counts.filled / max(1, counts.texts), 6),
        "share_unknown": round(counts.unknown / max(1, counts.tokens), 6),
        "mean_tokens": round(counts.tokens / max(1, counts.texts), 3),
        "bytes": sum(value.nbytes for inputs in padded.values() for value in inputs.values()),
        "seconds": round(time.perf_counter() - started, 3),
    }
    stream = read_once.with_samples(with_tokens)
    encoders = (*data.encoders, TokenEncoder(tokenizer, width))
    stream = dataclasses.replace(stream, prepare=PrepareTokens(), vocabulary=tokenizer.size, encoders=encoders)
    return stream, facts


def tokens_summary(facts: dict[str, Any]) -> str:
    """Return one line on what `as_tokens` did, for the user."""
    empty = f", {facts['empty_texts']} of them empty" if facts["empty_texts"] else ""
    stored = f", {facts['share_stored_cut']:.1%} at {TEXT_BYTES:,} bytes" if facts["share_stored_cut"] else ""
    unknown = f", {facts['share_unknown']:.1%} of the tokens unknown" if facts["share_unknown"] else ""
    return (
        f"{facts['texts']:,} texts{empty} in up to {facts['length']} tokens of {facts['tokenizer']} "
        f"(vocabulary {facts['vocabulary']:,}), {facts['share_cut']:.1%} cut{stored}{unknown}, "
        f"in {facts['seconds']:.1f} s."
    )


def _first_texts(data: StreamData, *, seeds: Seeds, validation: float) -> Iterable[str]:
    """Yield the training texts of task 0, without those held out of them."""
    training, _ = hold_out(data.tasks[0].train, validation, generator_for(seeds.data, "validation", 0))
    for raw, _ in training.chunks(BATCH):
        assert isinstance(raw, Tensor)
        yield from decode_texts(raw)


def _padded(ids: Tensor, lengths: Tensor, *, width: int) -> dict[str, Tensor]:
    """Lay out the ids of all texts, in a row, as [N, width] with zeros behind each text."""
    within = torch.arange(width)[None, :] < lengths[:, None]
    tokens = torch.zeros(within.shape, dtype=torch.int64)
    tokens[within] = ids  # row by row, as they come
    within[:, 0] = True  # also of a text without tokens
    return {"tokens": tokens, "mask": within}
