"""Where a record comes from, told without user names or folders of the machine. Never imports torch."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cl_suite.core.version import __version__


def provenance(
    command: Sequence[str],
    *,
    torch_version: str,
    device: str,
    threads: int,
    stream_version: str,
    data_checksums: Mapping[str, str],
    started: datetime,
    finished: datetime | None = None,
    call: str = "",
) -> dict[str, Any]:
    """Return the provenance of a record.

    command:        the arguments after the program's name; kept as argv, the program shown as `cl-bench`
    call:           what was asked for in Python, where no command would ask for the same; kept in place of it
    data_checksums: file -> "algorithm:hex", as verified
    started:        with a time zone; kept as ISO 8601 in UTC. finished = None: now
    """
    commit, dirty = code_state()
    return {
        "cl_suite": __version__,
        "torch": torch_version,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": threads,
        "git_commit": commit,
        "git_dirty": dirty,
        "stream_version": stream_version,
        "data_checksums": dict(data_checksums),
        "command": ["python", call] if call else ["cl-bench", *map(without_machine, command)],
        "started": _utc(started),
        "finished": _utc(finished or datetime.now(UTC)),
    }


@cache
def code_state() -> tuple[str | None, bool | None]:
    """Return `git_state` of this checkout as it was when first asked: a run asks before it begins."""
    return git_state(Path(__file__).resolve().parents[2])


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return (commit, whether tracked files differ from it), or (None, None) if `folder` is not a checkout's root.

    Results do not count as a change: a run writes them itself.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != folder.resolve():  # e.g. site-packages inside someone's own repository
        return None, None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    return _git(folder, "rev-parse", "HEAD"), None if changed is None else bool(changed)


def without_machine(argument: str) -> str:
    """Shorten an absolute path, alone or after `=` or `images:`: relative to here, else `~/...` or `.../name`."""
    key, separator, value = argument.rpartition("=")
    prefix = re.match(r"[a-z_]{2,}:(?=/|\\|[A-Z]:)", value)  # one letter before a colon is a drive
    if prefix:
        key, separator, value = f"{key}{separator}{prefix[0]}", "", value[prefix.end() :]
    path = Path(value)
    if not path.is_absolute():
        return argument
    if path.is_relative_to(Path.cwd()):
        short = str(path.relative_to(Path.cwd()))
    elif path.is_relative_to(Path.home()):
        short = str(Path("~") / path.relative_to(Path.home()))
    else:
        short = f".../{path.name}"
    return f"{key}{separator}{short}"


def without_home(text: str) -> str:
    """Write `~` for the user's home folder wherever it stands in a text."""
    home = str(Path.home())
    return text if home == "/" else re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a checkout on a disk that hangs
        return None
    return done.stdout.strip() if done.returncode == 0 else None
