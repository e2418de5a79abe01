"""LIBERO's package and assets: found, checked, and opened without its questions and banners. Never torch."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cl_suite import DataError
from cl_suite.robots import Array

PACKAGES = ("hf-libero", "robosuite", "bddl", "mujoco")
INSTALL = (
    "Install the extra, then three packages without what they ask for: pip install 'cl-suite[libero]' && "
    "pip install --no-deps hf-libero==0.1.4 robosuite==1.4.0 bddl==1.0.1"
)
PLACES = ("libero/assets", "libero_assets_small/assets")  # where assets are looked for, below the data root
ASSETS_ADDRESS = "the folder libero/libero/assets of https://github.com/Lifelong-Robot-Learning/LIBERO"
MARK = "scenes"  # a folder every set of assets has
# What a file of initial states may name, and nothing else: a list of arrays, as pickled by numpy 1 or 2.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def installed_versions() -> dict[str, str]:
    """Return the versions of what decides the physics. Raise DataError, naming what to install, if one is absent."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as problem:
            raise DataError(f"LIBERO's simulator is not installed ({name} is missing). {INSTALL}") from problem
    return versions


def package_folder() -> Path:
    """Return the folder with bddl_files/ and init_files/, without importing it. Raise DataError if it is absent."""
    spec = importlib.util.find_spec("libero")
    places = [Path(place) / "libero" for place in (spec.submodule_search_locations or ())] if spec else []
    for place in places:
        if (place / "bddl_files").is_dir():
            return place
    raise DataError(f"LIBERO's simulator is not installed (hf-libero is missing). {INSTALL}")


def find_assets(root: Path) -> Path:
    """Return the folder of assets below the data root `root`. Raise DataError where there is none."""
    for place in PLACES:
        if (root / place / MARK).is_dir():
            return (root / place).resolve()
    raise DataError(
        f"LIBERO's assets are absent: {' and '.join(str(root / place) for place in PLACES)} were looked for "
        f"(set by --data-root or CL_SUITE_DATA). Put {ASSETS_ADDRESS} at the first; hf-libero ships none."
    )


def assets_digest(folder: Path) -> str:
    """Return the SHA-256 of the assets: what XML files hold, which decide the physics, and the sizes of all files."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        if path.suffix == ".xml":
            whole.update(path.read_bytes())
    return f"sha256:{whole.hexdigest()}"


def task_names(suite: str) -> tuple[str, ...]:
    """Return the names of a suite's tasks in LIBERO's order (index 0). Raise DataError for an unknown suite."""
    file = package_folder() / "benchmark" / "libero_suite_task_map.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "libero_task_map":
            suites: Mapping[str, list[str]] = ast.literal_eval(node.value)
            if suite in suites:
                return tuple(suites[suite])
            raise DataError(f"LIBERO has no suite {suite}. Known: {', '.join(sorted(suites))}.")
    raise DataError(f"{file} names no tasks. Install hf-libero==0.1.4 again.")


def task_file(kind: str, suite: str, task: str) -> Path:
    """Return a task's file: kind "bddl" its definition, "init" its initial states. Raise DataError if it is absent."""
    folder, ending = {"bddl": ("bddl_files", "bddl"), "init": ("init_files", "pruned_init")}[kind]
    file = package_folder() / folder / suite / f"{task}.{ending}"
    if not file.is_file():
        raise DataError(f"LIBERO has no task {task} in {suite} ({file} is absent). Check the name.")
    return file


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays; refuses whatever else a pickle may ask to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_initial_states(file: Path) -> Array:
    """Return the initial states of a task, [50, N] float64: time, positions, velocities.

    The file is what torch.save wrote; it is read without torch, and nothing but arrays is taken from it.
    Raise DataError if it is anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
            with archive.open(name) as content:
                states = np.asarray(_ArraysOnly(content).load(), dtype=np.float64)
    except (zipfile.BadZipFile, pickle.UnpicklingError, ValueError, EOFError, TypeError, OSError) as problem:
        raise DataError(f"{file} holds no initial states ({problem}). Install hf-libero==0.1.4 again.") from problem
    if states.ndim != 2 or not np.isfinite(states).all():
        raise DataError(f"{file} holds no initial states (shape {states.shape}). Install hf-libero==0.1.4 again.")
    return states


def write_config(package: Path, assets: Path, folder: Path) -> Path:
    """Write LIBERO's config.yaml into `folder`, so that its import asks nothing; return the folder."""
    places = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": assets,
    }
    text = "".join(f"{name}: '{str(place).replace(chr(39), chr(39) * 2)}'\n" for name, place in places.items())
    file = folder / "config.yaml"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"config.{os.getpid()}"
        part.write_text(text, encoding="utf-8")
        part.replace(file)  # whole or not at all: other processes read it too
    return folder


def open_package(assets: Path, renderer: str) -> Any:
    """Import LIBERO in this process with its assets at `assets`; return its class ControlEnv.

    renderer: value of MUJOCO_GL if it is not set; "disable" = no pictures, and no graphics are needed

    Raise DataError where a package is missing, or was opened without pictures before and is now to draw.
    """
    package = package_folder()
    opened = sys.modules.get("robosuite.utils.binding_utils")
    if renderer != "disable" and opened is not None and not hasattr(opened, "GLContext"):
        raise DataError("this process opened LIBERO without pictures and cannot draw any. Start another one.")
    if "libero.libero" not in sys.modules:
        key = hashlib.sha256(f"{package} {assets}".encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cl-suite" / f"libero-{key}"
        try:
            folder = write_config(package, assets, cache)
        except OSError:  # a home one may not write
            folder = write_config(package, assets, Path(tempfile.mkdtemp(prefix="cl-suite-libero-")))
        os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    unset = "MUJOCO_GL" not in os.environ
    if unset:
        os.environ["MUJOCO_GL"] = renderer
    try:
        _quiet_robosuite()
        libero: Any = importlib.import_module("libero.libero")
        libero._assets_path_cache = str(assets)  # version 0.1.4 does not read its own config's key
        return importlib.import_module("libero.libero.envs.env_wrapper").ControlEnv
    except ImportError as problem:
        raise DataError(f"LIBERO's simulator cannot be imported ({problem}). {INSTALL}") from problem
    finally:
        if unset and renderer == "disable":  # read once, at the import: processes started from here may draw
            del os.environ["MUJOCO_GL"]


def _quiet_robosuite() -> None:
    """Load robosuite's settings before robosuite, which would write a log to /tmp and warn of a file it lacks."""
    if "robosuite.macros" in sys.modules:
        return
    robosuite = importlib.util.find_spec("robosuite")
    if robosuite is None or not robosuite.submodule_search_locations:
        raise ImportError("No module named 'robosuite'")
    path = Path(robosuite.submodule_search_locations[0]) / "macros.py"
    spec = importlib.util.spec_from_file_location("robosuite.macros", path)
    assert spec is not None and spec.loader is not None
    macros: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    macros.CONSOLE_LOGGING_LEVEL, macros.FILE_LOGGING_LEVEL = "ERROR", None
    macros.MUJOCO_GPU_RENDERING = False  # MUJOCO_GL says what draws
    sys.modules["robosuite.macros"] = macros
