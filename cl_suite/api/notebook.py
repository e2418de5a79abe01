"""Progress in a notebook: one output of the cell, written anew as a run goes on. Needs no widgets."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from rich.console import Console

WIDTH = 110  # columns
INTERVAL = 0.25  # seconds between two looks of the live line


def in_notebook() -> bool:
    """Whether this runs in the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return hasattr(shell, "kernel")


class NotebookConsole(Console):
    """Shows what is printed in one output of the cell, with a live line below it."""

    def __init__(self) -> None:
        self._output = _Output()
        super().__init__(
            file=self._output,  # type: ignore[arg-type]
            width=WIDTH,
            force_jupyter=False,
            force_terminal=False,
            color_system=None,
            highlight=False,
            soft_wrap=True,
        )

    @property
    def live_line(self) -> _Output:
        """What a run shows its progress in."""
        return self._output


class _Output(io.TextIOBase):
    """A text that the front end of a notebook is sent again when it has changed."""

    def __init__(self) -> None:
        self._text, self._line = "", ""
        self._handle: Any = None
        self._sent = -INTERVAL

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Add to the text."""
        self._text += text
        self._send()
        return len(text)

    def start(self) -> None:
        """Begin a live line; there is nothing to show yet."""

    def update(self, renderable: Any, *, refresh: bool = False) -> None:
        """Show this as the live line, not oftener than can be read."""
        self._line = str(renderable)
        if time.monotonic() - self._sent >= INTERVAL:
            self._send()

    def stop(self) -> None:
        """Take the live line away."""
        if self._line:
            self._line = ""
            self._send()

    def _send(self) -> None:
        from IPython.display import display

        data = {"text/plain": (self._text + self._line).rstrip("\n")}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
        self._sent = time.monotonic()
