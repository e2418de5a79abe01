"""What MuJoCo draws pictures with on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from cl_suite.core.errors import DataError

RENDERERS = ("egl", "osmesa")  # without a screen, in the order they are tried


def choose_renderer(works: Callable[[str], bool] | None = None) -> str:
    """Return what pictures are drawn with: MUJOCO_GL if it is set, else the first of EGL and OSMesa that works.

    works: whether a renderer can draw here; None = try it in a process of its own

    Raise DataError, naming what to install, where none does.
    """
    chosen = os.environ.get("MUJOCO_GL", "").strip().lower()
    tried = (chosen,) if chosen else RENDERERS
    for renderer in tried:
        if (works or _draws)(renderer):
            return renderer
    raise DataError(
        f"pictures cannot be drawn here: {' and '.join(tried)} failed. Install a driver for EGL (Debian: libegl1 with "
        "libegl-mesa0 or the graphics card's own) or OSMesa (libosmesa6), or leave the cameras out."
    )


def _draws(renderer: str) -> bool:
    code = "import mujoco; c = mujoco.GLContext(8, 8); c.make_current(); c.free()"
    environment = {**os.environ, "MUJOCO_GL": renderer}
    try:
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
