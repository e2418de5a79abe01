"""Whatever a stream calls its tasks and classes, as one line that can be printed and drawn."""

from __future__ import annotations

import unicodedata

DIRECTIONS = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")  # marks that turn the text after them


def plain(text: object, longest: int = 0) -> str:
    """Return a text on one line, without control characters or marks of direction; cut at `longest` characters."""
    letters = (
        " " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter
        for letter in str(text).encode("utf-8", "replace").decode()
        if unicodedata.bidirectional(letter) not in DIRECTIONS
    )
    line = " ".join("".join(letters).split())
    return line if not longest or len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
