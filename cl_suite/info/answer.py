"""What `cl-bench info` says of one thing: facts by their names, and its options. Text and JSON are made of it."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any

WIDTH = 80  # columns where there is no terminal
LEFT = 34  # columns of an option with its default; a longer one has its meaning below
LABEL = 12  # columns of the names of facts
SHORT = 24  # characters; lists of such texts stand in one line


@dataclass(frozen=True)
class Option:
    """One `key=value` of the command line; default as JSON keeps it, meaning "" where its source says nothing."""

    name: str
    type: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Answer:
    """What is known of one thing.

    kind:  what it is: strategy, stream, network, metric, ...
    what:  one sentence
    facts: {name: text, list of texts or of dataclasses that print themselves, or {name: text}}; None and empty ones are
           left out of the text
    """

    kind: str
    name: str
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    options: Sequence[Option] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "what": self.what,
            **{name: _plain(value) for name, value in self.facts.items()},
            "options": [vars(option) for option in self.options],
        }

    def to_text(self, width: int = 0) -> str:
        """Return it in lines of at most `width` characters (0 = as the terminal has), where words allow."""
        width = width or text_width()
        lines = [f"{self.name} ({self.kind})", *textwrap.wrap(self.what, width - 2, **INDENT), ""]
        for name, value in self.facts.items():
            lines += _fact(name.replace("_", " "), value, width)
        if self.options:
            lines += ["", "options, as key=default, with their type:"]
            for option in self.options:
                lines += _option(option, width)
        return "\n".join(line.rstrip() for line in lines).rstrip()


INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  ", "break_on_hyphens": False}


def text_width() -> int:
    """Return the columns of the terminal, at most 100; 80 where there is none."""
    return min(100, max(60, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else WIDTH


def shown(value: Any) -> str:
    """Return a value as one writes it behind `key=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) >= 1000:
        return str(int(value))
    return str(value)


def paragraphs(text: str) -> list[str]:
    """Return a docstring's lines with what goes on joined: a new one begins where something is named or listed.

    What errors it raises is for who writes code, and left out.
    """
    found: list[str] = []
    for line in (each.strip() for each in text.splitlines()):
        begins = not found or not found[-1] or re.match(r"[\w, ]+: |- |\d+\. ", line) or not line
        if begins:
            found.append(line)
        else:
            found[-1] += f" {line}"
    return [each for each in found if each and not each.startswith("Raise ")]


def plural(count: int, word: str) -> str:
    """Return "1 seed", "2 seeds", "1,000 seeds"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _plain(value: Any) -> Any:
    """Return a fact as JSON values."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _fact(name: str, value: Any, width: int) -> list[str]:
    if value is None or value in ("", [], {}):
        return []
    entries: Iterable[str]
    if isinstance(value, Mapping):
        entries = [f"{key}: {text}" for key, text in value.items()]
    else:
        entries = [value] if isinstance(value, str) else map(str, value)
    room = width - LABEL - 2
    if isinstance(value, list | tuple) and all(len(str(each)) < SHORT for each in value):
        value = ", ".join(map(str, value))
        entries = [value]
    lines: list[str] = []
    for entry in entries:
        first, *more = textwrap.wrap(entry, room, break_on_hyphens=False, break_long_words=False) or [""]
        lines += [first, *(f"  {line}" if not isinstance(value, str) else line for line in more)]
    if len(name) >= LABEL:
        return [name, *(f"{'':{LABEL}}{line}" for line in lines)]
    return [f"{name if number == 0 else '':{LABEL}}{line}" for number, line in enumerate(lines)]


def _option(option: Option, width: int) -> list[str]:
    left = f"  {option.name}={shown(option.default)}"
    text = f"{option.type.replace(' | None', ' or null')}{'; ' if option.meaning else ''}{option.meaning}"
    room = width - LEFT - 2
    lines = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False)
    head = [f"{left:{LEFT}}  {lines[0]}"] if len(left) <= LEFT else [left, f"{'':{LEFT}}  {lines[0]}"]
    return [*head, *(f"{'':{LEFT}}  {line}" for line in lines[1:])]
