"""The goal of a task file of LIBERO (BDDL), as text: which object goes where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from cl_suite import DataError

WORDS = re.compile(r"[()]|[^\s()]+")


class Goal(NamedTuple):
    """The first predicate of a goal, e.g. ("in", "alphabet_soup_1", "basket_1_contain_region").

    place: an object or one of its regions; None where the predicate names one thing (an open drawer)
    """

    relation: str
    thing: str
    place: str | None


def read_goals(text: str, *, source: str) -> list[Goal]:
    """Return the predicates of the goal, in order. Raise DataError, naming `source`, where there are none."""
    words = [word.lower() for word in WORDS.findall(text)]
    goals = []
    if ":goal" in words:
        depth, inside = 1, list[str]()
        for word in words[words.index(":goal") + 1 :]:
            depth += {"(": 1, ")": -1}.get(word, 0)
            if not depth:
                break
            if word == "(":
                inside = []
            elif word == ")":
                if len(inside) > 1:
                    goals.append(Goal(inside[0], inside[1], inside[2] if len(inside) > 2 else None))
                inside = []
            else:
                inside.append(word)
    if not goals:
        raise DataError(f"{source} has no goal with a predicate such as (In object place). Fetch it again.")
    return goals


def read_things(text: str) -> list[str]:
    """Return the names of a problem's fixtures and objects, e.g. ["floor", "alphabet_soup_1", "basket_1"]."""
    words, names = [word.lower() for word in WORDS.findall(text)], list[str]()
    for section in (":fixtures", ":objects"):
        if section not in words:
            continue
        rest = words[words.index(section) + 1 :]
        listed = rest[: rest.index(")")] if ")" in rest else rest
        while listed:  # name name ... - kind
            end = listed.index("-") if "-" in listed else len(listed)
            names += listed[:end]
            listed = listed[end + 2 :]
    return names


def owner_of(place: str, things: Iterable[str]) -> str | None:
    """Return the longest name a place starts with, its owner: basket_1_contain_region -> basket_1; None = nobody's."""
    owners = [name for name in things if place == name or place.startswith(f"{name}_")]
    return max(owners, key=len, default=None)
