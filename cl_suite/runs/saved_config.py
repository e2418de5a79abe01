"""A run as one file of YAML: `config.yaml` beside its records, and what `--config` reads.

    strategy: er                  # also stream, scenario, seed or seeds: what flags say
    options:                      # every override, nested or dotted; the word may be left out
      train: {epochs: 2}
      strategy.buffer_size: 200

Beside a name, `strategy: {lr: 0.1}` and `stream: {...}` are options, and `seeds: {model: 1}` are those of that group.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cl_suite.core.errors import UsageError
from cl_suite.core.files import write_atomic

if TYPE_CHECKING:
    from cl_suite.core.registry import Chosen
    from cl_suite.runs.plan import Plan

FILE = "config.yaml"
HEAD = "# Repeats this run: cl-bench run --config FILE [--seed N]. Flags and key=value override the file.\n"
NAMES = ("strategy", "stream", "scenario")
WORDS = (*NAMES, "seed", "seeds", "options")
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # strings that need no quotes in an override
RESERVED = {"null", "true", "false", "nan", "inf"}


@dataclass(frozen=True)
class Wanted:
    """What a file asks for; None = it does not say. overrides: {key: value}, keys with dots."""

    file: Path
    strategy: str | None
    stream: str | None
    scenario: str | None
    seeds: list[int] | None
    overrides: Mapping[str, Any]

    def as_overrides(self, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return the options in Hydra's syntax, but for those of the groups `without`."""
        kept = {key: value for key, value in self.overrides.items() if key.partition(".")[0] not in without}
        return tuple(f"{key}={literal(value)}" for key, value in kept.items())

    def blamed(self, problem: UsageError) -> UsageError:
        """Return the error, with the file's name before it where it is about an option of the file."""
        text = str(problem)
        return UsageError(f"{self.file}: {text}" if any(key in text for key in self.overrides) else text)


def read_config(file: Path) -> Wanted:
    """Read what a file of YAML asks for. Raise UsageError, in one line, for one that cannot be read or understood."""
    given = _load(file)
    options: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for key, value in given.items():
        key = str(key)
        if key == "options":
            if not isinstance(value, Mapping):
                raise UsageError(f"{file}: options is no mapping. Write options as key: value below it.")
            options |= dict(_flat(value))
        elif key in WORDS and not isinstance(value, Mapping):
            words[key] = value
        elif isinstance(value, Mapping) or "." in key:
            options |= dict(_flat({key: value}))
        else:
            near = difflib.get_close_matches(key, WORDS, n=1, cutoff=0.7)
            if near:
                raise UsageError(f"{file}: there is no {key}. Did you mean {near[0]}?")
            options[key] = value
    names = {name: _name(file, name, words.get(name)) for name in NAMES}
    return Wanted(file, **names, seeds=_seeds(file, words), overrides=options)


def config_of(plan: Plan) -> dict[str, Any]:
    """Return a run's complete configuration as `read_config` takes it; the seed of the run is no part of it."""
    options = _without_derived(plan.composed.plain, plan.composed.run)
    options.pop("scenario")
    return {
        "strategy": _spec(plan.request.strategy),
        "stream": _spec(plan.request.stream),
        "scenario": plan.scenario.value,
        "options": options,
    }


def _spec(asked: str | Chosen) -> str:
    """Return how a plugin is asked for by name; one that was defined at a prompt is found nowhere else."""
    return asked if isinstance(asked, str) else asked.spec or asked.name


def config_text(plan: Plan) -> str:
    """Return `config_of` as YAML."""
    return HEAD + yaml.dump(config_of(plan), Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=10_000)


def save_config(plan: Plan) -> Path:
    """Write `config.yaml` beside the records of a run, the same for all its seeds; return its path."""
    path = plan.record_path.with_name(FILE)
    text = config_text(plan)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    return path


def literal(value: Any) -> str:
    """Return a value as one writes it behind `key=` for Hydra: strings quoted where they could be read otherwise."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{literal(key)}:{literal(entry)}' for key, entry in value.items())}}}"
    text = str(value).replace("${", r"\${")  # no interpolation
    if PLAIN.fullmatch(text) and text.lower() not in RESERVED:
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


class _Quoting(yaml.SafeDumper):
    """Writes texts with quotes where they could be read as something else: 1e3, ${...}."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = PLAIN.fullmatch(text) and text.lower() not in RESERVED
    return dumper.represent_scalar("tag:yaml.org,2002:str", text.replace("${", r"\${"), style=None if plain else "'")


_Quoting.add_representer(str, _quoted)


def _load(file: Path) -> Mapping[Any, Any]:
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except FileNotFoundError as problem:
        raise UsageError(f"--config {file}: there is no such file. `cl-bench ... --dry-run` prints one.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or type(problem).__name__
        raise UsageError(f"--config {file} cannot be read ({reason}). Name another file.") from problem
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        reason = getattr(problem, "problem", None) or str(problem).partition("\n")[0]
        raise UsageError(f"--config {file} is not YAML{where} ({reason}). Mend it.") from problem
    if not isinstance(given, Mapping):
        raise UsageError(f"--config {file} holds no options. Write strategy: NAME and so on, one a line.")
    return given


def _flat(options: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(file: Path, word: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UsageError(f"{file}: {word}: {value} is no name. Write {word}: NAME, and options as {word}.<option>: value.")


def _seeds(file: Path, words: Mapping[str, Any]) -> list[int] | None:
    if "seed" in words and "seeds" in words:
        raise UsageError(f"{file} has seed and seeds. Keep one.")
    given = words.get("seeds", words.get("seed"))
    if given is None:
        return None
    several = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    try:
        seeds = [int(each) for each in several if not isinstance(each, bool | float)]
    except (TypeError, ValueError):
        seeds = []
    if not seeds or len(seeds) != len(several) or len({*seeds}) != len(seeds):
        raise UsageError(f"{file}: seeds: {given} is no list of different whole numbers. Write for example [0, 1, 2].")
    return seeds


def _without_derived(plain: Mapping[str, Any], typed: Any) -> dict[str, Any]:
    """Return a configuration without fields that are worked out from others, such as the digest of a plugin's file."""
    kept = dict(plain)
    for field in dataclasses.fields(typed):
        value = getattr(typed, field.name)
        if field.metadata.get("derived"):
            kept.pop(field.name, None)
        elif dataclasses.is_dataclass(value) and isinstance(kept.get(field.name), Mapping):
            kept[field.name] = _without_derived(kept[field.name], value)
    return kept
