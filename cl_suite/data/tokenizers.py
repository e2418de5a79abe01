"""From a text to token ids: hashed words, words of the first task, characters, or a tokenizer of Hugging Face's."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from cl_suite.core.errors import DataError, UsageError

HASHED, WORDS, CHARACTERS = "hashed", "words", "characters"
PRETRAINED = "pretrained"  # the kind of all others in a saved model
OWN = (HASHED, WORDS, CHARACTERS)
UNKNOWN = 1  # the id of words that are not in a vocabulary of words
# What a folder with a tokenizer has at least one of, as `save_pretrained` and the published ones name them.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx")  # what no tokenizer reads
PIECE = re.compile(r"\w+|[^\w\s]")  # a run of letters, digits and underscores, or one sign


@dataclass
class TextOptions:
    """How texts become token ids: `text.<field>=...`. Only for streams of texts."""

    # hashed: words and signs, lower-cased, each hashed to an id, nothing is fitted; words: those of the training texts
    # of task 0, others are one id; characters: the bytes of UTF-8; or a name on the Hugging Face hub, or its folder
    tokenizer: str = HASHED
    vocabulary: int = 16384  # token ids, padding included; hashed: exactly, words: at most, others have their own
    max_length: int = 64  # tokens of a text that are kept, special ones included

    @property
    def folder(self) -> Path | None:
        """The local folder of a tokenizer, if it comes from one."""
        place = Path(self.tokenizer).expanduser()
        return place if self.tokenizer not in OWN and place.is_dir() else None

    def check(self) -> None:
        """Raise UsageError or DataError for options that name nothing that is, or that no text could be read with."""
        if self.vocabulary < 3:
            raise UsageError(f"text.vocabulary={self.vocabulary} is too small. Use 3 or more, e.g. 16384.")
        if self.max_length < 1:
            raise UsageError(f"text.max_length={self.max_length} is too small. Use 1 or more tokens, e.g. 64.")
        if self.tokenizer in OWN:
            return
        close = difflib.get_close_matches(self.tokenizer, OWN, n=1, cutoff=0.75)
        if close or not self.tokenizer.strip():
            raise UsageError(
                f"text.tokenizer={self.tokenizer} is not known. Use {', '.join(OWN)}, or a name on the "
                "Hugging Face hub."
            )
        if self.vocabulary != TextOptions.vocabulary:
            raise UsageError(
                f"text.vocabulary has no effect on text.tokenizer={self.tokenizer}, which has its own. Leave it out."
            )
        if self.folder is not None:
            _check_folder(self.folder)
        elif self.tokenizer.startswith((".", "/", "~")):
            raise DataError(f"text.tokenizer={self.tokenizer} is not a folder. Give one that holds a tokenizer.")


class Pieces(NamedTuple):
    """A text in token ids: what is kept of it, whether that is less than all, and how many of the ids say `unknown`."""

    ids: Sequence[int]
    cut: bool
    unknown: int


class Tokenizer(Protocol):
    """Turns texts into token ids 1..size-1; 0 is padding.

    size:  number of ids, padding included
    facts: for the record: what it is, beyond the options
    """

    size: int
    facts: Mapping[str, Any]

    def __call__(self, texts: Sequence[str], max_length: int) -> list[Pieces]:
        """Return each text in at most `max_length` ids."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what `tokenizer_from` makes it of again."""
        ...


class Hashed:
    """Words and signs, lower-cased, each in one of `size` - 1 ids by a hash: nothing is fitted, so nothing leaks.

    The ids are the same in every process and on every machine. Words may share an id.
    """

    facts: Mapping[str, Any] = {}

    def __init__(self, size: int) -> None:
        self.size = size
        self._ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str], max_length: int) -> list[Pieces]:
        """Return each text in at most `max_length` ids; none is unknown."""
        return [_pieces([self._id(word) for word in words_of(text)], max_length) for text in texts]

    def state_dict(self) -> dict[str, Any]:
        """Return how many ids there are."""
        return {"kind": HASHED, "size": self.size}

    def _id(self, word: str) -> int:
        number = self._ids.get(word)
        if number is None:
            digest = hashlib.blake2b(word.encode("utf-8", errors="replace"), digest_size=8).digest()
            number = self._ids[word] = 1 + int.from_bytes(digest, "little") % (self.size - 1)
        return number


class Words:
    """Words and signs, lower-cased: the `size` - 2 most frequent of some texts, ties by the alphabet; id 1: others."""

    def __init__(self, texts: Iterable[str], size: int) -> None:
        counts = Counter(word for text in texts for word in words_of(text))
        known = sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]
        self._ids = {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}
        self.size = len(known) + UNKNOWN + 1
        self.facts: Mapping[str, Any] = {"words": len(known), "words_left_out": len(counts) - len(known)}

    def __call__(self, texts: Sequence[str], max_length: int) -> list[Pieces]:
        """Return each text in at most `max_length` ids."""
        return [
            _pieces([self._ids.get(word, UNKNOWN) for word in words_of(text)], max_length, UNKNOWN) for text in texts
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the words, in the order of their ids."""
        return {"kind": WORDS, "words": list(self._ids)}

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """Return the tokenizer that knows these words, in the order of their ids."""
        tokenizer = cls((), UNKNOWN + 1)
        tokenizer._ids = {word: number for number, word in enumerate(words, start=UNKNOWN + 1)}
        tokenizer.size = len(words) + UNKNOWN + 1
        return tokenizer


class Characters:
    """The bytes of UTF-8: a letter of English is one, others two or more. Nothing is fitted; case is kept."""

    size = 256
    facts: Mapping[str, Any] = {}

    def __call__(self, texts: Sequence[str], max_length: int) -> list[Pieces]:
        """Return each text in at most `max_length` ids. A stored text has no byte 0, so a byte is its own id."""
        return [_pieces(list(text.encode("utf-8")), max_length) for text in texts]

    def state_dict(self) -> dict[str, Any]:
        """Return its kind: there is nothing else to it."""
        return {"kind": CHARACTERS}


class Pretrained:
    """A tokenizer of Hugging Face's, with its own special tokens; its padding is written as 0 all the same."""

    def __init__(self, name: str, *, max_length: int, offline: bool) -> None:
        self._tokenizer = _load(name, offline=offline)
        special = self._tokenizer.num_special_tokens_to_add()
        if max_length <= special:
            raise UsageError(
                f"text.max_length={max_length} leaves nothing of a text beside {special} special tokens of "
                f"text.tokenizer={name}. Use {special + 1} or more."
            )
        self.size = len(self._tokenizer)
        self.facts: Mapping[str, Any] = {"class": type(self._tokenizer).__name__}

    def __call__(self, texts: Sequence[str], max_length: int) -> list[Pieces]:
        """Return each text in at most `max_length` ids, special tokens included."""
        rows = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        cut = [number for number, ids in enumerate(rows) if len(ids) > max_length]
        if cut:  # by the tokenizer itself, which puts the special tokens at the end again
            again = self._tokenizer([texts[number] for number in cut], truncation=True, max_length=max_length)
            for number, ids in zip(cut, again["input_ids"], strict=True):
                rows[number] = ids
        unknown = self._tokenizer.unk_token_id
        is_cut = set(cut)
        return [
            Pieces(ids, number in is_cut, 0 if unknown is None else ids.count(unknown))
            for number, ids in enumerate(rows)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return its files, each as bytes [n] uint8."""
        return {"kind": PRETRAINED, "files": saved_files(self._tokenizer.save_pretrained)}


def saved_files(save: Callable[[str], Any]) -> dict[str, Tensor]:
    """Return the files that `save` writes into a folder, {relative name: [n] uint8}."""
    with TemporaryDirectory() as folder:
        save(folder)
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        return {
            name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for name, path in zip(names, paths, strict=True)
        }


def write_files(files: Mapping[str, Tensor], folder: Path) -> Path:
    """Write what `saved_files` returned below `folder`, which it returns. Raise DataError for a name that leads out."""
    for name, content in files.items():
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise DataError(f"a file called {name!r} would lie outside its folder. Do not use this model.")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.numpy().tobytes())
    return folder


def tokenizer_from(state: Mapping[str, Any], *, max_length: int) -> Tokenizer:
    """Return the tokenizer whose `state_dict` this is. Raise UsageError where what it is read through is absent."""

    def pretrained() -> Tokenizer:
        with TemporaryDirectory() as folder:
            return Pretrained(str(write_files(state["files"], Path(folder))), max_length=max_length, offline=True)

    kinds: dict[str, Callable[[], Tokenizer]] = {
        HASHED: lambda: Hashed(state["size"]),
        WORDS: lambda: Words.of(state["words"]),
        CHARACTERS: Characters,
        PRETRAINED: pretrained,
    }
    return kinds[state["kind"]]()


def build_tokenizer(options: TextOptions, first_task: Callable[[], Iterable[str]], *, offline: bool) -> Tokenizer:
    """Return the tokenizer `options` ask for; `first_task` gives the texts a vocabulary of words is made of.

    Raise UsageError or DataError, in one line, where it cannot be had.
    """
    if options.tokenizer == HASHED:
        return Hashed(options.vocabulary)
    if options.tokenizer == WORDS:
        return Words(first_task(), options.vocabulary)
    if options.tokenizer == CHARACTERS:
        return Characters()
    return Pretrained(options.tokenizer, max_length=options.max_length, offline=offline)


def pinned_tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which a tokenizer's folder stands by name and digest, not by its place.

    So an edited tokenizer is another configuration, and a moved one, or one beside other weights, is not.
    """
    options = config.get("text")
    folder = TextOptions(**options).folder if isinstance(options, Mapping) else None
    if folder is None:
        return dict(config)
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file() and file.suffix not in WEIGHTS):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    name = f"{folder.resolve().name} sha256:{digest.hexdigest()[:12]}"
    return {**config, "text": {**options, "tokenizer": name}}  # type: ignore[dict-item]


def words_of(text: str) -> list[str]:
    """Return the words and signs of a text, lower-cased."""
    return PIECE.findall(text.lower())


def _pieces(ids: list[int], max_length: int, unknown: int | None = None) -> Pieces:
    beginning = ids[:max_length]
    return Pieces(beginning, len(beginning) < len(ids), 0 if unknown is None else beginning.count(unknown))


def _check_folder(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            f"text.tokenizer: {folder} has no tokenizer ({', '.join(TOKENIZER_FILES[:3])}, ...). "
            "Write one there with tokenizer.save_pretrained(folder), or name another with text.tokenizer."
        )


def _load(name: str, *, offline: bool) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as problem:
        raise UsageError(
            f"text.tokenizer={name} is read through transformers, which is not installed. "
            f"Install it with: pip install 'cl-suite[text]'. Or use text.tokenizer={HASHED}."
        ) from problem
    place = Path(name).expanduser()
    local = place.is_dir()
    if local:
        _check_folder(place)
    try:
        return AutoTokenizer.from_pretrained(str(place) if local else name, local_files_only=local or offline)
    except Exception as problem:  # whatever its parsers raise; the reason is kept, on one line
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        forbidden = " and --offline forbids a download" if offline and not local else ""
        raise DataError(
            f"text.tokenizer={name} could not be loaded{forbidden} ({reason}). "
            f"Give the folder of a tokenizer, a name on the Hugging Face hub, or one of {', '.join(OWN)}."
        ) from problem
