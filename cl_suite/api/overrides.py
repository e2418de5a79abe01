"""Options given in Python become the overrides of the command line, so that both ask for the same run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cl_suite.core.errors import UsageError, nearest
from cl_suite.core.registry import Chosen
from cl_suite.core.types import TrainSettings
from cl_suite.runs.config import ModelConfig, run_schema
from cl_suite.runs.embedded import own_hydra

BARE = ("strategy", "stream", "train", "model")  # groups whose options may be named without them
INTERPOLATION = re.compile(r"(\\*)\$\{")


def overrides_of(options: Mapping[str, Any], strategy: Chosen, stream: Chosen) -> list[str]:
    """Return options as overrides: {"epochs": 1, "strategy__lr": 0.1} -> ["train.epochs=1", "strategy.lr=0.1"].

    A name is that of the command line; a dot may be written as two underscores, a group as a dictionary of its
    options. The group may be left out where only one of strategy, stream, train and model has the option.
    Raise UsageError for a name that is in two of them or in none, with the nearest, and for a value of no plain type.
    """
    given = dict(_flat((name.replace("__", "."), value) for name, value in options.items()))
    groups = _groups(given, strategy, stream)
    texts: dict[str, str] = {}
    for name, value in given.items():
        key = _full_name(name, groups)
        if key in texts:
            raise UsageError(f"the option {key} is given twice. Give it once.")
        texts[key] = text_of(key, value)
    return list(texts.values())


def config_options(group: str, config: Any) -> dict[str, Any]:
    """Return every option of a `Config` instance under its full name: {"strategy.lr": 0.1, ...}."""
    if not is_dataclass(config) or isinstance(config, type):
        raise UsageError(f"a {group} given as an object needs a config, an instance of its Config. Or give the class.")
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        name = f"{group}.{each.name}"
        nested = is_dataclass(value) and not isinstance(value, type)
        found |= config_options(name, value) if nested else {name: value}
    return found


def text_of(key: str, value: Any) -> str:
    """Return `key=value` as one writes it on the command line, whatever signs the value has.

    Raise UsageError for a value that is no number, text, truth value, None, nor a list or dictionary of them.
    """
    text = f"{key}={_written(key, value)}"
    try:
        with own_hydra():
            read = OverridesParser.create().parse_override(text).value()
    except HydraException as problem:
        raise UsageError(f"the option {key} cannot have the value {value!r}. Write it otherwise.") from problem
    assert _same(read, _plain(key, value)), (text, read)
    return text


def _flat(options: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, value in options:
        if isinstance(value, Mapping) and "." not in name and name not in ("protocol",):
            yield from ((f"{name}.{key.replace('__', '.')}", each) for key, each in value.items())
        else:
            yield name, value


def _groups(given: Mapping[str, Any], strategy: Chosen, stream: Chosen) -> dict[str, set[str]]:
    """Return the options of each group in BARE."""
    own = _names(strategy.cls.Config)
    short = {name.removeprefix("strategy."): value for name, value in given.items()}
    asked = {name: value for name, value in short.items() if name in own}
    schema = strategy.cls.config_for(asked)
    named = (schema, stream.cls.Config, TrainSettings, ModelConfig)
    return {group: _names(each) for group, each in zip(BARE, named, strict=True)}


def _names(schema: type) -> set[str]:
    return {each.name for each in fields(schema)}


def _full_name(name: str, groups: Mapping[str, set[str]]) -> str:
    others = _names(run_schema())
    if "." in name or name in others:
        return name  # a wrong one is refused where all options are known
    having = [group for group, names in groups.items() if name in names]
    if len(having) == 1:
        return f"{having[0]}.{name}"
    if having:
        raise UsageError(f"{name} is an option of {' and of '.join(having)}. Write {having[0]}__{name}=...")
    known = {option for names in groups.values() for option in names}
    raise UsageError(f"there is no option {name}. {nearest(name, known | others)}")


def _written(key: str, value: Any) -> str:
    plain = _plain(key, value)
    if isinstance(plain, str):
        return _text(plain)
    if isinstance(plain, list):
        return f"[{','.join(_written(key, each) for each in plain)}]"
    if isinstance(plain, dict):
        return "{" + ",".join(f"{_text(name)}:{_written(key, each)}" for name, each in plain.items()) + "}"
    return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else repr(plain)


def _text(text: str) -> str:
    """Return a text as it is where it is read so, else in quotes."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_+-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    quoted = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    quoted = re.sub(r"(\\+)$", lambda match: match[1] * 2, quoted)
    return f"'{quoted}'"


def _plain(key: str, value: Any) -> Any:
    """Return a value as plain Python, its `${` not to be taken for a reference to another option."""
    if isinstance(value, Enum):
        return _plain(key, value.name if not isinstance(value, str) else value.value)
    if hasattr(value, "tolist"):  # of NumPy and torch
        return _plain(key, value.tolist())
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, PurePath)):
        return INTERPOLATION.sub(lambda match: match[1] * 2 + r"\${", str(value))
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(key, each) for name, each in value.items()}
    if isinstance(value, (Sequence, set, frozenset, range)) and not isinstance(value, (bytes, bytearray)):
        return [_plain(key, each) for each in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    raise UsageError(
        f"the option {key} cannot be a {type(value).__name__}. "
        "Give numbers, texts, None, or lists and dictionaries of them."
    )


def _same(read: Any, plain: Any) -> bool:
    if isinstance(plain, float) and math.isnan(plain):
        return isinstance(read, float) and math.isnan(read)
    if isinstance(plain, list):
        return isinstance(read, list) and len(read) == len(plain) and all(map(_same, read, plain))
    if isinstance(plain, dict):
        return isinstance(read, dict) and {*map(str, read)} == {*plain} and all(_same(read[k], plain[k]) for k in read)
    return type(read) is type(plain) and read == plain
