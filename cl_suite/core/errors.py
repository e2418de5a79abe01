"""Every error a user can meet. Each message says what is wrong, where, and what to do next, in one line."""

import difflib
from collections.abc import Iterable, Mapping, Sequence


class CLSuiteError(Exception):
    """Base of all errors raised on purpose. `exit_status` is what `cl-bench` ends with."""

    exit_status = 1


class UsageError(CLSuiteError):
    """The request was wrong: an unknown name, an impossible combination, absent data. Exit status 2."""

    exit_status = 2


class DataError(UsageError):
    """Data is absent, truncated, or does not have the checksum it should have."""


class PluginError(UsageError):
    """A strategy or stream could not be imported or does not keep the interface."""


class RunError(CLSuiteError):
    """A run started and could not be finished. Recorded as failed; exit status 1."""


class NonFiniteLoss(RunError):
    """The training loss became NaN or infinite."""


class BudgetExceeded(RunError):
    """A strategy drew more samples than `train.max_samples` allows."""


class ClosedExperience(RunError):
    """A strategy read an experience after `learn` had returned."""


class UnseenTask(CLSuiteError):
    """A strategy has no answer for a task (yet). The harness records null, never 0."""


def check_choices(options: object, choices: Mapping[str, Sequence[str]], *, group: str = "strategy") -> None:
    """Raise UsageError, naming the nearest that are known, if an option of a group is none of its `choices`."""
    for name, known in choices.items():
        value = getattr(options, name)
        if value not in known:
            raise UsageError(f"{group}.{name}={value} is not known. {nearest(value, known)}")


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """Return a hint such as `Did you mean supsup, ssnet?`, or the sorted list of what is known."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(close)}?"
    return f"Known: {', '.join(known)}." if known else "None are known."
