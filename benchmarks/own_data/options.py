"""Options that all streams of own data have, and names in the order in which people count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cl_suite import ClassSplit, UsageError

TEST_SHARE = 0.2  # of each class, where there is no test set


@dataclass
class OwnData(ClassSplit):
    """How own data is divided into tasks, and what it is tested on."""

    n_tasks: int | None = None  # type: ignore[assignment] # tasks of equally many classes, or the first so many of those
    # that the data names; None = up to five, as equal as can be, or all that it names
    task_order: Any = "natural"  # of the tasks the data names: natural (by name), seeded (seeds.classes), or a list
    test_share: float | None = (
        None  # of each class held out for test, in (0, 1); None = 0.2, where there is no test set
    )
    split_seed: int = 0  # which samples those are; not one of the run's seeds: every run is tested on the same

    def share(self, what: str, test: str) -> float:
        """Return the share to be held out; 0 where there is a test set, which `test` names. Raise UsageError."""
        if test and self.test_share is not None:
            raise UsageError(f"stream.test_share has no effect: {what} has a test set ({test}). Leave it out.")
        share = TEST_SHARE if self.test_share is None else self.test_share
        if not 0.0 < share < 1.0:
            raise UsageError(f"stream.test_share={share} is not a share. Use more than 0 and less than 1, e.g. 0.2.")
        return 0.0 if test else share


def in_order(names: Iterable[str]) -> list[str]:
    """Return different names sorted as people count: task2 before task10, capitals beside small letters."""
    return sorted(set(names), key=lambda name: ([_part(each) for each in re.split(r"([0-9]+)", name)], name))


def _part(text: str) -> tuple[int, str]:
    return (int(text), "") if re.fullmatch(r"[0-9]+", text) else (0, text.casefold())


def plain_name(name: str) -> str:
    """Return a file's or folder's name as records can have it: one line, no control characters."""
    return re.sub(r"[^\w.+ -]", "_", name).strip() or "unnamed"
