"""`--config FILE`: what a file asks for, under what the flags say."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cl_suite.core.errors import UsageError

if TYPE_CHECKING:
    from cl_suite.runs.saved_config import Wanted


@dataclass(frozen=True)
class FromFile:
    """Flags, and where they say nothing, the file. overrides: those of the file alone, which others may follow."""

    strategy: str
    stream: str
    scenario: str | None
    seeds: list[int] | None
    overrides: tuple[str, ...] = ()
    file: Wanted | None = None

    def blamed(self, problem: UsageError) -> UsageError:
        """Return the error, with the file's name where an option of the file is at fault."""
        return problem if self.file is None else self.file.blamed(problem)


def with_file(options: argparse.Namespace) -> FromFile:
    """Return what flags and the file of `--config` ask for; flags win.

    Where a flag names another strategy or stream than the file, the file's options of it are left out, and that is
    said. Raise UsageError for a file that cannot be read or understood.
    """
    if options.config is None:
        return FromFile(options.strategy, options.stream, options.scenario, None)
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
    return FromFile(
        options.strategy or file.strategy or "",
        options.stream or file.stream or "",
        options.scenario or file.scenario,
        file.seeds,
        file.as_overrides(without=left_out),
        file,
    )
