"""What a shell is told when it asks how a line may go on. Asked in `main`, by what `cl-bench completion` prints.

The library argcomplete reads the line and asks the command's own parser; here is what it cannot know: names of
strategies, streams and scenarios, and keys of options. Nothing imports torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from cl_suite.core.registry import DEFAULT_STRATEGY, DEFAULT_STREAM
from cl_suite.core.scenario import Scenario

ASKED = "_ARGCOMPLETE"  # set by the shell; the place of the program's name in the line, from 1
Completer = Callable[..., Iterable[str]]


def complete(commands: Iterable[str], default: str, parser_of: Callable[[str], argparse.ArgumentParser]) -> None:
    """Answer a shell that asks, and end the process. parser_of: the parser of a command; `default` needs no word."""
    import argcomplete

    line = os.environ.get("COMP_LINE", "").encode()
    before = line[: int(os.environ.get("COMP_POINT") or len(line))].decode(errors="ignore")
    quote, prefix, _, words, _ = argcomplete.lexers.split_line(before, len(before))
    # Options may stand before flags, which argparse alone would take for their end: what is typed of them is left out.
    words = [word for word in words if word.startswith("-") or "=" not in word]
    before = f"{shlex.join(words)} {quote}{prefix}"
    os.environ |= {"COMP_LINE": before, "COMP_POINT": str(len(before.encode()))}
    known = [*commands]
    name = words[1] if len(words) > 1 and words[1] in known else default
    if name != default or words[1:2] == [default]:
        os.environ[ASKED] = "2"  # the line begins with the command
    parser = parser_of(name)
    first = known if len(words) == 1 and not prefix.startswith("-") else []
    for action in parser._actions:
        completer = COMPLETERS.get((name, action.dest)) or COMPLETERS.get(("", action.dest))
        if action.dest == "overrides" and first:
            completer = _words(first)
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _words(words: Iterable[str]) -> Completer:
    return lambda **_: words


def _strategies(**_: Any) -> Iterable[str]:
    from cl_suite.info.strategies import strategy_names

    return strategy_names()


def _streams(**_: Any) -> Iterable[str]:
    from cl_suite.info.streams import stream_names

    return stream_names()


def _scenarios(**_: Any) -> Iterable[str]:
    return [each.value for each in Scenario]


def _evaluations(prefix: str = "", **_: Any) -> Iterable[str]:
    from cl_suite.runs.evaluations import EVALUATED

    before, comma, _typed = prefix.rpartition(",")
    return [f"{before}{comma}{name}" for name in EVALUATED]


def _names(**_: Any) -> Iterable[str]:
    from cl_suite.info.find import every_name

    return every_name()


def _keys(prefix: str = "", parsed_args: Any = None, **_: Any) -> Iterable[str]:
    """Return `key=` for each option of the chosen strategy and stream and of every run; behind `key=` known values."""
    from cl_suite.info.keys import keys_of, values_of

    key, equals, _typed = prefix.partition("=")
    if equals:
        return [f"{key}={value}" for value in values_of(key, _named(parsed_args))]
    return [f"{each}=" for each in keys_of(_named(parsed_args))]


def _named(parsed: Any) -> dict[str, str]:
    """Return {"strategy": name, "stream": name}: those that the line has named, else the defaults."""
    found = {"strategy": DEFAULT_STRATEGY, "stream": DEFAULT_STREAM}
    for kind in ("strategy", "stream"):
        value = getattr(parsed, kind, None)
        value = value[-1] if isinstance(value, list) and value else value
        if isinstance(value, str):
            found[kind] = value
    return found


# (command, or "" for any; where the parser keeps it): what may stand there.
COMPLETERS: dict[tuple[str, str], Completer] = {
    ("", "strategy"): _strategies,
    ("", "stream"): _streams,
    ("", "streams"): _streams,
    ("", "scenario"): _scenarios,
    ("", "overrides"): _keys,
    ("", "evaluate"): _evaluations,
    ("", "log"): _words(["tensorboard", "wandb", "mlflow"]),
    ("", "modality"): _words(["image", "text", "robot", "vector"]),
    ("check", "spec"): _strategies,
    ("compare", "rows"): _strategies,
    ("info", "name"): _names,
}
