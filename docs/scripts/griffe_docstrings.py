"""Docstrings of this house as Markdown, for the API page: lines `name: meaning` become a list, `[B, C]` stays as it is.

Fields of a dataclass are explained by the comment on their line; here it becomes their docstring.
"""

import re
from typing import Any

from griffe import Attribute, Class, Docstring, Extension

ENTRY = re.compile(r"(?P<name>[A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*):\s+(?P<meaning>\S.*)")
COMMENT = re.compile(r"\s#\s(?P<text>\S.*)$")


class HouseDocstrings(Extension):
    """Rewrites every docstring once, when its object is made."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of `obj`; take one from the comment for a field without."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
        elif isinstance(obj, Attribute) and isinstance(obj.parent, Class) and obj.lines:
            field = COMMENT.search(obj.lines[-1])
            if field and not field["text"].startswith(("type:", "noqa")):
                obj.docstring = Docstring(_escaped(field["text"]), parent=obj)


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown."""
    lines: list[str] = []
    in_list = False
    for line in text.split("\n"):
        entry = ENTRY.match(line)
        if entry:
            if not in_list:
                lines.append("")
            lines.append(f"- **{entry['name']}**: {_escaped(entry['meaning'])}")
        elif in_list and line.startswith(" "):  # an entry goes on
            lines[-1] += " " + _escaped(line.strip())
        else:
            lines += [""] if in_list and line.strip() else []
            lines.append(_escaped(line))
        in_list = bool(entry) or (in_list and line.startswith(" "))
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return text whose brackets are neither links nor tags and whose asterisks are no emphasis, outside code."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    return "".join(piece if number % 2 else _plain(piece) for number, piece in enumerate(pieces))


def _plain(text: str) -> str:
    return re.sub(r"([\[\]*])", r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))
