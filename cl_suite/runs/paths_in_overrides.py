"""Paths as values of options: quoted before Hydra parses them, whose grammar knows few characters."""

from __future__ import annotations

import re
from pathlib import Path

KEY = re.compile(r"([\w./@-]+)=(.*)", re.DOTALL)
OF_HYDRA = re.compile(r"""\s*(['"\[{]|\w+\()|.*\$\{""", re.DOTALL)  # a quoted value, list, dictionary, call, reference

PLAIN = re.compile(r"[A-Za-z0-9_.+:-]*")  # a word or number to Hydra


def with_quoted_path(override: str) -> str:
    """Return an override `key=value` with its value in quotes, if that is a path; any other as it is.

    A path has a slash or backslash, begins with ~, names a Python file, or is there although Hydra would not read its
    name: `/data/epoch=3.pt`, `~/x.pt`, `x (1).csv`. What is Hydra's own syntax is left to Hydra.
    """
    match = KEY.fullmatch(override)
    if match is None or OF_HYDRA.match(match[2]) or not _is_path(match[2]):
        return override
    # Within quotes backslashes count only before a quote, or at the end.
    text = re.sub(r"(\\*)'", r"\1\1\\'", match[2])
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"{match[1]}='{text}'"


def _is_path(value: str) -> bool:
    if re.search(r"[/\\]", value) or value.startswith("~") or re.search(r"\.py(:\w*)?$", value):
        return True
    try:
        return PLAIN.fullmatch(value) is None and Path(value).exists()
    except (OSError, ValueError):  # longer than any name
        return False
