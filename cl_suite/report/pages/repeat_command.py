"""The command that repeats one run, from what its record keeps. Never imports torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cl_suite.records.record import RunRecord
from cl_suite.report.tables.labels import flatten

# Flags that say where and how, not what; those of the second kind have a value.
ALONE = {"--overwrite", "--resume", "--no-resume", "--quiet", "--json", "--debug", "--offline"}
WITH_VALUE = {"--seed", "--seeds", "--results", "--data-root", "--threads", "--log", "--log-dir"}


def repeat_command(record: RunRecord) -> str:
    """Return one line for a shell: the recorded command for this record's seed alone, or one from its configuration.

    For a run that no command asks for, the call in Python.
    """
    command = record.provenance.get("command")
    if isinstance(command, list) and len(command) == 2 and command[0] == "python":
        return str(command[1])  # a class that only the program which defined it has
    kept = command if isinstance(command, list) and all(isinstance(word, str) for word in command) else []
    if len(kept) > 1 and "--config" not in {word.partition("=")[0] for word in kept}:  # a file that others lack
        words = _what(kept[1:])
    else:
        groups = {name: value for name, value in record.config.items() if isinstance(value, dict)}
        options = [f"{key}={value}" for key, value in sorted(flatten(groups).items()) if value != "null"]
        words = ["--strategy", record.strategy, "--stream", record.stream, "--scenario", record.scenario]
        words += [f"protocol={record.protocol}", *options]
    return shlex.join(["cl-bench", *words, "--seed", str(record.seed)])


def _what(words: Sequence[str]) -> list[str]:
    rest = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in WITH_VALUE:
            skip = True
        elif word not in ALONE and word.partition("=")[0] not in WITH_VALUE:
            rest.append(word)
    return rest
