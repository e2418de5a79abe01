"""`--config FILE`: what a file asks for, under what the flags say."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cl_suite.core.registry import DEFAULT_STRATEGY, DEFAULT_STREAM

if TYPE_CHECKING:
    from cl_suite.runs.saved_config import Wanted


@dataclass(frozen=True)
class FromFile:
    """Flags, and where they say nothing, the file, and where that says nothing, the defaults.

    by_default: the flags of what was named by neither; overrides: those of the file alone, which others may follow
    """

    strategy: str
    stream: str
    scenario: str | None
    seeds: list[int] | None
    by_default: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    file: Wanted | None = None


def with_file(options: argparse.Namespace) -> FromFile:
    """Return what flags and the file of `--config` ask for; flags win.

    Where a flag names another strategy or stream than the file, the file's options of it are left out, and that is
    said. Raise UsageError for a file that cannot be read or understood.
    """
    if options.config is None:
        return _with_defaults(options.strategy, options.stream, options.scenario, None)
    from cl_suite.runs.saved_config import read_config

    file = read_config(options.config)
    others = {
        group: named
        for group, named in (("strategy", file.strategy), ("stream", file.stream))
        if getattr(options, group) is not None and named not in (None, getattr(options, group))
    }
    left_out = tuple(group for group in others if any(key.partition(".")[0] == group for key in file.overrides))
    for group in left_out:
        now = getattr(options, group)
        print(f"cl-bench: {file.file}: options of {others[group]} are left out for {now}", file=sys.stderr)
    return _with_defaults(
        options.strategy or file.strategy,
        options.stream or file.stream,
        options.scenario or file.scenario,
        file.seeds,
        file.as_overrides(without=left_out),
        file,
    )


def _with_defaults(strategy: str | None, stream: str | None, *rest: Any) -> FromFile:
    by_default = [] if strategy else ["--strategy", DEFAULT_STRATEGY]
    by_default += [] if stream else ["--stream", DEFAULT_STREAM]
    scenario, seeds, *file = rest
    named = strategy or DEFAULT_STRATEGY, stream or DEFAULT_STREAM
    return FromFile(*named, scenario, seeds, tuple(by_default), *file)
